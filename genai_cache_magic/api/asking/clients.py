"""The vendors' own clients, which send what is asked beforehand as the user's code would."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import CellInterrupt, ConfigurationError, make_ordinary

if TYPE_CHECKING:
    from genai_cache_magic.api.asking.requests_file import Wanted

_MESSAGES: Final = "/v1/messages"


class Clients:
    """The vendors' clients, made when they are first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}  # guarded by _lock
        self._open = ExitStack()

    def __enter__(self) -> Clients:  # noqa: PYI034 - the class is final in practice
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up connections; may be called twice."""
        self._open.close()

    def ask(self, one: Wanted) -> None:
        """Send one request; raises what the client raises."""
        kind = kind_of(one)
        path = one.path if kind == "anthropic" else one.path.removeprefix("/v1")
        try:
            self.client(kind).post(path, body=dict(one.body), cast_to=object)
        except CellInterrupt as exc:
            make_ordinary(exc)  # it has left the SDK behind, and this thread is a pool's
            raise

    def client(self, kind: str) -> Any:
        """Return the client of ``openai`` or ``anthropic``; raises ``ConfigurationError`` where none can be made."""
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._open.enter_context(_new_client(kind))
            return self._made[kind]


def kind_of(one: Wanted) -> str:
    """Return whose SDK sends it."""
    return "anthropic" if one.path == _MESSAGES else "openai"


def _new_client(kind: str) -> Any:
    try:
        if kind == "anthropic":
            import anthropic

            return anthropic.Anthropic()
        import openai

        return openai.OpenAI()
    except ImportError as exc:
        raise ConfigurationError(f"such requests are sent by the package {kind}: pip install {kind}") from exc
    except Exception as exc:
        raise ConfigurationError(
            f"{kind}'s client can't be made ({type(exc).__name__}): set {kind.upper()}_API_KEY, and where another "
            f"server is to be asked {kind.upper()}_BASE_URL"
        ) from exc
