"""``POST /model/{model}/converse`` and ``/converse-stream``: Amazon Bedrock's one API for all its chat models.

In the place of a model there may stand a prompt of Prompt management, which names its model and brings messages
of its own. A version of a prompt is a snapshot and never changes, so it is keyed like a model; without a version
the draft is meant, whose text may be another one at the next call under the very same request, and so is the
draft of a guardrail. Such calls go on uncached.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final
from urllib.parse import unquote

from genai_cache_magic.core.model import Form
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import Answer, Bill, End, ModelCall, Wants
from genai_cache_magic.providers.billing import Counted, first, leftover, units
from genai_cache_magic.providers.fields import (
    is_conversation,
    keeps_an_hour,
    last_user_text,
    objects,
    positive,
    preview_of,
)
from genai_cache_magic.providers.formats import eventstream
from genai_cache_magic.providers.formats.media import fold
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
    usage_beside_cache,
)
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

WHOLE: Final = "/converse"
STREAMED: Final = "/converse-stream"
MODEL: Final = "/model/"

_CACHE_HINT: Final = frozenset({"cachePoint"})
"""An item of a list that only tells where the prompt cache is cut."""

_MEDIA: Final = ("image", "document", "video", "audio")

_PROMPT: Final = re.compile(r"arn:[^:]+:bedrock:[^:]*:[^:]*:prompt/[^:]+(?P<version>:[0-9]+)?(:.*)?")
_DRAFT: Final = "DRAFT"

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

_KNOWN_USAGE: Final = frozenset(
    {
        "inputTokens",
        "outputTokens",
        "totalTokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
        "cacheReadInputTokenCount",  # the same again, under its older name
        "cacheWriteInputTokenCount",
        "cacheDetails",
    }
)


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
    """Return what `call` asks for, None if its path names no model or its body is no conversation.

    A prompt needs no messages.

    Raises
    ------
    UncacheableRequest
        What it names may change without the call changing: a draft.
    """
    head, _, tail = call.path.rstrip("/").partition(MODEL)
    model, _, verb = tail.rpartition("/")
    messages = body.get("messages")
    is_whole = "messages" not in body and is_prompt(model)
    if not model or not (is_whole or is_conversation(messages)):
        return None
    check_no_draft(model, as_object(body.get("guardrailConfig")).get("guardrailVersion"))
    preview = last_user_text(messages) or preview_of(list(as_object(body.get("promptVariables")).values()))
    form = Form.STREAM if f"/{verb}" == STREAMED else Form.JSON
    tools = as_object(body.get("toolConfig")).get("tools")
    _drop_cache_points(tools)
    _drop_cache_points(body.get("system"))
    media: list[str] = []
    ids = Renumbering()
    for i, message in enumerate(objects(messages)):
        _clean(message.get("content"), f"/messages/{i}/content", media, ids)
    ids.finish(body)
    target = target_named_by_path(call, head, model, origins)
    return ModelCall(
        provider=BedrockConverse(target.place.vendor),
        request=target.request(BedrockConverse.surface, body, form, media),
        wants=Wants(form),
        refused=("server-tools",) if runs_there(body) else (),
        preview=preview,
        max_output_tokens=positive(as_object(body.get("inferenceConfig")).get("maxTokens")),
        keeps_an_hour=keeps_an_hour(call),
    )


def is_prompt(model: str) -> bool:
    """Tell whether what stands in the place of a model, escaped or not, is a prompt of Prompt management."""
    return _PROMPT.fullmatch(unquote(model)) is not None


def runs_there(body: JsonObject) -> bool:
    """Tell whether a tool of `body` runs at Amazon: one that the caller does not specify, such as `systemTool`."""
    tools = objects(as_object(body.get("toolConfig")).get("tools"))
    return any("toolSpec" not in tool and "cachePoint" not in tool for tool in tools)


def check_no_draft(model: str, guardrail_version: JsonValue) -> None:
    """Do nothing if what decides the answer is fixed by its name.

    Raises
    ------
    UncacheableRequest
        It is a prompt without a version, or a guardrail's draft.
    """
    prompt = _PROMPT.fullmatch(unquote(model))
    if prompt is not None and prompt["version"] is None:
        raise UncacheableRequest(
            "the draft of a prompt can change under its ARN, so the call was sent uncached; name a version of it"
        )
    if guardrail_version == _DRAFT:
        raise UncacheableRequest(
            "the draft of a guardrail can change under its name, so the call was sent uncached; name a version of it"
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
    told = _read_usage(answer)
    return Answer(gravest({end}, is_empty=is_empty), told.usage, bill=told.bill)


def _is_output(block: JsonObject) -> bool:
    """Tell whether a block, or a piece of one, is more than thought and empty text."""
    return any(value for name, value in block.items() if name not in {"reasoningContent", "cachePoint"})


class Recording:
    """What the events of a stream have said of its message; Nova's own API streams the same events."""

    __slots__ = ("_blocks", "_reason", "_told", "is_ended")

    def __init__(self) -> None:
        self._blocks: list[JsonValue] = []
        self._reason: JsonValue = None
        self._told: JsonObject = {}
        self.is_ended = False

    def absorb(self, kind: str, event: JsonObject) -> None:
        """Take in one event; `is_ended` is set by the last."""
        if kind == "contentBlockStart":
            self._blocks.append(event.get("start"))
        elif kind == "contentBlockDelta":
            self._blocks.append(event.get("delta"))
        elif kind == "messageStop":
            self._reason = event.get("stopReason") or self._reason
        elif kind == "metadata":
            self._told = event
            self.is_ended = self._reason is not None

    @property
    def is_stopped(self) -> bool:
        """Whether it was said why the message stopped."""
        return self._reason is not None

    def answer(self) -> Answer:
        """Return what `read_message` makes of the whole."""
        message: JsonValue = {"content": self._blocks}
        return read_message({**self._told, "output": {"message": message}, "stopReason": self._reason})


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
    return recording.answer() if response.has_ended and recording.is_stopped else Answer(End.CUT)


def _read_usage(answer: JsonObject) -> Counted:
    """Return what a whole answer, or the last event of a stream, says of tokens and terms."""
    usage = as_object(answer.get("usage"))
    counted = usage_beside_cache(
        usage.get("inputTokens"),
        usage.get("outputTokens"),
        read=usage.get("cacheReadInputTokens"),
        written=usage.get("cacheWriteInputTokens"),
    )
    by_ttl = [
        (as_text(one.get("ttl")), count(one.get("inputTokens")) or 0) for one in objects(usage.get("cacheDetails"))
    ]
    is_split = not by_ttl or sum(n for _, n in by_ttl) == counted.cache_write_tokens
    terms = {
        "service_tier": as_text(as_object(answer.get("serviceTier")).get("type")),
        "latency": as_text(as_object(answer.get("performanceConfig")).get("latency")),
    }
    bill = Bill(
        units=units(
            {f"cache_write_{ttl}_tokens": sum(n for its, n in by_ttl if its == ttl) for ttl in ("5m", "1h")},
        ),
        terms={name: value.lower() for name, value in terms.items() if value},
        unclear=first(
            "" if is_split else "cache writes that don't add up",
            *(f"cache writes for {ttl}" for ttl, n in by_ttl if n and ttl not in {"5m", "1h"}),
            leftover(usage, _KNOWN_USAGE),
        ),
    )
    return Counted(counted, bill)
