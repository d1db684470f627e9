"""OpenAI's responses, whole and as the full stream of typed events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, InvalidCallError, object_of, objects
from genai_cache_magic.testing.simulated.composing import TEXT_FAULTS, Ending, Said, Turn, compose
from genai_cache_magic.testing.simulated.openai_chat import cached_tokens, function_tools, schema_of, tool_choice
from genai_cache_magic.testing.simulated.text import count_tokens_of, text_of, tokens_of
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, event, openai_error

if TYPE_CHECKING:
    from collections.abc import Mapping

_INCOMPLETE = {Ending.LENGTH: "max_output_tokens", Ending.FILTERED: "content_filter"}
_ECHOED: Mapping[str, Any] = {  # fields of the request that come back, and what they are if absent
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": {"effort": None, "summary": None},
    "store": True,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": 1.0,
    "truncation": "disabled",
}


def answer(call: Call) -> dict[str, Any]:
    """The ``response`` object."""
    said = compose(call, _read_turn(call.body))
    return _response(call, said, _status(said), _items(call, said))


def stream(call: Call) -> list[bytes]:
    """The events from ``response.created`` to ``response.completed`` (or ``response.incomplete``)."""
    said = compose(call, _read_turn(call.body))
    items, status = _items(call, said), _status(said)
    events = _Events()
    opened = _response(call, said, "in_progress", [])
    events.add("response.created", response=opened)
    events.add("response.in_progress", response=opened)
    for index, item in enumerate(items):
        add = events.add_function_call if item["type"] == "function_call" else events.add_message
        add(index, item)
    events.add(f"response.{status}", response=_response(call, said, status, items))
    return events.frames


class _Events:
    """The frames of one stream; every event gets the next sequence number."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def add(self, kind: str, **fields: Any) -> None:
        self.frames.append(event({"type": kind, "sequence_number": len(self.frames), **fields}, kind))

    def add_message(self, index: int, item: dict[str, Any]) -> None:
        """The events of one message with its single part, a text or a refusal."""
        part = item["content"][0]
        is_text = part["type"] == "output_text"
        field, kind = ("text", "response.output_text") if is_text else ("refusal", "response.refusal")
        extra: dict[str, Any] = {"logprobs": []} if is_text else {}
        at = {"item_id": item["id"], "output_index": index, "content_index": 0}
        opened = {**item, "status": "in_progress", "content": []}
        self.add("response.output_item.added", output_index=index, item=opened)
        self.add("response.content_part.added", **at, part={**part, field: ""})
        for piece in tokens_of(part[field]):
            self.add(f"{kind}.delta", **at, delta=piece, **extra)
        self.add(f"{kind}.done", **at, **{field: part[field]}, **extra)
        self.add("response.content_part.done", **at, part=part)
        self.add("response.output_item.done", output_index=index, item=item)

    def add_function_call(self, index: int, item: dict[str, Any]) -> None:
        """The events of one function call."""
        at = {"item_id": item["id"], "output_index": index}
        opened = {**item, "status": "in_progress", "arguments": ""}
        self.add("response.output_item.added", output_index=index, item=opened)
        for piece in tokens_of(item["arguments"]):
            self.add("response.function_call_arguments.delta", **at, delta=piece)
        self.add("response.function_call_arguments.done", **at, arguments=item["arguments"], name=item["name"])
        self.add("response.output_item.done", output_index=index, item=item)


def _read_turn(body: Mapping[str, Any]) -> Turn:
    asked = body.get("input")
    if isinstance(asked, str):
        subject, is_tool_result = asked, False
    else:
        items = objects(asked, "input")
        if not items:
            raise InvalidCallError("'input' must not be empty")
        is_tool_result = items[-1].get("type") == "function_call_output"
        subject = text_of(items[-1].get("output" if is_tool_result else "content"))
    return Turn(
        subject=subject,
        is_tool_result=is_tool_result,
        tools=function_tools(body.get("tools")),
        choice=tool_choice(body.get("tool_choice")),
        is_parallel=body.get("parallel_tool_calls") is not False,
        schema=schema_of(object_of(body.get("text"), "text").get("format")),
    )


def _status(said: Said) -> str:
    return "incomplete" if said.ending in _INCOMPLETE else "completed"


def _items(call: Call, said: Said) -> list[dict[str, Any]]:
    """The output: function calls, or one message, or nothing where nothing was said."""
    if said.tool_calls:
        return [
            {
                "type": "function_call",
                "id": f"fc_{one.id}",
                "call_id": f"call_{one.id}",
                "name": one.name,
                "arguments": one.arguments_json,
                "status": "completed",
            }
            for one in said.tool_calls
        ]
    if not said.text:
        return []
    if said.ending is Ending.REFUSED:
        part: dict[str, Any] = {"type": "refusal", "refusal": said.text}
    else:
        part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    message = {"type": "message", "id": call.answer_id("msg_"), "role": "assistant"}
    return [{**message, "status": _status(said), "content": [part]}]


def _response(call: Call, said: Said, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    reason = _INCOMPLETE.get(said.ending) if status == "incomplete" else None
    return {
        "id": call.answer_id("resp_"),
        "object": "response",
        "created_at": call.created_s,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "model": call.model,
        **{name: usual if call.body.get(name) is None else call.body[name] for name, usual in _ECHOED.items()},
        "service_tier": "default",
        "output": output,
        "usage": None if status == "in_progress" else _usage(call.body, said),
    }


def _usage(body: Mapping[str, Any], said: Said) -> dict[str, Any]:
    read = max(1, count_tokens_of([body.get(name) for name in ("instructions", "input", "tools", "text")]))
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": cached_tokens(read), "cache_write_tokens": 0},
        "output_tokens": said.token_count,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + said.token_count,
    }


def _error_event(number: int) -> bytes:
    data = {"type": "error", "code": "server_error", "message": ERROR_TEXT, "param": None, "sequence_number": number}
    return event(data, "error")


API = WireApi(answer, stream, _error_event, openai_error, TEXT_FAULTS)
