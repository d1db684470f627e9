"""What is answered above HTTP is foretold as it would be sent; else, or where that changes, a call goes by HTTP."""

from __future__ import annotations

import collections
import datetime as dt
import functools
import threading

import anthropic
import httpx2
import openai
import pytest
from openai._models import FinalRequestOptions
from openai.types.chat import ChatCompletion
from sdk_forms import CHAT, TOOL, carried_by_http, chat, http_client, left_unclosed, made, open_ai, shown  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.intercept import recording
from genai_cache_magic.intercept.clients import httpx as http_level
from genai_cache_magic.intercept.stainless import bodies as stainless_bodies
from genai_cache_magic.intercept.stainless.shapes import Shapes, _is_traced


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


def requested(client, headers):
    options = FinalRequestOptions(method="post", url="/chat/completions", json_data=CHAT)
    options.headers = headers
    return client.request(ChatCompletion, options)


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
    "headers of a kind of their own": (openai.OpenAI, {}, lambda c: requested(c, httpx2.Headers({"openai-beta": "a"}))),
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


@pytest.mark.parametrize("name", ["chat", "responses", "embeddings", "Azure", "Anthropic", "Anthropic, beta"])
def test_a_hit_makes_no_object_of_its_options(isolated, unique_server, monkeypatch, name):
    """Of what a resource of the SDK's asks nothing is made that a hit has no use for."""
    client, call = made(name, unique_server.url, is_async=False, is_hooked=False)
    with client, llm_cache() as scope:
        for _ in range(2):
            call(client)
        for options in (FinalRequestOptions, anthropic._models.FinalRequestOptions):
            monkeypatch.setattr(options, "construct", None)
        for _ in range(3):
            call(client)
    assert (scope.hits, scope.misses, scope.troubles) == (4, 1, ())


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
    assert (scope.hits, scope.misses) in {(1, 1), (2, 0)}  # the first was stored where the thread waited for it


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


@pytest.mark.parametrize("is_hooked", [False, True])
def test_what_is_sent_as_it_was_looked_up_is_not_recognised_again(isolated, unique_server, monkeypatch, is_hooked):
    """At each floor that sees the request it is compared with what was looked up, and that is all."""
    seen = []
    monkeypatch.setattr(recording, "recognise", lambda call, *_: seen.append(call))
    library = http_client(is_hooked=is_hooked)
    monkeypatch.setattr(http_level, "as_sent", seen.append) if not is_hooked else None
    monkeypatch.setattr(http_level, "by_transport", seen.append)
    with openai.OpenAI(**open_ai(unique_server.url), http_client=library) as client, llm_cache() as cell:
        for _ in range(2):
            chat(client, temperature=0.5)
    assert seen == []
    assert [(call.outcome, call.stored) for call in cell.calls] == [("miss", True), ("hit", True)]


def test_what_is_sent_otherwise_than_it_was_foretold_is_not_stored(isolated, unique_server, by_http, monkeypatch):
    """A body that is not the one which was foretold is recognised for what it is: its answer is not the other's."""
    spelled = stainless_bodies.spelled
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        with monkeypatch.context() as patched:
            patched.setattr(stainless_bodies, "spelled", lambda body: spelled({**body, "seed": 7}))
            chat(client)
            patched.setattr(stainless_bodies, "spelled", lambda body: spelled(dict(reversed(body.items()))))
            chat(client)
        chat(client)
    assert len(by_http) == 2
    said = [(call.outcome, call.stored, call.reason) for call in cell.calls]
    assert said == [("refused", False, recording.CHANGED), ("miss", True, ""), ("hit", True, "")]


def test_headers_of_a_kind_of_their_own_tell_calls_apart(isolated, unique_server):
    """Calls that are alike but for what such a mapping holds are two calls, however options came by it."""
    with openai.OpenAI(**open_ai(unique_server.url)) as client, llm_cache() as cell:
        given = [requested(client, httpx2.Headers({"openai-beta": value})).id for value in "abab"]
    assert given[:2] == given[2:]
    assert given[0] != given[1]
    assert [call.outcome for call in cell.calls] == ["miss", "miss", "hit", "hit"]


def test_a_span_that_is_going_on_is_an_sdks_to_tell_of(monkeypatch):
    """An SDK's own tracer is heard where somebody has set one up, or a caller's span came from elsewhere."""
    trace = pytest.importorskip("opentelemetry.trace")
    context = pytest.importorskip("opentelemetry.context")
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    tracer = trace.ProxyTracer("an sdk's")
    remote = trace.NonRecordingSpan(trace.SpanContext(trace_id=1, span_id=1, is_remote=True))

    def told(there):
        token = context.attach(there)
        try:
            return _is_traced(tracer)
        finally:
            context.detach(token)

    assert not _is_traced(None)
    assert not told(context.Context())
    assert not told(context.set_value("beside", "it", context.Context()))
    assert told(trace.set_span_in_context(remote, context.Context()))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", object())
    assert told(context.Context())
