"""HTTP/1.1 on loopback: keep-alive, chunks flushed one by one, and a stop that leaves no thread behind."""

from __future__ import annotations

import gzip
import socket
import socketserver
import ssl
import sys
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import JSONDecodeError, loads
from socket import SHUT_RDWR
from typing import Any, Protocol

from genai_cache_magic.testing.simulated.form_data import fields_of
from genai_cache_magic.testing.simulated.replying import Reply, json_reply
from genai_cache_magic.testing.simulated.wire import openai_error

LOOPBACK = "127.0.0.1"
_LARGEST_BODY_BYTES = 256 * 1024 * 1024
_GZIP_WBITS = 31  # zlib's spelling of "with a gzip header"
_GZIP_LEVEL = 1
_POLL_S = 0.02  # how long stopping may wait for the accepting loop
_END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as it arrived.

    Attributes
    ----------
    query : str
        Undecoded, without the question mark; empty if there is none.
    headers : dict[str, str]
        Names in lowercase; repeated ones joined by a comma.
    json : object
        The parsed body: JSON, or the fields of a form with files; None if it is neither.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str] = field(repr=False)  # SECURITY: credentials and prompts stay out of the repr
    body: bytes = field(repr=False)
    json: Any = field(repr=False)

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


class Application(Protocol):
    """Who answers."""

    def respond(self, request: ReceivedRequest) -> Reply:
        """Answer one request; called by many threads at once.

        Raises
        ------
        ConnectionError
            The connection is to close without an answer.
        """


class LoopbackServer(ThreadingHTTPServer):
    """One thread per connection, all of which `stop` ends and joins.

    Parameters
    ----------
    port : int
        0 for any free one.
    tls : ssl.SSLContext or None
        Serve HTTPS with this certificate.

    Raises
    ------
    OSError
        The port can't be bound.
    """

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int, application: Application, *, tls: ssl.SSLContext | None = None) -> None:
        self.application = application
        self._tls = tls
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}  # guarded by _lock
        # SECURITY: loopback only; a simulation that answers anything must not be reachable from elsewhere.
        super().__init__((LOOPBACK, port), _Handler)
        self._accepting = threading.Thread(
            target=self.serve_forever, args=(_POLL_S,), name="simulated-model-server", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Accept connections, in a thread of its own."""
        self._accepting.start()

    def stop(self, timeout_s: float) -> None:
        """Close the listening socket and every connection, and join their threads, each for `timeout_s` [s]."""
        self.shutdown()
        self._accepting.join()
        self.server_close()
        with self._lock:
            connections = list(self._connections.items())
        for connection, _ in connections:
            with suppress(OSError):  # its thread was faster
                # The plain socket's: that of TLS takes the connection apart under the thread that reads from it.
                socket.socket.shutdown(connection, SHUT_RDWR)
        for _, thread in connections:
            thread.join(timeout_s)

    def server_bind(self) -> None:
        """Bind without asking DNS for this host's name, which is HTTPServer's way and can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.port

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection; its own thread shakes hands, so that a slow client holds up nobody."""
        connection, address = super().get_request()
        if self._tls is not None:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give the connection a thread, and remember both for `stop`."""
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="simulated-model-connection",
            daemon=True,
        )
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Close the connection, and forget it."""
        super().shutdown_request(request)
        with self._lock:
            self._connections.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that leave, and about connections that are closed on purpose."""
        if not isinstance(sys.exception(), (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests and writes replies; knows nothing of models."""

    server: LoopbackServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            return
        path, _, query = self.path.partition("?")
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            lower = name.lower()
            headers[lower] = f"{headers[lower]}, {value}" if lower in headers else value
        request = ReceivedRequest(self.command, path, query, headers, body, _parsed(headers, body))
        self._write(self.server.application.respond(request))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - names that the base class looks up

    def _read_body(self) -> bytes | None:
        """The request's body; None if it was malformed, which is answered here and closes the connection."""
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            body = self._read_chunks()
        else:
            length = _length(self.headers.get("content-length", "0"), 10)
            body = None if length is None else self._read_exactly(length)
        if body is None:
            self.close_connection = True
            self._write(json_reply(400, openai_error(400, "the body is malformed or longer than this server takes")))
        return body

    def _read_chunks(self) -> bytes | None:
        chunks: list[bytes] = []
        size_bytes = 0
        while (length := _length(self.rfile.readline(1024).partition(b";")[0].decode("latin-1"), 16)) is not None:
            size_bytes += length
            if size_bytes > _LARGEST_BODY_BYTES:
                return None
            chunks.append(self._read_exactly(length))
            if length == 0:
                while self.rfile.readline(1024).strip():
                    pass  # trailers say nothing about a model call
                return b"".join(chunks)
            self.rfile.readline(1024)
        return None

    def _read_exactly(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionResetError("the client left in the middle of its request")
        return data

    def _write(self, reply: Reply) -> None:
        if reply.is_cut:
            self.close_connection = True
        if reply.frames is None:
            self._write_body(reply)
        else:
            self._write_frames(reply)

    def _write_body(self, reply: Reply) -> None:
        body = gzip.compress(reply.body, _GZIP_LEVEL, mtime=0) if reply.is_gzip else reply.body
        head = self._head(reply, ("content-length", str(len(body))))
        self.wfile.write(head + (body[: len(body) // 2] if reply.is_cut else body))

    def _write_frames(self, reply: Reply) -> None:
        assert reply.frames is not None
        self.wfile.write(self._head(reply, ("transfer-encoding", "chunked")))
        squeezer = zlib.compressobj(_GZIP_LEVEL, wbits=_GZIP_WBITS) if reply.is_gzip else None
        for frame in reply.frames:
            self._write_chunk(squeezer.compress(frame) + squeezer.flush(zlib.Z_SYNC_FLUSH) if squeezer else frame)
        if reply.is_cut:
            return
        if squeezer:
            self._write_chunk(squeezer.flush())
        self.wfile.write(_END_OF_CHUNKS)

    def _write_chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _head(self, reply: Reply, framing: tuple[str, str]) -> bytes:
        """Status line and headers, so that they go out in one piece with the body."""
        phrase = HTTPStatus(reply.status).phrase
        headers = [*reply.headers, framing]
        if reply.is_gzip:
            headers += [("content-encoding", "gzip"), ("vary", "Accept-Encoding")]
        if self.close_connection:
            headers.append(("connection", "close"))
        lines = (f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {reply.status} {phrase}\r\n{''.join(lines)}\r\n".encode("latin-1")

    def log_message(self, *_: Any) -> None:
        """Nothing is logged: request lines say what a notebook asks."""


def _parsed(headers: dict[str, str], body: bytes) -> Any:
    form = fields_of(headers.get("content-type", ""), body)
    if form is not None:
        return form
    try:
        return loads(body)
    except (JSONDecodeError, UnicodeDecodeError, RecursionError):
        return None


def _length(text: str, base: int) -> int | None:
    """A length in a header or chunk line; None if it is no number, negative or too large."""
    try:
        length = int(text, base)
    except ValueError:
        return None
    return length if 0 <= length <= _LARGEST_BODY_BYTES else None
