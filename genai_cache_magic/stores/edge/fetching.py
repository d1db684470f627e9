"""One GET from whoever may lie: nothing is followed or unpacked, and what comes is bounded in size and time.

Connections are kept and used again. Neither credentials nor anything else that tells readers apart is sent.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
import urllib.request
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from genai_cache_magic import host
from genai_cache_magic.errors import StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.azure.rows import BLOB_TYPE
from genai_cache_magic.stores.base import LARGEST_VALUE
from genai_cache_magic.stores.certificates import trusted_by_azure, why_refused
from genai_cache_magic.stores.connection import unframed

if TYPE_CHECKING:
    from http.client import HTTPMessage

    from genai_cache_magic.stores.private import PrivateOnly

_STEP_BYTES: Final = 256 << 10
_SMALL_BYTES: Final = 64 << 10
_MOST_IDLE: Final = 8
_ABSENT: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_REFUSED: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_BUSY: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_MANY: Final = frozenset(range(300, 400))


@dataclass(frozen=True, slots=True)
class Site:
    """Where to ask.

    Parameters
    ----------
    url
        ``https://HOST[:PORT]`` and what all paths begin with; ``http`` too.
    setting
        What names it, for messages.
    connect_timeout_s, command_timeout_s
        How long to wait for a connection, and for each part of an answer [s].
    private
        What keeps it from being asked at a public address; None: it may be anywhere.
    """

    url: str = field(repr=False)
    setting: str = field(repr=False)
    connect_timeout_s: float = 0.5
    command_timeout_s: float = 1.5
    private: PrivateOnly | None = field(default=None, repr=False, compare=False)


class Fetcher:
    """The connections to one site. Safe to share between threads; a forked child makes its own.

    Parameters
    ----------
    site
        Where to ask.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        parts = urlsplit(site.url)
        self._is_tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self.path = parts.path.rstrip("/")
        self._lock = host.process_lock()
        self._idle: list[HTTPConnection] = []  # guarded by _lock, like the next
        self._pid = os.getpid()
        self._is_closed = False
        self._trusted: ssl.SSLContext | None = None

    def take(self) -> tuple[HTTPConnection, bool]:
        """Return a connection, and whether it was used before."""
        self._ensure_private()
        with self._lock:
            if self._pid != os.getpid():
                self._idle, self._pid = [], os.getpid()  # a parent's sockets are not ours to use
            self._is_closed = False
            if self._idle:
                return self._idle.pop(), True
        return self.new(), False

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep a connection for the next one who asks."""
        with self._lock:
            if not self._is_closed and len(self._idle) < _MOST_IDLE and connection.sock is not None:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Give up all connections; may be called twice, and used again."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._is_closed = True
            is_ours = self._pid == os.getpid()
        for connection in idle if is_ours else ():
            connection.close()

    def new(self) -> HTTPConnection:
        """Return a connection that is not made yet, by way of the proxy that the environment names, if it does."""
        self._ensure_private()
        timeout_s = self.site.connect_timeout_s
        if not self._is_tls:
            return HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = self._trusted = self._trusted or trusted_by_azure()
        proxy = _proxy(self._host)
        if proxy is None:
            return HTTPSConnection(self._host, self._port, timeout=timeout_s, context=context)
        where = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        connection = HTTPSConnection(where.hostname or "", where.port, timeout=timeout_s, context=context)
        connection.set_tunnel(self._host, self._port, headers=_for_proxy(where.username, where.password))
        return connection

    def _ensure_private(self) -> None:
        """Raise ``StoreUnavailable`` if the site has to be at a private address, and is not."""
        if self.site.private is not None:
            self.site.private.ensure(self._host)


class Fetch:
    """One GET, which another thread may give up at any time.

    Parameters
    ----------
    fetcher
        Whose connections.
    path
        What to ask for, after the path of the site.
    """

    def __init__(self, fetcher: Fetcher, path: str) -> None:
        self._fetcher = fetcher
        self._path = f"{fetcher.path}/{path}"
        self._lock = host.process_lock()
        self._connection: HTTPConnection | None = None  # guarded by _lock, like the next
        self._is_abandoned = False

    def run(self) -> bytes | None:
        """Return what is there, or None if nothing is.

        Raises
        ------
        StoreUnavailable
            The site can't be reached, or what it sends is nothing that a container holds.
        """
        try:
            return self._asked(*self._fetcher.take())
        except (OSError, HTTPException, ValueError, AttributeError) as error:
            raise StoreUnavailable(f"{self._name} {_words(error)}") from unframed(error)
        finally:
            with self._lock:
                self._connection = None

    def abandon(self) -> None:
        """Let `run` come to its end: what it would bring is not waited for any more."""
        with self._lock:
            self._is_abandoned = True
            sock = None if self._connection is None else self._connection.sock
        if sock is not None:
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # of TLS too: saying goodbye may block

    @property
    def _name(self) -> str:
        return self._fetcher.site.url

    def _asked(self, connection: HTTPConnection, was_used: bool) -> bytes | None:  # noqa: FBT001 - as `take` says
        try:
            response = self._sent(connection)
        except (ConnectionError, BrokenPipeError):
            connection.close()
            if not was_used or self._is_abandoned:
                raise
            # It had been kept open, and was ended by the other side meanwhile: that is no trouble.
            return self._asked(self._fetcher.new(), False)  # noqa: FBT003 - as above
        except BaseException:
            connection.close()
            raise
        is_over = False
        try:
            value = self._value(response)
            is_over = (response.isclosed() or response.length == 0) and not response.will_close
        finally:
            response.close()
            if is_over:
                self._fetcher.give_back(connection)
            else:
                connection.close()
        return value

    def _sent(self, connection: HTTPConnection) -> HTTPResponse:
        with self._lock:
            self._connection = connection
        if connection.sock is None:
            connection.connect()
        if self._is_abandoned:
            raise TimeoutError
        assert connection.sock is not None
        connection.sock.settimeout(self._fetcher.site.command_timeout_s)
        connection.putrequest("GET", self._path, skip_accept_encoding=True)
        connection.putheader("Accept", BLOB_TYPE)
        connection.putheader("Accept-Encoding", "identity")
        connection.putheader("User-Agent", "genai-cache-magic")
        connection.endheaders()
        return connection.getresponse()

    def _value(self, response: HTTPResponse) -> bytes | None:
        if response.status in _ABSENT:
            response.read(_SMALL_BYTES)  # if that is all of it, the connection can be used again
            return None
        self._check(response)
        length = response.length
        if length is None and not response.chunked:
            raise self._lie("does not say how long its answers are")
        if length is not None and length > LARGEST_VALUE:
            raise self._lie("sends more than any answer of ours is long")
        value = self._read(response)
        if length is not None and len(value) != length:
            raise self._lie("sends answers that are cut off")
        return value

    def _read(self, response: HTTPResponse) -> bytes:
        """Return all of the body; raises if it is longer than anything of ours, or takes longer than anyone waits."""
        ends_at = time.monotonic() + self._fetcher.site.command_timeout_s
        parts: list[bytes] = []
        size_bytes = 0
        while part := response.read1(_STEP_BYTES):
            parts.append(part)
            size_bytes += len(part)
            if size_bytes > LARGEST_VALUE:
                raise self._lie("sends more than any answer of ours is long")
            if time.monotonic() > ends_at:
                raise TimeoutError
        return b"".join(parts)

    def _check(self, response: HTTPResponse) -> None:
        """Raise unless what comes may be a blob of ours."""
        status, headers = response.status, response.headers
        if status in _BUSY:
            said = f"{self._name} is busy (status {status})"
            raise StoreThrottled(said, retry_after_s=_retry_after_s(headers))
        if status in _MANY:
            setting = self._fetcher.site.setting
            raise self._lie(f"sends on to elsewhere (status {status}), which is not followed: name that in {setting}")
        if status in _REFUSED:
            raise self._lie(f"lets nobody read (status {status}): let the edge itself sign in at the container")
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._lie(f"does not reach the container, or fails itself (status {status}): see the edge's own log")
        if status != HTTPStatus.OK:
            raise self._lie(f"refuses a request (status {status})")
        if headers.get_content_type() != BLOB_TYPE:
            setting = self._fetcher.site.setting
            raise self._lie(f"sends pages, or another kind of content, and no {BLOB_TYPE}: check {setting}")
        if headers.get("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
            raise self._lie(f"compresses what it sends: turn that off there for {BLOB_TYPE}")

    def _lie(self, how: str) -> StoreUnavailable:
        return StoreUnavailable(f"{self._name} {how}")


def _words(error: BaseException) -> str:
    """Return what went wrong.

    SECURITY: nothing of what the other side sent goes into a message.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not accepted: {why_refused(error)}; who vouches stands in REQUESTS_CA_BUNDLE"
    return next(said for kind, said in _SAID.items() if isinstance(error, kind))


_SAID: dict[type[BaseException], str] = {
    TimeoutError: "does not answer in time",
    ssl.SSLError: "does not speak TLS there: check the port",
    ConnectionRefusedError: "refuses connections: is it running, and the port right?",
    socket.gaierror: "has a host name that is not known: check how it is spelled",
    OSError: "can't be reached, or ends connections",
    Exception: "does not answer as a web server does",
}
"""By kind of error, the more special ones first."""


def _retry_after_s(headers: HTTPMessage) -> float | None:
    said = headers.get("Retry-After", "")
    return float(said) if said.isdecimal() and len(said) < 7 else None  # noqa: PLR2004 - more than ten days are none


def _proxy(name: str) -> str | None:
    """Return the proxy by way of which hosts are reached over TLS, None if this one is reached without."""
    return None if urllib.request.proxy_bypass(name) else urllib.request.getproxies().get("https")


def _for_proxy(user: str | None, password: str | None) -> dict[str, str]:
    if not user:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
