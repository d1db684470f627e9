"""Mistral's own APIs: fill-in-the-middle and agents, which answer like OpenAI's chat, conversations, and documents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated import openai_chat
from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError, object_of, objects
from genai_cache_magic.testing.simulated.composing import TEXT_FAULTS, Said, Turn, compose
from genai_cache_magic.testing.simulated.text import text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, event, openai_error, openai_error_event

if TYPE_CHECKING:
    from collections.abc import Callable

_TIME = "2025-06-15T15:06:40Z"


def _as_chat(call: Call) -> Call:
    prompt = call.body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidCallError("'prompt' must be a text")
    messages = [{"role": "user", "content": f"{prompt} … {call.body.get('suffix') or ''}"}]
    return replace(call, body={"messages": messages, "stream_options": {"include_usage": True}})


def _asked_as_chat(make: Callable[[Call], Any]) -> Callable[[Call], Any]:
    return lambda call: make(_as_chat(call))


def _as_an_agents(call: Call) -> Call:
    if not isinstance(call.body.get("agent_id"), str):
        raise InvalidCallError("'agent_id' must be a text")
    return replace(call, model="mistral-medium-latest", body={**call.body, "stream_options": {"include_usage": True}})


def _conversation(call: Call) -> dict[str, Any]:
    """The ``conversation.response`` object."""
    said, usage = _said(call)
    return {
        "object": "conversation.response",
        "conversation_id": f"conv_{call.digest('conversation').hex()[:16]}",
        "outputs": _entries(call, said),
        "usage": usage,
    }


def _conversation_events(call: Call) -> list[bytes]:
    """The same as named events."""
    said, usage = _said(call)
    started = {"conversation_id": f"conv_{call.digest('conversation').hex()[:16]}"}
    told: list[tuple[str, dict[str, Any]]] = [("conversation.response.started", started)]
    for entry in _entries(call, said):
        kind, field = ("function.call", "arguments") if said.tool_calls else ("message.output", "content")
        own = {name: value for name, value in entry.items() if name not in {"object", "type", "completed_at"}}
        told += [(f"{kind}.delta", {**own, "output_index": 0, field: piece}) for piece in tokens_of(entry[field])]
    told.append(("conversation.response.done", {"usage": usage}))
    return [event({"type": kind, "created_at": _TIME, **fields}, kind) for kind, fields in told]


def _said(call: Call) -> tuple[Said, dict[str, Any]]:
    inputs = call.body.get("inputs")
    if not inputs:
        raise InvalidCallError("'inputs' must not be empty")
    last = {"content": inputs} if isinstance(inputs, str) else objects(inputs, "inputs")[-1]
    turn = Turn(
        subject=text_of(last.get("content", last.get("result"))),
        is_tool_result=last.get("type") == "function.result",
        tools=openai_chat.function_tools(call.body.get("tools")),
        choice=openai_chat.tool_choice(
            object_of(call.body.get("completion_args"), "completion_args").get("tool_choice")
        ),
    )
    said = compose(call, turn)
    usage = openai_chat.usage(call.body, ("inputs", "instructions", "tools"), [said])
    return said, {name: usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}


def _entries(call: Call, said: Said) -> list[dict[str, Any]]:
    common = {
        "object": "entry",
        "created_at": _TIME,
        "completed_at": _TIME,
        "model": call.model or "mistral-medium-latest",
    }
    if said.tool_calls:
        return [
            {
                **common,
                "type": "function.call",
                "id": f"fc_{one.id}",
                "tool_call_id": one.id[:9],
                "name": one.name,
                "arguments": one.arguments_json,
            }
            for one in said.tool_calls
        ]
    if not said.text:
        return []
    message = {"type": "message.output", "id": f"msg_{call.digest('message').hex()[:16]}", "role": "assistant"}
    return [{**common, **message, "content": said.text}]


def _conversation_error(_number: int) -> bytes:
    return event(
        {"type": "conversation.response.error", "message": ERROR_TEXT, "code": 500}, "conversation.response.error"
    )


def _pages(call: Call) -> dict[str, Any]:
    """The pages of a document: one, of which the simulated model says what it read."""
    document = object_of(call.body.get("document"), "document")
    if not {"document_url", "image_url", "file_id"} & document.keys():
        raise InvalidCallError("'document' must have a 'document_url', an 'image_url' or a 'file_id'")
    read = compose(call, Turn(subject="a document")).text
    page = {"index": 0, "markdown": read, "images": [], "dimensions": {"dpi": 200, "height": 2200, "width": 1700}}
    return {
        "pages": [page] if read else [],
        "model": call.model,
        "usage_info": {"pages_processed": 1, "doc_size_bytes": 1024},
        "document_annotation": None,
    }


AGENTS = WireApi(
    lambda call: openai_chat.answer(_as_an_agents(call)),
    lambda call: openai_chat.stream(_as_an_agents(call)),
    openai_error_event,
    openai_error,
    TEXT_FAULTS,
)
CONVERSATIONS = WireApi(
    _conversation, _conversation_events, _conversation_error, openai_error, frozenset({Fault.EMPTY})
)
OCR = WireApi(_pages, None, openai_error_event, openai_error, frozenset({Fault.EMPTY}))
FIM = WireApi(
    _asked_as_chat(openai_chat.answer),
    _asked_as_chat(openai_chat.stream),
    openai_error_event,
    openai_error,
    TEXT_FAULTS,
)
