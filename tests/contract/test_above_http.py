"""Hits above HTTP: of the entries that are made and found at HTTP level, with the very answers that are given there."""

from __future__ import annotations

import asyncio
import collections
import contextvars
import datetime as dt
import functools
import gc
import inspect
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import httpx2
import openai
import pydantic
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.cells import uninstall
from genai_cache_magic.api.session import Session
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.intercept import httpx as http_level
from genai_cache_magic.intercept import stainless, stainless_bodies
from genai_cache_magic.intercept.stainless_asked import Posted, Requested
from genai_cache_magic.intercept.stainless_shapes import Shapes
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.testing.model_server import Fault

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is a cache?"}]
CHAT = {"model": "gpt-4.1-mini", "messages": MESSAGES}
CLAUDE = {"model": "claude-sonnet-4-6", "max_tokens": 64, "messages": MESSAGES[1:]}
ANSWERED = (None, False, None)  # as what, in a stream, of which kind
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


class Verdict(pydantic.BaseModel):
    """What a structured answer is parsed into."""

    word: str
    number: int


@pytest.fixture(autouse=True)
def _collected():
    """What a test leaves unclosed is told of that test, and not of whichever the collector comes to."""
    yield
    gc.collect()


@pytest.fixture
def by_http(monkeypatch):
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


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FORMS)
def test_one_entry(isolated, unique_server, by_http, name, is_async):
    """What is stored at HTTP level is given above it and the other way round, alike in all that can be told.

    However often it is asked for, and in mode replay; at HTTP level nothing is seen of what is answered above.
    """

    def ask(*, is_hooked):
        return shown(asked(made(name, unique_server.url, is_async=is_async, is_hooked=is_hooked), is_async=is_async))

    with llm_cache() as scope:
        ask(is_hooked=True)
        below = ask(is_hooked=True)
        assert len(by_http) == 2
        assert [ask(is_hooked=False) for _ in range(4)] == [below] * 4
        assert len(by_http) == 2
    assert (scope.hits, scope.misses, scope.bypassed, scope.troubles) == (5, 1, 0, ())
    with llm_cache(salt="again") as scope:
        ask(is_hooked=False)
        assert len(by_http) == 3
        below = ask(is_hooked=True)
    with llm_cache(salt="again", mode="replay") as replayed:
        assert ask(is_hooked=False) == below
    assert (scope.hits, scope.misses, replayed.hits) == (1, 1, 1)
    assert scope.troubles == replayed.troubles == ()
    assert (len(by_http), unique_server.count) == (4, 2)


class Overriding(openai.OpenAI):
    """A client with a way of its own to prepare a request."""

    def _prepare_options(self, options):
        return super()._prepare_options(options)


class Marked(openai.OpenAI):
    """A client that holds something of its own."""

    def __init__(self, **options):
        super().__init__(**options)
        self.mark = "mine"


class Sending(httpx2.Client):
    """An HTTP client with a way of its own to send."""

    def send(self, request, **options):
        return super().send(request, **options)


def patched(client):
    client._build_request = client._build_request
    return client


def read_of(opened):
    with opened as response:
        return response.read()


NOT_FORETOLD = {
    "a client's own way to prepare": (Overriding, {}, chat),
    "an attribute that isn't known": (Marked, {}, chat),
    "a method of the object's own": (openai.OpenAI, {}, lambda c: chat(patched(c))),
    "a key that is asked for": (openai.OpenAI, {"api_key": lambda: "simulated"}, chat),
    "an HTTP client's own way to send": (openai.OpenAI, {"http_client": Sending}, chat),
    "parameters of the HTTP client": (
        *(openai.OpenAI, {"http_client": functools.partial(httpx2.Client, params={"a": "b"})}),
        chat,
    ),
    "a response that is read by its caller": (
        *(openai.OpenAI, {}),
        lambda c: read_of(c.chat.completions.with_streaming_response.create(**CHAT)),
    ),
    "a type that JSON has not": (
        *(openai.OpenAI, {}),
        lambda c: chat(c, extra_body={"x": dt.datetime(2026, 1, 2, tzinfo=dt.UTC)}),
    ),
}


@pytest.mark.parametrize("name", NOT_FORETOLD)
def test_what_is_not_foretold(isolated, unique_server, by_http, name):
    """Where something may change the request or must see it, the call goes by HTTP, and is a hit there."""
    kind, more, call = NOT_FORETOLD[name]
    with llm_cache() as scope:
        for _ in range(2):
            options = open_ai(unique_server.url, **more)
            if "http_client" in options:
                options["http_client"] = options["http_client"]()
            with kind(**options) as client:
                call(client)
    assert len(by_http) == 2
    assert (scope.hits, scope.misses, scope.troubles) == (1, 1, ())


@pytest.mark.parametrize("name", ["chat", "Anthropic"])
def test_a_client_is_looked_at_once_in_a_call(isolated, unique_server, by_http, monkeypatch, name):
    """One of which nothing is foretold is not asked about again on its way to HTTP level, but is at its next call."""
    looked = []
    is_foretold = Shapes.is_foretold

    def look(self, client):
        looked.append(is_foretold(self, client))
        return looked[-1]

    monkeypatch.setattr(Shapes, "is_foretold", look)
    client, call = made(name, unique_server.url, is_async=False, is_hooked=True)
    with llm_cache() as scope, client:
        call(client)
        call(client)
        assert looked == [False, False]
        client._client.event_hooks = {}
        call(client)
        assert looked == [False, False, True]
    assert (len(by_http), scope.hits, scope.misses) == (2, 2, 1)


@pytest.mark.parametrize("is_hooked", [False, True], ids=["above", "by HTTP"])
def test_headers_of_a_hit_are_its_callers_own(isolated, unique_server, is_hooked):
    """What a caller changes in the headers of an answer is in nobody else's."""
    client, call = made("chat, raw", unique_server.url, is_async=False, is_hooked=is_hooked)
    with llm_cache() as scope, client:
        call(client)
        told = [*call(client).headers.multi_items()]
        for _ in range(2):
            headers = call(client).headers
            assert [*headers.multi_items()] == told
            headers["content-length"] = "0"
            headers["x-changed"] = "1"
    assert (scope.hits, scope.misses) == (3, 1)


def test_whoever_reads_the_log(isolated, unique_server, caplog):
    """Who listens to what an SDK notes of requests reads the same lines of a hit as of a miss."""
    name = "openai"
    with (
        caplog.at_level(logging.DEBUG, logger=name),
        llm_cache(),
        openai.OpenAI(**open_ai(unique_server.url)) as client,
    ):
        chat(client)
        missed = [record.msg for record in caplog.records if record.name.startswith(name)]
        caplog.clear()
        chat(client)
        hit = [record.msg for record in caplog.records if record.name.startswith(name)]
    assert hit == missed != []


def test_who_instruments_a_class_later(isolated, unique_server, by_http, monkeypatch):
    """A method that is wrapped after the first hit is seen at the next one, and hits go above again without it."""
    built = []
    original = openai.OpenAI._build_request

    def build(self, options, **more):
        built.append(options.url)
        return original(self, options, **more)

    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        chat(client)
        chat(client)
        assert len(by_http) == 1
        with monkeypatch.context() as patch:
            patch.setattr(openai.OpenAI, "_build_request", build, raising=False)
            chat(client)
        assert built == ["/chat/completions"]
        assert len(by_http) == 2
    assert (scope.hits, scope.misses) == (2, 1)


def test_a_client_that_changes(isolated, unique_server):
    """What is changed in a client after its first call counts for the next one."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        chat(client)
        client._custom_headers = {"OpenAI-Beta": "new"}
        chat(client)
        client.base_url = f"{unique_server.url}/other/v1"
        with pytest.raises(openai.NotFoundError):
            chat(client)
        client.base_url = f"{unique_server.url}/v1"
        chat(client)
    assert (scope.hits, scope.misses) == (1, 2)


def test_parameters_that_are_equal_and_sent_apart(isolated, unique_server):
    """Parameters that Python calls equal, such as ``1`` and ``True``, are different calls where they are sent so."""
    values = (1, True, 1.0, "1", (1, 2), (True, 2), None)
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        told = [chat(client, extra_query={"x": value}).choices[0].message.content for value in values]
        again = [chat(client, extra_query={"x": value}).choices[0].message.content for value in values[::-1]]
    assert told == again[::-1]
    assert len(set(told)) == len(values) - 1  # 1 and "1" are sent alike
    assert (scope.hits, scope.misses) == (len(values) + 1, len(values) - 1)


def test_a_default_parameter_that_changes_its_type(isolated, unique_server):
    """The same holds of the parameters that a client adds to each call."""
    with httpx2.Client() as http, llm_cache() as scope:
        for value in (1, True):
            chat(openai.OpenAI(**open_ai(unique_server.url), http_client=http, default_query={"x": value}))
    assert (scope.hits, scope.misses) == (0, 2)


def test_a_coroutine_that_is_closed_elsewhere(isolated, unique_server):
    """A call that waits before it is sent is closed in another context without a sound, and nobody waits for it."""

    async def ask():
        with llm_cache() as scope:
            async with openai.AsyncOpenAI(**open_ai(unique_server.url)) as client:
                left = chat(client)
                waits_for = contextvars.copy_context().run(left.send, None)  # for what the SDK asks of the machine
                left.close()
                waits_for.cancel()
                await asyncio.wait_for(chat(client), 60)
        return scope

    scope = asyncio.run(ask())
    assert [call.outcome.value for call in scope.calls] == ["error", "miss"]
    assert scope.troubles == ()


def test_a_request_that_is_not_patched(isolated, unique_server, by_http, monkeypatch):
    """Where a call is not taken above HTTP its body is rendered by the SDK, though ``transform`` is ours."""
    kind = openai._base_client.SyncAPIClient
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        with monkeypatch.context() as patch:
            patch.setattr(kind, "request", kind.request.__wrapped__)
            for _ in range(2):
                chat(client)
        chat(client)
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (2, 2, 1, ())


def older(url):
    """A client whose resources are older than our patches."""
    uninstall()
    client = openai.OpenAI(**open_ai(url))
    assert client.chat.completions is client.chat.completions
    return client


def test_a_resource_older_than_the_patches(isolated, unique_server, by_http):
    """It is answered above HTTP, too, of the same entry, and so is one that has outlived them."""
    with older(unique_server.url) as client, llm_cache() as scope:
        answers = [shown(chat(client)) for _ in range(4)]
        with openai.OpenAI(**open_ai(unique_server.url)) as newer:
            answers += [shown(chat(newer)) for _ in range(2)]
            uninstall()
            with llm_cache() as later:
                answers += [shown(chat(newer)), shown(chat(client))]
    assert answers == [answers[0]] * 8
    assert (len(by_http), scope.hits, later.hits, scope.misses, scope.troubles) == (1, 5, 2, 1, ())


class Hesitating(collections.UserDict):
    """Headers that somebody takes the patches away at the sight of, in another thread."""

    def items(self):
        if not self.threads:
            self.threads.append(threading.Thread(target=uninstall))
            self.threads[0].start()
            self.threads[0].join(0.2)  # it waits until the call has gone on
        return super().items()


def test_a_call_while_the_patches_are_taken_away(isolated, unique_server, monkeypatch):
    """A call that was begun with them is made as any other, be it without them, by a resource older than them."""
    monkeypatch.setattr(stainless_bodies, "_LONGEST_WAY_S", 30)
    headers = Hesitating({"X-Other": "o"})
    headers.threads = []
    client = older(unique_server.url)
    with llm_cache(), client:
        assert chat(client, extra_headers=headers).choices
        headers.threads[0].join()
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        chat(client)
        chat(client)
    assert scope.hits == 1


class Held(httpx2.AsyncBaseTransport):
    """Holds what is sent until it may go on."""

    def __init__(self):
        self.sent = []
        self.inner = httpx2.AsyncHTTPTransport()
        self.is_asked, self.may_go_on = asyncio.Event(), asyncio.Event()

    async def handle_async_request(self, request):
        self.sent.append(request.content)
        self.is_asked.set()
        await self.may_go_on.wait()
        return await self.inner.handle_async_request(request)

    async def aclose(self):
        await self.inner.aclose()


def test_who_waits_is_answered_above_http(isolated, unique_server, by_http):
    """Of the tasks that ask one thing at one time only the one that asks the model goes by HTTP."""

    async def ask():
        async with openai.AsyncOpenAI(**open_ai(unique_server.url)) as client:
            return await asyncio.gather(*(chat(client) for _ in range(8)))

    with llm_cache() as scope:
        answers = asyncio.run(ask())
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (1, 7, 1, ())
    assert len({answer.choices[0].message.content for answer in answers}) == 1


def test_a_thread_that_waits_is_answered_above_http(isolated, unique_server, by_http):
    """So it is in threads."""
    transport = Blocking()
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        http = httpx2.Client(transport=transport)
        with openai.OpenAI(**open_ai(unique_server.url), http_client=http) as first, ThreadPoolExecutor(2) as pool:
            leader = pool.submit(llm_cache.wrap(chat), first)
            assert transport.is_asked.wait(30)
            follower = pool.submit(llm_cache.wrap(chat), client)
            transport.may_go_on.set()
            assert shown(leader.result()) == shown(follower.result())
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (1, 1, 1, ())


@pytest.mark.parametrize("of_client", [20, None, httpx2.Timeout(9, read=7)])
@pytest.mark.parametrize("of_call", [openai.NOT_GIVEN, 3, None, httpx2.Timeout(9, read=5), httpx2.Timeout(None)])
def test_who_waits_is_as_patient_as_by_http(of_client, of_call):
    """A call above HTTP waits for another one as long as its HTTP client would wait for an answer."""
    with openai.OpenAI(api_key="simulated", timeout=of_client) as client:
        options = openai._models.FinalRequestOptions(method="post", url="/chat/completions", timeout=of_call)
        read = http_level._read_timeout(client._client, client._build_request(options))
        given = openai._base_client.make_request_options(timeout=of_call)
        for asked in (Requested(options, *ANSWERED), Posted("/chat/completions", {}, given, *ANSWERED)):
            assert stainless._kit_of("openai").patience_s(client, asked) == read


class Blocking(httpx2.BaseTransport):
    """Holds what is sent until it may go on, in a thread."""

    def __init__(self):
        self.inner = httpx2.HTTPTransport()
        self.is_asked, self.may_go_on = threading.Event(), threading.Event()

    def handle_request(self, request):
        self.is_asked.set()
        assert self.may_go_on.wait(30)
        return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


def test_who_has_waited_asks_what_it_asked_before(isolated, unique_server):
    """One who leads on sends what it was called with, though its caller has gone on with the same list since."""

    async def ask():
        transport = Held()
        http = httpx2.AsyncClient(transport=transport)
        async with openai.AsyncOpenAI(**open_ai(unique_server.url), http_client=http) as client:
            messages = [dict(message) for message in MESSAGES]
            leader, follower = (
                asyncio.ensure_future(client.chat.completions.create(model=CHAT["model"], messages=own, **more))
                for own in (MESSAGES, messages)
            )
            await transport.is_asked.wait()  # the other one has begun by then
            messages[0]["content"] = "Be verbose."
            messages.append({"role": "user", "content": "And now?"})
            leader.cancel()
            transport.may_go_on.set()
            await follower
        return transport.sent

    more = {"extra_body": {"b": 1.5}, "stop": ["é"], "temperature": 1e-7, "seed": 2**53}
    with llm_cache() as scope:
        sent = asyncio.run(ask())
    assert (len(sent), len(set(sent)), scope.troubles) == (2, 1, ())
    assert [call.outcome.value for call in scope.calls] == ["error", "miss"]


def test_each_gets_an_answer_of_its_own(isolated, unique_server):
    """What a caller changes in an answer is in nobody else's."""
    with llm_cache(), openai.OpenAI(**open_ai(unique_server.url)) as client:
        told = chat(client).choices[0].message.content
        for _ in range(4):
            answer = chat(client)
            assert answer.choices[0].message.content == told
            answer.choices[0].message.content = "changed"
            answer.choices.clear()


@pytest.mark.parametrize("times", range(1, 5))
def test_a_stream_that_is_left(isolated, unique_server, times):
    """A stream that its caller leaves, or closes unread, is closed, however it makes its events, and is whole again."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        whole = [shown(event) for event in chat(client, stream=True)]
        for _ in range(times):
            stream = chat(client, stream=True)
            assert shown(next(stream)) == whole[0]
            stream.close()
            assert stream.response.is_closed
        with chat(client, stream=True) as stream:
            assert [shown(event) for event in stream] == whole
        assert stream.response.is_closed
        assert list(stream) == []
        unread = chat(client, stream=True)
        unread.close()
        with pytest.raises(httpx2.StreamClosed):
            next(unread)
    assert (scope.hits, scope.misses, scope.troubles) == (times + 2, 1, ())


def test_a_miss_in_replay(isolated, unique_server, by_http):
    """In mode replay a miss is raised as it is, and nothing is sent."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        chat(client)
    assert by_http == []
    assert unique_server.count == 0


def test_what_a_miss_sends(isolated, unique_server):
    """A miss sends the bytes that are sent without a scope."""
    sent = []
    http = httpx2.Client(transport=Noting(sent, httpx2.HTTPTransport()))
    more = {"tools": [TOOL], "stop": None, "extra_body": {"b": 1.5}}
    with openai.OpenAI(**open_ai(unique_server.url), http_client=http) as client:
        chat(client, **more)
        with llm_cache() as scope:
            chat(client, **more)
            chat(client, **more)
    assert sent[0] == sent[1]
    assert (len(sent), scope.hits, scope.misses) == (2, 1, 1)


class Noting(httpx2.BaseTransport):
    """Notes what is sent by another transport."""

    def __init__(self, sent, inner):
        self.sent = sent
        self.inner = inner

    def handle_request(self, request):
        self.sent.append(request.content)
        return self.inner.handle_request(request)

    def close(self):
        self.inner.close()


def test_a_call_that_fails_before_it_is_sent(isolated, unique_server):
    """A call without a credential fails as without us, with a stored answer or none, and nobody waits for it."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        chat(client)
        client.api_key = ""
        for _ in range(2):
            with pytest.raises(TypeError, match="authentication"):
                chat(client)
        client.api_key = "simulated"
        chat(client)
    assert (scope.hits, scope.misses) == (1, 1)


def test_errors_are_retried(isolated, unique_server, no_pause_between_retries):
    """A call that failed is made again by the SDK, each one recorded; what it got in the end is a hit afterwards."""
    unique_server.fail_next(Fault.SERVER_ERROR)
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        answer = chat(client)
        assert shown(chat(client)) == shown(answer)
    assert [call.outcome.value for call in scope.calls] == ["error", "miss", "hit"]
    assert scope.troubles == ()


def test_an_http_client_of_the_other_generation(isolated, unique_server, by_http):
    """An SDK that is given a client of the older HTTP library is served above it, too."""
    options = open_ai(unique_server.url)
    with llm_cache() as scope:
        for _ in range(3):
            with openai.OpenAI(**options, http_client=http_client(is_hooked=False, library=httpx)) as client:
                chat(client)
    assert len(by_http) == 1
    assert (scope.hits, scope.misses, scope.troubles) == (2, 1, ())


def test_a_parser_that_refuses(isolated, unique_server):
    """What a helper raises about an answer is raised of a hit, too."""
    with llm_cache() as scope, openai.OpenAI(**open_ai(unique_server.url)) as client:
        for _ in range(3):
            with pytest.raises(pydantic.ValidationError):
                client.chat.completions.parse(**CHAT, response_format=Unmet)
    assert scope.hits + scope.misses == 3


class Unmet(pydantic.BaseModel):
    """What no answer fits, though its schema says so nowhere."""

    word: str

    @pydantic.field_validator("word")
    @classmethod
    def refuse(cls, value):
        raise ValueError("unmet")


FAMILY = {
    "groq": ("groq", "Groq", {}),
    "cerebras-cloud-sdk": ("cerebras.cloud.sdk", "Cerebras", {"warm_tcp_connection": False}),
    "together": ("together", "Together", {}),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", FAMILY)
def test_another_of_the_family(isolated, unique_server, by_http, name, is_async):
    """What the same generator has made for others is served above HTTP, too: whole answers and streams."""
    package, kind, options = FAMILY[name]
    sdk = pytest.importorskip(package, reason=f"pip install --no-deps {name}, and detect-agent for together")
    client = getattr(sdk, f"Async{kind}" if is_async else kind)
    options = {"api_key": "simulated", "base_url": unique_server.url, **options}
    with llm_cache() as scope:
        for more in ({}, {"stream": True}):
            answers = [
                shown(asked((client(**options), functools.partial(chat, **more)), is_async=is_async)) for _ in range(5)
            ]
            assert answers == [answers[0]] * 5
    assert (len(by_http), scope.hits, scope.misses, scope.troubles) == (1, 9, 1, ())


def test_a_release_that_is_built_differently(isolated, monkeypatch):
    """It is served at HTTP level, which the doctor says."""
    assert stainless.slower() == ()

    def request(self, cast_to, options, remaining_retries):
        """Stands for what another release has."""

    monkeypatch.setattr(openai._base_client.SyncAPIClient, "request", request)
    assert stainless.patches(openai._base_client) == []
    said = [finding.says for finding in examine(Session()) if "given by HTTP" in finding.says]
    assert len(said) == 1
    assert said[0].startswith(f"hits of openai {openai.__version__} ")
