"""The connection to a shared tier: one client of its SDK, made on first use, whose errors become ours."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from typing import TYPE_CHECKING, Any

from genai_cache_magic.host import process_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Connection:
    """A client, shared by what speaks to one tier. Safe to share between threads; a forked child makes its own.

    Parameters
    ----------
    name
        The tier's address, fit to be shown.
    connect
        Makes the client.
    translated
        Turns what the SDK raises within a block into ``StoreUnavailable``; takes the address.
    admit
        Called before each use; raises ``StoreUnavailable`` if the tier must not be asked from here.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Any],
        translated: Callable[[str], AbstractContextManager[None]],
        admit: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._translated = translated
        self._admit = admit
        self._lock = process_lock()
        self._client: Any = None  # guarded by _lock, like the next
        self._pid = 0

    def __repr__(self) -> str:
        """Show the address and nothing of the credentials."""
        return f"<{type(self).__name__} {self.name}>"

    @contextlib.contextmanager
    def use(self) -> Iterator[Any]:
        """Give the client to a block, and turn what it raises into ``StoreUnavailable``."""
        self._admit()
        with self._translated(self.name):
            yield self._ensure_client()

    def close(self) -> None:
        """Give up all connections; may be called twice, and used again."""
        with self._lock:
            client, self._client = self._client, None
        # A parent's sockets are not ours to close: saying goodbye on them would end its connections too.
        if client is not None and self._pid == os.getpid():
            with contextlib.suppress(Exception):  # closing is all that is wanted
                client.close()

    def _ensure_client(self) -> Any:
        with self._lock:
            if self._client is None or self._pid != os.getpid():
                self._client = self._connect()
                self._pid = os.getpid()
            return self._client


def is_loopback(host: str) -> bool:
    """Return whether what is sent to `host` stays on this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unframed(error: BaseException) -> BaseException:
    """Return `error` without the frames that it and its causes went through.

    SECURITY: their local variables are addresses with signatures, and commands with passwords; what shows tracebacks
    with locals would show them.
    """
    cause: BaseException | None = error
    while cause is not None:
        cause.__traceback__ = None
        cause = cause.__cause__ or cause.__context__
    return error
