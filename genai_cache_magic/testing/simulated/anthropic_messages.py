"""Anthropic's messages, whole and as events, and their token count."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

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
from genai_cache_magic.testing.simulated.openai_chat import schema_of
from genai_cache_magic.testing.simulated.text import MARK, count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import WireApi, anthropic_error, anthropic_error_event, dump, event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_STOP_REASONS = {
    Ending.DONE: "end_turn",
    Ending.TOOLS: "tool_use",
    Ending.LENGTH: "max_tokens",
    Ending.FILTERED: "refusal",
    Ending.REFUSED: "refusal",
}
_CHOICES = {"none": Choice.NONE, "any": Choice.REQUIRED}
_THINKING = f"{MARK} Weighing the question before the answer."


def answer(call: Call) -> dict[str, Any]:
    """The ``message`` object."""
    said = compose(call, _read_turn(call.body))
    return {
        **_envelope(call),
        "content": _blocks(call, said),
        **_stop(said),
        "usage": {**_input_usage(call.body), "output_tokens": said.token_count, "service_tier": "standard"},
    }


def stream(call: Call) -> list[bytes]:
    """The events from ``message_start`` to ``message_stop``, with one ``ping`` among them."""
    said = compose(call, _read_turn(call.body))
    usage = _input_usage(call.body)
    opened = {
        **_envelope(call),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1, "service_tier": "standard"},
    }
    events: list[dict[str, Any]] = [{"type": "message_start", "message": opened}]
    for index, block in enumerate(_blocks(call, said)):
        events += ({"type": kind, "index": index, **data} for kind, data in _block_events(block))
    events.insert(2, {"type": "ping"})
    closing = {**usage, "output_tokens": said.token_count}
    events.append({"type": "message_delta", "delta": _stop(said), "usage": closing})
    events.append({"type": "message_stop"})
    return [event(data, data["type"]) for data in events]


def count_tokens(body: Mapping[str, Any]) -> dict[str, int]:
    """Answer of ``/v1/messages/count_tokens``: as many tokens as a call with this body reads."""
    return {"input_tokens": sum(tokens for tokens, _ in _prompt_pieces(body))}


def _read_turn(body: Mapping[str, Any]) -> Turn:
    messages = objects(body.get("messages"), "messages")
    if not messages:
        raise InvalidCallError("'messages' must not be empty")
    if not isinstance(body.get("max_tokens"), int):
        raise InvalidCallError("'max_tokens' must be a whole number")
    content = messages[-1].get("content")
    blocks = content if isinstance(content, list) else []
    choice, is_parallel = _read_choice(body.get("tool_choice"))
    return Turn(
        subject=text_of(content),
        is_tool_result=any(isinstance(block, dict) and block.get("type") == "tool_result" for block in blocks),
        tools=_tools(body.get("tools")),
        choice=choice,
        is_parallel=is_parallel,
        schema=_schema(body),
    )


def _tools(tools: Any) -> tuple[Tool, ...]:
    """The caller's own tools; those that the provider would run have no input schema."""
    own = [tool for tool in objects(tools or [], "tools") if "input_schema" in tool]
    schemas = [object_of(tool["input_schema"], "input_schema") or ANY_OBJECT for tool in own]
    return tuple(Tool(str(tool.get("name")), schema) for tool, schema in zip(own, schemas, strict=True))


def _read_choice(value: Any) -> tuple[Choice | str, bool]:
    if not isinstance(value, dict):
        return Choice.AUTO, True
    is_parallel = value.get("disable_parallel_tool_use") is not True
    if value.get("type") == "tool":
        return str(value.get("name")), is_parallel
    return _CHOICES.get(str(value.get("type")), Choice.AUTO), is_parallel


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Schema of the structured output, at its present place or at the one it had in beta."""
    present = object_of(body.get("output_config"), "output_config").get("format")
    return schema_of(present or body.get("output_format"))


def _envelope(call: Call) -> dict[str, Any]:
    return {"id": call.answer_id("msg_"), "type": "message", "role": "assistant", "model": call.model}


def _stop(said: Said) -> dict[str, Any]:
    stop: dict[str, Any] = {"stop_reason": _STOP_REASONS[said.ending], "stop_sequence": None}
    if stop["stop_reason"] == "refusal":
        stop["stop_details"] = {"type": "refusal", "category": None, "explanation": f"{MARK} asked to refuse"}
    return stop


def _blocks(call: Call, said: Said) -> list[dict[str, Any]]:
    """The content: perhaps thinking, then tool uses or a text, or nothing where nothing was said."""
    is_thinking = object_of(call.body.get("thinking"), "thinking").get("type") == "enabled"
    blocks: list[dict[str, Any]] = []
    if is_thinking and (said.text or said.tool_calls):
        signature = base64.b64encode(call.digest("thinking")).decode()
        blocks.append({"type": "thinking", "thinking": _THINKING, "signature": signature})
    blocks += (
        {"type": "tool_use", "id": f"toolu_{one.id}", "name": one.name, "input": one.arguments}
        for one in said.tool_calls
    )
    if said.text:
        blocks.append({"type": "text", "text": said.text})
    return blocks


def _block_events(block: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and data of the events of one block; a block opens empty and its deltas fill it."""
    match block["type"]:
        case "text":
            opened: dict[str, Any] = {"text": ""}
            deltas = [{"type": "text_delta", "text": piece} for piece in tokens_of(block["text"])]
        case "thinking":
            opened = {"thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": piece} for piece in tokens_of(block["thinking"])]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case _:
            opened = {"input": {}}
            pieces = ["", *tokens_of(dump(block["input"]).decode())]
            deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    yield "content_block_start", {"content_block": {**block, **opened}}
    yield from (("content_block_delta", {"delta": delta}) for delta in deltas)
    yield "content_block_stop", {}


def _prompt_pieces(body: Mapping[str, Any]) -> list[tuple[int, bool]]:
    """Tokens of every piece of the prompt in the order tools, system, messages, and whether it is a cache mark."""
    system = body.get("system") or []
    pieces: list[Any] = list(objects(body.get("tools") or [], "tools"))
    pieces += [system] if isinstance(system, str) else objects(system, "system")
    for message in objects(body.get("messages"), "messages"):
        content = message.get("content")
        pieces += content if isinstance(content, list) else [content]
    return [
        (max(1, count_tokens_of(piece)), isinstance(piece, dict) and bool(piece.get("cache_control")))
        for piece in pieces
    ]


def _input_usage(body: Mapping[str, Any]) -> dict[str, int]:
    """Input tokens, of which those up to the last cache mark are apart.

    They are written to the provider's cache by a conversation's first message and read by later ones: a rule
    without memory, so that equal requests keep getting equal answers.
    """
    pieces = _prompt_pieces(body)
    last_mark = max((i for i, (_, is_mark) in enumerate(pieces) if is_mark), default=-1)
    marked = sum(tokens for tokens, _ in pieces[: last_mark + 1])
    is_first = len(body["messages"]) == 1
    return {
        "input_tokens": sum(tokens for tokens, _ in pieces) - marked,
        "cache_creation_input_tokens": marked if is_first else 0,
        "cache_read_input_tokens": 0 if is_first else marked,
    }


API = WireApi(answer, stream, anthropic_error_event, anthropic_error, TEXT_FAULTS)
