"""Calls of SDKs that can be answered above HTTP, in every form, and all that can be told of an answer."""

from __future__ import annotations

import asyncio
import gc
import inspect

import anthropic
import httpx2
import openai
import pydantic
import pytest

from genai_cache_magic.intercept.clients import httpx as http_level

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a cache?"}]
CHAT = {"model": "gpt-4.1-mini", "messages": MESSAGES}
CLAUDE = {"model": "claude-sonnet-4-6", "max_tokens": 64, "messages": MESSAGES[1:]}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class Verdict(pydantic.BaseModel):
    """What a structured answer is parsed into."""

    word: str
    number: int


@pytest.fixture(name="_collected", autouse=True)
def left_unclosed():
    """What a test leaves unclosed is told of that test, and not of whichever the collector comes to."""
    yield
    gc.collect()
    gc.freeze()  # so that the next one does not go through all that SDKs have imported: see tests/conftest.py


@pytest.fixture(name="by_http")
def carried_by_http(monkeypatch):
    """What was carried out at HTTP level: one item for each request."""
    carried = []
    turn_for = http_level.turn_for

    def noted(here, request, *args, **options):
        carried.append(request)
        return turn_for(here, request, *args, **options)

    monkeypatch.setattr(http_level, "turn_for", noted)
    return carried


def noticed(request):
    """A hook of an HTTP client, which has to hear of every request."""


async def noticed_async(request):
    """The same, for an asynchronous client."""


def http_client(*, is_hooked, is_async=False, library=httpx2, **options):
    """An HTTP client, with a hook or without."""
    kind = library.AsyncClient if is_async else library.Client
    hooks = {"event_hooks": {"request": [noticed_async if is_async else noticed]}} if is_hooked else {}
    return kind(**hooks, **options)


def shown(value):
    """All that can be told of an answer: types, fields and their order, which of them were set, and extra ones."""
    if isinstance(value, pydantic.BaseModel):
        fields = [(name, shown(item)) for name, item in vars(value).items()]
        extra = [(name, shown(item)) for name, item in (value.__pydantic_extra__ or {}).items()]
        return type(value), fields, sorted(value.model_fields_set), extra, value.__pydantic_private__
    if isinstance(value, dict):
        return [(name, shown(item)) for name, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [shown(item) for item in value]
    return type(value), value


def told(answer):
    """What can be told of a stream before it is read, and of a raw response."""
    response = answer.http_response if is_raw(answer) else answer.response
    sent = response.request
    headers = [(name, value) for name, value in response.headers.items() if name not in {"date", "x-genai-cache-tier"}]
    request = (sent.method, str(sent.url), sorted(set(sent.headers) - {"idempotency-key"}), sent.content)
    state = (
        response.is_closed,
        response.is_stream_consumed,
        response.encoding,
        response.history,
        response.http_version,
    )
    told = {
        "type": type(answer),
        "status": response.status_code,
        "headers": headers,
        "request": request,
        "state": state,
    }
    if is_raw(answer):
        told["retries"], told["id"] = answer.retries_taken, getattr(answer, "request_id", None)
    return told


def is_raw(answer):
    return hasattr(answer, "http_response")


def open_ai(url, **options):
    return {"base_url": f"{url}/v1", "api_key": "simulated", **options}


def azure(url, **options):
    return {"azure_endpoint": url, "api_version": "2025-03-01-preview", "api_key": "simulated", **options}


def claude(url, **options):
    return {"base_url": url, "api_key": "simulated", **options}


def chat(client, **more):
    return client.chat.completions.create(**CHAT, **more)


def responses(client, **more):
    return client.responses.create(model="gpt-4.1-mini", input="What is a cache?", **more)


def message(client, **more):
    return client.messages.create(**CLAUDE, **more)


FORMS = {
    "chat": ("OpenAI", open_ai, {}, chat),
    "chat with tools": ("OpenAI", open_ai, {}, lambda c: chat(c, tools=[TOOL], temperature=0.5, seed=7, stop=["x"])),
    "chat, parsed": ("OpenAI", open_ai, {}, lambda c: c.chat.completions.parse(**CHAT, response_format=Verdict)),
    "chat, a model as a message": (
        *("OpenAI", open_ai, {}),
        lambda c: c.chat.completions.create(
            model="m", messages=[openai.types.chat.ChatCompletionMessage(role="assistant", content="Yes.")]
        ),
    ),
    "chat, an iterator": (
        "OpenAI",
        open_ai,
        {},
        lambda c: c.chat.completions.create(model="m", messages=iter(MESSAGES)),
    ),
    "chat, tuples": ("OpenAI", open_ai, {}, lambda c: c.chat.completions.create(model="m", messages=tuple(MESSAGES))),
    "chat, options of the call": (
        *("OpenAI", open_ai, {}),
        lambda c: chat(
            c,
            extra_headers={"OpenAI-Beta": "b=1", "X-Other": "o"},
            extra_query={"deployment": "d", "api-version": "3"},
            extra_body={"reasoning": {"effort": "low"}, "temperature": 0.25},
            timeout=7,
        ),
    ),
    "chat, options of the client": (
        *("OpenAI", open_ai, {"default_headers": {"OpenAI-Beta": "b=2"}, "default_query": {"q": "1"}}),
        lambda c: chat(c, extra_query={"q": "2"}),
    ),
    "chat, another client of the same": (
        *("OpenAI", open_ai, {}),
        lambda c: chat(c.with_options(default_headers={"OpenAI-Beta": "b=3"}, max_retries=0)),
    ),
    "chat, a header left out": ("OpenAI", open_ai, {}, lambda c: chat(c, extra_headers={"x-portkey-config": "c"})),
    "chat, raw": ("OpenAI", open_ai, {}, lambda c: c.chat.completions.with_raw_response.create(**CHAT)),
    "chat, raw, streamed": (
        *("OpenAI", open_ai, {}),
        lambda c: c.chat.completions.with_raw_response.create(**CHAT, stream=True),
    ),
    "chat, raw, parsed": (
        *("OpenAI", open_ai, {}),
        lambda c: c.chat.completions.with_raw_response.parse(**CHAT, response_format=Verdict),
    ),
    "responses": ("OpenAI", open_ai, {}, responses),
    "responses, raw": (
        *("OpenAI", open_ai, {}),
        lambda c: c.responses.with_raw_response.create(model="gpt-4.1-mini", input="What is a cache?"),
    ),
    "responses, parsed": (
        *("OpenAI", open_ai, {}),
        lambda c: c.responses.parse(model="gpt-4.1-mini", input="What?", text_format=Verdict),
    ),
    "completions": ("OpenAI", open_ai, {}, lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="A")),
    "embeddings": (
        *("OpenAI", open_ai, {}),
        lambda c: c.embeddings.create(model="text-embedding-3-small", input=["a", "b"]),
    ),
    "chat, streamed": ("OpenAI", open_ai, {}, lambda c: chat(c, stream=True, stream_options={"include_usage": True})),
    "chat, streamed, tools": ("OpenAI", open_ai, {}, lambda c: chat(c, stream=True, tools=[TOOL])),
    "responses, streamed": ("OpenAI", open_ai, {}, lambda c: responses(c, stream=True)),
    "completions, streamed": (
        *("OpenAI", open_ai, {}),
        lambda c: c.completions.create(model="gpt-3.5-turbo-instruct", prompt="A", stream=True),
    ),
    "Anthropic, streamed": ("Anthropic", claude, {}, lambda c: message(c, stream=True)),
    "Azure, streamed": ("AzureOpenAI", azure, {}, lambda c: chat(c, stream=True)),
    "Azure": ("AzureOpenAI", azure, {}, chat),
    "Azure, a deployment": ("AzureOpenAI", azure, {"azure_deployment": "mine"}, chat),
    "Azure, responses": ("AzureOpenAI", azure, {}, responses),
    "Anthropic": ("Anthropic", claude, {}, message),
    "Anthropic, raw": ("Anthropic", claude, {}, lambda c: c.messages.with_raw_response.create(**CLAUDE)),
    "Anthropic, options of the call": (
        *("Anthropic", claude, {"default_headers": {"anthropic-beta": "x"}}),
        lambda c: message(c, extra_headers={"X-Other": "o"}, extra_body={"top_k": 5}),
    ),
    "Anthropic, beta": (
        *("Anthropic", claude, {}),
        lambda c: c.beta.messages.create(**CLAUDE, betas=["files-api-2025-04-14"]),
    ),
}


def made(name, url, *, is_async, **http_options):
    """A client of a form's kind, and the form's call."""
    kind, options_of, more, call = FORMS[name]
    sdk = anthropic if kind == "Anthropic" else openai
    client = getattr(sdk, f"Async{kind}" if is_async else kind)
    http = http_client(is_async=is_async, **http_options)
    return client(**options_of(url, **more), http_client=http), call


def all_of(answer):
    return list(answer) if hasattr(answer, "__next__") else answer


def asked(made, *, is_async):
    """The answer that a client gets to a form's call."""
    client, call = made
    if not is_async:
        with client:
            answer = call(client)
            if is_raw(answer):
                return [told(answer), all_of(answer.parse()), answer.http_response.is_closed]
            return [told(answer), *answer] if hasattr(answer, "__next__") else answer

    async def ask():
        async with client:
            answer = await call(client)
            if is_raw(answer):
                parsed = answer.parse()
                parsed = await parsed if inspect.isawaitable(parsed) else parsed
                events = [event async for event in parsed] if hasattr(parsed, "__anext__") else parsed
                return [told(answer), events, answer.http_response.is_closed]
            return [told(answer), *[event async for event in answer]] if hasattr(answer, "__anext__") else answer

    return asyncio.run(ask())
