"""``POST /model/{model}/converse`` and ``/converse-stream``: Amazon Bedrock's one API for all its chat models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers import eventstream
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.fields import is_conversation, last_user_text, objects, positive
from genai_cache_magic.providers.media import fold
from genai_cache_magic.providers.named_by_path import target_named_by_path
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    count,
    gravest,
    is_success,
    load_answer,
    load_object,
)
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

WHOLE: Final = "/converse"
STREAMED: Final = "/converse-stream"
MODEL: Final = "/model/"

NOISE: Final = ("requestMetadata",)
"""Top-level fields that don't decide the answer: for the logs."""

_CACHE_HINT: Final = frozenset({"cachePoint"})
"""An item of a list that only tells where the prompt cache is cut."""

_MEDIA: Final = ("image", "document", "video", "audio")

STOP: Final = {
    "end_turn": End.COMPLETE,
    "stop_sequence": End.COMPLETE,
    "tool_use": End.TOOL_CALLS,
    "max_tokens": End.TRUNCATED,
    "model_context_window_exceeded": End.TRUNCATED,
    "guardrail_intervened": End.FILTERED,
    "content_filtered": End.FILTERED,
}
"""`stopReason` -> how the answer ended. What is not here (`malformed_tool_use`) is of no use."""


@dataclass(frozen=True, slots=True)
class BedrockConverse:
    """The Converse API."""

    vendor: str = ""
    surface: ClassVar[str] = "aws.converse"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a stream ends with ``messageStop`` and then ``metadata``."""
        if response.form is Form.STREAM:
            return _read_stream(response)
        answer = load_answer(response)
        return answer if isinstance(answer, Answer) else read_message(answer)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its path names no model or its body is no conversation."""
    head, _, tail = call.path.rstrip("/").partition(MODEL)
    model, _, verb = tail.rpartition("/")
    messages = body.get("messages")
    if not model or not is_conversation(messages):
        return None
    preview = last_user_text(messages)
    form = Form.STREAM if f"/{verb}" == STREAMED else Form.JSON
    for name in NOISE:
        body.pop(name, None)
    tools = as_object(body.get("toolConfig")).get("tools")
    _drop_cache_points(tools)
    _drop_cache_points(body.get("system"))
    media: list[str] = []
    ids = Renumbering()
    for i, message in enumerate(objects(messages)):
        _clean(message.get("content"), f"/messages/{i}/content", media, ids)
    target = target_named_by_path(call, head, model, origins)
    return ModelCall(
        provider=BedrockConverse(target.place.vendor),
        request=target.request(BedrockConverse.surface, body, form, media),
        wants=Wants(form),
        # Any tool without a specification of the caller's, such as `systemTool`, runs at Amazon.
        refused=("server-tools",) if any("toolSpec" not in tool for tool in objects(tools)) else (),
        preview=preview,
        max_output_tokens=positive(as_object(body.get("inferenceConfig")).get("maxTokens")),
    )


def _drop_cache_points(blocks: JsonValue) -> None:
    if type(blocks) is list:
        blocks[:] = [block for block in blocks if type(block) is not dict or block.keys() != _CACHE_HINT]


def _clean(blocks: JsonValue, path: str, media: list[str], ids: Renumbering) -> None:
    """Drop hints, fold media and renumber ids in content blocks and those of tool results, in place."""
    _drop_cache_points(blocks)
    for j, block in enumerate(as_list(blocks)):
        if type(block) is not dict:
            continue
        here = f"{path}/{j}"
        for name in _MEDIA:
            _fold_source(as_object(block.get(name)), f"{here}/{name}", media)
        guarded = as_object(block.get("guardContent"))
        _fold_source(as_object(guarded.get("image")), f"{here}/guardContent/image", media)
        ids.apply(as_object(block.get("toolUse")), "toolUseId")
        result = as_object(block.get("toolResult"))
        ids.apply(result, "toolUseId")
        _clean(result.get("content"), f"{here}/toolResult/content", media, ids)


def _fold_source(holder: JsonObject, path: str, media: list[str]) -> None:
    """Replace the bytes of an image, document, video or sound by a digest, in place."""
    source = as_object(holder.get("source"))
    if "bytes" not in source:
        return
    # `fold` takes bare base64 only from fields that it knows to hold such.
    bare: JsonObject = {"data": source["bytes"]}
    done: list[str] = []
    fold(bare, "data", path, done)
    if done:
        source["bytes"] = bare["data"]
        media.append(f"{path}/source/bytes")


def read_message(answer: JsonObject) -> Answer:
    """Read a whole answer; Nova's own API answers so too."""
    blocks = as_object(as_object(answer.get("output")).get("message")).get("content")
    if type(blocks) is not list:
        return Answer(End.UNREADABLE)
    end = STOP.get(as_text(answer.get("stopReason")), End.UNREADABLE)
    is_empty = not any(_is_output(as_object(block)) for block in blocks)
    return Answer(gravest({end}, is_empty=is_empty), _usage(as_object(answer.get("usage"))))


def _is_output(block: JsonObject) -> bool:
    """Tell whether a block, or a piece of one, is more than thought and empty text."""
    return any(value for name, value in block.items() if name not in {"reasoningContent", "cachePoint"})


class Recording:
    """What the events of a stream have said of its message; Nova's own API streams the same events."""

    __slots__ = ("_blocks", "_reason", "_usage", "is_ended")

    def __init__(self) -> None:
        self._blocks: list[JsonValue] = []
        self._reason: JsonValue = None
        self._usage: JsonValue = None
        self.is_ended = False

    def absorb(self, kind: str, event: JsonObject) -> None:
        """Take in one event; `is_ended` is set by the last."""
        if kind == "contentBlockStart":
            self._blocks.append(event.get("start"))
        elif kind == "contentBlockDelta":
            self._blocks.append(event.get("delta"))
        elif kind == "messageStop":
            self._reason = event.get("stopReason")
        elif kind == "metadata":
            self._usage = event.get("usage")
            self.is_ended = self._reason is not None

    def answer(self) -> Answer:
        """Return what `read_message` makes of the whole."""
        message: JsonValue = {"content": self._blocks}
        return read_message({"output": {"message": message}, "stopReason": self._reason, "usage": self._usage})


def _read_stream(response: Response) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    recording = Recording()
    for message in eventstream.messages(response.body):
        if message is None:
            return Answer(End.UNREADABLE)
        if message.headers.get(":message-type") != "event":
            return Answer(End.ERROR)
        event = load_object(message.payload)
        if event is None:
            return Answer(End.UNREADABLE)
        recording.absorb(message.headers.get(":event-type", ""), event)
        if recording.is_ended:
            return recording.answer()
    return Answer(End.CUT)


def _usage(usage: JsonObject) -> Usage:
    """Return the tokens of an answer. ``inputTokens`` leaves out what was read from or written to the cache."""
    fresh = count(usage.get("inputTokens"))
    read = count(usage.get("cacheReadInputTokens")) or 0
    written = count(usage.get("cacheWriteInputTokens")) or 0
    return Usage(
        input_tokens=None if fresh is None else fresh + read + written,
        output_tokens=count(usage.get("outputTokens")),
        cached_input_tokens=read,
        cache_write_tokens=written,
    )
