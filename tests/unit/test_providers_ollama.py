"""Ollama's own API and its JSON lines: what is a call, what is in its key, how its answers ended."""

from __future__ import annotations

import base64
import json

import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import End, HttpCall, Origins, Wants
from genai_cache_magic.providers.formats import jsonlines, streams
from genai_cache_magic.providers.ollama import Ollama, OllamaEmbeddings
from genai_cache_magic.providers.registry import recognise

LINES = (("content-type", "application/x-ndjson"),)
CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "Say hello"}]}
GENERATE = {"model": "llama3.2", "prompt": "Say hello"}
EMBED = {"model": "nomic-embed-text", "input": ["a", "b"]}
OLLAMA = Ollama("ollama.chat")


def found(body=CHAT, path="/api/chat", host="localhost", headers=None):
    given = {"content-type": "application/json", **(headers or {})}
    call = HttpCall("POST", "http", host, 11434, path, "", given, orjson.dumps(body))
    return recognise(call, Origins({}, "laptop"))


def request(*arguments, **more):
    return found(*arguments, **more).request


@pytest.mark.parametrize(
    ("path", "body", "surface"),
    [
        ("/api/chat", CHAT, "ollama.chat"),
        ("/api/generate", GENERATE, "ollama.generate"),
        ("/api/embed", EMBED, "ollama.embeddings"),
        ("/api/embed", {"model": "m", "input": "a"}, "ollama.embeddings"),
        ("/api/embeddings", {"model": "m", "prompt": "a"}, "ollama.embeddings.one"),
        ("/api/embeddings", EMBED, "openai.embeddings"),
        ("/v1/chat/completions", CHAT, "openai.chat"),
    ],
)
def test_calls_are_recognised(path, body, surface):
    """Each API is told by path and body; OpenAI's, under the same path or on the same server, stay OpenAI's."""
    model_call = found(body, path)
    assert model_call.provider.surface == model_call.request.surface == surface
    assert (model_call.request.model, model_call.request.machine) == (body["model"], "laptop")


def test_one_body_on_two_paths_is_two_requests():
    """Each path answers in its own shape, so neither may be given the answer of the other."""
    body = {"model": "m", "input": "a", "prompt": "a"}
    assert request(body, "/api/embed") != request(body, "/api/embeddings")


def test_a_generic_path_needs_a_reason():
    """Anybody's ``/api/chat`` is a call only at a private or known origin, or from Ollama's SDK."""
    assert found(host="app.example.com") is None
    assert found(host="app.example.com", headers={"user-agent": "ollama-python/0.6.3"}) is not None
    assert found(host="ollama.com").request.machine == ""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/chat", {"model": "m", "messages": []}),
        ("/api/chat", {"messages": CHAT["messages"]}),
        ("/api/generate", {"model": "m"}),
        ("/api/generate", {"model": "m", "prompt": ""}),
        ("/api/embed", {"model": "m", "input": []}),
        ("/api/pull", {"model": "m"}),
        ("/api/show", {"model": "m"}),
        ("/my/chat", CHAT),
    ],
)
def test_what_is_no_call(path, body):
    """Loading, pulling and showing a model ask it nothing."""
    assert found(body, path) is None


@pytest.mark.parametrize("stream", [{}, {"stream": None}, {"stream": True}])
def test_it_streams_unless_told_not_to(stream):
    """Without ``stream`` the answer is a stream, so that is the form in the key."""
    assert request({**CHAT, **stream}) == request()
    assert (request().form, found().wants) == ("stream", Wants(Form.STREAM))
    whole = found({**CHAT, "stream": False})
    assert (whole.request.form, whole.wants) == ("json", Wants(Form.JSON))
    assert found(EMBED, "/api/embed").wants == Wants(Form.JSON)
    with pytest.raises(UncacheableRequest):
        found({**CHAT, "stream": "yes"})


def test_how_long_a_model_stays_loaded_is_no_matter():
    """``keep_alive`` is out of the key; options, format, thinking and what is unheard of are in."""
    assert request({**CHAT, "keep_alive": "5m"}) == request()
    for field in ("options", "format", "think", "tools", "template", "unheard_of"):
        assert request({**CHAT, field: {"keep_alive": 1}}) != request()


def test_media_are_in_by_their_bytes():
    """A picture has one key in all spellings of its base64, in messages and beside a prompt."""
    data = base64.b64encode(b"\x89PNG picture").decode()
    chats = [request({**CHAT, "messages": [{"role": "user", "images": ["x!", d]}]}) for d in (data, data.rstrip("="))]
    assert chats[0] == chats[1]
    assert chats[0].media == ("/messages/0/images/1",)
    assert chats[0].body["messages"][0]["images"][0] == "x!"
    assert request({**GENERATE, "images": [data]}, "/api/generate").media == ("/images/0",)
    posing = {**GENERATE, "images": [request({**GENERATE, "images": [data]}, "/api/generate").body["images"][0]]}
    assert request(posing, "/api/generate") != request({**GENERATE, "images": [data]}, "/api/generate")


def test_ids_of_calls_are_renumbered_but_not_dropped():
    """Random ids don't matter; who answers whom does."""

    def talk(first, second, answered):
        calls = [{"id": i, "function": {"name": "f", "arguments": {}}} for i in (first, second)]
        results = [{"role": "tool", "tool_call_id": i, "content": r} for i, r in zip(answered, "12", strict=True)]
        return request({**CHAT, "messages": [{"role": "assistant", "tool_calls": calls}, *results]})

    assert talk("x", "y", "xy") == talk("p", "q", "pq") != talk("x", "y", "yx")


def test_facts_shown_beside_the_key():
    """Preview and limit are read from the request."""
    assert found({**CHAT, "options": {"num_predict": 7}}).max_output_tokens == 7
    assert found({**CHAT, "options": {"num_predict": -1}}).max_output_tokens is None
    assert found(GENERATE, "/api/generate").preview == found().preview == "Say hello"
    assert (found(EMBED, "/api/embed").preview, found(EMBED, "/api/embed").max_output_tokens) == ("b", 0)


# --- how answers end

DONE = {"model": "llama3.2", "done": True, "done_reason": "stop", "prompt_eval_count": 5, "eval_count": 2}
SAID = {"message": {"role": "assistant", "content": "Hello"}}
CALLED = {"message": {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}}
NOTHING = {"message": {"role": "assistant", "content": ""}}


def whole(*parts):
    return Response(200, (), json.dumps({k: v for part in parts for k, v in part.items()}).encode())


def lines(*parts, end=b"\n"):
    return Response(200, LINES, b"\n".join(json.dumps(part).encode() for part in parts) + end, Form.STREAM)


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (whole(SAID, DONE), End.COMPLETE),
        (whole({"response": "Hello"}, DONE), End.COMPLETE),
        (whole(CALLED, DONE), End.TOOL_CALLS),
        (whole(SAID, {"done": True}), End.COMPLETE),
        (whole(SAID, DONE, {"done_reason": "length"}), End.TRUNCATED),
        (whole(NOTHING, DONE), End.EMPTY),
        (whole({"message": {"content": "", "thinking": "Hm"}}, DONE), End.EMPTY),
        (whole(NOTHING, DONE, {"done_reason": "load"}), End.EMPTY),
        (whole(SAID, DONE, {"done_reason": "something new"}), End.UNREADABLE),
        (whole(SAID, DONE, {"done_reason": 7}), End.UNREADABLE),
        (whole(SAID, {"done": False}), End.UNREADABLE),
        (whole({"error": "no such model"}), End.ERROR),
        (Response(404, (), b'{"error":"no such model"}'), End.ERROR),
        (lines(SAID, {**NOTHING, **DONE}), End.COMPLETE),
        (lines(SAID, {**NOTHING, **DONE}, end=b""), End.COMPLETE),
        (lines(SAID, {**NOTHING, **DONE}, end=b"\r\n\r\n"), End.COMPLETE),
        (lines(CALLED, {**NOTHING, **DONE}), End.TOOL_CALLS),
        (lines(SAID, {**DONE, "done_reason": "length"}), End.TRUNCATED),
        (lines(NOTHING, DONE), End.EMPTY),
        (lines(SAID, {"error": "out of memory"}), End.ERROR),
        (lines(SAID), End.CUT),
        (Response(200, LINES, b"", Form.STREAM), End.CUT),
        (Response(200, LINES, b"{\n", Form.STREAM), End.UNREADABLE),
        (Response(503, LINES, b"", Form.STREAM), End.ERROR),
    ],
    ids=range(24),
)
def test_end_of_an_answer(response, expected):
    """Every ending is told, whole and streamed; a stream whose last line is not done was cut."""
    assert OLLAMA.read(response).end is expected


def test_a_stream_that_is_cut_anywhere_is_never_whole():
    """No beginning of a stream passes for the answer."""
    full = lines(SAID, {**NOTHING, **DONE}).body
    assert {OLLAMA.read(Response(200, LINES, full[:n], Form.STREAM)).end for n in range(len(full) - 1)} == {End.CUT}


def test_usage_and_served_model():
    """Counts stand in the last line."""
    assert OLLAMA.read(lines(SAID, DONE)).usage == OLLAMA.read(whole(SAID, DONE)).usage == Usage(5, 2)
    assert OLLAMA.read(lines(SAID, DONE)).model == "llama3.2"
    assert OLLAMA.read(whole(SAID, {"done": True})).usage == Usage(None, None)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"embeddings": [[0.1], [0.2]]}, End.COMPLETE),
        ({"embedding": [0.5]}, End.COMPLETE),
        ({"embeddings": [[0.1], []]}, End.EMPTY),
        ({"embeddings": []}, End.EMPTY),
        ({"embedding": []}, End.EMPTY),
        ({}, End.UNREADABLE),
        ({"error": "x"}, End.ERROR),
    ],
)
def test_end_of_embeddings(answer, expected):
    """One missing vector makes the answer empty."""
    provider = OllamaEmbeddings("ollama.embeddings")
    assert provider.read(Response(200, (), json.dumps(answer).encode())).end is expected
    assert provider.read(lines(answer)).end is End.UNREADABLE


@pytest.mark.parametrize("provider", [OLLAMA, OllamaEmbeddings("ollama.embeddings")])
def test_render_gives_the_same_form_only(provider):
    """A caller gets the form that it wants, unchanged, or a miss."""
    response = lines(SAID, DONE)
    assert provider.render(response, Wants(Form.STREAM)) is response
    assert provider.render(response, Wants(Form.JSON)) is None


# --- JSON lines


@pytest.mark.parametrize(
    ("recording", "blocks", "found"),
    [
        (b"", [], []),
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}\n', b'{"b":2}\n'], [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\r\n\r\n{"b":2}', [b'{"a":1}\r\n', b"\r\n", b'{"b":2}'], [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\n{"b"', [b'{"a":1}\n', b'{"b"'], [b'{"a":1}']),
        ('{"a":"\u2028\x85"}\n'.encode(), ['{"a":"\u2028\x85"}\n'.encode()], ['{"a":"\u2028\x85"}'.encode()]),
    ],
)
def test_lines_of_a_recording(recording, blocks, found):
    """Lines end at LF alone, blank ones don't count, and the last may lack its end if nothing is missing of it."""
    assert list(jsonlines.blocks(recording)) == blocks
    assert list(jsonlines.lines(recording)) == found


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/x-ndjson", Form.STREAM),
        ("Text/Event-Stream; charset=utf-8", Form.STREAM),
        ("application/vnd.amazon.eventstream", Form.STREAM),
        ("application/json; charset=UTF-8", Form.JSON),
        ("", Form.JSON),
    ],
)
def test_form_is_told_by_content_type(content_type, form):
    """What an answer says that it is decides how it is read and replayed."""
    assert streams.form_of(content_type) is form


def test_a_stream_is_replayed_line_by_line():
    """The pieces of a replay are the lines, and joined they are what was received."""
    response = lines(SAID, DONE)
    assert list(streams.blocks(response)) == response.body.splitlines(keepends=True)
    assert list(streams.blocks(Response(200, (), b"data: 1\n\ndata: 2\n\n", Form.STREAM))) == [
        b"data: 1\n\n",
        b"data: 2\n\n",
    ]


# --- the real SDK


@pytest.fixture
def client(isolated, server):
    sdk = pytest.importorskip("ollama", reason="pip install ollama", exc_type=ImportError)
    with sdk.Client(host=server.url) as client:
        yield client


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.chat(**CHAT).model_dump(),
        lambda client: client.generate(**GENERATE).model_dump(),
        lambda client: client.embed(**EMBED).model_dump(),
        lambda client: client.embeddings(model="m", prompt="a").model_dump(),
    ],
    ids=["chat", "generate", "embed", "embeddings"],
)
def test_the_sdk_asks_once(client, server, ask):
    """Ollama's SDK gets the same answer the second time, without a request."""
    with llm_cache() as cell:
        assert ask(client) == ask(client)
    assert server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit"]
    assert cell.calls[0].provider.startswith("ollama.")
