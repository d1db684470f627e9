"""How answers ended, what they cost, and how a stored stream is given to another caller."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.providers.anthropic.messages import AnthropicMessages
from genai_cache_magic.providers.base import End, Wants
from genai_cache_magic.providers.openai.chat import OpenAIChat
from genai_cache_magic.providers.openai.completions import OpenAICompletions
from genai_cache_magic.providers.openai.embeddings import OpenAIEmbeddings
from genai_cache_magic.providers.openai.responses import OpenAIResponses

ALL = (OpenAIChat(), OpenAICompletions(), OpenAIEmbeddings(), OpenAIResponses(), AnthropicMessages())


def plain(body, status=200):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Response(status, (("content-type", "application/json"),), raw)


def stream(*events, done=b"data: [DONE]\n\n", status=200):
    raw = b"".join(b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events)
    return Response(status, (), raw + done, Form.STREAM)


def end(provider, response):
    return provider.read(response).end


# --- every wire API


@pytest.mark.parametrize("provider", ALL, ids=lambda p: p.surface)
@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (plain({}, 500), End.ERROR),
        (plain(b"<html>", 502), End.ERROR),
        (plain({"choices": []}, 301), End.ERROR),
        (plain({"error": {"message": "no"}}), End.ERROR),
        (plain(b"<html>"), End.UNREADABLE),
        (plain(b"[]"), End.UNREADABLE),
        (plain(b""), End.UNREADABLE),
        (plain(b"[" * 100_000), End.UNREADABLE),
        (plain({}), End.UNREADABLE),
        (plain({"choices": {}, "data": {}, "output": {}, "content": {}}), End.UNREADABLE),
    ],
    ids=range(10),
)
def test_what_is_no_answer(provider, response, expected):
    """Errors are told apart from what can't be read, and neither is an answer."""
    assert end(provider, response) is expected


STREAMING = (OpenAIChat(), OpenAICompletions(), OpenAIResponses(), AnthropicMessages())


@pytest.mark.parametrize("provider", STREAMING, ids=lambda p: p.surface)
@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(503, (), b"", Form.STREAM), End.ERROR),
        (Response(200, (), b"", Form.STREAM), End.CUT),
        (Response(200, (), b"data: {}\n\ndata: {", Form.STREAM), End.CUT),
        (Response(200, (), b"data: {\n\n", Form.STREAM), End.UNREADABLE),
        (Response(200, (), b'event: error\ndata: {"error":{"type":"x"}}\n\n', Form.STREAM), End.ERROR),
    ],
    ids=range(5),
)
def test_what_is_no_stream(provider, response, expected):
    """A stream without its closing event was cut, whatever came before."""
    assert end(provider, response) is expected


# --- chat


def choice(reason="stop", index=0, **message):
    return {"index": index, "message": {"role": "assistant", **message}, "finish_reason": reason}


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CHAT_ENDS = [
    ([choice(content="Hello")], End.COMPLETE),
    ([choice(content=[{"type": "text", "text": "Hello"}])], End.COMPLETE),
    ([choice("eos", content="Hello")], End.COMPLETE),
    ([choice("tool_calls", content=None, tool_calls=[CALL])], End.TOOL_CALLS),
    ([choice("stop", content=None, tool_calls=[CALL])], End.TOOL_CALLS),
    ([choice("function_call", function_call={"name": "f"})], End.TOOL_CALLS),
    ([choice("stop", content=None, audio={"id": "a"})], End.COMPLETE),
    ([choice("length", content="Hel")], End.TRUNCATED),
    ([choice("length", content="")], End.TRUNCATED),
    ([choice("model_length", content="Hel")], End.TRUNCATED),
    ([choice("content_filter", content="")], End.FILTERED),
    ([choice("SAFETY", content="x")], End.FILTERED),
    ([choice(content=None, refusal="I can't")], End.REFUSAL),
    ([choice("error", content="x")], End.ERROR),
    ([choice("abort", content="x")], End.CUT),
    ([choice(content="")], End.EMPTY),
    ([choice(content=None)], End.EMPTY),
    ([choice(content="", reasoning_content="I think")], End.EMPTY),
    ([choice("tool_calls", content=None, tool_calls=[])], End.EMPTY),
    ([], End.EMPTY),
    ([choice(content="a"), choice("length", 1, content="b")], End.TRUNCATED),
    ([choice(content="a"), choice("content_filter", 1)], End.FILTERED),
    ([choice(content="a"), choice(content="", index=1)], End.COMPLETE),
    ([choice("length", content="a"), choice("content_filter", 1)], End.FILTERED),
    ([choice("something_new", content="a")], End.UNREADABLE),
    ([choice(7, content="a")], End.UNREADABLE),
]


@pytest.mark.parametrize(("choices", "expected"), CHAT_ENDS)
def test_end_of_a_chat(choices, expected):
    """One choice that is cut, filtered or refused makes the whole answer so."""
    assert end(OpenAIChat(), plain({"choices": choices})) is expected


@pytest.mark.parametrize(("choices", "expected"), CHAT_ENDS)
def test_end_of_a_streamed_chat(choices, expected):
    """The same answer in pieces ends the same way."""
    pieces = []
    for one in choices:
        pieces.append({"choices": [{"index": one["index"], "delta": one["message"], "finish_reason": None}]})
        pieces.append({"choices": [{"index": one["index"], "delta": {}, "finish_reason": one["finish_reason"]}]})
    assert end(OpenAIChat(), stream(*pieces)) is expected
    assert end(OpenAIChat(), stream(*pieces, done=b"")) is End.CUT


def test_choice_without_its_reason_is_not_whole():
    """A proxy may close an aborted stream in good form; the missing reason gives it away."""
    assert end(OpenAIChat(), stream({"choices": [{"index": 0, "delta": {"content": "Hel"}}]})) is End.CUT
    assert end(OpenAIChat(), plain({"choices": [choice(None, content="Hel")]})) is End.UNREADABLE


def test_error_in_the_middle_of_a_stream():
    """An error event makes the answer an error even if the stream ends in good form."""
    pieces = [{"choices": [{"delta": {"content": "Hel"}, "finish_reason": "stop"}]}, {"error": {"code": 502}}]
    assert end(OpenAIChat(), stream(*pieces)) is End.ERROR


def test_surrogate_pair_split_between_events():
    """A server that splits an emoji between two events is still understood."""
    raw = (
        b'data: {"choices":[{"delta":{"content":"\\ud83d"}}]}\n\n'
        b'data: {"choices":[{"delta":{"content":"\\ude00"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    )
    assert end(OpenAIChat(), Response(200, (), raw, Form.STREAM)) is End.COMPLETE


@pytest.mark.parametrize(
    ("fields", "usage"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Usage(9, 2)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            Usage(9, 2, cached_input_tokens=4),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 0, "prompt_tokens_details": {"cache_write_tokens": 5}},
            Usage(9, 0, cache_write_tokens=5),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 3},
            Usage(9, 2, cached_input_tokens=3),
        ),
        ({"prompt_tokens": -1, "completion_tokens": "2"}, Usage()),
        ({"prompt_tokens": True}, Usage()),
        (None, Usage()),
        ([], Usage()),
    ],
)
def test_usage_of_a_chat(fields, usage):
    """Tokens are counts or unknown, and the provider-cached ones stand apart."""
    body = {"model": "served", "choices": [choice(content="x")], "usage": fields}
    answer = OpenAIChat().read(plain(body))
    assert (answer.usage, answer.model) == (usage, "served")


@pytest.mark.parametrize("last", [{"usage": {"prompt_tokens": 9}}, {"x_groq": {"usage": {"prompt_tokens": 9}}}])
def test_usage_of_a_streamed_chat(last):
    """The usage of a stream is what its last events say."""
    pieces = [
        {"model": "served", "choices": [{"delta": {"content": "x"}, "finish_reason": "stop"}], "usage": None},
        {"choices": [], **last},
    ]
    answer = OpenAIChat().read(stream(*pieces))
    assert (answer.end, answer.usage, answer.model) == (End.COMPLETE, Usage(9), "served")


def test_completions_are_read_like_chats():
    """Text completions, and those that answer with messages, end like chats."""
    for part in ({"text": "x"}, {"message": {"content": "x"}}):
        assert end(OpenAICompletions(), plain({"choices": [{**part, "finish_reason": "stop"}]})) is End.COMPLETE
    assert end(OpenAICompletions(), plain({"choices": [{"text": "", "finish_reason": "stop"}]})) is End.EMPTY
    assert end(OpenAICompletions(), stream({"choices": [{"text": "x", "finish_reason": "length"}]})) is End.TRUNCATED


# --- rendering

PIECE = {"choices": [{"delta": {"content": 'x,"usage":null'}, "finish_reason": "stop"}], "big": 2**70}
WITH_USAGE = stream(PIECE | {"usage": None}, {"choices": [], "usage": {"prompt_tokens": 9}})
WITHOUT = stream(PIECE)


@pytest.mark.parametrize("provider", [OpenAIChat(), OpenAICompletions()], ids=lambda p: p.surface)
def test_usage_event_is_rendered_as_asked(provider):
    """A caller gets the usage event iff it asked; one that needs it and can't have it gets a miss."""
    wanted, unwanted = Wants(Form.STREAM, usage=True), Wants(Form.STREAM, usage=False)
    assert provider.render(WITH_USAGE, wanted) == WITH_USAGE
    assert provider.render(WITH_USAGE, unwanted).body == WITHOUT.body
    assert provider.render(WITHOUT, unwanted) == WITHOUT
    assert provider.render(WITHOUT, wanted) is None


def test_rendering_keeps_what_it_does_not_understand():
    """Comments, unknown events and usage beside output stay byte for byte."""
    raw = b': keep-alive\n\nevent: x\ndata: "usage"\n\ndata: {"choices":[{}],"usage":{"a":1}}\n\ndata: [DONE]\n\n'
    response = Response(200, (), raw, Form.STREAM)
    assert OpenAIChat().render(response, Wants(Form.STREAM, usage=False)) == response


@pytest.mark.parametrize("provider", ALL, ids=lambda p: p.surface)
def test_same_form_is_given_as_it_is(provider):
    """A caller of the stored form gets the very response, whatever it holds."""
    for body in ({"choices": [choice(content="x")]}, b"<html>"):
        response = plain(body)
        assert provider.render(response, Wants(Form.JSON, usage=True)) is response


@pytest.mark.parametrize("provider", ALL, ids=lambda p: p.surface)
def test_other_form_of_what_is_not_understood_is_a_miss(provider):
    """What a codec does not know whole, or what has no codec, is never converted by guess."""
    assert provider.render(plain({"choices": [choice(content="x")]}), Wants(Form.STREAM)) is None
    assert provider.render(stream({"x": 1}), Wants(Form.JSON)) is None


# --- embeddings


def test_embeddings():
    """Embeddings are whole if every vector is there; they have no output tokens."""
    whole = {
        "data": [{"embedding": [0.1]}, {"embedding": "AACAPw=="}],
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    }
    answer = OpenAIEmbeddings().read(plain({**whole, "model": "served"}))
    assert (answer.end, answer.usage, answer.model) == (End.COMPLETE, Usage(3, 0), "served")
    assert end(OpenAIEmbeddings(), plain({"data": []})) is End.EMPTY
    assert end(OpenAIEmbeddings(), plain({"data": [{"embedding": [0.1]}, {"embedding": []}]})) is End.EMPTY
    assert end(OpenAIEmbeddings(), stream({})) is End.UNREADABLE


# --- responses


def answered(*items, status="completed", **more):
    return {"status": status, "output": list(items), "model": "served", **more}


SAID = {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}
RESPONSE_ENDS = [
    (answered(SAID), End.COMPLETE),
    (answered({"type": "reasoning"}, SAID), End.COMPLETE),
    (answered({"type": "function_call", "name": "f"}), End.TOOL_CALLS),
    (answered(SAID, {"type": "custom_tool_call", "name": "f"}), End.TOOL_CALLS),
    (answered({"type": "message", "content": [{"type": "refusal", "refusal": "No"}]}), End.REFUSAL),
    (answered({"type": "compaction", "encrypted_content": "x"}), End.COMPLETE),
    (answered(), End.EMPTY),
    (answered({"type": "reasoning"}), End.EMPTY),
    (answered({"type": "message", "content": [{"type": "output_text", "text": ""}]}), End.EMPTY),
    (answered(SAID, status="incomplete", incomplete_details={"reason": "max_output_tokens"}), End.TRUNCATED),
    (answered(status="incomplete", incomplete_details={"reason": "content_filter"}), End.FILTERED),
    (answered(SAID, status="failed"), End.ERROR),
    (answered(SAID, status="cancelled"), End.ERROR),
    (answered(SAID, status="queued"), End.CUT),
    (answered(SAID, status="in_progress"), End.CUT),
    (answered(SAID, status=None), End.UNREADABLE),
]


@pytest.mark.parametrize(("body", "expected"), RESPONSE_ENDS)
def test_end_of_a_response(body, expected):
    """Status and output together say how a response ended, alone or at the end of a stream."""
    assert end(OpenAIResponses(), plain(body)) is expected
    kind = {"incomplete": "response.incomplete", "failed": "response.failed"}.get(body["status"], "response.completed")
    events = [{"type": "response.created", "response": {}}, {"type": kind, "response": body}]
    assert end(OpenAIResponses(), stream(*events, done=b"")) is expected
    assert end(OpenAIResponses(), stream(events[0])) is End.CUT


def test_output_that_only_the_events_hold():
    """A server that leaves the output out of the last event has said it before."""
    events = [
        {"type": "response.output_item.done", "item": SAID},
        {"type": "response.completed", "response": answered()},
    ]
    assert end(OpenAIResponses(), stream(*events, done=b"")) is End.COMPLETE


@pytest.mark.parametrize("event", [{"type": "error", "message": "x"}, {"error": {"message": "x"}}])
def test_error_event_of_a_response(event):
    """An error event ends the answer as one."""
    assert end(OpenAIResponses(), stream(event)) is End.ERROR


def test_kind_of_event_may_stand_in_its_name():
    """The type is read from the data, else from the event's name."""
    raw = b"event: response.completed\ndata: " + json.dumps({"response": answered(SAID)}).encode() + b"\n\n"
    assert end(OpenAIResponses(), Response(200, (), raw, Form.STREAM)) is End.COMPLETE


def test_usage_of_a_response():
    """Input tokens count the cached ones in, which also stand apart."""
    usage = {
        "input_tokens": 9,
        "output_tokens": 2,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    }
    answer = OpenAIResponses().read(plain(answered(SAID, usage=usage)))
    assert (answer.usage, answer.model) == (Usage(9, 2, 4, 1), "served")


# --- anthropic


def message(*blocks, stop="end_turn", **more):
    return {"type": "message", "model": "served", "content": list(blocks), "stop_reason": stop, **more}


TEXT = {"type": "text", "text": "Hello"}
USE = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
MESSAGE_ENDS = [
    (message(TEXT), End.COMPLETE),
    (message(TEXT, stop="stop_sequence"), End.COMPLETE),
    (message(TEXT, USE, stop="tool_use"), End.TOOL_CALLS),
    (message(TEXT, stop="max_tokens"), End.TRUNCATED),
    (message(TEXT, stop="model_context_window_exceeded"), End.TRUNCATED),
    (message(TEXT, stop="pause_turn"), End.TRUNCATED),
    (message(stop="refusal"), End.REFUSAL),
    (message(), End.EMPTY),
    (message({"type": "text", "text": ""}), End.EMPTY),
    (message({"type": "thinking", "thinking": "Hm"}), End.EMPTY),
    (message(TEXT, stop=None), End.UNREADABLE),
    (message(TEXT, stop="something_new"), End.UNREADABLE),
]


def message_events(body):
    yield {"type": "message_start", "message": {"model": body["model"], "content": [], "usage": {"input_tokens": 5}}}
    yield {"type": "ping"}
    for index, block in enumerate(body["content"]):
        if block["type"] == "text":
            yield {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
            delta = {"type": "text_delta", "text": block["text"]}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        else:
            yield {"type": "content_block_start", "index": index, "content_block": block}
            delta = {"type": "input_json_delta", "partial_json": "{}"}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    yield {"type": "message_delta", "delta": {"stop_reason": body["stop_reason"]}, "usage": {"output_tokens": 7}}


@pytest.mark.parametrize(("body", "expected"), MESSAGE_ENDS)
def test_end_of_a_message(body, expected):
    """The stop reason and the blocks say how a message ended, whole or in events."""
    assert end(AnthropicMessages(), plain(body)) is expected
    events = list(message_events(body))
    assert end(AnthropicMessages(), stream(*events, {"type": "message_stop"}, done=b"")) is expected
    assert end(AnthropicMessages(), stream(*events, done=b"")) is End.CUT


def test_keep_alive_without_data_is_no_trouble():
    """A ping carries nothing that has to be understood."""
    events = [*message_events(message(TEXT)), {"type": "message_stop"}]
    response = stream(*events, done=b"")
    pinged = Response(200, (), b"event: ping\ndata: \n\n" + response.body, Form.STREAM)
    assert end(AnthropicMessages(), pinged) is End.COMPLETE


def test_usage_of_a_message():
    """All input is counted: fresh, read from the provider's cache and written to it."""
    usage = {"input_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2, "output_tokens": 7}
    answer = AnthropicMessages().read(plain(message(TEXT, usage=usage)))
    assert (answer.usage, answer.model) == (Usage(10, 7, 3, 2), "served")
    assert AnthropicMessages().read(plain(message(TEXT))).usage == Usage()


def test_usage_of_a_streamed_message():
    """The counts of the last event replace those announced, and what it leaves out stands."""
    start = {
        "type": "message_start",
        "message": {"model": "m", "usage": {"input_tokens": 5, "cache_read_input_tokens": 3}},
    }
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 6, "cache_read_input_tokens": None, "output_tokens": 7},
    }
    block = {"type": "content_block_start", "content_block": TEXT}
    answer = AnthropicMessages().read(stream(start, block, delta, {"type": "message_stop"}, done=b""))
    assert (answer.end, answer.usage) == (End.COMPLETE, Usage(9, 7, 3))
