"""Tells a webhook of alerts: from a thread of its own, one at a time, a few at most, and nobody waits for it.

SECURITY: its address is a secret, and is in no message. It is https, or this machine; no redirect is followed and no
proxy is used, so nobody else is told.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.settings.monitoring import check_webhook
from genai_cache_magic.stores.certificates import why_refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_S: Final = 5.0
"""How long all of it may take [s]."""

MOST_WAITING: Final = 16
"""So many wait at most; beyond, the oldest are forgotten."""

_IDLE_S: Final = 5.0
_GOOD: Final = range(200, 300)


class Webhook:
    """A queue of what is to be told. Safe to share between threads and by forked children.

    Parameters
    ----------
    url
        Where to; https, or http on this machine.
    failed, worked
        Called, from the thread, when something could not be told, with the reason, and when it could.
    """

    def __init__(
        self,
        url: str,
        *,
        failed: Callable[[str], None] = lambda _: None,
        worked: Callable[[], None] = lambda: None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        check_webhook(url)
        self._url = url
        self._failed = failed
        self._worked = worked
        self._timeout_s = timeout_s
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = host.process_lock()
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._thread: threading.Thread | None = None  # guarded by _lock
        self._has_work = threading.Event()
        self._is_ending = False

    def post(self, message: Mapping[str, Any]) -> None:
        """Tell `message` soon; returns at once, and raises nothing."""
        if self._pid != os.getpid():
            self._begin_anew()
        self._waiting.append(json.dumps(message).encode())
        self._has_work.set()
        with self._lock:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="genai-cache-webhook", daemon=True)
                try:
                    Context().run(thread.start)
                except RuntimeError:  # too many threads, or the interpreter is ending: nobody is told
                    return
                self._thread = thread

    def finish(self, *, within_s: float) -> None:
        """Wait until all is told, for `within_s` [s] at most."""
        with self._lock:
            thread = self._thread if self._pid == os.getpid() else None
        if thread is not None:
            self._is_ending = True
            self._has_work.set()
            thread.join(within_s)
            self._is_ending = False

    def _run(self) -> None:
        while True:
            with suppress(IndexError):
                while True:
                    self._tell(self._waiting.popleft())
            self._has_work.clear()
            if self._waiting or (not self._is_ending and self._has_work.wait(_IDLE_S)):
                continue
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return

    def _tell(self, body: bytes) -> None:
        try:
            deliver(self._url, body, timeout_s=self._timeout_s)
        except StoreUnavailable as exc:
            self._failed(str(exc))
        else:
            self._worked()


def deliver(url: str, body: bytes, *, timeout_s: float = TIMEOUT_S) -> None:
    """Send `body` to a webhook, in this thread.

    Raises
    ------
    StoreUnavailable
        It was not taken; the message says why, and not where it was sent.
    """
    parts = urlsplit(url)
    place = parts.hostname or "", parts.port
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(*place, timeout=timeout_s)
    # A time-out of a socket bounds each of its operations, and not a byte a second.
    is_late = threading.Event()
    watch = threading.Timer(timeout_s, _cut, [connection, is_late])
    watch.daemon = True
    path = f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"
    try:
        watch.start()
        connection.connect()
        if is_late.is_set():  # while TLS was agreed on there was nothing that could be cut
            raise _late(timeout_s)
        connection.request("POST", path, body, {"Content-Type": "application/json", "User-Agent": "genai-cache"})
        status = connection.getresponse().status
    except TimeoutError as exc:
        raise _late(timeout_s) from exc
    except ssl.SSLError as exc:
        raise StoreUnavailable(f"the webhook is told nothing: {why_refused(exc)}") from exc
    except (OSError, http.client.HTTPException, ValueError, RuntimeError, AttributeError) as exc:
        if is_late.is_set():
            raise _late(timeout_s) from exc
        raise StoreUnavailable(f"the webhook could not be reached ({type(exc).__name__})") from exc
    finally:
        watch.cancel()
        connection.close()
    if is_late.is_set():  # the end of a connection is taken for the end of its headers
        raise _late(timeout_s)
    if status not in _GOOD:
        raise StoreUnavailable(f"the webhook refused it (status {status})")


def _late(timeout_s: float) -> StoreUnavailable:
    return StoreUnavailable(f"the webhook did not answer within {timeout_s:g} s")


def _cut(connection: http.client.HTTPConnection, is_late: threading.Event) -> None:
    """End a connection that takes too long, whatever its thread is doing."""
    is_late.set()
    opened: socket.socket | None = connection.sock
    if opened is not None:
        with suppress(OSError):
            opened.shutdown(socket.SHUT_RDWR)
