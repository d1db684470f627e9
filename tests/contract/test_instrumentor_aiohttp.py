"""The interceptor's contract over aiohttp: bare, and below the asynchronous clients of Google and Azure."""

from __future__ import annotations

import asyncio
import gc

import pytest

from genai_cache_magic.testing.contracts.instrumentor import InstrumentorContract

aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
PATCHED = (
    (aiohttp.ClientSession, "_request"),
    (aiohttp.BaseConnector, "connect"),
    (aiohttp.ClientRequest, "send"),
)


def body_of(prompt, *, stream=False):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": prompt}]}
    return {**body, "stream": True} if stream else body


class Lines:
    """The lines of a response that says something."""

    def __init__(self, response):
        self._response = response

    def __aiter__(self):
        return self

    async def __anext__(self):
        while line := await self._response.content.readline():
            if line.strip():
                return line
        raise StopAsyncIteration

    async def aclose(self):
        self._response.release()


class Session:
    """A session of aiohttp."""

    def __init__(self, url):
        self._url = url
        self._session = None

    async def _post(self, body):
        self._session = self._session or aiohttp.ClientSession()
        return await self._session.post(f"{self._url}/chat/completions", json=body)

    async def ask(self, prompt):
        async with await self._post(body_of(prompt)) as response:
            response.raise_for_status()
            return await response.json()

    async def open(self, prompt):
        return Lines(await self._post(body_of(prompt, stream=True)))

    async def list_models(self):
        async with aiohttp.ClientSession() as session, session.get(f"{self._url}/models") as response:
            return await response.json()

    async def aclose(self):
        if self._session is not None:
            await self._session.close()


class TestAiohttp(InstrumentorContract):
    patched = PATCHED

    def make_driver(self, server):
        return Session(server.openai_url)


class Events:
    """The events of an SDK's stream, as plain values."""

    def __init__(self, stream, plain, close):
        self._stream = aiter(stream)
        self._plain = plain
        self.aclose = close

    def __aiter__(self):
        return self

    async def __anext__(self):
        return self._plain(await anext(self._stream))


class Azure:
    """The asynchronous `ChatCompletionsClient`."""

    def __init__(self, url, retries):
        inference = pytest.importorskip("azure.ai.inference.aio", reason="pip install azure-ai-inference")
        from azure.core.credentials import AzureKeyCredential

        self._client = inference.ChatCompletionsClient(
            f"{url}/models",
            AzureKeyCredential("k"),
            retry_total=retries,
            retry_backoff_factor=0,
            model="gpt-4.1-mini",
        )
        self._plain = Session(f"{url}/v1")

    async def ask(self, prompt):
        return (await self._client.complete(messages=body_of(prompt)["messages"])).as_dict()

    async def open(self, prompt):
        stream = await self._client.complete(messages=body_of(prompt)["messages"], stream=True)
        return Events(stream, lambda event: event.as_dict(), stream.aclose)

    async def list_models(self):
        return await self._plain.list_models()

    async def aclose(self):
        await self._client.close()


class TestAzureInferenceAsync(InstrumentorContract):
    patched = PATCHED
    retries = 1

    def make_driver(self, server):
        return Azure(server.url, self.retries)


class Gemini:
    """The asynchronous client of `google-genai`, on aiohttp as it is where that is installed."""

    def __init__(self, url):
        genai = pytest.importorskip("google.genai", reason="pip install google-genai")
        self._client = genai.Client(api_key="k", http_options={"base_url": url})
        self._plain = Session(f"{url}/v1")

    async def ask(self, prompt):
        answer = await self._client.aio.models.generate_content(model="gemini-2.5-flash", contents=prompt)
        return answer.model_dump(exclude={"sdk_http_response"})

    async def open(self, prompt):
        stream = await self._client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents=prompt)

        async def close():
            await stream.aclose()
            # The SDK leaves its generators, one within the other, to the garbage collector; of each the event loop
            # is told, and closes it in a task. The innermost holds the response.
            for _ in range(10):
                gc.collect()
                await asyncio.sleep(0)

        return Events(stream, lambda event: event.model_dump(exclude={"sdk_http_response"}), close)

    async def list_models(self):
        return await self._plain.list_models()

    async def aclose(self):
        await self._client.aio.aclose()


@pytest.fixture(scope="class")
def light_collections():
    """Collections look at what is made from here on, not at all that SDKs have imported: that took most of the time."""
    pytest.importorskip("google.genai", reason="pip install google-genai")
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # as it was: see tests/conftest.py


# Google's client does what aiohttp warns of.
@pytest.mark.usefixtures("light_collections")
@pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
class TestGeminiAsync(InstrumentorContract):
    patched = PATCHED

    def make_driver(self, server):
        return Gemini(server.url)
