"""Every way in which the SDKs of OpenAI and Anthropic offer a call is answered from the cache the second time."""

from __future__ import annotations

import asyncio
import inspect

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
NEEDS_TOOL = {**MESSAGES, "messages": [{"role": "user", "content": "Ask the weather of Bern."}]}
FUNCTION = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {}}},
}
STRICT = {
    "type": "function",
    "function": {
        "name": "f",
        "strict": True,
        "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    },
}


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


def final(manager):
    with manager as stream:
        return final_of(stream)()


def final_of(stream):
    """What the helpers of a stream give when it is over, under the name that each API has for it."""
    names = ("get_final_completion", "get_final_response", "get_final_message")
    return next(getattr(stream, name) for name in names if hasattr(stream, name))


async def araw(method, **options):
    parsed = (await method.with_raw_response.create(**options)).parse()
    return await parsed if inspect.isawaitable(parsed) else parsed


async def astreaming(method, **options):
    async with method.with_streaming_response.create(**options) as response:
        return await response.parse()


async def alines(method, **options):
    async with method.with_streaming_response.create(**options, stream=True) as response:
        return [line async for line in response.iter_lines()]


async def aitems(stream):
    return [item async for item in await stream]


async def aevents(manager):
    async with manager as stream:
        return [event.model_dump(warnings=False) async for event in stream]


async def afinal(manager):
    async with manager as stream:
        return await final_of(stream)()


@anthropic.beta_tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city}: rain"


@anthropic.beta_async_tool(name="weather")
async def aweather(city: str) -> str:
    """Tell the weather of a city."""
    return f"{city}: rain"


def tool_run(client, **options):
    runner = client.beta.messages.tool_runner(**NEEDS_TOOL, tools=[weather], **options)
    return [message.model_dump() for message in runner]


async def atool_run(client, **options):
    runner = client.beta.messages.tool_runner(**NEEDS_TOOL, tools=[aweather], **options)
    return [message.model_dump() async for message in runner]


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
    "chat parse raw": lambda c: c.chat.completions.with_raw_response.parse(**CHAT, response_format=Verdict).parse(),
    "chat parse tools": lambda c: c.chat.completions.parse(**CHAT, tools=[STRICT], tool_choice="required"),
    "chat stream helper": lambda c: events(c.chat.completions.stream(**CHAT)),
    "chat stream parsed": lambda c: events(c.chat.completions.stream(**CHAT, response_format=Verdict)),
    "chat stream final": lambda c: final(c.chat.completions.stream(**CHAT, response_format=Verdict)),
    "chat stream tools": lambda c: events(
        c.chat.completions.stream(**CHAT, tools=[STRICT], tool_choice="required", parallel_tool_calls=True)
    ),
    "chat tools": lambda c: c.chat.completions.create(**CHAT, tools=[FUNCTION], tool_choice="required"),
    "chat choices": lambda c: c.chat.completions.create(**CHAT, n=3, logprobs=True, top_logprobs=2),
    "responses": lambda c: c.responses.create(**RESPONSES),
    "responses stream": lambda c: list(c.responses.create(**RESPONSES, stream=True)),
    "responses raw": lambda c: raw(c.responses, **RESPONSES),
    "responses streaming response": lambda c: streaming(c.responses, **RESPONSES),
    "responses lines": lambda c: lines(c.responses, **RESPONSES),
    "responses parse": lambda c: c.responses.parse(**RESPONSES, text_format=Verdict),
    "responses stream helper": lambda c: events(c.responses.stream(**RESPONSES)),
    "responses stream parsed": lambda c: events(c.responses.stream(**RESPONSES, text_format=Verdict)),
    "responses stream final": lambda c: final(c.responses.stream(**RESPONSES, text_format=Verdict)),
    "embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
    "embeddings raw": lambda c: raw(c.embeddings, model="text-embedding-3-small", input=["a", "b"]),
    "completions": lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="a"),
    "completions stream": lambda c: list(c.completions.create(model="gpt-3.5-turbo-instruct", prompt="a", stream=True)),
}

OPENAI_ASYNC = {
    "chat": lambda c: c.chat.completions.create(**CHAT),
    "chat stream": lambda c: aitems(c.chat.completions.create(**CHAT, stream=True)),
    "chat raw": lambda c: araw(c.chat.completions, **CHAT),
    "chat streaming response": lambda c: astreaming(c.chat.completions, **CHAT),
    "chat lines": lambda c: alines(c.chat.completions, **CHAT),
    "chat parse": lambda c: c.chat.completions.parse(**CHAT, response_format=Verdict),
    "chat stream helper": lambda c: aevents(c.chat.completions.stream(**CHAT)),
    "chat stream parsed": lambda c: aevents(c.chat.completions.stream(**CHAT, response_format=Verdict)),
    "chat stream final": lambda c: afinal(c.chat.completions.stream(**CHAT, response_format=Verdict)),
    "responses": lambda c: c.responses.create(**RESPONSES),
    "responses stream": lambda c: aitems(c.responses.create(**RESPONSES, stream=True)),
    "responses raw": lambda c: araw(c.responses, **RESPONSES),
    "responses streaming response": lambda c: astreaming(c.responses, **RESPONSES),
    "responses lines": lambda c: alines(c.responses, **RESPONSES),
    "responses parse": lambda c: c.responses.parse(**RESPONSES, text_format=Verdict),
    "responses stream helper": lambda c: aevents(c.responses.stream(**RESPONSES)),
    "responses stream parsed": lambda c: aevents(c.responses.stream(**RESPONSES, text_format=Verdict)),
    "responses stream final": lambda c: afinal(c.responses.stream(**RESPONSES, text_format=Verdict)),
    "embeddings": lambda c: c.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
    "completions stream": lambda c: aitems(
        c.completions.create(model="gpt-3.5-turbo-instruct", prompt="a", stream=True)
    ),
}

ANTHROPIC = {
    "messages": lambda c: c.messages.create(**MESSAGES),
    "messages stream": lambda c: list(c.messages.create(**MESSAGES, stream=True)),
    "messages raw": lambda c: raw(c.messages, **MESSAGES),
    "messages streaming response": lambda c: streaming(c.messages, **MESSAGES),
    "messages lines": lambda c: lines(c.messages, **MESSAGES),
    "messages parse": lambda c: c.messages.parse(**MESSAGES, output_format=Verdict),
    "messages stream helper": lambda c: events(c.messages.stream(**MESSAGES)),
    "messages stream parsed": lambda c: events(c.messages.stream(**MESSAGES, output_format=Verdict)),
    "messages stream final": lambda c: final(c.messages.stream(**MESSAGES, output_format=Verdict)),
    "beta messages": lambda c: c.beta.messages.create(**MESSAGES, betas=["a-beta"]),
    "beta parse": lambda c: c.beta.messages.parse(**MESSAGES, output_format=Verdict),
    "beta stream helper": lambda c: events(c.beta.messages.stream(**MESSAGES, betas=["a-beta"])),
}

ANTHROPIC_ASYNC = {
    "messages": lambda c: c.messages.create(**MESSAGES),
    "messages stream": lambda c: aitems(c.messages.create(**MESSAGES, stream=True)),
    "messages raw": lambda c: araw(c.messages, **MESSAGES),
    "messages streaming response": lambda c: astreaming(c.messages, **MESSAGES),
    "messages lines": lambda c: alines(c.messages, **MESSAGES),
    "messages parse": lambda c: c.messages.parse(**MESSAGES, output_format=Verdict),
    "messages stream helper": lambda c: aevents(c.messages.stream(**MESSAGES)),
    "messages stream parsed": lambda c: aevents(c.messages.stream(**MESSAGES, output_format=Verdict)),
    "messages stream final": lambda c: afinal(c.messages.stream(**MESSAGES, output_format=Verdict)),
    "beta messages": lambda c: c.beta.messages.create(**MESSAGES, betas=["a-beta"]),
    "beta parse": lambda c: c.beta.messages.parse(**MESSAGES, output_format=Verdict),
    "beta stream helper": lambda c: aevents(c.beta.messages.stream(**MESSAGES, betas=["a-beta"])),
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


async def check_async(client, ask, server):
    async with client:
        with llm_cache() as cell:
            first, second = [comparable(await ask(client)) for _ in range(2)]
    assert first == second
    assert first
    assert server.count == 1
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())


@pytest.mark.parametrize("way", OPENAI_ASYNC)
async def test_async_openai(isolated, unique_server, way):
    """Each asynchronous way to ask OpenAI gives the same answer, field by field, without a second call."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k")
    await check_async(client, OPENAI_ASYNC[way], unique_server)


@pytest.mark.parametrize("way", ANTHROPIC_ASYNC)
async def test_async_anthropic(isolated, unique_server, way):
    """Each asynchronous way to ask Anthropic gives the same answer, field by field, without a second call."""
    client = anthropic.AsyncAnthropic(base_url=unique_server.url, api_key="k")
    await check_async(client, ANTHROPIC_ASYNC[way], unique_server)


def test_parsed_answers_are_objects(isolated, unique_server):
    """What a hit parses into is an object of the caller's class, equal to what the miss gave, and not the same one."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache() as cell:
        parsed = [
            client.chat.completions.parse(**CHAT, response_format=Verdict).choices[0].message.parsed for _ in range(2)
        ]
        parsed += [client.responses.parse(**RESPONSES, text_format=Verdict).output_parsed for _ in range(2)]
    with anthropic.Anthropic(base_url=unique_server.url, api_key="k") as claude, llm_cache() as more:
        parsed += [claude.messages.parse(**MESSAGES, output_format=Verdict).parsed_output for _ in range(2)]
    assert {type(one) for one in parsed} == {Verdict}
    for miss, hit in (parsed[:2], parsed[2:4], parsed[4:]):
        assert miss == hit
        assert miss is not hit
    assert (cell.hits, more.hits, unique_server.count) == (2, 1, 3)


async def test_tool_runner(isolated, unique_server):
    """Anthropic's own agent loop is all hits the second time, sync or async, though its tool calls have random ids."""
    with anthropic.Anthropic(base_url=unique_server.url, api_key="k") as client, llm_cache() as cell:
        first, second = (tool_run(client, thread=False) for _ in range(2))
    assert first == second
    assert (len(first), cell.misses, cell.hits) == (2, 2, 2)
    async with anthropic.AsyncAnthropic(base_url=unique_server.url, api_key="k") as client:
        with llm_cache() as cell:
            assert await atool_run(client, thread=False) == first
    assert (cell.hits, cell.troubles) == (2, ())


def test_tool_runner_on_a_thread_of_the_server(isolated, unique_server):
    """The loop that leaves its history to the server is stateful: it goes on, unstored, and the record says why."""
    with anthropic.Anthropic(base_url=unique_server.url, api_key="k") as client, llm_cache() as cell:
        assert len(tool_run(client)) == len(tool_run(client)) == 2
    assert [(call.outcome.value, call.reason) for call in cell.calls] == [("refused", "stateful")] * 4


def test_format_is_in_the_key(isolated, unique_server):
    """Another schema is another request."""

    class Other(pydantic.BaseModel):
        """Like `Verdict`, but for one field."""

        word: str
        count: int

    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache() as cell:
        for wanted in (Verdict, Other, Verdict):
            client.chat.completions.parse(**CHAT, response_format=wanted)
    assert [call.outcome.value for call in cell.calls] == ["miss", "miss", "hit"]


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
