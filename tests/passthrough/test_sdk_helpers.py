"""Every way in which the SDKs of OpenAI and Anthropic offer a call is answered from the cache the second time."""

from __future__ import annotations

import asyncio

import anthropic
import httpx2
import openai
import pydantic
import pytest

from genai_cache_magic import llm_cache, replay_credential

ASKED = [{"role": "user", "content": "What is a cache?"}]
CHAT = {"model": "gpt-4.1-mini", "messages": ASKED}
RESPONSES = {"model": "gpt-4.1-mini", "input": "What is a cache?"}
MESSAGES = {"model": "claude-sonnet-5", "max_tokens": 100, "messages": ASKED}


class Verdict(pydantic.BaseModel):
    """What structured answers are parsed into."""

    word: str
    number: int


def raw(method, **options):
    return method.with_raw_response.create(**options).parse()


def streaming(method, **options):
    with method.with_streaming_response.create(**options) as response:
        return response.parse()


def lines(method, **options):
    with method.with_streaming_response.create(**options, stream=True) as response:
        return list(response.iter_lines())


def events(manager):
    with manager as stream:
        return [event.model_dump(warnings=False) for event in stream]


def final_message(manager):
    with manager as stream:
        return stream.get_final_message().model_dump()


OPENAI = {
    "chat": lambda c: c.chat.completions.create(**CHAT),
    "chat stream": lambda c: list(c.chat.completions.create(**CHAT, stream=True)),
    "chat stream with usage": lambda c: list(
        c.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}),
    ),
    "chat raw": lambda c: raw(c.chat.completions, **CHAT),
    "chat streaming response": lambda c: streaming(c.chat.completions, **CHAT),
    "chat lines": lambda c: lines(c.chat.completions, **CHAT),
    "chat parse": lambda c: c.chat.completions.parse(**CHAT, response_format=Verdict),
    "chat stream helper": lambda c: events(c.chat.completions.stream(**CHAT)),
    "chat tools": lambda c: c.chat.completions.create(
        **CHAT,
        tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
        tool_choice="required",
    ),
    "responses": lambda c: c.responses.create(**RESPONSES),
    "responses stream": lambda c: list(c.responses.create(**RESPONSES, stream=True)),
    "responses raw": lambda c: raw(c.responses, **RESPONSES),
    "responses parse": lambda c: c.responses.parse(**RESPONSES, text_format=Verdict),
    "responses stream helper": lambda c: events(c.responses.stream(**RESPONSES)),
    "embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
    "completions": lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="a"),
}

ANTHROPIC = {
    "messages": lambda c: c.messages.create(**MESSAGES),
    "messages stream": lambda c: list(c.messages.create(**MESSAGES, stream=True)),
    "messages raw": lambda c: raw(c.messages, **MESSAGES),
    "messages streaming response": lambda c: streaming(c.messages, **MESSAGES),
    "messages stream helper": lambda c: events(c.messages.stream(**MESSAGES)),
    "messages final": lambda c: final_message(c.messages.stream(**MESSAGES)),
    "beta messages": lambda c: c.beta.messages.create(**MESSAGES, betas=["a-beta"]),
}


def comparable(answer):
    if isinstance(answer, list):
        return [comparable(item) for item in answer]
    return answer.model_dump(warnings=False) if isinstance(answer, pydantic.BaseModel) else answer


def check_second_is_a_hit(client, ask, server):
    with llm_cache() as cell:
        first, second = comparable(ask(client)), comparable(ask(client))
    assert first == second
    assert first
    assert server.count == 1
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())
    assert cell.calls[0].stored


@pytest.mark.parametrize("way", OPENAI)
def test_openai(isolated, unique_server, way):
    """Each way to ask OpenAI gives the same answer, field by field, without a second call."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        check_second_is_a_hit(client, OPENAI[way], unique_server)


@pytest.mark.parametrize("way", OPENAI)
def test_azure_openai(isolated, unique_server, way):
    """The same through Azure OpenAI, with a deployment in the path and a token provider."""
    with openai.AzureOpenAI(
        azure_endpoint=unique_server.url,
        api_version="2024-10-21",
        azure_ad_token_provider=replay_credential(),
    ) as client:
        check_second_is_a_hit(client, OPENAI[way], unique_server)


@pytest.mark.parametrize("way", ANTHROPIC)
def test_anthropic(isolated, unique_server, way):
    """Each way to ask Anthropic gives the same answer, field by field, without a second call."""
    with anthropic.Anthropic(base_url=unique_server.url, api_key="k") as client:
        check_second_is_a_hit(client, ANTHROPIC[way], unique_server)


async def test_async_helpers(isolated, unique_server):
    """The asynchronous helpers for streams and raw responses share the entries of the synchronous ones."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k")
    claude = anthropic.AsyncAnthropic(base_url=unique_server.url, api_key="k")
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as blocking:
        with llm_cache() as cell:
            first = [blocking.chat.completions.create(**CHAT), blocking.responses.create(**RESPONSES)]
            second = [
                (await client.chat.completions.with_raw_response.create(**CHAT)).parse(),
                await client.responses.create(**RESPONSES),
            ]
            async with client.chat.completions.with_streaming_response.create(**CHAT) as response:
                second.append(await response.parse())
            texts = []
            for _ in range(2):
                async with claude.messages.stream(**MESSAGES) as stream:
                    texts.append([text async for text in stream.text_stream])
        assert comparable(second) == comparable([*first, first[0]])
    assert texts[0] == texts[1]
    assert unique_server.count == 3
    assert (cell.misses, cell.hits) == (3, 4)
    await client.close()
    await claude.close()


class Lingering(httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A stream whose connection stays open behind the last event."""

    def __init__(self, events):
        self.events = events

    def __iter__(self):
        yield from self.events
        raise AssertionError("read beyond the last event")

    async def __aiter__(self):
        for event in self.events:
            yield event
        await asyncio.Event().wait()


async def test_connection_that_stays_open_behind_the_last_event(isolated, unique_server):
    """A stream is whole with its terminal event: SDKs leave it there, whatever becomes of the connection."""
    request = {**CHAT, "stream": True}
    async with httpx2.AsyncClient() as plain:
        recorded = (await plain.post(f"{unique_server.openai_url}/chat/completions", json=request)).content
    events = [event + b"\n\n" for event in recorded.split(b"\n\n")[:-1]]
    headers = {"content-type": "text/event-stream"}
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, stream=Lingering(events)))
    http, ahttp = httpx2.Client(transport=transport), httpx2.AsyncClient(transport=transport)
    async with openai.AsyncOpenAI(base_url="https://a.example.com/v1", api_key="k", http_client=ahttp) as client:
        with llm_cache() as cell:
            for _ in range(2):
                assert len([chunk async for chunk in await client.chat.completions.create(**request)]) > 3
    assert [(call.outcome.value, call.stored) for call in cell.calls] == [("miss", True), ("hit", True)]
    with openai.OpenAI(base_url="https://b.example.com/v1", api_key="k", http_client=http) as blocking:
        check_second_is_a_hit(blocking, lambda c: list(c.chat.completions.create(**request)), unique_server)


def test_usage_is_rendered_as_asked(isolated, unique_server):
    """A stream stored with its usage serves a caller that did not ask for usage, without that event."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache() as cell:
        full = list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
        bare = list(client.chat.completions.create(**CHAT, stream=True))
    assert full[-1].usage is not None
    assert [chunk.id for chunk in bare] == [chunk.id for chunk in full[:-1]]
    assert all(chunk.usage is None for chunk in bare)
    assert (unique_server.count, cell.hits) == (1, 1)


def test_raw_response_shows_the_marks(isolated, unique_server):
    """A raw response tells a hit from a miss by its headers."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache():
        miss, hit = (client.chat.completions.with_raw_response.create(**CHAT) for _ in range(2))
    assert "x-genai-cache" not in miss.headers
    assert (hit.headers["x-genai-cache"], hit.headers["x-genai-cache-tier"]) == ("hit", "L1")
    assert hit.request_id == miss.request_id
