"""Amazon Bedrock and its binary event stream: how answers ended, and that no damage goes unnoticed."""

from __future__ import annotations

import base64
import json
import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.providers.base import End, Wants
from genai_cache_magic.providers.bedrock.converse import BedrockConverse
from genai_cache_magic.providers.bedrock.invoke import BedrockInvoke
from genai_cache_magic.providers.formats import eventstream, streams
from genai_cache_magic.testing.simulated.bedrock import frame

TYPE = (("content-type", "application/vnd.amazon.eventstream"),)

# --- how answers end: Converse

USED = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}


def whole(reason="end_turn", *blocks, usage=USED):
    body = {"output": {"message": {"role": "assistant", "content": list(blocks)}}, "stopReason": reason, "usage": usage}
    return Response(200, (), json.dumps(body).encode())


def event(kind, **data):
    return frame(json.dumps(data).encode(), event_type=kind, content_type="application/json", message_type="event")


def streamed(*frames):
    return Response(200, TYPE, b"".join(frames), Form.STREAM)


START = event("messageStart", role="assistant")
TEXT = event("contentBlockDelta", delta={"text": "Hello"}, contentBlockIndex=0, p="abc")
THOUGHT = event("contentBlockDelta", delta={"reasoningContent": {"text": "Hm"}})
TOOL = event("contentBlockStart", start={"toolUse": {"toolUseId": "t", "name": "f"}})
STOP = event("messageStop", stopReason="end_turn")
META = event("metadata", usage=USED, metrics={"latencyMs": 1})
FAILED = frame(b'{"message":"no"}', exception_type="throttlingException", message_type="exception")


def damaged(raw):
    return raw[:-5] + bytes([raw[-5] ^ 1]) + raw[-4:]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (whole("end_turn", {"text": "Hello"}), End.COMPLETE),
        (whole("stop_sequence", {"text": "Hello"}), End.COMPLETE),
        (whole("tool_use", {"toolUse": {"toolUseId": "t"}}), End.TOOL_CALLS),
        (whole("max_tokens", {"text": "Hel"}), End.TRUNCATED),
        (whole("guardrail_intervened", {"text": "Sorry"}), End.FILTERED),
        (whole("content_filtered"), End.FILTERED),
        (whole("end_turn", {"text": ""}), End.EMPTY),
        (whole("end_turn", {"reasoningContent": {"reasoningText": {"text": "Hm"}}}), End.EMPTY),
        (whole("malformed_tool_use", {"text": "x"}), End.UNREADABLE),
        (Response(200, (), b"{}"), End.UNREADABLE),
        (Response(429, (), b'{"message":"slow down"}'), End.ERROR),
        (streamed(START, TEXT, STOP, META), End.COMPLETE),
        (streamed(START, TOOL, event("messageStop", stopReason="tool_use"), META), End.TOOL_CALLS),
        (streamed(START, TEXT, event("messageStop", stopReason="max_tokens"), META), End.TRUNCATED),
        (streamed(START, STOP, META), End.EMPTY),
        (streamed(START, THOUGHT, STOP, META), End.EMPTY),
        (streamed(START, TEXT, STOP), End.CUT),
        (streamed(START, TEXT, META), End.CUT),
        (streamed(), End.CUT),
        (streamed(START, TEXT, FAILED), End.ERROR),
        (streamed(START, damaged(TEXT), STOP, META), End.UNREADABLE),
        (streamed(b"<html>not a stream at all"), End.UNREADABLE),
        (streamed(frame(b"{", event_type="messageStart", message_type="event")), End.UNREADABLE),
        (Response(503, TYPE, b"", Form.STREAM), End.ERROR),
    ],
    ids=range(24),
)
def test_end_of_an_answer(response, expected):
    """Every ending is told, whole and streamed; a stream ends with its reason and then its usage."""
    assert BedrockConverse().read(response).end is expected


@pytest.mark.parametrize("provider", [BedrockConverse(), BedrockInvoke()])
def test_a_stream_that_is_cut_anywhere_is_never_whole(provider):
    """No beginning of a binary stream passes for the answer."""
    full = CLAUDE_STREAM if isinstance(provider, BedrockInvoke) else START + TEXT + STOP + META
    assert {provider.read(streamed(full[:n])).end for n in range(len(full))} == {End.CUT}
    assert provider.read(streamed(full)).end is End.COMPLETE


def test_usage_counts_all_input():
    """What was read from or written to the prompt cache is input too, and told apart."""
    usage = {**USED, "cacheReadInputTokens": 10, "cacheWriteInputTokens": 20}
    assert BedrockConverse().read(whole("end_turn", {"text": "a"}, usage=usage)).usage == Usage(35, 2, 10, 20)
    assert BedrockConverse().read(streamed(TEXT, STOP, META)).usage == Usage(5, 2)


# --- how answers end: the models' own words


def chunk(data):
    return event("chunk", bytes=base64.b64encode(json.dumps(data, indent=1).encode()).decode(), p="abc")


def chunks(*datas):
    *first, last = datas
    metrics = {"inputTokenCount": 11, "outputTokenCount": 12}
    return b"".join(map(chunk, (*first, {**last, "amazon-bedrock-invocationMetrics": metrics})))


CLAUDE_EVENTS = (
    {"type": "message_start", "message": {"usage": {"input_tokens": 5, "output_tokens": 1}, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)
CLAUDE_STREAM = chunks(*CLAUDE_EVENTS)
NOVA = (
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"text": "Hello"}}},
    {"messageStop": {"stopReason": "end_turn"}},
    {"metadata": {"usage": USED}},
)
CHOICES = (
    {"choices": [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"type": "message", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}, End.COMPLETE),
        ({"type": "message", "content": [], "stop_reason": "max_tokens"}, End.TRUNCATED),
        ({"generation": "a", "stop_reason": "stop"}, End.COMPLETE),
        ({"generation": "a", "stop_reason": "length"}, End.TRUNCATED),
        ({"generation": "", "stop_reason": "stop"}, End.EMPTY),
        ({"generation": "a", "stop_reason": "something new"}, End.UNREADABLE),
        ({"generation": "a"}, End.UNREADABLE),
        ({"results": [{"outputText": "a", "completionReason": "FINISH"}]}, End.COMPLETE),
        ({"results": [{"outputText": "a", "completionReason": "CONTENT_FILTERED"}]}, End.FILTERED),
        ({"outputs": [{"text": "a", "stop_reason": "stop"}, {"text": "b", "stop_reason": "length"}]}, End.TRUNCATED),
        ({"outputs": [{"text": "a", "stop_reason": "stop"}, {"text": "b"}]}, End.UNREADABLE),
        ({"generations": [{"text": "a", "finish_reason": "COMPLETE"}]}, End.COMPLETE),
        ({"text": "a", "finish_reason": "ERROR_TOXIC"}, End.FILTERED),
        ({"completion": "a", "stop_reason": "stop_sequence"}, End.COMPLETE),
        ({"choices": [{"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}]}, End.COMPLETE),
        ({"output": {"message": {"content": [{"text": "a"}]}}, "stopReason": "end_turn"}, End.COMPLETE),
        ({"embedding": [0.5], "inputTextTokenCount": 3}, End.COMPLETE),
        ({"embeddings": {"float": [[0.1]]}}, End.COMPLETE),
        ({"embedding": []}, End.EMPTY),
        ({"generation": "no", "stop_reason": "stop", "amazon-bedrock-guardrailAction": "INTERVENED"}, End.FILTERED),
        ({"images": ["AAAA"]}, End.UNREADABLE),
        ({}, End.UNREADABLE),
    ],
    ids=range(22),
)
def test_end_in_a_models_own_words(answer, expected):
    """Answers are told by their shape, and a shape that nobody knows is not stored."""
    response = Response(200, (("x-amzn-bedrock-input-token-count", "5"),), json.dumps(answer).encode())
    assert BedrockInvoke().read(response).end is expected
    if expected is End.COMPLETE and "embedding" not in answer:
        assert BedrockInvoke().read(response).usage.input_tokens == 5


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (CLAUDE_STREAM, End.COMPLETE),
        (chunks(*NOVA), End.COMPLETE),
        (chunks(*CHOICES), End.COMPLETE),
        (chunks({"generation": "a", "stop_reason": None}, {"generation": "", "stop_reason": "stop"}), End.COMPLETE),
        (
            chunks({"outputText": "a", "completionReason": None}, {"outputText": "", "completionReason": "LENGTH"}),
            End.TRUNCATED,
        ),
        (chunks({"generation": "a", "stop_reason": None}), End.UNREADABLE),
        (b"".join(map(chunk, CLAUDE_EVENTS)), End.CUT),
        (chunk(CLAUDE_EVENTS[0]) + FAILED, End.ERROR),
        (damaged(CLAUDE_STREAM[:400]) + CLAUDE_STREAM, End.UNREADABLE),
        (event("chunk", bytes="!"), End.UNREADABLE),
        (event("chunk", bytes=7), End.UNREADABLE),
        (event("chunk", bytes=base64.b64encode(b"[]").decode()), End.UNREADABLE),
        (frame(b"[]", event_type="chunk", message_type="event"), End.UNREADABLE),
    ],
    ids=range(13),
)
def test_end_of_a_stream_in_a_models_own_words(frames, expected):
    """The chunk with Amazon's metrics is the last of every model."""
    assert BedrockInvoke().read(streamed(frames)).end is expected


def test_amazons_count_stands_where_the_model_tells_none():
    """Anthropic's own count goes before Amazon's, which fills what is missing; the path names the model."""
    answer = BedrockInvoke().read(streamed(CLAUDE_STREAM))
    assert (answer.usage, answer.model) == (Usage(5, 2), "")
    bare = chunks({"generation": "a", "stop_reason": "stop"})
    assert BedrockInvoke().read(streamed(bare)).usage == Usage(11, 12)
    for told in ("-1", "five", "", "٣", "9" * 5000):
        headers = (("x-amzn-bedrock-input-token-count", told),)
        response = Response(200, headers, b'{"generation":"a","stop_reason":"stop"}')
        assert BedrockInvoke().read(response).usage == Usage(None, None)


@pytest.mark.parametrize("provider", [BedrockConverse(), BedrockInvoke()])
def test_render_gives_the_same_form_only(provider):
    """A caller gets the form that it wants, unchanged, or a miss."""
    response = streamed(START)
    assert provider.render(response, Wants(Form.STREAM)) is response
    assert provider.render(response, Wants(Form.JSON)) is None


# --- the binary event stream


def raw_header(name, kind, value):
    return bytes([len(name)]) + name + bytes([kind]) + value


def framed(headers, payload=b"p"):
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    body = prelude + struct.pack(">I", crc32(prelude)) + headers + payload
    return body + struct.pack(">I", crc32(body))


def test_headers_of_every_type_are_passed_over():
    """Only texts are read; each other type of value has its own size."""
    others = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (5, 8), (8, 8), (9, 16)]
    raw = b"".join(raw_header(b"h%d" % kind, kind, b"\x07" * size) for kind, size in others)
    raw += raw_header(b"bytes", 6, b"\x00\x02ab") + raw_header(b":event-type", 7, b"\x00\x05chunk")
    (message,) = eventstream.messages(framed(raw))
    assert message == ({":event-type": "chunk"}, b"p")
    assert list(eventstream.messages(framed(b"", b""))) == [({}, b"")]


@pytest.mark.parametrize(
    "headers",
    [
        raw_header(b"h", 10, b""),
        raw_header(b"h", 7, b"\x00\x09short"),
        raw_header(b"h", 7, b"\x00\x01\xff"),
        raw_header(b"\xff", 7, b"\x00\x01a"),
        b"\x09h",
        b"\x01",
    ],
)
def test_malformed_headers_are_damage(headers):
    """A frame whose headers can't be read is damaged, though its checksums are right."""
    assert list(eventstream.messages(framed(headers))) == [None]


@pytest.mark.parametrize(("length", "headers"), [(0, 0), (15, 0), (20, 100)])
def test_a_frame_that_lies_about_its_length_is_damage(length, headers):
    """A frame shorter than its own frame or headers is damage, though its checksums are right; nothing loops on it."""
    prelude = struct.pack(">II", length, headers)
    start = prelude + struct.pack(">I", crc32(prelude))
    recording = (start + struct.pack(">I", crc32(start)))[: max(length, 16)] + bytes(90)
    assert list(eventstream.messages(recording)) == [None]
    assert list(eventstream.blocks(recording)) == [recording]


FULL = START + TEXT + STOP + META


@given(st.integers(0, len(FULL) * 8 - 1))
def test_any_flipped_bit_is_noticed(bit):
    """One bit changed anywhere is damage: no message after it is read, and none is wrong."""
    raw = bytearray(FULL)
    raw[bit // 8] ^= 1 << bit % 8
    intact = list(eventstream.messages(FULL))
    read = list(eventstream.messages(bytes(raw)))
    assert read[-1] is None
    assert read[:-1] == intact[: len(read) - 1]


@given(st.binary(max_size=64), st.integers(0, len(FULL)))
def test_pieces_of_a_replay_are_frames(junk, size):
    """Joined, the pieces are what was received; whole frames come one by one, whatever follows them."""
    for recording in (FULL[:size], FULL + junk, junk):
        assert b"".join(eventstream.blocks(recording)) == recording
        assert all(eventstream.blocks(recording))
    assert list(streams.blocks(streamed(FULL, junk)))[:4] == [START, TEXT, STOP, META]


@given(st.binary())
def test_no_bytes_break_a_reader(junk):
    """Whatever a server sends is an answer or none; nothing is raised."""
    for provider in (BedrockConverse(), BedrockInvoke()):
        assert provider.read(streamed(FULL[: len(junk)], junk)).end is not End.COMPLETE
        assert provider.read(Response(200, (), junk)).end in {End.UNREADABLE, End.EMPTY, End.ERROR}
