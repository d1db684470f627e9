"""Amazon Bedrock: the Converse API and that which speaks each model's own words, whole and as binary event streams.

Of the models' own words it knows Anthropic's, and Llama's for all others.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING, Any
from zlib import crc32

from genai_cache_magic.testing.simulated import anthropic_messages
from genai_cache_magic.testing.simulated.call import Call, InvalidCallError, object_of, objects
from genai_cache_magic.testing.simulated.composing import (
    ANY_OBJECT,
    TEXT_FAULTS,
    Choice,
    Ending,
    Said,
    Tool,
    Turn,
    compose,
)
from genai_cache_magic.testing.simulated.text import count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, dump

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

EVENT_STREAM = "application/vnd.amazon.eventstream"
_TEXT_HEADER = 7
_STOP_REASONS = {
    Ending.DONE: "end_turn",
    Ending.TOOLS: "tool_use",
    Ending.LENGTH: "max_tokens",
    Ending.FILTERED: "content_filtered",
    Ending.REFUSED: "guardrail_intervened",
}
_LLAMA_REASONS = {Ending.LENGTH: "length"}


def frame(payload: bytes, **headers: str) -> bytes:
    """One message of the binary event stream; an underscore in a header's name stands for its hyphen."""
    head = b"".join(_header(f":{name.replace('_', '-')}", value) for name, value in headers.items())
    prelude = struct.pack(">II", 16 + len(head) + len(payload), len(head))
    body = prelude + struct.pack(">I", crc32(prelude)) + head + payload
    return body + struct.pack(">I", crc32(body))


def _header(name: str, value: str) -> bytes:
    raw = value.encode()
    return bytes([len(name)]) + name.encode() + struct.pack(">BH", _TEXT_HEADER, len(raw)) + raw


def _event(kind: str, data: Mapping[str, Any]) -> bytes:
    return frame(dump(data), event_type=kind, content_type="application/json", message_type="event")


# The Converse API


def converse(call: Call) -> dict[str, Any]:
    """The whole answer."""
    said = compose(call, _read_turn(call.body))
    message = {"role": "assistant", "content": _blocks(said)}
    return {
        "metrics": {"latencyMs": 1},
        "output": {"message": message},
        "stopReason": _STOP_REASONS[said.ending],
        "usage": _usage(call, said),
    }


def converse_stream(call: Call) -> list[bytes]:
    """The events from ``messageStart`` to ``metadata``."""
    said = compose(call, _read_turn(call.body))
    return [
        _event("messageStart", {"role": "assistant"}),
        *_block_events(said),
        _event("messageStop", {"stopReason": _STOP_REASONS[said.ending]}),
        _event("metadata", {"usage": _usage(call, said), "metrics": {"latencyMs": 1}}),
    ]


def _read_turn(body: Mapping[str, Any]) -> Turn:
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise InvalidCallError("'messages' must not be empty")
    blocks = objects(messages[-1].get("content"), "content")
    config = object_of(body.get("toolConfig"), "toolConfig")
    return Turn(
        subject=text_of(blocks),
        is_tool_result=any("toolResult" in block for block in blocks),
        tools=_tools(config.get("tools")),
        choice=_choice(object_of(config.get("toolChoice"), "toolChoice")),
    )


def _tools(tools: Any) -> tuple[Tool, ...]:
    specifications = [object_of(tool.get("toolSpec"), "toolSpec") for tool in objects(tools or [], "tools")]
    return tuple(
        Tool(str(one.get("name")), object_of(one.get("inputSchema"), "inputSchema").get("json") or ANY_OBJECT)
        for one in specifications
        if one
    )


def _choice(choice: Mapping[str, Any]) -> Choice | str:
    if "tool" in choice:
        return str(object_of(choice["tool"], "tool").get("name"))
    return Choice.REQUIRED if "any" in choice else Choice.AUTO


def _blocks(said: Said) -> list[dict[str, Any]]:
    if said.tool_calls:
        return [
            {"toolUse": {"toolUseId": f"tooluse_{o.id}", "name": o.name, "input": o.arguments}} for o in said.tool_calls
        ]
    return [{"text": said.text}] if said.text else []


def _block_events(said: Said) -> Iterator[bytes]:
    for index, one in enumerate(said.tool_calls):
        start = {"toolUse": {"toolUseId": f"tooluse_{one.id}", "name": one.name}}
        yield _event("contentBlockStart", {"contentBlockIndex": index, "start": start})
        for piece in tokens_of(one.arguments_json):
            delta = {"toolUse": {"input": piece}}
            yield _event("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
        yield _event("contentBlockStop", {"contentBlockIndex": index})
    if said.text:
        for piece in tokens_of(said.text):
            yield _event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})
        yield _event("contentBlockStop", {"contentBlockIndex": 0})


def _usage(call: Call, said: Said) -> dict[str, int]:
    asked = max(1, count_tokens_of([call.body.get(name) for name in ("messages", "system", "toolConfig")]))
    return {"inputTokens": asked, "outputTokens": said.token_count, "totalTokens": asked + said.token_count}


# The models' own words


def invoke(call: Call) -> dict[str, Any]:
    """The whole answer in the model's own words."""
    return anthropic_messages.answer(call) if _is_anthropic(call) else _llama(call, _read_llama(call))


def invoke_stream(call: Call) -> list[bytes]:
    """The same in chunks, of which the last one tells Amazon's own count."""
    chunks = _anthropic_chunks(call) if _is_anthropic(call) else _llama_chunks(call)
    metrics = {
        "inputTokenCount": 7,
        "outputTokenCount": max(1, len(chunks)),
        "invocationLatency": 2,
        "firstByteLatency": 1,
    }
    chunks[-1]["amazon-bedrock-invocationMetrics"] = metrics
    return [_event("chunk", {"bytes": base64.b64encode(dump(chunk)).decode()}) for chunk in chunks]


def _is_anthropic(call: Call) -> bool:
    return "anthropic_version" in call.body


def _anthropic_chunks(call: Call) -> list[dict[str, Any]]:
    datas = [event.partition(b"data: ")[2] for event in anthropic_messages.stream(call)]
    chunks: list[dict[str, Any]] = [json.loads(data) for data in datas]
    return [chunk for chunk in chunks if chunk["type"] != "ping"]


def _read_llama(call: Call) -> Said:
    prompt = call.body.get("prompt")
    if not isinstance(prompt, str):
        raise InvalidCallError("'prompt' must be a text")
    return compose(call, Turn(prompt))


def _llama(call: Call, said: Said, text: str | None = None, *, is_last: bool = True) -> dict[str, Any]:
    return {
        "generation": said.text if text is None else text,
        "prompt_token_count": max(1, count_tokens_of(call.body.get("prompt"))),
        "generation_token_count": said.token_count,
        "stop_reason": _LLAMA_REASONS.get(said.ending, "stop") if is_last else None,
    }


def _llama_chunks(call: Call) -> list[dict[str, Any]]:
    said = _read_llama(call)
    pieces = [_llama(call, said, piece, is_last=False) for piece in tokens_of(said.text)]
    return [*pieces, _llama(call, said, "")]


def error_body(_status: int, message: str) -> dict[str, Any]:
    """Error object of Amazon's APIs; within a status of 200 it is this simulation's own."""
    return {"message": message, "error": message}


def _error_event(_number: int) -> bytes:
    return frame(
        dump({"message": ERROR_TEXT}),
        exception_type="modelStreamErrorException",
        content_type="application/json",
        message_type="exception",
    )


OPERATIONS = {
    "converse": WireApi(converse, None, _error_event, error_body, TEXT_FAULTS),
    "converse-stream": WireApi(
        converse, converse_stream, _error_event, error_body, TEXT_FAULTS, EVENT_STREAM, lambda _: True
    ),
    "invoke": WireApi(invoke, None, _error_event, error_body, TEXT_FAULTS),
    "invoke-with-response-stream": WireApi(
        invoke, invoke_stream, _error_event, error_body, TEXT_FAULTS, EVENT_STREAM, lambda _: True
    ),
}
