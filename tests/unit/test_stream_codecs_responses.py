"""The Responses API in both forms, against the events of the real API."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.openai.responses import OpenAIResponses

JSON, STREAM = Wants(Form.JSON), Wants(Form.STREAM)
USAGE = {"input_tokens": 9, "output_tokens": 2, "total_tokens": 11}
SOURCE = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 2}
HEARD = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
PART = {"type": "output_text", "text": "Hi", "annotations": [SOURCE], "logprobs": [HEARD]}
MESSAGE = {"type": "message", "id": "msg", "status": "completed", "role": "assistant", "content": [PART]}
FUNCTION = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}
CUSTOM = {"type": "custom_tool_call", "id": "ctc", "call_id": "d", "name": "g", "input": "SELECT 1"}
THOUGHT = {
    "type": "reasoning",
    "id": "rs",
    "summary": [{"type": "summary_text", "text": "Hm"}],
    "content": [{"type": "reasoning_text", "text": "Hm, hm"}],
    "encrypted_content": "e",
}


def answered(*output, status="completed", **more):
    return {
        "id": "resp",
        "object": "response",
        "created_at": 1,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "m",
        "output": list(output),
        "usage": USAGE,
        **more,
    }


def whole(answer):
    return Response(200, (), json.dumps(answer).encode())


def stream(*events, done=b"", named=True):
    lines = (
        b"%bdata: %b\n\n" % (b"event: %b\n" % e["type"].encode() if named else b"", json.dumps(e).encode())
        for e in events
    )
    return Response(200, (), b"".join(lines) + done, Form.STREAM)


def events_of(answer):
    rendered = OpenAIResponses().render(whole(answer), STREAM)
    events = list(sse.events(rendered.body))
    fields = [json.loads(event.data) for event in events]
    assert [event.name.decode() for event in events] == [one["type"] for one in fields]
    assert [one.pop("sequence_number") for one in fields] == list(range(len(fields)))
    return fields


def as_json(response):
    rendered = OpenAIResponses().render(response, JSON)
    return rendered and json.loads(rendered.body)


def said(*output):
    """The events of items alone, without those of the response."""
    answer = answered(*output)
    first, second, *events, last = events_of(answer)
    opened = {**answer, "status": "in_progress", "output": [], "usage": None}
    assert first == {"type": "response.created", "response": opened}
    assert second == {"type": "response.in_progress", "response": opened}
    assert last == {"type": "response.completed", "response": answer}
    return events


# --- whole -> stream


def test_message_has_the_events_of_the_real_api():
    """Item, part and text are announced, brought in pieces, annotated, and stated whole when they are done."""
    here = {"item_id": "msg", "output_index": 0, "content_index": 0}
    blank = {**PART, "text": "", "annotations": [], "logprobs": []}
    annotated = {"annotation_index": 0, "annotation": SOURCE}
    assert said(MESSAGE) == [
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**MESSAGE, "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **here, "part": blank},
        {"type": "response.output_text.delta", **here, "delta": "Hi", "logprobs": [HEARD]},
        {"type": "response.output_text.annotation.added", **here, **annotated},
        {"type": "response.output_text.done", **here, "text": "Hi", "logprobs": [HEARD]},
        {"type": "response.content_part.done", **here, "part": PART},
        {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE},
    ]


def test_refusal_has_its_events():
    """A refusal is a part of its own kind, at its own place."""
    refusal = {"type": "refusal", "refusal": "No."}
    events = said({**MESSAGE, "content": [PART, refusal]})
    here = {"item_id": "msg", "output_index": 0, "content_index": 1}
    assert events[-5:-1] == [
        {"type": "response.content_part.added", **here, "part": {**refusal, "refusal": ""}},
        {"type": "response.refusal.delta", **here, "delta": "No."},
        {"type": "response.refusal.done", **here, "refusal": "No."},
        {"type": "response.content_part.done", **here, "part": refusal},
    ]


def test_calls_have_their_events():
    """Arguments of a function and input of a custom tool come in pieces."""
    function, custom = {"item_id": "fc", "output_index": 0}, {"item_id": "ctc", "output_index": 1}
    opened = {**FUNCTION, "arguments": "", "status": "in_progress"}
    assert said(FUNCTION, CUSTOM) == [
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {"type": "response.function_call_arguments.delta", **function, "delta": "{}"},
        {"type": "response.function_call_arguments.done", **function, "name": "f", "arguments": "{}"},
        {"type": "response.output_item.done", "output_index": 0, "item": FUNCTION},
        {"type": "response.output_item.added", "output_index": 1, "item": {**CUSTOM, "input": ""}},
        {"type": "response.custom_tool_call_input.delta", **custom, "delta": "SELECT 1"},
        {"type": "response.custom_tool_call_input.done", **custom, "input": "SELECT 1"},
        {"type": "response.output_item.done", "output_index": 1, "item": CUSTOM},
    ]


def test_reasoning_has_its_events():
    """The parts of the summary, then the reasoning itself where it is told."""
    at = {"item_id": "rs", "output_index": 0}
    summed, thought = {**at, "summary_index": 0}, {**at, "content_index": 0}
    summary, content = THOUGHT["summary"][0], THOUGHT["content"][0]
    assert said(THOUGHT) == [
        {"type": "response.output_item.added", "output_index": 0, "item": {**THOUGHT, "summary": [], "content": []}},
        {"type": "response.reasoning_summary_part.added", **summed, "part": {**summary, "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **summed, "delta": "Hm"},
        {"type": "response.reasoning_summary_text.done", **summed, "text": "Hm"},
        {"type": "response.reasoning_summary_part.done", **summed, "part": summary},
        {"type": "response.content_part.added", **thought, "part": {**content, "text": ""}},
        {"type": "response.reasoning_text.delta", **thought, "delta": "Hm, hm"},
        {"type": "response.reasoning_text.done", **thought, "text": "Hm, hm"},
        {"type": "response.content_part.done", **thought, "part": content},
        {"type": "response.output_item.done", "output_index": 0, "item": THOUGHT},
    ]


def test_incomplete_response_ends_as_one():
    """What was stored although it is incomplete says so in its last event too."""
    answer = answered(MESSAGE, status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    first, *_, last = events_of(answer)
    assert first["response"]["incomplete_details"] is None
    assert last == {"type": "response.incomplete", "response": answer}


UNKNOWN_ANSWERS = {
    "failed": answered(MESSAGE, status="failed"),
    "queued": answered(MESSAGE, status="queued"),
    "error": answered(MESSAGE, error={"code": "x"}),
    "object": {**answered(MESSAGE), "object": "list"},
    "no-output": answered(MESSAGE, output=None),
    "no-usage": answered(MESSAGE, usage=None),
    "no-id": answered({**MESSAGE, "id": None}),
    "search": answered({"type": "web_search_call", "id": "ws", "status": "completed"}, MESSAGE),
    "untyped": answered({"id": "x"}),
    "part": answered({**MESSAGE, "content": [{"type": "output_audio"}]}),
    "summary": answered({**THOUGHT, "summary": [{"type": "x", "text": "Hm"}]}),
    "no-summary": answered({**THOUGHT, "summary": None}),
    "text": answered({**MESSAGE, "content": [{**PART, "text": None}]}),
    "arguments": answered({**FUNCTION, "arguments": {}}),
    "no-item": answered("x"),
}


@pytest.mark.parametrize("name", UNKNOWN_ANSWERS)
def test_answer_that_no_stream_can_say_is_a_miss(name):
    """Tools that ran on the server, and kinds that are new, have events that we don't know."""
    assert OpenAIResponses().render(whole(UNKNOWN_ANSWERS[name]), STREAM) is None


# --- stream -> whole

ANSWER = answered(MESSAGE)
HERE = {"item_id": "msg", "output_index": 0, "content_index": 0}
CREATED = {"type": "response.created", "response": {}}
DELTA = {"type": "response.output_text.delta", **HERE, "delta": "Hi"}
TEXT_DONE = {"type": "response.output_text.done", **HERE, "text": "Hi"}
ITEM_DONE = {"type": "response.output_item.done", "output_index": 0, "item": MESSAGE}
COMPLETED = {"type": "response.completed", "response": ANSWER}


@pytest.mark.parametrize("done", [b"", b"data: [DONE]\n\n"])
@pytest.mark.parametrize("named", [True, False])
def test_stream_ends_with_its_response(done, named):
    """The last event holds the response that would have come at once; heartbeats say nothing."""
    events = [CREATED, {"type": "keepalive", "sequence_number": 3}, DELTA, TEXT_DONE, ITEM_DONE, COMPLETED]
    assert as_json(stream(*events, done=done, named=named)) == ANSWER


def test_piece_that_ends_within_a_character():
    """Two halves of a surrogate pair are the character that they mean."""
    smile = {**MESSAGE, "content": [{**PART, "text": "\U0001f600"}]}
    halves = [{**DELTA, "delta": half} for half in ("\ud83d", "\ude00")]
    done = [{**TEXT_DONE, "text": "\U0001f600"}, {**ITEM_DONE, "item": smile}]
    answer = answered(smile)
    assert as_json(stream(*halves, *done, {**COMPLETED, "response": answer})) == answer


UNKNOWN_STREAMS = {
    "cut": [CREATED, DELTA, TEXT_DONE, ITEM_DONE],
    "failed": [{"type": "response.failed", "response": {**ANSWER, "status": "failed"}}],
    "status": [ITEM_DONE, {**COMPLETED, "response": {**ANSWER, "status": "incomplete"}}],
    "error": [{"type": "error", "message": "no"}, ITEM_DONE, COMPLETED],
    "search": [{"type": "response.web_search_call.searching", "output_index": 0}, ITEM_DONE, COMPLETED],
    "new": [{"type": "response.output_text.moved", **HERE}, ITEM_DONE, COMPLETED],
    "open-text": [DELTA, ITEM_DONE, COMPLETED],
    "other-text": [{**DELTA, "delta": "Ho"}, TEXT_DONE, ITEM_DONE, COMPLETED],
    "missing-item": [DELTA, TEXT_DONE, COMPLETED],
    "other-item": [{**ITEM_DONE, "item": {**MESSAGE, "id": "other"}}, COMPLETED],
    "more-items": [ITEM_DONE, {**ITEM_DONE, "output_index": 1}, COMPLETED],
    "no-output": [ITEM_DONE, {**COMPLETED, "response": {**ANSWER, "output": []}}],
    "output-left-out": [ITEM_DONE, {**COMPLETED, "response": {**ANSWER, "output": None}}],
    "search-in-output": [
        {**ITEM_DONE, "item": {"type": "web_search_call", "id": "ws"}},
        {**COMPLETED, "response": answered({"type": "web_search_call", "id": "ws"})},
    ],
    "no-usage": [ITEM_DONE, {**COMPLETED, "response": {**ANSWER, "usage": None}}],
    "after-the-end": [ITEM_DONE, COMPLETED, ITEM_DONE],
    "twice": [ITEM_DONE, COMPLETED, COMPLETED],
}


@pytest.mark.parametrize("name", UNKNOWN_STREAMS)
def test_stream_that_is_not_understood_is_a_miss(name):
    """A new kind of event, or a response that is not what was streamed, is not guessed at."""
    assert as_json(stream(ITEM_DONE, COMPLETED)) == ANSWER
    assert as_json(stream(*UNKNOWN_STREAMS[name])) is None


def test_event_under_a_false_name_is_a_miss():
    """Name and type of an event say the same, or nobody knows what it is."""
    raw = stream(ITEM_DONE).body + b"event: response.failed\ndata: " + json.dumps(COMPLETED).encode() + b"\n\n"
    assert as_json(Response(200, (), raw, Form.STREAM)) is None
