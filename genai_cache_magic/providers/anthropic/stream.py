"""The Messages API in both forms: a ``message`` <-> its events.

Shape of a stream: ``message_start`` with the empty message, its input already counted; for each block of its content
a start, deltas and a stop; ``message_delta`` with why it stopped and the final counts; ``message_stop``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.forms import (
    Inconvertible,
    dump,
    event,
    index_of,
    joined,
    list_of,
    load,
    object_of,
    objects_of,
    only,
    pieces,
    text_of,
)
from genai_cache_magic.providers.reading import as_list, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.providers.formats.sse import Event

_STOP: Final = ("stop_reason", "stop_sequence", "stop_details", "container")
"""Fields of a message that its last delta tells."""

_BESIDE_STOP: Final = ("context_management",)
"""Fields of a message that come beside that delta."""

_OUTPUT_COUNTS: Final = ("output_tokens_details", "iterations", "fallback_credit")
_TOTALS: Final = (
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "server_tool_use",
    *_OUTPUT_COUNTS,
)
"""Fields of `usage` that the last delta tells, as running totals."""

_DELTAS: Final = {
    "text_delta": ("text", "text"),
    "citations_delta": ("text", "citation"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("thinking", "signature"),
    "input_json_delta": ("tool_use", "partial_json"),
}
"""Type of delta -> the type of block that it belongs to, and the field that it carries."""


def to_events(answer: JsonObject) -> Iterator[Event]:
    """Yield the events that say `answer`."""
    if answer.get("type") != "message":
        raise Inconvertible("type")
    usage = object_of(answer.get("usage"))
    late: JsonObject = {name: None for name in (*_STOP, *_BESIDE_STOP) if name in answer}
    # Nothing has been said yet: clients that add this count to the final one stay right.
    counted: JsonObject = {**usage, "output_tokens": 0, **{name: None for name in _OUTPUT_COUNTS if name in usage}}
    yield _event("message_start", message={**answer, "content": [], **late, "usage": counted})
    for index, block in enumerate(objects_of(answer.get("content"))):
        opened, deltas = _block(block)
        yield _event("content_block_start", index=index, content_block=opened)
        for delta in deltas:
            yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    stop: JsonObject = {name: answer[name] for name in _STOP if name in answer}
    totals: JsonObject = {name: usage[name] for name in _TOTALS if name in usage}
    beside: JsonObject = {name: answer[name] for name in _BESIDE_STOP if name in answer}
    yield _event("message_delta", delta=stop, usage=totals, **beside)
    yield _event("message_stop")


def _event(kind: str, **fields: JsonValue) -> Event:
    return event({"type": kind, **fields}, kind)


def _block(block: JsonObject) -> tuple[JsonObject, list[JsonObject]]:
    """Return a block as it starts, and the deltas that make it what it is."""
    match block.get("type"):
        case "text":
            citations = block.get("citations")
            blank: JsonObject = {"text": "", **({"citations": []} if citations else {})}
            deltas = _deltas("text_delta", *pieces(text_of(block.get("text"))))
            deltas += _deltas("citations_delta", *list_of(citations or []))
        case "thinking":
            signature = block.get("signature")
            blank = {"thinking": "", **({"signature": ""} if signature else {})}
            deltas = _deltas("thinking_delta", *pieces(text_of(block.get("thinking"))))
            deltas += _deltas("signature_delta", text_of(signature)) if signature else []
        case "tool_use":
            given = object_of(block.get("input"))
            blank = {"input": {}}
            deltas = _deltas("input_json_delta", "", *pieces(dump(given).decode() if given else ""))
        case "redacted_thinking":
            return block, []
        case _:
            raise Inconvertible("type of block")
    return {**block, **blank}, deltas


def _deltas(kind: str, *values: JsonValue) -> list[JsonObject]:
    _, field = _DELTAS[kind]
    return [{"type": kind, field: value} for value in values]


# --- and back


def to_answer(events: Iterable[Event]) -> JsonObject:
    """Return the message that the events of a whole stream say."""
    message = _Message()
    for one in events:
        if one.name == b"ping":
            continue
        fields = load(one.data)
        kind = as_text(fields.pop("type", None))
        if one.name not in {b"", kind.encode("utf-8", "replace")}:
            raise Inconvertible("event")
        message.absorb(kind, fields)
    return message.end()


class _Message:
    """What has been said of a message."""

    __slots__ = ("_block", "_blocks", "_fields", "_is_stopped", "_is_whole")

    def __init__(self) -> None:
        self._fields: JsonObject = {}
        self._blocks: list[JsonValue] = []
        self._block: _Block | None = None
        self._is_stopped = False
        self._is_whole = False

    def absorb(self, kind: str, fields: JsonObject) -> None:
        """Take in one event, which must be the next one."""
        is_begun = bool(self._fields)
        match kind:
            case "ping":
                pass
            case "message_start" if not is_begun:
                self._start(object_of(only(fields, "message").get("message")))
            case "content_block_start" if is_begun and self._block is None and not self._is_stopped:
                self._check_index(only(fields, "index", "content_block"))
                self._block = _Block(object_of(fields.get("content_block")))
            case "content_block_delta" if self._block is not None:
                self._check_index(only(fields, "index", "delta"))
                self._block.absorb(object_of(fields.get("delta")))
            case "content_block_stop" if self._block is not None:
                self._check_index(only(fields, "index"))
                self._blocks.append(self._block.end())
                self._block = None
            case "message_delta" if is_begun and self._block is None and not self._is_stopped:
                self._stop(fields)
            case "message_stop" if self._is_stopped and not self._is_whole:
                only(fields)
                self._is_whole = True
            case _:
                raise Inconvertible("event")

    def _check_index(self, fields: JsonObject) -> None:
        if index_of(fields.get("index")) != len(self._blocks):
            raise Inconvertible("index")

    def _start(self, message: JsonObject) -> None:
        object_of(message.get("usage"))
        if message.get("type") != "message" or list_of(message.get("content")) or message.get("stop_reason"):
            raise Inconvertible("message")
        self._fields = message

    def _stop(self, fields: JsonObject) -> None:
        only(fields, "delta", "usage", *_BESIDE_STOP)
        delta = only(object_of(fields.pop("delta", None)), *_STOP)
        totals = only(object_of(fields.pop("usage", None)), *_TOTALS)
        usage = object_of(self._fields["usage"])
        text_of(delta.get("stop_reason"))
        for into, told in ((self._fields, delta), (usage, totals), (self._fields, fields)):
            # What is null stands as it was announced.
            into.update({name: value for name, value in told.items() if value is not None or name not in into})
        self._is_stopped = "output_tokens" in totals

    def end(self) -> JsonObject:
        """Return the message."""
        if not self._is_whole:
            raise Inconvertible("cut")
        return {**self._fields, "content": self._blocks}


class _Block:
    """What has been said of one block."""

    __slots__ = ("_fields", "_heard")

    def __init__(self, opened: JsonObject) -> None:
        self._fields = opened
        self._heard: dict[str, list[JsonValue]] = {}

    def absorb(self, delta: JsonObject) -> None:
        """Take in one delta."""
        owner, field = _DELTAS.get(as_text(delta.get("type")), ("", ""))
        if not owner or owner != self._fields.get("type") or field not in only(delta, "type", field):
            raise Inconvertible("delta")
        self._heard.setdefault(field, []).append(delta[field])

    def end(self) -> JsonObject:
        """Return the block."""
        block = self._fields
        match block.get("type"):
            case "text":
                block["text"] = self._text("text")
                if "citation" in self._heard:
                    block["citations"] = [*as_list(block.get("citations")), *self._heard["citation"]]
            case "thinking":
                block["thinking"] = self._text("thinking")
                self._sign(block)
            case "tool_use":
                self._give(block)
            case "redacted_thinking":
                pass
            case _:
                raise Inconvertible("type of block")
        return block

    def _text(self, field: str) -> str:
        return joined(text_of(part) for part in (self._fields.get(field), *self._heard.get(field, ())))

    def _sign(self, block: JsonObject) -> None:
        signatures = self._heard.get("signature")
        if signatures is not None:
            if len(signatures) > 1 or block.get("signature"):
                raise Inconvertible("two signatures")
            block["signature"] = text_of(signatures[0])

    def _give(self, block: JsonObject) -> None:
        given = object_of(block.get("input"))
        text = joined(text_of(part) for part in self._heard.get("partial_json", ()))
        if text:
            block["input"] = object_of(None) if given else load(text.encode())
