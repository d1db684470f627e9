"""A proxy in front of a real server, which does to its answers what a test says, from one moment to the next."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 65536
_SLOW_S = 0.1
_DRIP_S = 0.1


class FaultProxy:
    """Passes everything on, until `fault` is set. A context manager.

    Attributes
    ----------
    fault
        None; ``silent``, ``slow``, ``dripping``, ``cutting`` or ``resetting``; or bytes that are the answer to every
        request, after which the connection is closed.
    count
        How many connections there were.
    port_behind
        Where new connections lead.
    """

    def __init__(self, port: int) -> None:
        self.fault: str | bytes | None = None
        self.count = 0
        self.port_behind = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        self._closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._closing.set()
        for one in (self._socket, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> FaultProxy:  # noqa: PYI034 - final in practice
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                self.count += 1
                server = socket.create_connection(("127.0.0.1", self.port_behind))
                self._open += [client, server]
                for pump, ends in ((self._ask, (client, server)), (self._answer, (server, client))):
                    threading.Thread(target=self._pump, args=(pump, *ends), daemon=True).start()

    def _pump(self, pump, source, target) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                pump(data, source, target)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _ask(self, data, client, server) -> None:
        if isinstance(self.fault, bytes):
            client.sendall(self.fault)
            raise OSError("the connection ends")
        if self.fault == "resetting":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
            client.close()
            raise OSError("the connection ends")
        server.sendall(data)

    def _answer(self, data, _, client) -> None:
        if self.fault == "silent":
            return
        if self.fault == "cutting":
            client.sendall(_half_of(data))
            raise OSError("the connection ends")
        if self.fault == "slow":
            self._closing.wait(_SLOW_S)
        if self.fault == "dripping":
            for byte in data:
                client.sendall(bytes([byte]))
                self._closing.wait(_DRIP_S)
            return
        client.sendall(data)


def _half_of(answer: bytes) -> bytes:
    """Return what is seen to be no whole answer: of HTTP half a body or half a first line; headers end anywhere."""
    head, end_of_head, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/"):
        return answer[: len(answer) // 2]
    return head + end_of_head + body[: len(body) // 2] if body else head[: len(b"HTTP/")]
