"""``POST .../messages``: the Messages API of Anthropic, wherever it is served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers import forms
from genai_cache_magic.providers.anthropic import stream
from genai_cache_magic.providers.anthropic.usage import read_usage
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.fields import (
    drop_cache_hints,
    is_asked,
    is_conversation,
    keeps_an_hour,
    last_user_text,
    objects,
    pop_form,
    positive,
)
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.formats.media import fold
from genai_cache_magic.providers.reading import (
    as_object,
    as_text,
    gravest,
    is_success,
    load_answer,
    load_object,
)
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins
    from genai_cache_magic.providers.target import Target

SUFFIX: Final = "/messages"

_HINT: Final = "cache_control"
"""Top-level field that is a hint to the vendor's prompt cache."""

_CLIENT_TOOLS: Final = ("custom", "bash_", "text_editor_", "computer_", "memory_", "browser_", "tool_search_tool_")
"""Beginnings of the types of tool that the caller runs, and of the search among the request's own tools."""

_STATEFUL: Final = ("container", "thread")

STOP: Final = {
    "end_turn": End.COMPLETE,
    "stop_sequence": End.COMPLETE,
    "compaction": End.COMPLETE,
    "tool_use": End.TOOL_CALLS,
    "max_tokens": End.TRUNCATED,
    "model_context_window_exceeded": End.TRUNCATED,
    "pause_turn": End.TRUNCATED,  # the server wants to be asked to go on
    "refusal": End.REFUSAL,
}
"""`stop_reason` -> how the answer ended. One that is not here is not understood, and so not stored."""

# Blocks that are no output of their own: what the model thought, and notes of the server.
_SILENT_BLOCKS: Final = frozenset({"thinking", "redacted_thinking", "fallback", "mcp_tool_listing"})


@dataclass(frozen=True, slots=True)
class AnthropicMessages:
    """The Messages API."""

    vendor: str = ""
    surface: ClassVar[str] = "anthropic.messages"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        if response.form is Form.STREAM:
            return _read_stream(response, self.vendor)
        answer = load_answer(response)
        return answer if isinstance(answer, Answer) else _read_message(answer, self.vendor)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` in the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else forms.convert(response, wants, stream)


class Asked(NamedTuple):
    """What the body of a call asks for, beside what is in the key.

    Attributes
    ----------
    form
        How this caller wants the answer.
    media
        Where digests stand in the place of media.
    refused
        Why the answer must not be stored.
    preview
        First characters of the last user message.
    limit
        Upper bound of the answer's tokens.
    """

    form: Form
    media: tuple[str, ...]
    refused: tuple[str, ...]
    preview: str
    limit: int

    def __repr__(self) -> str:
        return f"<Asked for {self.form.value}>"


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body is no conversation with a limit."""
    asked = tidy(body)
    return None if asked is None else model_call(call, asked, body, find_target(call, body, origins, SUFFIX))


def tidy(body: JsonObject) -> Asked | None:
    """Take out of `body` what decides no answer, in place; None, and nothing is taken, if it is no such body."""
    messages = body.get("messages")
    limit = positive(body.get("max_tokens"))
    if limit is None or not is_conversation(messages):
        return None
    preview = last_user_text(messages)
    form = pop_form(body)
    body.pop(_HINT, None)
    drop_cache_hints(body.get("tools"))
    drop_cache_hints(body.get("system"))
    media: list[str] = []
    ids = Renumbering()
    for i, message in enumerate(objects(messages)):
        ids.apply(message, "id")
        _clean_blocks(message.get("content"), f"/messages/{i}/content", media, ids)
    ids.finish(body)
    return Asked(form, tuple(media), tuple(_refusals(body)), preview, limit)


def model_call(call: HttpCall, asked: Asked, body: JsonObject, target: Target) -> ModelCall:
    """Return what `call` of `target` asks for, its tidied body being `body`: one entry, in whichever form."""
    return ModelCall(
        provider=AnthropicMessages(target.place.vendor),
        request=target.request(AnthropicMessages.surface, body, None, asked.media),
        wants=Wants(asked.form),
        refused=asked.refused,
        preview=asked.preview,
        max_output_tokens=asked.limit,
        keeps_an_hour=keeps_an_hour(call),
    )


def _clean_blocks(blocks: JsonValue, path: str, media: list[str], ids: Renumbering) -> None:
    """Fold media, renumber ids and drop hints in content blocks and the blocks within them, in place.

    The `input` of a tool call is never looked into: it is the model's own JSON, whatever its fields are called.
    """
    if type(blocks) is not list:
        return
    drop_cache_hints(blocks)
    for j, block in enumerate(blocks):
        if type(block) is not dict:
            continue
        # In this order, whatever the order of the keys.
        ids.apply(block, "id")
        ids.apply(block, "tool_use_id")
        caller = block.get("caller")
        if type(caller) is dict:
            ids.apply(caller, "tool_id")
        here = f"{path}/{j}"
        source = block.get("source")
        if type(source) is dict:
            if source.get("type") == "base64":
                fold(source, "data", f"{here}/source", media)
            _clean_blocks(source.get("content"), f"{here}/source/content", media, ids)
        _clean_blocks(block.get("content"), f"{here}/content", media, ids)


def _refusals(body: JsonObject) -> Iterator[str]:
    """Yield why the answer to `body` must not be stored."""
    if any(is_asked(body.get(field)) for field in _STATEFUL):
        yield "stateful"
    if is_asked(body.get("mcp_servers")) or any(_is_server_tool(tool) for tool in objects(body.get("tools"))):
        yield "server-tools"


def _is_server_tool(tool: JsonObject) -> bool:
    kind = tool.get("type")
    return kind is not None and not as_text(kind).startswith(_CLIENT_TOOLS)


def _read_message(message: JsonObject, vendor: str) -> Answer:
    blocks = message.get("content")
    if type(blocks) is not list:
        return Answer(End.UNREADABLE)
    end = STOP.get(as_text(message.get("stop_reason")), End.UNREADABLE)
    is_empty = not any(_is_output(as_object(block)) for block in blocks)
    told = read_usage(as_object(message.get("usage")), blocks, vendor)
    dies_s = _dies_s(as_object(message.get("container")).get("expires_at"))
    return Answer(
        gravest({end}, is_empty=is_empty), told.usage, as_text(message.get("model")), told.bill, dies_s=dies_s
    )


def _dies_s(told: JsonValue) -> float | None:
    """Return when the container that a message names is gone [s since the epoch]; None if it names none."""
    try:
        return datetime.fromisoformat(as_text(told)).timestamp()
    except (OverflowError, ValueError):
        return None


def _read_stream(response: Response, vendor: str) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    recording = _Recording()
    for event in sse.events(response.body):
        if event.name == b"ping":
            continue
        fields = load_object(event.data)
        kind = "error" if event.name == b"error" else fields and fields.get("type")
        if kind == "error":
            return Answer(End.ERROR)
        if fields is None:
            return Answer(End.UNREADABLE)
        if kind == "message_stop":
            return _read_message(recording.message(), vendor)
        recording.absorb(as_text(kind), fields)
    # Some servers leave out the last event, which says nothing.
    is_whole = response.has_ended and recording.is_stopped
    return _read_message(recording.message(), vendor) if is_whole else Answer(End.CUT)


class _Recording:
    """What the events of a stream have said of its message."""

    __slots__ = ("_blocks", "_fields", "_usage")

    def __init__(self) -> None:
        self._fields: JsonObject = {}
        self._blocks: list[JsonValue] = []
        self._usage: JsonObject = {}

    def absorb(self, kind: str, event: JsonObject) -> None:
        """Take in one event."""
        if kind == "message_start":
            self._fields |= as_object(event.get("message"))
            self._usage |= as_object(self._fields.get("usage"))
        elif kind == "content_block_start":
            self._blocks.append(event.get("content_block"))
        elif kind == "content_block_delta":
            self._blocks.append(event.get("delta"))
        elif kind == "message_delta":
            self._fields |= {n: v for n, v in as_object(event.get("delta")).items() if n == "container" and v}
            reason = as_object(event.get("delta")).get("stop_reason") or self._fields.get("stop_reason")
            self._fields["stop_reason"] = reason
            # Its counts are running totals; what it leaves out stands as it was announced.
            self._usage |= {name: n for name, n in as_object(event.get("usage")).items() if n is not None}

    @property
    def is_stopped(self) -> bool:
        """Whether it was said why the message stopped."""
        return bool(self._fields.get("stop_reason"))

    def message(self) -> JsonObject:
        """Return the message, its content being the blocks and the pieces of blocks in order."""
        return {**self._fields, "content": self._blocks, "usage": self._usage}


def _is_output(block: JsonObject) -> bool:
    """Tell whether a content block, or a piece of one, is more than thought and empty text."""
    kind = as_text(block.get("type"))
    if kind in {"text", "text_delta"}:
        return bool(block.get("text"))
    return bool(kind) and kind not in _SILENT_BLOCKS and not kind.endswith("_delta")
