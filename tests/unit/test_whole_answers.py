"""Which answers are whole: what ends a stream, what takes its reason back, and what its caller asked to be cut."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.base import End, Wants
from genai_cache_magic.providers.formats import streams
from genai_cache_magic.providers.registry import recognise
from tests.unit.model_calls import CHAT, CLAUDE, HELLO, NOWHERE, call

DONE = b"data: [DONE]\n\n"
JSON = "application/json"
EVENTS = "text/event-stream"


def provider(path="/v1/chat/completions", body=None, host="api.openai.com"):
    return recognise(call(path, CHAT if body is None else body, host), NOWHERE).provider


def chat(**more):
    return provider(body={**CHAT, "stream": True, **more})


def stream(*events, done=b"", ended=True):
    raw = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events)
    return Response(200, (("content-type", EVENTS),), raw + done, Form.STREAM, has_ended=ended)


def piece(reason=None, index=0, **more):
    return {"choices": [{"index": index, "delta": {"content": "x"}, "finish_reason": reason}], **more}


COUNTED = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}


def test_a_stream_without_its_last_event():
    """Every choice's reason and an orderly end of the body make a stream whole; either alone does not."""
    assert chat().read(stream(piece(), piece("stop"))).end is End.COMPLETE
    assert chat().read(stream(piece(), piece("stop"), ended=False)).end is End.CUT
    assert chat().read(stream(piece())).end is End.CUT
    assert chat().read(stream()).end is End.CUT
    assert chat().read(stream(piece("length"))).end is End.TRUNCATED


def test_every_choice_needs_its_reason():
    """Of two answers that were asked for, the second may not have begun yet."""
    assert chat(n=2).read(stream(piece("stop"))).end is End.CUT
    assert chat(n=2).read(stream(piece("stop"), piece(index=1))).end is End.CUT
    assert chat(n=2).read(stream(piece("stop"), piece("stop", 1))).end is End.COMPLETE
    twice = provider("/v1/completions", {"model": "m", "prompt": ["a", "b"], "stream": True})
    assert twice.read(stream(piece("stop"))).end is End.CUT
    assert twice.read(stream(piece("stop"), piece("stop", 1))).end is End.COMPLETE


def test_the_usage_that_was_asked_for_ends_a_stream():
    """Who asked for the tokens and has them, after every reason, has all there is."""
    asking = chat(stream_options={"include_usage": True})
    assert asking.read(stream(piece("stop"), COUNTED, ended=False)).end is End.COMPLETE
    assert asking.read(stream(piece("stop", usage=COUNTED["usage"]), ended=False)).end is End.COMPLETE
    assert asking.read(stream(piece(usage=COUNTED["usage"]), piece("stop"), ended=False)).end is End.CUT
    assert asking.read(stream(piece(), COUNTED, ended=False)).end is End.CUT
    assert chat().read(stream(piece("stop"), COUNTED, ended=False)).end is End.CUT


@pytest.mark.parametrize("void", [None, ""], ids=["null", "empty"])
@pytest.mark.parametrize("reason", ["stop", "tool_calls", "length"])
def test_what_follows_a_reason_does_not_take_it_back(reason, void):
    """Some servers send another piece of the choice after its reason, without one."""
    whole = stream(piece(reason), piece(void), done=DONE)
    assert chat().read(whole).end is chat().read(stream(piece(reason), done=DONE)).end
    blocks = [{"generation": "a", "stop_reason": "stop"}, {"generation": "", "stop_reason": void}]
    from genai_cache_magic.providers.bedrock import invoke

    assert invoke._read_text(whole, blocks).end is End.COMPLETE


def test_anthropic_and_converse_without_their_last_event():
    """So it is with Anthropic's last event, which says nothing, and with the reason that it gave before."""
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}}
    text = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}}
    stop = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}
    void = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"output_tokens": 1}}
    claude = provider("/v1/messages", {**CLAUDE, "stream": True}, "api.anthropic.com")
    assert claude.read(stream(start, text, stop)).end is End.COMPLETE
    assert claude.read(stream(start, text, stop, void)).end is End.COMPLETE
    assert claude.read(stream(start, text, stop, ended=False)).end is End.CUT
    assert claude.read(stream(start, text)).end is End.CUT


GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def gemini(**settings):
    body = {**GEMINI, "generationConfig": settings}
    return provider("/v1beta/models/m:streamGenerateContent", body, "generativelanguage.googleapis.com")


def candidate(*parts, **more):
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}]}


SAID = candidate({"text": "x"}, finishReason="STOP")
EMPTY = [
    {"candidates": [{"index": 0}]},
    {"candidates": [{"content": {"role": "model"}}]},
    candidate(),
    candidate({"text": ""}),
    candidate({"text": ""}, finishReason=""),
    candidate(finishReason=None),
]


@pytest.mark.parametrize("empty", EMPTY, ids=range(len(EMPTY)))
def test_an_empty_candidate_after_the_reason(empty):
    """Gemini's empty last piece takes nothing back, in a stream, in an array, and in the other form."""
    counted = {**empty, "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}}
    whole = stream(SAID, counted)
    assert gemini().read(whole).end is End.COMPLETE
    array = Response(200, (("content-type", JSON),), json.dumps([SAID, counted]).encode())
    assert gemini().read(array).end is End.COMPLETE
    other = provider("/v1beta/models/m:generateContent", GEMINI, "generativelanguage.googleapis.com")
    assert json.loads(other.render(whole, Wants(Form.JSON)).body)["candidates"][0]["finishReason"] == "STOP"


def test_a_candidate_that_goes_on_has_not_ended():
    """Early models gave a reason with every piece; one that says more without a reason was cut there."""
    assert gemini().read(stream(SAID, candidate({"text": "y"}))).end is End.CUT
    assert gemini().read(stream(SAID, candidate({"functionCall": {"name": "f"}}))).end is End.CUT


ONE = {"max_tokens": 1}
CUT = {"choices": [{"index": 0, "message": {"content": "x"}, "text": "x", "finish_reason": "length"}]}
SCORED = {
    "chat": ("/v1/chat/completions", {**CHAT, **ONE, "logprobs": True}, "api.openai.com", CUT),
    "chat, new limit": (
        "/v1/chat/completions",
        {**CHAT, "max_completion_tokens": 1, "logprobs": True, "top_logprobs": 5},
        "api.openai.com",
        CUT,
    ),
    "vLLM's prompt": ("/v1/chat/completions", {**CHAT, **ONE, "prompt_logprobs": 0}, "localhost", CUT),
    "completion": ("/v1/completions", {"model": "m", "prompt": "a", **ONE, "logprobs": 0}, "api.openai.com", CUT),
    "nothing said": (
        "/v1/completions",
        {"model": "m", "prompt": "a", "max_tokens": 0, "logprobs": 1},
        "api.openai.com",
        {"choices": [{"index": 0, "text": "", "logprobs": {"tokens": ["a"]}, "finish_reason": "length"}]},
    ),
    "end at once": (
        "/v1/completions",
        {"model": "m", "prompt": "a", **ONE, "logprobs": 1},
        "api.openai.com",
        {"choices": [{"index": 0, "text": "", "logprobs": {"tokens": [""]}, "finish_reason": "stop"}]},
    ),
    "echo": ("/v1/completions", {"model": "m", "prompt": "a", "echo": True, "max_tokens": 0}, "api.openai.com", CUT),
    "responses": (
        "/v1/responses",
        {"model": "m", "input": "a", "max_output_tokens": 1, "top_logprobs": 5},
        "api.openai.com",
        {
            "status": "incomplete",
            "incomplete_details": {"reason": "max_output_tokens"},
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}],
        },
    ),
    "gemini": (
        "/v1beta/models/m:generateContent",
        {**GEMINI, "generationConfig": {"responseLogprobs": True, "maxOutputTokens": 1}},
        "generativelanguage.googleapis.com",
        candidate({"text": "x"}, finishReason="MAX_TOKENS"),
    ),
    "cohere": (
        "/v2/chat",
        {"model": "m", "messages": HELLO, "max_tokens": 1, "logprobs": True},
        "api.cohere.com",
        {"message": {"content": [{"type": "text", "text": "x"}]}, "finish_reason": "MAX_TOKENS"},
    ),
    "ollama": (
        "/api/chat",
        {"model": "m", "messages": HELLO, "stream": False, "logprobs": True, "options": {"num_predict": 1}},
        "localhost",
        {"message": {"content": "x"}, "done": True, "done_reason": "length"},
    ),
}


@pytest.mark.parametrize(("path", "body", "host", "answer"), SCORED.values(), ids=SCORED)
def test_one_token_with_its_probabilities_is_what_was_asked_for(path, body, host, answer):
    """Classifiers and scorers ask for one token, or for their own text: a limit that is reached cuts nothing off."""
    response = Response(200, (("content-type", JSON),), json.dumps(answer).encode())
    assert provider(path, body, host).read(response).end is End.COMPLETE


@pytest.mark.parametrize(
    "more",
    [
        ONE,
        {"max_tokens": 2, "logprobs": True},
        {**ONE, "logprobs": False},
        {"logprobs": True},
        {**ONE, "logprobs": None},
    ],
    ids=range(5),
)
def test_what_was_cut_all_the_same(more):
    """Without probabilities, or beyond one token, an answer that reaches its limit is cut."""
    response = Response(200, (("content-type", JSON),), json.dumps(CUT).encode())
    assert provider(body={**CHAT, **more}).read(response).end is End.TRUNCATED


CHUNK = b'data: {"choices":[]}\n\n'
FORMS = [
    (EVENTS, Form.JSON, CHUNK, Form.STREAM),
    (JSON, Form.STREAM, CHUNK, Form.STREAM),
    (JSON, Form.JSON, CHUNK, Form.STREAM),
    ("text/plain; charset=utf-8", Form.STREAM, CHUNK, Form.STREAM),
    ("", Form.STREAM, b"\xef\xbb\xbf" + CHUNK, Form.STREAM),
    ("application/octet-stream", Form.STREAM, b"\r\n: ping\r\n\r\n" + CHUNK, Form.STREAM),
    ("text/html", Form.STREAM, b"event: message_start\ndata: {}\n\n", Form.STREAM),
    ("text/plain", Form.JSON, b": a text that begins so", Form.JSON),
    (JSON, Form.STREAM, b'{"id": "c"}', Form.JSON),
    (JSON, Form.STREAM, b'{"a": 1}\n{"a": 2}\n', Form.STREAM),
    (JSON, Form.STREAM, b'{\n"a": 1}\n', Form.JSON),
    (JSON, Form.JSON, b'{"a": 1}\n{"a": 2}\n', Form.JSON),
    (EVENTS, Form.STREAM, b'{"id": "c"}', Form.JSON),
    (EVENTS, Form.STREAM, b'{"a": 1}\n{"a": 2}\n', Form.STREAM),
    ("audio/pcm", Form.JSON, b":\x00\x01", Form.JSON),
    ("application/x-ndjson", Form.JSON, b"", Form.STREAM),
]


@pytest.mark.parametrize(("told", "asked", "body", "expected"), FORMS, ids=range(len(FORMS)))
def test_form_goes_by_what_came(told, asked, body, expected):
    """What was asked and the first bytes tell the form where the label is wrong; in pieces it is the same bytes."""
    form = streams.form_of(told, asked, body)
    assert form is expected
    response = Response(200, (("content-type", told),), body, form)
    assert b"".join(streams.blocks(response)) == body


def test_lines_that_are_called_json():
    """Ollama's stream under a wrong label is read, and replayed line by line."""
    lines = b'{"message": {"content": "x"}, "done": false}\n{"message": {}, "done": true, "done_reason": "stop"}\n'
    response = Response(200, (("content-type", JSON),), lines, streams.form_of(JSON, Form.STREAM, lines))
    ollama = provider("/api/chat", {"model": "m", "messages": HELLO}, "localhost")
    assert ollama.read(response).end is End.COMPLETE
    assert len(list(streams.blocks(response))) == 2
