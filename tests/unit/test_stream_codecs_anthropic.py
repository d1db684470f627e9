"""Messages of Anthropic in both forms, against the events of the real API."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.anthropic.messages import AnthropicMessages
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.formats import sse

JSON, STREAM = Wants(Form.JSON), Wants(Form.STREAM)
USAGE = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 7,
    "service_tier": "standard",
}
CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0, "start_char_index": 0, "end_char_index": 1}
TEXT = {"type": "text", "text": "Hi"}
THOUGHT = {"type": "thinking", "thinking": "Hm", "signature": "c2ln"}
HIDDEN = {"type": "redacted_thinking", "data": "ZGF0YQ=="}
USE = {"type": "tool_use", "id": "toolu", "name": "f", "input": {"z": 1, "a": "Grüße"}, "caller": {"type": "direct"}}


def answered(*content, stop="end_turn", **more):
    return {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def whole(answer):
    return Response(200, (), json.dumps(answer).encode())


def stream(*events):
    lines = (b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)
    return Response(200, (), b"".join(lines), Form.STREAM)


def events_of(answer):
    rendered = AnthropicMessages().render(whole(answer), STREAM)
    events = list(sse.events(rendered.body))
    fields = [json.loads(event.data) for event in events]
    assert [event.name.decode() for event in events] == [one["type"] for one in fields]
    return fields


def as_json(response):
    rendered = AnthropicMessages().render(response, JSON)
    return rendered and json.loads(rendered.body)


def said(block):
    """The block as it starts, and its deltas."""
    first, start, *deltas, stop, _, last = events_of(answered(block))
    assert (first["type"], last) == ("message_start", {"type": "message_stop"})
    assert stop == {"type": "content_block_stop", "index": 0}
    assert all((one["type"], one["index"]) == ("content_block_delta", 0) for one in deltas)
    return start["content_block"], [one["delta"] for one in deltas]


# --- whole -> stream


def test_stream_has_the_shape_of_the_real_one():
    """The empty message with its input counted, the blocks in order, why it stopped with the totals, the end."""
    first, *middle, last, end = events_of(answered(TEXT, USE, stop="tool_use"))
    opened = {**answered(stop=None), "usage": {**USAGE, "output_tokens": 0}}
    assert first == {"type": "message_start", "message": opened}
    assert [(one["type"], one["index"]) for one in middle] == [
        ("content_block_start", 0),
        ("content_block_delta", 0),
        ("content_block_stop", 0),
        ("content_block_start", 1),
        *[("content_block_delta", 1)] * 3,
        ("content_block_stop", 1),
    ]
    totals = {name: USAGE[name] for name in USAGE if name.endswith("tokens")}
    stop = {"stop_reason": "tool_use", "stop_sequence": None}
    assert last == {"type": "message_delta", "delta": stop, "usage": totals}
    assert end == {"type": "message_stop"}


def test_text_and_citations():
    """A text comes in pieces, its citations one by one."""
    assert said(TEXT) == ({"type": "text", "text": ""}, [{"type": "text_delta", "text": "Hi"}])
    started, deltas = said({**TEXT, "citations": [CITATION, CITATION]})
    assert started == {"type": "text", "text": "", "citations": []}
    assert deltas[1:] == [{"type": "citations_delta", "citation": CITATION}] * 2
    assert said({**TEXT, "text": "", "citations": None}) == ({"type": "text", "text": "", "citations": None}, [])


def test_thinking_and_its_signature():
    """Thought comes in pieces and is signed at the end; what is hidden comes at once."""
    deltas = [{"type": "thinking_delta", "thinking": "Hm"}, {"type": "signature_delta", "signature": "c2ln"}]
    assert said(THOUGHT) == ({"type": "thinking", "thinking": "", "signature": ""}, deltas)
    assert said(HIDDEN) == (HIDDEN, [])


def test_input_of_a_tool():
    """The input is JSON in pieces behind an empty one, its fields in their order; no input is no more than that."""
    started, deltas = said(USE)
    assert started == {**USE, "input": {}}
    assert {one["type"] for one in deltas} == {"input_json_delta"}
    assert deltas[0]["partial_json"] == ""
    assert "".join(one["partial_json"] for one in deltas) == '{"z":1,"a":"Grüße"}'
    assert said({**USE, "input": {}})[1] == [{"type": "input_json_delta", "partial_json": ""}]


def test_counts_of_the_output_come_with_the_end():
    """What can only be known at the end is null at the start, and stands beside the reason."""
    details, edits = {"thinking_tokens": 3}, {"applied_edits": []}
    first, *_, last, _ = events_of(
        answered(TEXT, usage={**USAGE, "output_tokens_details": details}, context_management=edits, stop_details=None)
    )
    assert first["message"]["usage"]["output_tokens_details"] is None
    assert first["message"]["context_management"] is None
    assert (last["usage"]["output_tokens_details"], last["context_management"]) == (details, edits)
    assert last["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}


UNKNOWN_ANSWERS = {
    "server-tool": answered({"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
    "result": answered({"type": "web_search_tool_result", "tool_use_id": "s", "content": []}),
    "new-block": answered({"type": "hologram"}),
    "untyped": answered({"text": "Hi"}),
    "no-block": answered("Hi"),
    "text": answered({"type": "text", "text": None}),
    "input": answered({**USE, "input": "x"}),
    "signature": answered({**THOUGHT, "signature": 7}),
    "citations": answered({**TEXT, "citations": {"a": 1}}),
    "type": answered(TEXT, type="error"),
    "error": answered(TEXT, error={"type": "x"}),
    "no-stop": answered(TEXT, stop=None),
    "no-usage": answered(TEXT, usage=None),
    "no-output-count": answered(TEXT, usage={"input_tokens": 1}),
    "content": answered(content="Hi"),
}


@pytest.mark.parametrize("name", UNKNOWN_ANSWERS)
def test_answer_that_no_stream_can_say_is_a_miss(name):
    """Tools that ran on the server, and kinds that are new, have events that we don't know."""
    assert AnthropicMessages().render(whole(UNKNOWN_ANSWERS[name]), STREAM) is None


# --- stream -> whole


def block(index, started, *deltas):
    changes = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    stop = {"type": "content_block_stop", "index": index}
    return [{"type": "content_block_start", "index": index, "content_block": started}, *changes, stop]


START = {
    "type": "message_start",
    "message": {**answered(stop=None), "usage": {**USAGE, "output_tokens": 2, "cache_read_input_tokens": 0}},
}
SAID = block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "H"}, {"type": "text_delta", "text": "i"})
STOP = {
    "type": "message_delta",
    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    "usage": {"output_tokens": 7, "cache_read_input_tokens": 4, "input_tokens": None},
}
END = {"type": "message_stop"}
PING = {"type": "ping"}


def test_stream_of_anthropic():
    """The blocks make the message that would have come at once; totals replace what was announced, nulls don't."""
    assert as_json(stream(START, PING, *SAID, STOP, END)) == answered(TEXT)


def test_every_kind_of_block():
    """Thought, hidden thought, citations and a tool's input are put together."""
    pieces = ['{"z": 1, ', '"a": "Gr\\u00fc\\u00dfe"}']
    got = as_json(
        stream(
            START,
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "Hm"},
                {"type": "signature_delta", "signature": "c2ln"},
            ),
            *block(1, HIDDEN),
            *block(
                2,
                {"type": "text", "text": ""},
                {"type": "citations_delta", "citation": CITATION},
                {"type": "text_delta", "text": "Hi"},
            ),
            *block(3, {**USE, "input": {}}, *({"type": "input_json_delta", "partial_json": p} for p in ("", *pieces))),
            *block(4, {**USE, "input": {}}, {"type": "input_json_delta", "partial_json": ""}),
            STOP,
            END,
        )
    )
    assert got["content"] == [THOUGHT, HIDDEN, {**TEXT, "citations": [CITATION]}, USE, {**USE, "input": {}}]


def delta(**fields):
    return block(0, {"type": "text", "text": ""}, fields)


def given_input(text, **more):
    return block(0, {**USE, "input": {}, **more}, {"type": "input_json_delta", "partial_json": text})


def signed(*signatures, before=""):
    return block(
        0, {**THOUGHT, "signature": before}, *({"type": "signature_delta", "signature": s} for s in signatures)
    )


UNKNOWN_STREAMS = {
    "cut": [START, *SAID, STOP],
    "no-end": [START, *SAID, END],
    "no-start": [*SAID, STOP, END],
    "two-starts": [START, START, *SAID, STOP, END],
    "two-stops": [START, *SAID, STOP, STOP, END],
    "after-the-end": [START, *SAID, STOP, END, PING, END],
    "late-block": [START, STOP, *SAID, END],
    "error": [START, {"type": "error", "error": {"type": "overloaded_error"}}, *SAID, STOP, END],
    "new-event": [START, {"type": "hologram_start"}, *SAID, STOP, END],
    "new-delta": [START, *delta(type="hologram_delta", text="x"), STOP, END],
    "delta-of-another": [START, *delta(type="thinking_delta", thinking="x"), STOP, END],
    "delta-with-more": [START, *delta(type="text_delta", text="x", more=1), STOP, END],
    "delta-without-text": [START, *delta(type="text_delta"), STOP, END],
    "text": [START, *delta(type="text_delta", text=7), STOP, END],
    "half-pair": [START, *delta(type="text_delta", text="\ud83d"), STOP, END],
    "server-tool": [START, *block(0, {"type": "server_tool_use", "id": "s", "input": {}}), STOP, END],
    "place": [START, *block(1, TEXT), STOP, END],
    "open-block": [START, SAID[0], STOP, END],
    "block-in-block": [START, SAID[0], *SAID, STOP, END],
    "no-block": [START, SAID[1], STOP, END],
    "broken-input": [START, *given_input("{"), STOP, END],
    "list-as-input": [START, *given_input("[]"), STOP, END],
    "two-inputs": [START, *given_input("{}", input={"a": 1}), STOP, END],
    "two-signatures": [START, *signed("s", "s"), STOP, END],
    "signed-before": [START, *signed("s", before="r"), STOP, END],
    "no-reason": [START, *SAID, {**STOP, "delta": {"stop_reason": None}}, END],
    "new-reason": [START, *SAID, {**STOP, "delta": {**STOP["delta"], "mood": "x"}}, END],
    "new-count": [START, *SAID, {**STOP, "usage": {"output_tokens": 7, "watts": 1}}, END],
    "no-count": [START, *SAID, {**STOP, "usage": {}}, END],
    "new-field": [START, *SAID, {**STOP, "more": 1}, END],
    "field-at-the-end": [START, *SAID, STOP, {**END, "metrics": {}}],
    "field-at-the-start": [{**START, "more": 1}, *SAID, STOP, END],
    "no-usage": [{**START, "message": {**START["message"], "usage": None}}, *SAID, STOP, END],
    "begun-content": [{**START, "message": {**START["message"], "content": [TEXT]}}, *SAID, STOP, END],
}


@pytest.mark.parametrize("name", UNKNOWN_STREAMS)
def test_stream_that_is_not_understood_is_a_miss(name):
    """One event that is new, out of place, or says more than a message can: the answer is not guessed."""
    assert as_json(stream(START, *SAID, STOP, END)) == answered(TEXT)
    assert as_json(stream(*UNKNOWN_STREAMS[name])) is None


def test_event_under_a_false_name_is_a_miss():
    """Name and type of an event say the same, or nobody knows what it is."""
    raw = stream(START, *SAID, STOP).body + b'event: error\ndata: {"type":"message_stop"}\n\n'
    assert as_json(Response(200, (), raw, Form.STREAM)) is None
