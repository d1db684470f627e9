"""Google's Interactions API: one answer as an object with its steps, or as events that tell of them piece by piece."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError, objects
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
from genai_cache_magic.testing.simulated.openai_chat import cached_tokens
from genai_cache_magic.testing.simulated.text import count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, event

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIME = "2025-06-15T15:06:40Z"
_STATUSES = {Ending.DONE: "completed", Ending.TOOLS: "requires_action", Ending.REFUSED: "completed"}
_CHOICES = {"auto": Choice.AUTO, "any": Choice.REQUIRED, "none": Choice.NONE}


def answer(call: Call) -> dict[str, Any]:
    """The ``Interaction`` object."""
    said = compose(call, _read_turn(call.body))
    return {**_head(call, said), "steps": _steps(said), "usage": _usage(call, said)}


def stream(call: Call) -> list[bytes]:
    """The same as events, of which the last has neither steps nor text."""
    said = compose(call, _read_turn(call.body))
    head = _head(call, said)
    told: list[dict[str, Any]] = [
        {"event_type": "interaction.created", "interaction": {**head, "status": "in_progress"}},
    ]
    for index, step in enumerate(_steps(said)):
        told += _told_of(index, step)
    told.append({"event_type": "interaction.completed", "interaction": {**head, "usage": _usage(call, said)}})
    return [event({**fields, "event_id": f"e{number}"}, fields["event_type"]) for number, fields in enumerate(told)]


def _told_of(index: int, step: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The events of one step: its start, its pieces, its end."""
    if step["type"] == "function_call":
        pieces = [{"type": "arguments_delta", "arguments": json.dumps(step["arguments"], ensure_ascii=False)}]
        opened = {name: step[name] for name in ("type", "id", "name")} | {"arguments": {}}
    else:
        pieces = [{"type": "text", "text": piece} for piece in tokens_of(step["content"][0]["text"])]
        opened = {"type": "model_output", "content": []}
    return [
        {"event_type": "step.start", "index": index, "step": opened},
        *({"event_type": "step.delta", "index": index, "delta": piece} for piece in pieces),
        {"event_type": "step.stop", "index": index},
    ]


def _head(call: Call, said: Said) -> dict[str, Any]:
    named = {"model": call.model} if call.model else {"agent": call.body.get("agent")}
    return {
        "id": f"v1_{call.digest('interaction').hex()[:24]}",
        "object": "interaction",
        **named,
        "status": _STATUSES.get(said.ending, "incomplete"),
        "created": _TIME,
        "updated": _TIME,
    }


def _steps(said: Said) -> list[dict[str, Any]]:
    if said.tool_calls:
        return [
            {
                "type": "function_call",
                "id": one.id[:8],
                "name": one.name,
                "arguments": dict(one.arguments),
                "arguments_json": one.arguments_json,
            }
            for one in said.tool_calls
        ]
    return [{"type": "model_output", "content": [{"type": "text", "text": said.text}]}] if said.text else []


def _usage(call: Call, said: Said) -> dict[str, Any]:
    asked = max(1, count_tokens_of([call.body.get(name) for name in ("input", "system_instruction", "tools")]))
    return {
        "total_input_tokens": asked,
        "input_tokens_by_modality": [{"modality": "text", "tokens": asked}],
        "total_cached_tokens": cached_tokens(asked),
        "total_output_tokens": said.token_count,
        "total_thought_tokens": 0,
        "total_tool_use_tokens": 0,
        "total_tokens": asked + said.token_count,
    }


def _read_turn(body: Mapping[str, Any]) -> Turn:
    asked = body.get("input")
    if not asked:
        raise InvalidCallError("'input' must not be empty")
    items = [{"type": "text", "text": asked}] if isinstance(asked, str) else asked
    last = items if isinstance(items, dict) else objects(items, "input")[-1]
    settings = body.get("generation_config") or {}
    choice = settings.get("tool_choice")
    formats = body.get("response_format")
    schema = formats.get("schema") if isinstance(formats, dict) else None
    return Turn(
        subject=text_of(last.get("content", last.get("text", last.get("result")))),
        is_tool_result=last.get("type") == "function_result",
        tools=tuple(
            Tool(str(one.get("name")), one.get("parameters") or ANY_OBJECT)
            for one in objects(body.get("tools") or [], "tools")
            if one.get("type") == "function"
        ),
        choice=_CHOICES.get(choice, Choice.AUTO) if isinstance(choice, str) else Choice.AUTO,
        schema=schema,
    )


def _error_body(status: int, message: str) -> dict[str, Any]:
    return {"error": {"code": str(status), "message": message}}


def _error_event(number: int) -> bytes:
    error = {"code": "500", "message": ERROR_TEXT}
    return event({"event_type": "error", "error": error, "event_id": f"e{number}"}, "error")


API = WireApi(answer, stream, _error_event, _error_body, TEXT_FAULTS - {Fault.FILTERED, Fault.REFUSAL})
