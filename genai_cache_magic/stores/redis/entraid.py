"""An Azure identity as the user of a Redis: its password is a token, renewed before it ends, also while a cell runs.

redis-entraid reads the tokens, and redis-py sends a new one on every open connection. The rest is ours: its manager
of tokens keeps an event loop and a thread for ever, and renews the connections of one node of a cluster alone.
"""

from __future__ import annotations

import contextlib
import threading
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import StoreDenied, StoreThrottled
from genai_cache_magic.host import process_lock, seconds_awake_or_asleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCOPE: Final = "https://redis.azure.com/.default"

_RENEWED_AFTER: Final = 0.7
"""Which part of its life a token is used for before another is asked for."""
_SHORTEST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 60.0
_LEAST_LIFE_S: Final = 1.0
"""A token that ends sooner is not sent any more: it would have ended on arrival [s]."""
_LATER: Final = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Token:
    """A token as redis-py's connections take it. SECURITY: shows nothing of itself.

    `life_s` is how long it was good for when it was received, and `ends` when it ends [s, sleep counts].
    """

    username: str = field(repr=False)
    value: str = field(repr=False)
    life_s: float
    ends: float

    def try_get(self, key: str) -> str | None:
        """Return whose it is; redis-py asks for ``oid``."""
        return self.username if key == "oid" else None

    def get_value(self) -> str:
        """Return the token itself, which is the password."""
        return self.value


class EntraCredentials:
    """A redis-py ``StreamingCredentialProvider`` over any ``TokenCredential`` of azure-identity.

    Parameters
    ----------
    credential
        Returns the ``TokenCredential``; called at the first connection.
    username
        As whom to sign in; by default the object id that the token names.
    """

    def __init__(self, credential: Callable[[], Any], *, username: str = "") -> None:
        from redis.credentials import StreamingCredentialProvider

        StreamingCredentialProvider.register(EntraCredentials)
        self._credential = credential
        self._username = username
        self._lock = process_lock()
        self._provider: Any = None  # guarded by _lock, like the next three
        self._token: Token | None = None
        self._told: list[Callable[[Any], None]] = []
        self._is_renewing = False
        self._stopping = threading.Event()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def get_credentials(self) -> tuple[str, str]:
        """Return user and password for a new connection.

        Raises
        ------
        StoreDenied, StoreThrottled
            There is no identity, or none that gets a token.
        """
        with self._lock:
            token = self._token
            if token is None or token.ends - seconds_awake_or_asleep() < _LEAST_LIFE_S:
                token = self._token = self._requested()
            if not self._is_renewing and not self._stopping.is_set():
                thread = threading.Thread(target=self._renew, name="genai-cache-entra", daemon=True)
                Context().run(thread.start)  # it belongs to no cell
                self._is_renewing = True
        return token.username, token.value

    def on_next(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with each new token: it is sent on the connections of one pool."""
        with self._lock:
            self._told.append(callback)

    def on_error(self, callback: Callable[[Exception], None]) -> None:
        """Leave a failed renewal to the next one: the last token is good for a while."""

    def is_streaming(self) -> bool:
        """Whether tokens are renewed."""
        return self._is_renewing

    def stop(self) -> None:
        """Renew no more; may be called twice."""
        self._stopping.set()

    def _renew(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        # An event's wait stands still while the machine sleeps, and the token's life does not.
        while not self._stopping.wait(
            min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, self._until_renewal_s() or pause_s))
        ):
            if self._until_renewal_s() > 0:
                continue
            try:
                with self._lock:
                    token = self._token = self._requested()
                    told = list(self._told)
            except (StoreDenied, StoreThrottled):
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
                continue
            pause_s = _SHORTEST_PAUSE_S
            for tell in told:
                with contextlib.suppress(Exception):  # a connection that is gone asks for credentials anew
                    tell(token)

    def _until_renewal_s(self) -> float:
        """Return how long the token is good enough [s]; 0 if another one is due."""
        token = self._token
        if token is None:
            return 0.0
        return max(0.0, token.ends - token.life_s * (1 - _RENEWED_AFTER) - seconds_awake_or_asleep())

    def _requested(self) -> Token:
        """Ask for a token; the caller holds the lock."""
        from jwt import PyJWTError
        from redis.auth.err import InvalidTokenSchemaErr, RequestTokenErr
        from redis_entraid.identity_provider import DefaultAzureCredentialProvider

        if self._provider is None:
            self._provider = DefaultAzureCredentialProvider(self._credential(), (SCOPE,))
        try:
            found = self._provider.request_token()
            life_s = found.ttl() / 1000
            username = self._username or found.try_get("oid") or ""
            return Token(username, found.get_value(), life_s, seconds_awake_or_asleep() + life_s)
        except RequestTokenErr as error:
            # SECURITY: no text of the SDK's: it names tenants and people.
            if _is_passing(error):
                raise StoreThrottled("Azure gives out no tokens now") from error
            if _is_unreachable(error):
                raise StoreThrottled(
                    "Azure's sign-in can't be reached, so there is no token for Redis: check the network, or "
                    "AZURE_AUTHORITY_HOST"
                ) from error
            raise StoreDenied(
                "no Azure identity gets a token for Redis: sign in (az login), or choose another l2_credential"
            ) from error
        except (InvalidTokenSchemaErr, PyJWTError, ValueError, LookupError, TypeError) as error:
            raise StoreDenied("what Azure gave out as a token for Redis is none") from error


def _is_passing(error: BaseException) -> bool:
    """Return whether it may be well again soon: what was asked is busy."""
    return any(getattr(cause, "status_code", None) in _LATER for cause in _causes(error))


def _is_unreachable(error: BaseException) -> bool:
    """Return whether the way to who signs in failed, and not the identity: none was refused, and none is missing."""
    from azure.core.exceptions import ServiceRequestError, ServiceResponseError
    from azure.identity import CredentialUnavailableError

    causes = list(_causes(error))
    # A machine without an identity service has no identity, however it is found out.
    is_absent = any(isinstance(cause, CredentialUnavailableError) for cause in causes)
    return not is_absent and any(isinstance(cause, ServiceRequestError | ServiceResponseError) for cause in causes)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
