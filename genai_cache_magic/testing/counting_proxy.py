"""A proxy that counts: what stands before an Azurite, and tells which reads really went there."""

from __future__ import annotations

import contextlib
import http.client
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from genai_cache_magic.testing.servers import AZURITE_ACCOUNT

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_HOP = {"connection", "keep-alive", "transfer-encoding"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a loaded machine accepts late


class CountingProxy:
    """Passes on what is asked of a server, and notes method and path of each request before it does. A context manager.

    Parameters
    ----------
    port
        Where that server listens, on loopback.

    Attributes
    ----------
    asked : list of tuple of (str, str)
        Method, and path without its query, in order.
    """

    def __init__(self, port: int) -> None:
        self.asked: list[tuple[str, str]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                proxy.asked.append((self.command, self.path.partition("?")[0]))
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                    self.send_response_only(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in _HOP | ({"content-length"} if self.command != "HEAD" else set()):
                            self.send_header(name, value)
                    if self.command != "HEAD":
                        self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any  # noqa: N815 - as the base class names them

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def account_url(self) -> str:
        """The address of the account behind it."""
        return f"http://127.0.0.1:{self.port}/{AZURITE_ACCOUNT}"

    def reads(self, folder: str = "/e/") -> list[str]:
        """Return the paths of those values that were read."""
        return [path for method, path in self.asked if method == "GET" and folder in path]

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
