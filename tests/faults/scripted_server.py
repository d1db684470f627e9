"""A server that sends what a test scripts, byte by byte, however wrong; and every HTTP client that is intercepted."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import contextmanager, suppress

import httpx
import httpx2
import pytest

CHAT = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 100, "messages": CHAT["messages"]}
CLAUDE_MODEL = "anthropic.claude-sonnet-5-v1:0"


class ScriptedServer:
    """Answers each request on loopback with the bytes that `script` yields, then closes the connection.

    Attributes
    ----------
    count : int
        Number of requests received.
    left : threading.Event
        Set once a client was gone before its answer was.
    """

    def __init__(self, script):
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_stopping = threading.Event()
        self._lock = threading.Lock()
        self._open = set()
        self.count = 0
        self.left = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_stopping.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)

    def _accept(self):
        serving = []
        while not self._is_stopping.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break
            serving.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            serving[-1].start()
        for thread in serving:
            thread.join(10)

    def _serve(self, connection):
        with self._lock:
            self._open.add(connection)
        with connection, suppress(OSError):
            if self._receive(connection):
                try:
                    for piece in self._script():
                        connection.sendall(piece)
                except OSError:
                    self.left.set()
                else:
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
        with self._lock:
            self._open.discard(connection)

    def _receive(self, connection):
        data = b""
        while b"\r\n\r\n" not in data:
            data += (received := connection.recv(65536))
            if not received:
                return False
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        while len(body) < int(lengths[0] if lengths else 0):
            body += connection.recv(65536)
        with self._lock:
            self.count += 1
        return True


def head(*fields):
    """The head of an answer with status 200."""
    return "\r\n".join(["HTTP/1.1 200 OK", *fields, "", ""]).encode("latin-1")


def chunked(body, size="%x"):
    """A chunk of a chunked body, whose size is spelt as `size`."""
    return (size % len(body)).encode() + b"\r\n" + body + b"\r\n"


def answer_of(client):
    """A whole and good answer to what `client` asks."""
    if client == "botocore":
        usage = {"input_tokens": 1, "output_tokens": 1}
        content = [{"type": "text", "text": "x"}]
        message = {"type": "message", "role": "assistant", "model": "m", "content": content}
        return json.dumps({**message, "stop_reason": "end_turn", "usage": usage}).encode()
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    return json.dumps({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice]}).encode()


@contextmanager
def _httpx(module, url, timeout_s):
    with (
        module.Client(timeout=timeout_s) as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as response,
    ):
        yield response


def httpx_reads(module):
    """A reader of the synchronous client of `module`."""

    async def read(url, take, *, raw=False, timeout_s=10.0):
        with _httpx(module, url, timeout_s) as response:
            for chunk in response.iter_raw() if raw else response.iter_bytes():
                take(chunk)

    return read


def async_httpx_reads(module):
    """A reader of the asynchronous client of `module`."""

    async def read(url, take, *, raw=False, timeout_s=10.0):
        async with (
            module.AsyncClient(timeout=timeout_s) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=CHAT) as response,
        ):
            async for chunk in response.aiter_raw() if raw else response.aiter_bytes():
                take(chunk)

    return read


async def requests_reads(url, take, *, raw=False, timeout_s=10.0):
    """A reader of `requests`."""
    requests = pytest.importorskip("requests", reason="pip install requests")
    address = f"{url}/v1/chat/completions"
    with requests.post(address, json=CHAT, stream=True, timeout=timeout_s) as response:
        pieces = response.raw.stream(65536, decode_content=False) if raw else response.iter_content(65536)
        for chunk in pieces:
            take(chunk)


async def aiohttp_reads(url, take, *, raw=False, timeout_s=10.0):
    """A reader of aiohttp."""
    aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
    timeout = aiohttp.ClientTimeout(sock_read=timeout_s)
    async with (
        aiohttp.ClientSession(timeout=timeout, auto_decompress=not raw) as session,
        session.post(f"{url}/v1/chat/completions", json=CHAT) as response,
    ):
        async for chunk in response.content.iter_any():
            take(chunk)


async def botocore_reads(url, take, *, raw=False, timeout_s=10.0):
    """A reader of botocore, which never undoes a compression."""
    del raw
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, read_timeout=timeout_s)
    session = boto3.session.Session(aws_access_key_id="k", aws_secret_access_key="k")
    client = session.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url, config=config)
    body = client.invoke_model(modelId=CLAUDE_MODEL, body=json.dumps(CLAUDE))["body"]
    try:
        for chunk in body.iter_chunks(65536):
            take(chunk)
    finally:
        body.close()
        client.close()


READERS = {
    "httpx": httpx_reads(httpx),
    "httpx async": async_httpx_reads(httpx),
    "httpx2": httpx_reads(httpx2),
    "httpx2 async": async_httpx_reads(httpx2),
    "requests": requests_reads,
    "aiohttp": aiohttp_reads,
    "botocore": botocore_reads,
}
"""Client -> ``read(url, take)``: asks a model, and gives each piece of the answer to `take` as it comes."""
