"""The Responses API in both forms: a ``response`` object <-> its numbered events.

Shape of a stream: the response as it opens, twice; for each item of its output that it is added, the pieces of its
texts, that each text, part and the item are done; then the whole response again. So the way back is short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.forms import (
    Inconvertible,
    event,
    index_of,
    joined,
    load,
    object_of,
    objects_of,
    pieces,
    pieces_with_logprobs,
    text_of,
)
from genai_cache_magic.providers.reading import as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypeAlias

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.providers.formats.sse import Event

    Said: TypeAlias = tuple[str, JsonObject]
    """Type of an event and its fields, all but its number."""

_ENDS: Final = {"completed": "response.completed", "incomplete": "response.incomplete"}
"""`status` of a response -> type of the event that ends its stream."""

_UNKNOWN_AT_FIRST: Final = ("completed_at", "incomplete_details", "usage")

_TEXTS: Final = {
    "response.output_text": "text",
    "response.refusal": "refusal",
    "response.reasoning_text": "text",
    "response.reasoning_summary_text": "text",
    "response.function_call_arguments": "arguments",
    "response.custom_tool_call_input": "input",
}
"""Kind of text, whose events end in ``.delta`` and ``.done`` -> the field in which the latter states it whole."""

_NOTES: Final = frozenset(
    {
        "keepalive",
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.content_part.done",
        "response.output_text.annotation.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_part.done",
    }
)
"""Events that say nothing that the whole response does not say again."""


def to_events(answer: JsonObject) -> Iterator[Event]:
    """Yield the events that say `answer`."""
    for number, (kind, fields) in enumerate(_said(answer)):
        yield event({"type": kind, "sequence_number": number, **fields}, kind)


def _said(answer: JsonObject) -> Iterator[Said]:
    end = _ENDS.get(as_text(answer.get("status")))
    if end is None or answer.get("object") != "response":
        raise Inconvertible("response")
    unknown: JsonObject = {name: None for name in _UNKNOWN_AT_FIRST if name in answer}
    opened: JsonObject = {**answer, "status": "in_progress", "output": [], **unknown}
    yield "response.created", {"response": opened}
    yield "response.in_progress", {"response": opened}
    for index, item in enumerate(objects_of(answer.get("output"))):
        at: JsonObject = {"item_id": text_of(item.get("id")), "output_index": index}
        yield from _item(item, at)
    yield end, {"response": answer}


def _item(item: JsonObject, at: JsonObject) -> Iterator[Said]:
    """Yield the events of one item of the output, at its place."""
    status: JsonObject = {"status": "in_progress"} if "status" in item else {}
    match item.get("type"):
        case "message":
            blank: JsonObject = {"content": []}
            said = _parts(objects_of(item.get("content")), at)
        case "reasoning":
            blank = {name: [] for name in ("summary", "content") if type(item.get(name)) is list}
            said = _reasoning(item, at)
        case "function_call":
            blank = {"arguments": ""}
            arguments = text_of(item.get("arguments"))
            done: JsonObject = {"name": text_of(item.get("name")), "arguments": arguments}
            said = _text("response.function_call_arguments", at, arguments, done)
        case "custom_tool_call":
            blank = {"input": ""}
            given = text_of(item.get("input"))
            said = _text("response.custom_tool_call_input", at, given, {"input": given})
        case _:
            raise Inconvertible("type of item")
    place = at["output_index"]
    yield "response.output_item.added", {"output_index": place, "item": {**item, **status, **blank}}
    yield from said
    yield "response.output_item.done", {"output_index": place, "item": item}


def _parts(content: list[JsonObject], at: JsonObject) -> Iterator[Said]:
    """Yield the events of the parts of a message's, or of a reasoning's, content."""
    for index, part in enumerate(content):
        here: JsonObject = {**at, "content_index": index}
        blank: JsonObject = {}
        match part.get("type"):
            case "output_text":
                blank = {name: [] for name in ("annotations", "logprobs") if type(part.get(name)) is list}
                said = _output_text(part, here)
                field = "text"
            case "refusal":
                field = "refusal"
                said = _text("response.refusal", here, text_of(part.get(field)), {field: part.get(field)})
            case "reasoning_text":
                field = "text"
                said = _text("response.reasoning_text", here, text_of(part.get(field)), {field: part.get(field)})
            case _:
                raise Inconvertible("type of part")
        yield "response.content_part.added", {**here, "part": {**part, **blank, field: ""}}
        yield from said
        yield "response.content_part.done", {**here, "part": part}


def _output_text(part: JsonObject, here: JsonObject) -> Iterator[Said]:
    text = text_of(part.get("text"))
    logprobs = objects_of(part.get("logprobs") or [])
    for piece, own in pieces_with_logprobs(text, logprobs):
        yield "response.output_text.delta", {**here, "delta": piece, "logprobs": list(own)}
    for number, annotation in enumerate(objects_of(part.get("annotations") or [])):
        noted: JsonObject = {"annotation_index": number, "annotation": annotation}
        yield "response.output_text.annotation.added", {**here, **noted}
    yield "response.output_text.done", {**here, "text": text, "logprobs": list(logprobs)}


def _reasoning(item: JsonObject, at: JsonObject) -> Iterator[Said]:
    """Yield the events of the parts of a summary, then those of the reasoning itself where it is told."""
    for index, part in enumerate(objects_of(item.get("summary"))):
        if part.get("type") != "summary_text":
            raise Inconvertible("type of part")
        here: JsonObject = {**at, "summary_index": index}
        text = text_of(part.get("text"))
        yield "response.reasoning_summary_part.added", {**here, "part": {**part, "text": ""}}
        yield from _text("response.reasoning_summary_text", here, text, {"text": text})
        yield "response.reasoning_summary_part.done", {**here, "part": part}
    yield from _parts(objects_of(item.get("content") or []), at)


def _text(kind: str, here: JsonObject, text: str, done: JsonObject) -> Iterator[Said]:
    for piece in pieces(text):
        yield f"{kind}.delta", {**here, "delta": piece}
    yield f"{kind}.done", {**here, **done}


# --- and back


def to_answer(events: Iterable[Event]) -> JsonObject:
    """Return the response with which a whole stream ends, if it is what the events before it said."""
    answer: JsonObject | None = None
    streamed = _Streamed()
    for one in events:
        if one.data == sse.DONE and answer is not None:
            continue  # some servers of this API say so, OpenAI's does not
        fields = load(one.data)
        kind = as_text(fields.get("type")) or one.name.decode("utf-8", "replace")
        if answer is not None or (one.name and one.name.decode("utf-8", "replace") != kind):
            raise Inconvertible("event")
        if kind in _ENDS.values():
            answer = object_of(fields.get("response"))
            if _ENDS.get(as_text(answer.get("status"))) != kind:
                raise Inconvertible("status")
        elif kind not in _NOTES:
            streamed.absorb(kind, fields)
    if answer is None:
        raise Inconvertible("cut")
    streamed.check(objects_of(answer.get("output")))
    return answer


class _Streamed:
    """What events said before the response came as a whole, for the two to be compared."""

    __slots__ = ("_items", "_texts")

    def __init__(self) -> None:
        self._items: dict[int, JsonObject] = {}
        self._texts: dict[tuple[JsonValue, ...], list[str]] = {}

    def absorb(self, kind: str, fields: JsonObject) -> None:
        """Take in one event; the pieces of a text must add up to it."""
        index = index_of(fields.get("output_index"))
        if kind == "response.output_item.done":
            self._items[index] = object_of(fields.get("item"))
            return
        text, _, step = kind.rpartition(".")
        if text not in _TEXTS or step not in {"delta", "done"}:
            raise Inconvertible("event")
        place = (text, index, _place(fields, "content_index"), _place(fields, "summary_index"))
        if step == "delta":
            self._texts.setdefault(place, []).append(text_of(fields.get("delta")))
        elif joined(self._texts.pop(place, ())) != fields.get(_TEXTS[text]):
            raise Inconvertible("text")

    def check(self, output: list[JsonObject]) -> None:
        """Check that the items of `output` are those that were done, and that no text stayed open."""
        if self._texts or sorted(self._items) != list(range(len(output))):
            raise Inconvertible("output")
        for index, item in enumerate(output):
            done = self._items[index]
            if any(done.get(name) != item.get(name) for name in ("type", "id", "call_id")):
                raise Inconvertible("item")


def _place(fields: JsonObject, name: str) -> int | None:
    return index_of(fields[name]) if name in fields else None
