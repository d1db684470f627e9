"""Cohere's chat and embeddings: what is a call, what is in its key, how its answers ended."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import End, HttpCall, OriginRule, Origins, Wants
from genai_cache_magic.providers.cohere.chat import CohereChat
from genai_cache_magic.providers.cohere.chat_v1 import CohereChatV1
from genai_cache_magic.providers.cohere.embeddings import CohereEmbeddings
from genai_cache_magic.providers.cohere.rerank import CohereRerank
from genai_cache_magic.providers.formats import streams
from genai_cache_magic.providers.registry import recognise

NOWHERE = Origins({}, "laptop")
CHAT = {"model": "command-a-03-2025", "messages": [{"role": "user", "content": "Say hello"}]}
OLD = {"model": "command-r", "message": "Say hello"}
RANK = {"model": "rerank-v3.5", "query": "a", "documents": ["b", "c"]}
EMBED = {"model": "embed-v4.0", "texts": ["a"], "input_type": "search_query"}


def found(body=CHAT, path="/v2/chat", host="api.cohere.com", headers=None, origins=NOWHERE):
    given = {"content-type": "application/json", **(headers or {})}
    return recognise(HttpCall("POST", "https", host, None, path, "", given, orjson.dumps(body)), origins)


def request(*arguments, **more):
    return found(*arguments, **more).request


def chat(*messages, **more):
    return {**CHAT, "messages": list(messages), **more}


@pytest.mark.parametrize(
    ("path", "body", "surface", "origin"),
    [
        ("/v2/chat", CHAT, "cohere.chat", "https://api.cohere.com/v2"),
        ("/v1/chat", OLD, "cohere.chat.v1", "https://api.cohere.com/v1"),
        ("/v1/embed", EMBED, "cohere.embeddings", "https://api.cohere.com/v1"),
        ("/v1/rerank", RANK, "cohere.rerank", "https://api.cohere.com/v1"),
        ("/v2/rerank", {**RANK, "documents": [{"text": "a"}]}, "cohere.rerank", "https://api.cohere.com/v2"),
        ("/v2/embed", {**EMBED, "texts": None, "images": ["data:image/png;base64,AAAA"]}, "cohere.embeddings", None),
        (
            "/v2/embed",
            {"model": "m", "inputs": [{"content": [{"type": "text", "text": "a"}]}]},
            "cohere.embeddings",
            None,
        ),
    ],
)
def test_calls_are_recognised(path, body, surface, origin):
    """Each API is told by path, body and host; the version stays in the origin, since its answers differ."""
    model_call = found(body, path)
    assert (model_call.provider.surface, model_call.provider.vendor) == (surface, "cohere")
    assert origin in {None, model_call.request.origin}


def test_a_generic_path_needs_a_reason():
    """Anybody's ``/v2/chat`` is a call only where models are served, or from Cohere's SDK."""
    stranger = "app.example.com"
    assert found(host=stranger) is None
    assert found(host=stranger, headers={"user-agent": "cohere/7.3.1"}) is not None
    assert found(host="east.models.ai.azure.com") is not None
    assert found(host=stranger, origins=Origins({f"https://{stranger}": OriginRule()}, "")) is not None


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat", {"message": ""}),
        ("/v1/chat", CHAT),
        ("/v1/rerank", {"query": "", "documents": ["b"]}),
        ("/v2/rerank", {"query": "a", "documents": []}),
        ("/v1/classify", EMBED),
        ("/v2/chat", {"model": "m", "messages": []}),
        ("/v2/chat", {"messages": CHAT["messages"]}),
        ("/v2/embed", {"model": "m", "texts": []}),
        ("/embed", EMBED),
    ],
)
def test_what_is_no_call(path, body):
    """Other paths, and bodies that ask for nothing, are left alone."""
    assert found(body, path) is None


def test_everything_but_the_form_is_in_the_key():
    """Fields that decide the answer, and unknown ones, are in; whether it streams is told apart."""
    for field in ("documents", "safety_mode", "temperature", "seed", "priority", "unheard_of", "user", "metadata"):
        assert request({**CHAT, field: {"x": 1}}) != request()
    assert request({**CHAT, "stream": False}) == request()
    streamed = found({**CHAT, "stream": True})
    assert (streamed.request.form, streamed.wants.form) == ("stream", Form.STREAM)
    with pytest.raises(UncacheableRequest):
        found({**CHAT, "stream": 1})


def test_media_are_in_by_their_bytes():
    """A picture counts by its bytes, in a message, in a list and in mixed inputs."""
    data = base64.b64encode(b"\x89PNG picture").decode()
    urls = [f"data:image/png;base64,{data}", f"data:image/png;base64,{data.rstrip('=')}"]
    asked = [request(chat({"role": "user", "content": [{"type": "image_url", "image_url": {"url": u}}]})) for u in urls]
    assert asked[0] == asked[1]
    assert asked[0].media == ("/messages/0/content/0/image_url/url",)
    listed = [request({"model": "m", "images": ["https://x.example/a.png", u]}, "/v2/embed") for u in urls]
    assert listed[0] == listed[1]
    assert listed[0].media == ("/images/1",)
    assert listed[0].body["images"][0] == "https://x.example/a.png"
    mixed = {"model": "m", "inputs": [{"content": [{"type": "image_url", "image_url": {"url": urls[0]}}]}]}
    assert request(mixed, "/v2/embed").media == ("/inputs/0/content/0/image_url/url",)


def test_ids_of_calls_are_renumbered_but_not_dropped():
    """Random ids don't matter; who answers whom does."""

    def talk(first, second, answered):
        calls = [{"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}} for i in (first, second)]
        results = [{"role": "tool", "tool_call_id": i, "content": r} for i, r in zip(answered, "12", strict=True)]
        return request(chat({"role": "assistant", "tool_calls": calls}, *results))

    assert talk("x", "y", "xy") == talk("p", "q", "pq") != talk("x", "y", "yx")


@pytest.mark.parametrize(
    ("extra", "refused"),
    [
        ({}, ()),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, ()),
        ({"documents": ["a"]}, ()),
        ({"connectors": []}, ()),
        ({"connectors": [{"id": "web-search"}]}, ("server-tools",)),
        ({"tools": [{"type": "web_search"}]}, ("server-tools",)),
    ],
)
def test_what_runs_at_cohere_is_refused(extra, refused):
    """Connectors search before the model answers, so the answer is of the moment."""
    assert found({**CHAT, **extra}).refused == refused


@pytest.mark.parametrize(
    ("extra", "refused"),
    [
        ({}, ()),
        ({"chat_history": [{"role": "USER", "message": "a"}]}, ()),
        ({"tools": [{"name": "f"}], "tool_results": [{"call": {"name": "f"}, "outputs": []}]}, ()),
        ({"conversation_id": ""}, ()),
        ({"conversation_id": "mine"}, ("stateful",)),
        ({"connectors": [{"id": "web-search"}]}, ("server-tools",)),
        ({"conversation_id": "mine", "connectors": [{"id": "web-search"}]}, ("stateful", "server-tools")),
    ],
)
def test_what_the_first_version_does_at_cohere_is_refused(extra, refused):
    """A conversation that Cohere keeps is not in the request, and a connector searches."""
    assert found({**OLD, **extra}, "/v1/chat").refused == refused


def test_kinds_of_stream_of_the_first_version_are_told_apart():
    """Who accepts events gets events, everybody else JSON lines, so neither is served what the other got."""
    plain, events = ({"accept": accept} for accept in ("application/json", "text/event-stream"))
    streamed = {**OLD, "stream": True}
    assert request(streamed, "/v1/chat", headers=plain) == request(streamed, "/v1/chat")
    assert request(streamed, "/v1/chat", headers=events) != request(streamed, "/v1/chat")
    assert request(OLD, "/v1/chat", headers=events) == request(OLD, "/v1/chat")
    assert request(streamed, "/v1/chat") != request(OLD, "/v1/chat")


def test_a_result_of_a_tool_needs_no_message():
    """The second turn of a tool call says nothing but what the tool found."""
    results = {"tool_results": [{"call": {"name": "f", "parameters": {}}, "outputs": [{"a": 1}]}]}
    assert found({**OLD, "message": "", **results}, "/v1/chat") is not None


def test_facts_shown_beside_the_key():
    """Preview and limit are read from the request."""
    model_call = found({**CHAT, "max_tokens": 7})
    assert (model_call.preview, model_call.max_output_tokens) == ("Say hello", 7)
    assert (found(EMBED, "/v2/embed").preview, found(EMBED, "/v2/embed").max_output_tokens) == ("a", 0)


# --- how answers end

BILLED = {"billed_units": {"input_tokens": 5, "output_tokens": 2}, "tokens": {"input_tokens": 70, "output_tokens": 2}}
SAID = {"content": [{"type": "text", "text": "Hello"}]}
CALLED = {"tool_calls": [{"id": "a", "function": {"name": "f"}}]}


def whole(reason="COMPLETE", message=SAID, **more):
    body = {"id": "1", "finish_reason": reason, "message": {"role": "assistant", **message}, **more}
    return Response(200, (), json.dumps(body).encode())


def events(*datas, tail=b"data: [DONE]\n\n"):
    frames = (b"event: %b\ndata: %b\n\n" % (d["type"].encode(), json.dumps(d).encode()) for d in datas)
    return Response(200, (), b"".join(frames) + tail, Form.STREAM)


START = {"type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}}
TEXT = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "Hello"}}}}
THOUGHT = {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "Hm"}}}}
TOOL = {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"id": "a"}}}}


def last(reason="COMPLETE", **more):
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": BILLED, **more}}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (whole(), End.COMPLETE),
        (whole("STOP_SEQUENCE"), End.COMPLETE),
        (whole("TOOL_CALL", CALLED), End.TOOL_CALLS),
        (whole("MAX_TOKENS"), End.TRUNCATED),
        (whole("ERROR_TOXIC"), End.FILTERED),
        (whole("ERROR"), End.ERROR),
        (whole("TIMEOUT"), End.ERROR),
        (whole("COMPLETE", {"content": []}), End.EMPTY),
        (whole("COMPLETE", {"content": [{"type": "thinking", "thinking": "Hm"}]}), End.EMPTY),
        (whole("SOMETHING_NEW"), End.UNREADABLE),
        (whole(None), End.UNREADABLE),
        (Response(200, (), b"{}"), End.UNREADABLE),
        (Response(429, (), b'{"message":"slow down"}'), End.ERROR),
        (events(START, TEXT, last()), End.COMPLETE),
        (events(START, TEXT, last(), tail=b""), End.COMPLETE),
        (events(START, TOOL, last("TOOL_CALL")), End.TOOL_CALLS),
        (events(START, TEXT, last("MAX_TOKENS")), End.TRUNCATED),
        (events(START, last()), End.EMPTY),
        (events(START, THOUGHT, last()), End.EMPTY),
        (events(START, TEXT, last("ERROR", error="no")), End.ERROR),
        (events(START, TEXT), End.CUT),
        (events(START, TEXT, tail=b""), End.CUT),
        (events(tail=b"data: {\n\n"), End.UNREADABLE),
        (events(tail=b'event: error\ndata: {"x":1}\n\n'), End.ERROR),
        (Response(503, (), b"", Form.STREAM), End.ERROR),
    ],
    ids=range(25),
)
def test_end_of_a_chat(response, expected):
    """Every ending is told, whole and streamed; a stream without its last event was cut."""
    assert CohereChat().read(response).end is expected


def test_a_stream_that_is_cut_anywhere_is_never_whole():
    """No beginning of a stream passes for the answer."""
    full = events(START, TEXT, last(), tail=b"").body
    assert {CohereChat().read(Response(200, (), full[:n], Form.STREAM)).end for n in range(len(full) - 1)} == {End.CUT}


def test_usage_is_what_is_billed():
    """Billed units are the price's tokens; without them, those that were counted."""
    assert CohereChat().read(whole(usage=BILLED)).usage == Usage(5, 2)
    assert CohereChat().read(events(TEXT, last())).usage == Usage(5, 2)
    assert CohereChat().read(whole(usage={"tokens": BILLED["tokens"], "cached_tokens": 8})).usage == Usage(70, 2, 8)
    assert CohereChat().read(whole()).usage == Usage(None, None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"embeddings": {"float": [[0.1], [0.2]], "int8": None}}, End.COMPLETE),
        ({"embeddings": [[0.5]]}, End.COMPLETE),
        ({"embeddings": {"float": [[0.1], []]}}, End.EMPTY),
        ({"embeddings": {"float": [[0.1]], "int8": []}}, End.EMPTY),
        ({"embeddings": {}}, End.EMPTY),
        ({"embeddings": []}, End.EMPTY),
        ({"embeddings": "x"}, End.UNREADABLE),
        ({}, End.UNREADABLE),
    ],
)
def test_end_of_embeddings(answer, expected):
    """One missing vector makes the answer empty."""
    body = {**answer, "meta": {"billed_units": {"input_tokens": 3, "image_tokens": 4}}}
    read = CohereEmbeddings().read(Response(200, (), json.dumps(body).encode()))
    assert read.end is expected
    assert expected is End.UNREADABLE or read.usage == Usage(7, 0)


TOLD = {"text": "Hello", "finish_reason": "COMPLETE", "meta": BILLED}


def lines(*events, status=200):
    body = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    headers = (("content-type", "application/stream+json"),)
    return Response(status, headers, body, streams.form_of(headers[0][1]))


def stream_end(**fields):
    return {"is_finished": True, "event_type": "stream-end", "finish_reason": "COMPLETE", "response": TOLD, **fields}


PIECE = {"is_finished": False, "event_type": "text-generation", "text": "Hello"}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(200, (), json.dumps(TOLD).encode()), End.COMPLETE),
        (Response(200, (), json.dumps({**TOLD, "text": "", "tool_calls": [{"name": "f"}]}).encode()), End.TOOL_CALLS),
        (Response(200, (), json.dumps({**TOLD, "text": "", "search_queries": [{"text": "q"}]}).encode()), End.COMPLETE),
        (Response(200, (), json.dumps({**TOLD, "text": ""}).encode()), End.EMPTY),
        (Response(200, (), json.dumps({**TOLD, "finish_reason": "MAX_TOKENS"}).encode()), End.TRUNCATED),
        (Response(200, (), json.dumps({**TOLD, "finish_reason": "ERROR_TOXIC"}).encode()), End.FILTERED),
        (Response(200, (), json.dumps({**TOLD, "finish_reason": "SOMETHING_NEW"}).encode()), End.UNREADABLE),
        (Response(429, (), b'{"message": "slow down"}'), End.ERROR),
        (Response(200, (), b"{"), End.UNREADABLE),
        (lines(PIECE, stream_end()), End.COMPLETE),
        (lines(PIECE, stream_end(finish_reason="ERROR", response={})), End.ERROR),
        (lines(PIECE), End.CUT),
        (lines(), End.CUT),
        (lines(PIECE, {"message": "internal error"}), End.ERROR),
        (replace(lines(), body=b"{\n"), End.UNREADABLE),
        (lines(status=500), End.ERROR),
    ],
    ids=range(16),
)
def test_end_of_an_answer_of_the_first_version(response, expected):
    """A stream ends with ``stream-end``, whose answer is the whole; whatever else is at its end cuts it."""
    assert CohereChatV1().read(response).end is expected


def test_events_of_the_first_version_are_read_like_its_lines():
    """Both kinds of stream say the same, tokens included."""
    body = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in (PIECE, stream_end()))
    events = Response(200, (("content-type", "text/event-stream"),), body, Form.STREAM)
    assert CohereChatV1().read(events) == CohereChatV1().read(lines(PIECE, stream_end()))
    assert CohereChatV1().read(events).usage == Usage(5, 2)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"results": [{"index": 0, "relevance_score": 0.0}]}, End.COMPLETE),
        ({"data": [{"index": 0, "relevance_score": 0.5}], "model": "m", "usage": {"total_tokens": 7}}, End.COMPLETE),
        ({"results": []}, End.EMPTY),
        ({"results": [{"index": 0}]}, End.UNREADABLE),
        ({"results": "x"}, End.UNREADABLE),
        ({}, End.UNREADABLE),
        ({"error": "no"}, End.ERROR),
    ],
)
def test_end_of_a_ranking(answer, expected):
    """A ranking is whole if every result has its score; tokens are known where they are told."""
    read = CohereRerank().read(Response(200, (), json.dumps(answer).encode()))
    assert read.end is expected
    assert read.usage.input_tokens == answer.get("usage", {}).get("total_tokens")


@pytest.mark.parametrize("provider", [CohereChat(), CohereEmbeddings(), CohereRerank()])
def test_render_gives_the_same_form_only(provider):
    """A caller gets the form that it wants, unchanged, or a miss."""
    response = whole()
    assert provider.render(response, Wants(Form.JSON)) is response
    assert provider.render(response, Wants(Form.STREAM)) is None
    assert provider.read(Response(200, (), b"", Form.STREAM)).end in {End.CUT, End.UNREADABLE}


# --- the real SDK


@pytest.fixture
def client(isolated, server):
    sdk = pytest.importorskip("cohere", reason="pip install cohere", exc_type=ImportError)
    httpx = pytest.importorskip("httpx", reason="pip install httpx")
    with httpx.Client() as http:
        yield sdk.ClientV2(api_key="none", base_url=server.url, httpx_client=http)


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.chat(**CHAT).model_dump(),
        lambda client: [event.model_dump() for event in client.chat_stream(**CHAT)],
        lambda client: client.embed(**EMBED, embedding_types=["float"]).model_dump(),
    ],
    ids=["whole", "streamed", "embedded"],
)
def test_the_sdk_asks_once(client, server, ask):
    """Cohere's SDK gets the same answer the second time, without a request."""
    with llm_cache() as cell:
        assert ask(client) == ask(client)
    assert server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit"]
    assert cell.calls[0].provider.startswith("cohere.")
