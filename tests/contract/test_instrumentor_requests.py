"""The interceptor's contract over `requests`, bare and below Azure's client for AI inference."""

from __future__ import annotations

import contextlib
import json

import pytest

from genai_cache_magic.testing.contracts.instrumentor import InstrumentorContract, ThreadedEvents, in_thread

requests = pytest.importorskip("requests", reason="pip install requests")
PATCHED = ((requests.adapters.HTTPAdapter, "send"),)


def body_of(prompt, *, stream=False):
    body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": prompt}]}
    return {**body, "stream": True} if stream else body


class Session:
    """A session of `requests`, driven in threads; `lines` says how it reads a stream."""

    def __init__(self, url, lines):
        self._url = url
        self._lines = lines
        self._session = requests.Session()

    async def ask(self, prompt):
        return await in_thread(self._ask, prompt)

    def _ask(self, prompt):
        response = self._session.post(f"{self._url}/chat/completions", json=body_of(prompt), timeout=30)
        response.raise_for_status()
        return response.json()

    async def open(self, prompt):
        return await in_thread(self._open, prompt)

    def _open(self, prompt):
        response = self._session.post(f"{self._url}/chat/completions", json=body_of(prompt, stream=True), stream=True)
        return ThreadedEvents((line for line in self._lines(response) if line), response.close)

    async def list_models(self):
        return (await in_thread(self._session.get, f"{self._url}/models")).json()

    async def aclose(self):
        self._session.close()


def raw_lines(response):
    """Lines as urllib3's own response gives them, below `requests`."""
    kept = b""
    while piece := response.raw.read1(64):
        *lines, kept = (kept + piece).split(b"\n")
        yield from lines
    if kept:
        yield kept


class TestRequests(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Session(server.openai_url, lambda response: response.iter_lines(chunk_size=1))


class TestRequestsByChunk(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Session(server.openai_url, lambda response: response.iter_content(chunk_size=None))


class TestRequestsRaw(InstrumentorContract):
    patched = PATCHED
    can_cancel = False

    def make_driver(self, server):
        return Session(server.openai_url, raw_lines)


class Azure:
    """`ChatCompletionsClient`, driven in threads."""

    def __init__(self, url, retries):
        inference = pytest.importorskip("azure.ai.inference", reason="pip install azure-ai-inference")
        from azure.core.credentials import AzureKeyCredential

        # SECURITY: the SDK sends keys over HTTPS only, unless told otherwise; this is loopback.
        self._client = inference.ChatCompletionsClient(
            f"{url}/models",
            AzureKeyCredential("k"),
            retry_total=retries,
            retry_backoff_factor=0,
            model="gpt-4.1-mini",
        )
        self._url = url

    async def ask(self, prompt):
        return (await in_thread(self._complete, prompt)).as_dict()

    def _complete(self, prompt, **options):
        return self._client.complete(messages=body_of(prompt)["messages"], **options)

    async def open(self, prompt):
        stream = await in_thread(self._complete, prompt, stream=True)
        return ThreadedEvents((json.loads(json.dumps(event.as_dict())) for event in stream), stream.close)

    async def list_models(self):
        return (await in_thread(requests.get, f"{self._url}/v1/models")).json()

    async def aclose(self):
        with contextlib.closing(self._client):
            pass


class TestAzureInference(InstrumentorContract):
    patched = PATCHED
    retries = 1
    can_cancel = False

    def make_driver(self, server):
        return Azure(server.url, self.retries)
