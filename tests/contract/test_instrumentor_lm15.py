"""The interceptor's contract over `lm15`: its transports, bare and below its clients."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.testing.contracts.instrumentor import InstrumentorContract, ThreadedEvents, in_thread

lm15 = pytest.importorskip("lm15", reason="pip install lm15")
serde = pytest.importorskip("lm15.serde", reason="pip install lm15")
transports = pytest.importorskip("lm15.transports", reason="pip install lm15")

PATCHED = ((transports.StdlibTransport, "stream"), (transports.StdlibAsyncTransport, "_do_stream"))
JSON = [("Content-Type", "application/json")]


def request_of(url, prompt, *, stream=False):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": prompt}]}
    data = json.dumps({**body, "stream": True} if stream else body).encode()
    return transports.TransportRequest("POST", f"{url}/chat/completions", list(JSON), data)


def checked(response, body):
    """What a caller of the transport makes of an answer that is an error."""
    if response.status >= 400:
        raise RuntimeError(response.status, response.reason)
    return json.loads(body)


class Blocking:
    """The synchronous transport, driven in threads."""

    def __init__(self, url):
        self._url = url
        self._transport = transports.StdlibTransport()

    async def ask(self, prompt):
        return await in_thread(self._ask, request_of(self._url, prompt))

    def _ask(self, request):
        with self._transport.stream(request) as response:
            return checked(response, response.read())

    async def open(self, prompt):
        response = await in_thread(self._transport.stream, request_of(self._url, prompt, stream=True))
        return ThreadedEvents((line for line in response.iter_lines() if line.strip()), response.close)

    async def list_models(self):
        return await in_thread(self._ask, transports.TransportRequest("GET", f"{self._url}/models"))

    async def aclose(self):
        self._transport.close()


class Lines:
    """An open stream of the asynchronous transport."""

    def __init__(self, response):
        self._response = response
        self._lines = response.aiter_lines()

    async def __aiter__(self):
        async for line in self._lines:
            if line.strip():
                yield line

    async def aclose(self):
        await self._lines.aclose()
        await self._response.aclose()


class Asynchronous:
    """The asynchronous transport."""

    def __init__(self, url):
        self._url = url
        self._transport = transports.StdlibAsyncTransport()

    async def ask(self, prompt):
        return await self._ask(request_of(self._url, prompt))

    async def _ask(self, request):
        async with self._transport.stream(request) as response:
            return checked(response, await response.read())

    async def open(self, prompt):
        return Lines(await self._transport.stream(request_of(self._url, prompt, stream=True)))

    async def list_models(self):
        return await self._ask(transports.TransportRequest("GET", f"{self._url}/models"))

    async def aclose(self):
        await self._transport.aclose()


class Router:
    """What users hold: a router of models, whose streams close themselves."""

    def __init__(self, url):
        keys = {"openai": "simulated"}
        self._router = lm15.LMRouter(lm15.RouterConfig(api_keys=keys, base_urls={"openai-chat": url}, env={}))
        self._bare = Blocking(url)

    def _request(self, prompt):
        return lm15.Request(model="openai-chat:gpt-4.1-mini", messages=(lm15.Message.user(prompt),))

    async def ask(self, prompt):
        try:
            return serde.response_to_dict(await in_thread(self._router.complete, self._request(prompt)))
        except lm15.LM15Error as exc:
            raise RuntimeError(type(exc)) from exc  # its text has the id of the request

    async def open(self, prompt):
        stream = self._router.stream(self._request(prompt))
        return ThreadedEvents(map(serde.stream_event_to_dict, stream), stream.close)

    async def list_models(self):
        return await self._bare.list_models()

    async def aclose(self):
        await self._bare.aclose()


class TestTransport(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Blocking(server.openai_url)


class TestAsyncTransport(InstrumentorContract):
    patched = PATCHED

    def make_driver(self, server):
        return Asynchronous(server.openai_url)


class TestRouter(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Router(server.openai_url)


def test_what_is_sent_is_what_was_asked(isolated, unique_server):
    """In a scope the transport gets the caller's own request, and its answer has the same head and bytes."""
    with transports.StdlibTransport() as transport:
        with transport.stream(request_of(unique_server.openai_url, "a")) as response:
            without, _ = response, response.read()
        with llm_cache(), transport.stream(request_of(unique_server.openai_url, "a")) as response:
            within, body = response, response.read()
        with llm_cache(), transport.stream(request_of(unique_server.openai_url, "a")) as response:
            replayed, again = response, response.read()
    first, second = unique_server.requests
    assert (first.target, first.headers, first.body) == (second.target, second.headers, second.body)
    assert [name for name, _ in within.headers] == [name for name, _ in without.headers]
    assert (within.status, within.reason, within.http_version) == (replayed.status, replayed.reason, "HTTP/1.1")
    assert again == body
    assert replayed.header("x-genai-cache") == "hit"


def test_a_refused_connection_is_told_as_ever(isolated):
    """The caller gets the library's own error, and the cell says which."""
    with llm_cache() as cell, transports.StdlibTransport() as transport, pytest.raises(transports.ConnectError):
        transport.stream(request_of("http://127.0.0.1:9/v1", "a"))
    (call,) = cell.calls
    assert (call.outcome.value, call.stored) == ("error", False)
    assert "ConnectError" in call.reason
