"""Chat completions in both forms, against streams and answers as servers of this family write them."""

from __future__ import annotations

import copy
import json

import pytest

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.openai.chat import OpenAIChat

JSON, STREAM, WITHOUT_USAGE = Wants(Form.JSON), Wants(Form.STREAM), Wants(Form.STREAM, usage=False)
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def answered(*choices, **more):
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, **more}


def said(message=None, index=0, reason="stop", **more):
    message = {"role": "assistant", "content": "Hi"} if message is None else message
    return {"index": index, "message": message, "finish_reason": reason, **more}


def part(delta=None, reason=None, index=0, **more):
    return {"index": index, "delta": delta or {}, "finish_reason": reason, **more}


def chunk(*parts, **more):
    return {**HEAD, "choices": list(parts), **more}


def stream(*chunks, done=DONE, status=200):
    return Response(
        status, (), b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in chunks) + done, Form.STREAM
    )


def whole(answer, status=200):
    return Response(status, (), answer if isinstance(answer, bytes) else json.dumps(answer).encode())


def as_json(response):
    rendered = OpenAIChat().render(response, JSON)
    return rendered and json.loads(rendered.body)


def as_chunks(response, wants=STREAM):
    rendered = OpenAIChat().render(response, wants)
    *chunks, last = sse.events(rendered.body)
    assert last == sse.Event(b"", sse.DONE)
    return [json.loads(one.data) for one in chunks]


# --- whole -> stream


def test_stream_has_the_shape_of_the_real_one():
    """A chunk opens the message, others bring its texts and calls, one the reason; the usage comes last."""
    message = {"role": "assistant", "content": "Hello, wide world!", "refusal": None, "tool_calls": [CALL]}
    answer = answered(said(message, reason="tool_calls", logprobs=None), usage=USAGE, service_tier="default")
    head = {**HEAD, "service_tier": "default"}

    def step(delta, reason=None):
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]
        return {**head, "choices": choices, "usage": None}

    opened = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert as_chunks(whole(answer)) == [
        step({"role": "assistant", "content": "", "refusal": None}),
        step({"content": "Hello, wide worl"}),
        step({"content": "d!"}),
        step({"tool_calls": [opened]}),
        step({"tool_calls": [{"index": 0, "function": {"arguments": '{"a":1}'}}]}),
        step({}, "tool_calls"),
        {**head, "choices": [], "usage": USAGE},
    ]


def test_choices_take_turns():
    """Every choice opens before any ends, in the order of their places."""
    chunks = as_chunks(whole(answered(*(said(index=i) for i in range(3)), usage=USAGE)))
    assert [one["choices"][0]["index"] for one in chunks[:-1]] == [0, 1, 2] * 3


@pytest.mark.parametrize(("size", "least", "most"), [(16, 1, 1), (4000, 200, 260), (1_000_000, 400, 500)])
def test_text_comes_in_pieces(size, least, most):
    """A stream is incremental, and a long one is not made of a million events."""
    text = "\U0001f600" * size
    chunks = as_chunks(whole(answered(said({"role": "assistant", "content": text}), usage=USAGE)))
    pieces = [one["choices"][0]["delta"]["content"] for one in chunks[1:-2]]
    assert "".join(pieces) == text
    assert least <= len(pieces) <= most


def token(text, raw=None):
    return {"token": text, "logprob": -0.5, "bytes": None if raw is None else list(raw), "top_logprobs": []}


def heard(content, tokens):
    message = {"role": "assistant", "content": content}
    logprobs = {"content": tokens, "refusal": None}
    chunks = as_chunks(whole(answered(said(message, logprobs=logprobs), usage=USAGE)))
    parts = [one["choices"][0] for one in chunks[1:-2]]
    assert chunks[0]["choices"][0]["logprobs"] is None
    return [(one["delta"]["content"], one["logprobs"]["content"]) for one in parts]


def test_log_probabilities_go_with_their_piece():
    """Each token is a piece; tokens that share a character share theirs."""
    smile = "\U0001f600".encode()
    tokens = [token("Hi", b"Hi"), token("\\xf0\\x9f", smile[:2]), token("\\x98\\x80", smile[2:]), token("!")]
    assert heard("Hi\U0001f600!", tokens) == [("Hi", tokens[:1]), ("\U0001f600", tokens[1:3]), ("!", tokens[3:])]


@pytest.mark.parametrize(
    "tokens",
    [
        [token("Hi"), token("<|end|>")],
        [token("H"), token("?", b"\xf0\x9f")],
        [token("?", b"\xff"), token("i")],
        [{"token": None, "bytes": [700]}],
        [{"token": "Hi", "bytes": ["H"]}, {}, {"token": 7}, {"x": 1}],
    ],
    ids=range(5),
)
def test_log_probabilities_that_are_not_the_texts_come_at_once(tokens):
    """Where nobody can say which token said what, text and tokens are one piece."""
    said_at_once = heard("Hi", tokens)
    assert said_at_once == [("Hi", tokens)] or "".join(piece for piece, _ in said_at_once) == "Hi"
    assert [one for _, own in said_at_once for one in own] == tokens


def test_what_else_an_answer_holds_stands_once():
    """Unknown fields: of the answer in its first chunk, of a message in its opening, of a choice beside its reason."""
    message = {"role": "assistant", "content": "Hi", "images": [{"n": 1}]}
    answer = answered(said(message, native_finish_reason="STOP"), usage=USAGE, provider="P", citations=["u"])
    first, *middle, last, _ = as_chunks(whole(answer))
    assert (first["provider"], first["citations"], first["choices"][0]["delta"]["images"]) == ("P", ["u"], [{"n": 1}])
    assert last["choices"][0]["native_finish_reason"] == "STOP"
    assert [set(one) - {*HEAD, "choices", "usage"} for one in (*middle, last)] == [set(), set()]


def test_azures_word_on_the_prompt_has_its_own_chunk():
    """The content filter's results come as Azure sends them, and go back where they came from."""
    filtered = {"hate": {"filtered": False, "severity": "safe"}}
    notice = [{"prompt_index": 0, "content_filter_results": filtered}]
    answer = answered(said(content_filter_results=filtered), usage=USAGE, prompt_filter_results=notice)
    first, *_, last, _ = as_chunks(whole(answer))
    blank = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
    assert first == {**blank, "prompt_filter_results": notice}
    assert last["choices"][0]["content_filter_results"] == filtered
    assert as_json(OpenAIChat().render(whole(answer), STREAM)) == json.loads(json.dumps(answer))


def test_place_of_a_tool_call_in_a_whole_answer_says_nothing():
    """DeepSeek and Mistral number the tool calls of a whole answer too; a stream says the same anyway."""
    message = {"role": "assistant", "content": "", "tool_calls": [{"index": 0, **CALL}, {"index": 1, **CALL}]}
    answer = answered(said(message, reason="tool_calls"), usage=USAGE)
    back = as_json(OpenAIChat().render(whole(answer), STREAM))
    assert back["choices"][0]["message"]["tool_calls"] == [CALL, CALL]


def test_answer_without_usage_serves_streams_that_ask_for_none():
    """A server that counts nothing can still be cached for a caller who does not ask."""
    assert OpenAIChat().render(whole(answered(said())), STREAM) is None
    assert OpenAIChat().render(whole(answered(said(), usage=None)), STREAM) is None
    chunks = as_chunks(whole(answered(said(), usage=None)), WITHOUT_USAGE)
    assert not any("usage" in one for one in chunks)


UNKNOWN_ANSWERS = {
    "no-json": b"<html>",
    "list": b"[]",
    "duplicate-key": b'{"object":"chat.completion","id":"a","id":"b"}',
    "object": {**answered(said(), usage=USAGE), "object": "text_completion"},
    "error": answered(said(), usage=USAGE, error={"message": "no"}),
    "no-choice": answered(usage=USAGE),
    "choices": {**answered(usage=USAGE), "choices": {"0": 1}},
    "place": answered(said(index=1), usage=USAGE),
    "places": answered(said(), said(), usage=USAGE),
    "order": answered(said(index=1), said(index=0), usage=USAGE),
    "no-reason": answered(said(reason=None), usage=USAGE),
    "no-message": answered({"index": 0, "text": "Hi", "finish_reason": "stop"}, usage=USAGE),
    "no-role": answered(said({"content": "Hi"}), usage=USAGE),
    "parts": answered(said({"role": "assistant", "content": [{"type": "text", "text": "Hi"}]}), usage=USAGE),
    "audio": answered(said({"role": "assistant", "content": None, "audio": {"data": "AA=="}}), usage=USAGE),
    "custom": answered(
        said({"role": "assistant", "content": None, "tool_calls": [{"id": "a", "type": "custom"}]}), usage=USAGE
    ),
    "object-arguments": answered(
        said({"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}),
        usage=USAGE,
    ),
    "placed-call": answered(
        said({"role": "assistant", "content": None, "tool_calls": [{**CALL, "index": 1}]}), usage=USAGE
    ),
    "logprobs": answered(said(logprobs={"tokens": []}), usage=USAGE),
    "logprobs-of-nothing": answered(
        said({"role": "assistant", "content": None}, logprobs={"content": [token("x")]}), usage=USAGE
    ),
    "padding": answered(said(), usage=USAGE, obfuscation="x"),
    "usage": answered(said(), usage=[]),
}


@pytest.mark.parametrize("name", UNKNOWN_ANSWERS)
def test_answer_that_no_stream_can_say_is_a_miss(name):
    """What a stream can't carry, or what nobody knows how it would, is not converted."""
    assert OpenAIChat().render(whole(UNKNOWN_ANSWERS[name]), STREAM) is None


@pytest.mark.parametrize("status", [400, 503])
def test_failure_is_not_converted(status):
    """Only answers have two forms."""
    assert OpenAIChat().render(whole(answered(said(), usage=USAGE), status), STREAM) is None
    assert OpenAIChat().render(stream(*STREAMED, status=status), JSON) is None


# --- stream -> whole

STREAMED = (
    chunk(part({"role": "assistant", "content": "", "refusal": None}), usage=None),
    chunk(part({"content": "H"}), usage=None, obfuscation="aB"),
    chunk(part({"content": "i"}), usage=None, obfuscation="c"),
    chunk(part(reason="stop"), usage=None),
    chunk(usage=USAGE),
)


def test_stream_of_openai():
    """The pieces make the completion that would have come at once."""
    message = {"role": "assistant", "content": "Hi", "refusal": None}
    assert as_json(stream(*STREAMED)) == json.loads(json.dumps(answered(said(message), usage=USAGE)))


def test_stream_of_azure():
    """The notice on the prompt has no id of its own; results of the content filter repeat themselves."""
    safe = {"hate": {"filtered": False, "severity": "safe"}}
    blank = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
    got = as_json(
        stream(
            {**blank, "prompt_filter_results": [{"prompt_index": 0}]},
            chunk(part({"role": "assistant", "content": ""}, content_filter_results={}), system_fingerprint=None),
            chunk(part({"content": "H"}, content_filter_results=safe), system_fingerprint="fp"),
            chunk(part({"content": "i"}, content_filter_results=safe), system_fingerprint="fp"),
            chunk(part(reason="stop", content_filter_results={}), system_fingerprint="fp"),
            chunk(usage=USAGE, system_fingerprint="fp"),
        )
    )
    more = {"prompt_filter_results": [{"prompt_index": 0}], "system_fingerprint": "fp", "usage": USAGE}
    assert got == {**answered(**more), "choices": [said(content_filter_results=safe)]}


def test_stream_of_others():
    """Roles repeated, thoughts, usage beside the reason, a clock that runs, a last empty piece: all of one answer."""
    got = as_json(
        stream(
            chunk(part({"role": "assistant", "content": None, "reasoning_content": ""})),
            chunk(part({"role": "assistant", "content": None, "reasoning_content": "Hm"}), created=2),
            chunk(part({"role": "assistant", "content": "Hi", "reasoning_content": None}), created=3),
            chunk(part({"content": ""}, "stop", stop_reason=None), usage=USAGE, created=4),
            chunk(part({"role": "assistant", "content": ""}), timings={"ms": 1.5}, created=5),
        )
    )
    message = {"role": "assistant", "content": "Hi", "reasoning_content": "Hm"}
    assert got == {**answered(usage=USAGE, timings={"ms": 1.5}), "choices": [said(message, stop_reason=None)]}


def test_tool_calls_in_pieces():
    """Calls are put together by their places, each with its id, name and arguments; so is the old function call."""
    function = {"name": "f", "arguments": ""}
    got = as_json(
        stream(
            chunk(part({"role": "assistant", "content": None})),
            chunk(part({"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": function}]})),
            chunk(part({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]})),
            chunk(part({"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": function}]})),
            chunk(part({"tool_calls": [{"index": 0, "id": None, "function": {"name": None, "arguments": ":1}"}}]})),
            chunk(part({"function_call": {"name": "g", "arguments": ""}})),
            chunk(part({"function_call": {"arguments": "{}"}})),
            chunk(part(reason="tool_calls")),
            chunk(usage=USAGE),
        )
    )
    assert got["choices"][0]["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "b", "type": "function", "function": {"name": "f", "arguments": ""}},
        ],
        "function_call": {"name": "g", "arguments": "{}"},
    }


def test_log_probabilities_are_joined():
    """The tokens of all pieces make the lists of the whole."""
    pieces = [part({"content": t}, logprobs={"content": [token(t)], "refusal": None}) for t in "Hi"]
    got = as_json(
        stream(
            chunk(part({"role": "assistant", "content": ""}, logprobs=None)),
            *map(chunk, pieces),
            chunk(part(reason="stop", logprobs=None)),
            chunk(usage=USAGE),
        )
    )
    assert got["choices"][0]["logprobs"] == {"content": [token("H"), token("i")], "refusal": None}


OPENED, END, COUNTED = (
    chunk(part({"role": "assistant", "content": "Hi"})),
    chunk(part(reason="stop")),
    chunk(usage=USAGE),
)
UNKNOWN_STREAMS = {
    "no-usage": (OPENED, END),
    "no-choice": (COUNTED,),
    "no-reason": (OPENED, COUNTED),
    "no-role": (chunk(part({"content": "Hi"})), END, COUNTED),
    "two-reasons": (OPENED, END, chunk(part(reason="length")), COUNTED),
    "hole": (OPENED, END, chunk(part({"role": "assistant"}, "stop", index=2)), COUNTED),
    "place": (OPENED, END, chunk(part(index=None)), COUNTED),
    "two-ids": (OPENED, {**END, "id": "d"}, COUNTED),
    "two-models": (OPENED, {**END, "model": "other"}, COUNTED),
    "two-values": (chunk(*OPENED["choices"], x=1), chunk(*END["choices"], x=1.0), COUNTED),
    "object": ({**OPENED, "object": "chat.completion"}, END, COUNTED),
    "asynchronous-filter": (
        OPENED,
        {"id": "", "object": "", "created": 0, "model": "", "choices": [{"index": 0, "finish_reason": None}]},
        END,
        COUNTED,
    ),
    "error": (OPENED, END, {"error": {"message": "no"}}),
    "text": (OPENED, chunk({"index": 0, "text": "Hi", "finish_reason": None}), END, COUNTED),
    "message-beside-delta": (OPENED, chunk(part(reason="stop", message={"content": "Hi"})), END, {"choices": 1}),
    "parts": (OPENED, chunk(part({"content": [{"type": "text"}]})), END, COUNTED),
    "audio": (OPENED, chunk(part({"audio": {"data": "AA=="}})), END, COUNTED),
    "unknown-pieces": (OPENED, chunk(part({"thought": "ha"})), chunk(part({"thought": "ha"})), END, COUNTED),
    "token-ids": (OPENED, chunk(part(token_ids=[5])), chunk(part(token_ids=[5])), END, COUNTED),
    "id-twice": (OPENED, *[chunk(part({"tool_calls": [{"index": 0, **CALL}]}))] * 2, END, COUNTED),
    "custom": (OPENED, chunk(part({"tool_calls": [{"index": 0, "id": "a", "type": "custom"}]})), END, COUNTED),
    "call-hole": (OPENED, chunk(part({"tool_calls": [{"index": 1, **CALL}]})), END, COUNTED),
    "call-place": (OPENED, chunk(part({"tool_calls": [CALL]})), END, COUNTED),
    "no-arguments": (OPENED, chunk(part({"tool_calls": [{"index": 0, "function": {"name": "f"}}]})), END, COUNTED),
    "half-pair": (OPENED, chunk(part({"content": "\ud83d"})), END, COUNTED),
    "half-pair-in-a-name": (OPENED, END, chunk(usage=USAGE, x="\ud83d")),
    "logprobs": (OPENED, chunk(part(logprobs={"tokens": []})), END, COUNTED),
    "not-a-number": (OPENED, END, chunk(usage={"prompt_tokens": float("nan")}, x="\ud83d\ude00")),
    "no-finite-number": (OPENED, END, COUNTED | {"x": [float("inf")]}),
}


@pytest.mark.parametrize("name", UNKNOWN_STREAMS)
def test_stream_that_is_not_understood_is_a_miss(name):
    """One piece that could be taken in two ways, or that is new, and the answer is not guessed."""
    assert OpenAIChat().render(stream(OPENED, END, COUNTED), JSON) is not None
    assert OpenAIChat().render(stream(*UNKNOWN_STREAMS[name]), JSON) is None


@pytest.mark.parametrize(
    "done",
    [
        b"",
        b"data: {\n\n" + DONE,
        b'data: {"a":1,"a":2}\n\n' + DONE,
        DONE + DONE,
        b"event: x\n" + DONE,
        DONE + b"data: {}\n\n",
    ],
    ids=range(6),
)
def test_stream_with_a_wrong_end_is_a_miss(done):
    """The closing event comes once, and last."""
    assert OpenAIChat().render(stream(OPENED, END, COUNTED, done=done), JSON) is None


@pytest.mark.parametrize(("more", "is_known"), [("", True), (',"x":1,"x":1', False), (',"x":1e999', False)])
def test_half_a_pair_is_let_in_and_nothing_else(more, is_known):
    """An event that ends within a character is read leniently in this alone."""
    head = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    halves = (f'{head}"delta":{{"content":"{half}"}}}}]{more}}}' for half in (r"\ud83d", r"\ude00"))
    raw = b"".join(b"data: %b\n\n" % half.encode() for half in halves)
    response = Response(200, (), stream(OPENED, done=b"").body + raw + stream(END, COUNTED).body, Form.STREAM)
    got = as_json(response)
    assert (got and got["choices"][0]["message"]["content"]) == ("Hi\U0001f600" if is_known else None)


def test_numbers_beyond_64_bits_survive():
    """A conversion changes no number, however long or small."""
    odd = {"long": 2**70, "short": 5e-324, "one": 1.0, "zero": -0.0}
    answer = answered(said(), usage=USAGE, odd=odd)
    rendered = OpenAIChat().render(whole(answer), STREAM)
    assert repr(as_json(rendered)["odd"]) == repr(odd)


def test_conversion_leaves_its_source_alone():
    """The stored response is shared, so nothing of it changes."""
    response = whole(
        answered(said({"role": "assistant", "content": "", "tool_calls": [{"index": 0, **CALL}]}), usage=USAGE)
    )
    before = copy.deepcopy(response)
    OpenAIChat().render(response, STREAM)
    assert response == before
