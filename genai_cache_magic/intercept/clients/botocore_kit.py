"""What botocore and the asynchronous library made of it share: how their requests are judged, taped and played."""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from genai_cache_magic.calls.steps import Bypass, Step
from genai_cache_magic.core.model import Response
from genai_cache_magic.intercept.base import open_call
from genai_cache_magic.intercept.clients.wire import by_proxy, http_call
from genai_cache_magic.intercept.turns import current_turn
from genai_cache_magic.providers.unrecognised import ASK_NOTHING

if TYPE_CHECKING:
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.recording import Recording
    from genai_cache_magic.providers.base import HttpCall


def has_answer(request_dict: dict[str, Any]) -> bool:
    """Tell whether what is about to be sent has its answer already."""
    turn = current_turn()
    return turn is not None and turn.outcome is not None and turn.request is request_dict


def read_timeout(request_dict: dict[str, Any]) -> float | None:
    """Return how long the caller waits for an answer [s], None if it did not say so."""
    config = request_dict.get("context", {}).get("client_config")
    read = getattr(config, "read_timeout", None)
    return read if isinstance(read, int | float) else None


class Kit:
    """What is made once: the library's classes, and what its answers are taped and played with."""

    is_async: ClassVar[bool] = False

    def __init__(self) -> None:
        # Here, since it imports urllib3.
        from genai_cache_magic.intercept.clients import urllib3_messages

        self._messages = urllib3_messages
        self._errors = importlib.import_module("botocore.exceptions")
        self._response = importlib.import_module("botocore.awsrequest").AWSResponse

    def begin(self, here: Active, endpoint: Any, request_dict: dict[str, Any]) -> Step | None:
        """Decide what becomes of a request; None if it is to be left alone altogether."""
        above = current_turn()
        if above is not None:
            # Made in the course of another call: for credentials, to sign it.
            return None if above.request is request_dict else Bypass()
        if request_dict.get("method") in ASK_NOTHING:
            return None
        if not self.may_own(endpoint):
            return None
        return open_call(
            here, functools.partial(self.http_call, endpoint, request_dict), is_async=self.is_async, divides=True
        )

    def may_own(self, endpoint: Any) -> bool:
        """Tell whether the calls of `endpoint` can be served and recorded here."""
        # Whoever has its methods return coroutines, as aiobotocore does, is to be patched where it does so.
        return not inspect.iscoroutinefunction(endpoint._send)  # noqa: SLF001

    def http_call(self, endpoint: Any, sent: dict[str, Any]) -> HttpCall:
        """Return a request as the providers judge it, before or after it was signed."""
        proxies = getattr(getattr(endpoint, "http_session", None), "_proxy_config", None)
        route = by_proxy(proxies.proxy_url_for(sent["url"])) if proxies is not None else ()
        return http_call(sent["method"], sent["url"], sent["headers"], sent["body"], route)

    def with_body(self, request_dict: dict[str, Any], body: bytes) -> dict[str, Any]:
        """Return a request, not signed yet, with another body."""
        headers = {name: value for name, value in request_dict["headers"].items() if name.lower() != "content-length"}
        return {**request_dict, "body": body, "headers": headers}

    def read(self, made: tuple[Any, Any]) -> Any:
        """Read an answer to its end, as its caller would."""
        body: Any = made[1].get("body") if type(made[1]) is dict else None
        if hasattr(body, "read"):
            body.read()

    def played(self, stored: Response, url: str) -> Any:
        """Return `stored` as the library has it from the network."""
        raw = self._messages.replayed(stored, url)
        return self._response(url, raw.status, raw.headers, raw)

    def play(self, url: str, stored: Response | BaseException) -> Any:
        """Return `stored` as the library has it from `url`, or an error of its own like it."""
        return self.played(stored, url) if isinstance(stored, Response) else self._error(stored, url)

    def _error(self, error: BaseException, url: str) -> BaseException:
        """Return a new error like `error`, which may be another library's and has a traceback."""
        kind: Any = type(error) if self.is_origins(error) else self._errors.EndpointConnectionError
        new: BaseException = kind(endpoint_url=url, error=error)
        return new

    def record(self, recording: Recording, request: Any, response: Any) -> None:
        """Let `recording` have what is, or will be, read of `response`."""
        with recording.guarded():
            if request.stream_output:
                self._messages.tee(response.raw, recording)
                return
            # botocore has read it, and doesn't look whether all of it came.
            recording.attempt(response.status_code, tuple(response.headers.items()))
            recording.feed(response.content)
            if not response.raw.length_remaining:
                recording.ended()
            recording.closed()

    def is_origins(self, error: BaseException) -> bool:
        """Return whether anyone who asks the origin now would get `error`: not so for a time-out."""
        return isinstance(error, self._errors.EndpointConnectionError | self._errors.ConnectionClosedError)
