"""The interceptor's contract over httpx and httpx2, sync and async, bare and below the SDKs of OpenAI and Anthropic."""

from __future__ import annotations

import anthropic
import httpx
import httpx2
import openai
import pytest

from genai_cache_magic.testing.contracts.instrumentor import InstrumentorContract, ThreadedEvents, in_thread


def body_of(prompt, *, stream=False):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": prompt}]}
    return {**body, "stream": True} if stream else body


def patched(client):
    return ((client, "send"), (client, "_send_single_request"))


class BareSync:
    """A `Client` of the httpx family, driven in threads."""

    def __init__(self, module, url):
        self._client = module.Client(base_url=url)

    async def ask(self, prompt):
        return await in_thread(self._ask, prompt)

    def _ask(self, prompt):
        response = self._client.post("/chat/completions", json=body_of(prompt))
        return response.raise_for_status().json()

    async def open(self, prompt):
        return await in_thread(self._open, prompt)

    def _open(self, prompt):
        request = self._client.build_request("POST", "/chat/completions", json=body_of(prompt, stream=True))
        response = self._client.send(request, stream=True)
        return ThreadedEvents((line for line in response.iter_lines() if line), response.close)

    async def list_models(self):
        return (await in_thread(self._client.get, "/models")).json()

    async def aclose(self):
        self._client.close()


class Lines:
    """The lines of an asynchronous response."""

    def __init__(self, response):
        self._response = response
        self._lines = response.aiter_lines()

    def __aiter__(self):
        return self

    async def __anext__(self):
        while not (line := await anext(self._lines)):
            pass
        return line

    async def aclose(self):
        await self._lines.aclose()
        await self._response.aclose()


class BareAsync:
    """An `AsyncClient` of the httpx family."""

    def __init__(self, module, url):
        self._client = module.AsyncClient(base_url=url)

    async def ask(self, prompt):
        response = await self._client.post("/chat/completions", json=body_of(prompt))
        return response.raise_for_status().json()

    async def open(self, prompt):
        request = self._client.build_request("POST", "/chat/completions", json=body_of(prompt, stream=True))
        return Lines(await self._client.send(request, stream=True))

    async def list_models(self):
        return (await self._client.get("/models")).json()

    async def aclose(self):
        await self._client.aclose()


class SdkSync:
    """OpenAI's or Anthropic's client, driven in threads."""

    def __init__(self, client, create, options):
        self._client = client
        self._create = create
        self._options = options

    async def ask(self, prompt):
        return (await in_thread(self._create, messages=conversation(prompt), **self._options)).model_dump()

    async def open(self, prompt):
        stream = await in_thread(self._create, messages=conversation(prompt), stream=True, **self._options)
        return ThreadedEvents((event.model_dump() for event in stream), stream.close)

    async def list_models(self):
        return [model.id for model in await in_thread(lambda: list(self._client.models.list()))]

    async def aclose(self):
        self._client.close()


class Dumped:
    """The events of an SDK's asynchronous stream, as plain values."""

    def __init__(self, stream):
        self._stream = stream

    def __aiter__(self):
        return self

    async def __anext__(self):
        return (await anext(self._stream)).model_dump()

    async def aclose(self):
        await self._stream.close()


class SdkAsync:
    """OpenAI's or Anthropic's asynchronous client."""

    def __init__(self, client, create, options):
        self._client = client
        self._create = create
        self._options = options

    async def ask(self, prompt):
        return (await self._create(messages=conversation(prompt), **self._options)).model_dump()

    async def open(self, prompt):
        return Dumped(await self._create(messages=conversation(prompt), stream=True, **self._options))

    async def list_models(self):
        return [model.id async for model in self._client.models.list()]

    async def aclose(self):
        await self._client.close()


def conversation(prompt):
    return [{"role": "user", "content": prompt}]


class TestHttpx(InstrumentorContract):
    patched = patched(httpx.Client)
    can_cancel = False

    def make_driver(self, server):
        return BareSync(httpx, server.openai_url)


class TestHttpxAsync(InstrumentorContract):
    patched = patched(httpx.AsyncClient)

    def make_driver(self, server):
        return BareAsync(httpx, server.openai_url)


class TestHttpx2(InstrumentorContract):
    patched = patched(httpx2.Client)
    can_cancel = False

    def make_driver(self, server):
        return BareSync(httpx2, server.openai_url)


class TestHttpx2Async(InstrumentorContract):
    patched = patched(httpx2.AsyncClient)

    def make_driver(self, server):
        return BareAsync(httpx2, server.openai_url)


class TestOpenAI(InstrumentorContract):
    patched = patched(httpx2.Client)
    retries = 1
    can_cancel = False

    @pytest.fixture(autouse=True)
    def _at_once(self, no_pause_between_retries):
        """Retries don't wait."""

    def make_driver(self, server):
        client = openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=self.retries)
        return SdkSync(client, client.chat.completions.create, {"model": "gpt-4.1-mini"})


class TestAsyncOpenAI(InstrumentorContract):
    patched = patched(httpx2.AsyncClient)
    retries = 1

    @pytest.fixture(autouse=True)
    def _at_once(self, no_pause_between_retries):
        """Retries don't wait."""

    def make_driver(self, server):
        client = openai.AsyncOpenAI(base_url=server.openai_url, api_key="k", max_retries=self.retries)
        return SdkAsync(client, client.chat.completions.create, {"model": "gpt-4.1-mini"})


class TestAnthropic(InstrumentorContract):
    patched = patched(httpx2.Client)
    retries = 1
    can_cancel = False

    @pytest.fixture(autouse=True)
    def _at_once(self, no_pause_between_retries):
        """Retries don't wait."""

    def make_driver(self, server):
        client = anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=self.retries)
        return SdkSync(client, client.messages.create, {"model": "claude-sonnet-5", "max_tokens": 100})


class TestAsyncAnthropic(InstrumentorContract):
    patched = patched(httpx2.AsyncClient)
    retries = 1

    @pytest.fixture(autouse=True)
    def _at_once(self, no_pause_between_retries):
        """Retries don't wait."""

    def make_driver(self, server):
        client = anthropic.AsyncAnthropic(base_url=server.url, api_key="k", max_retries=self.retries)
        return SdkAsync(client, client.messages.create, {"model": "claude-sonnet-5", "max_tokens": 100})
