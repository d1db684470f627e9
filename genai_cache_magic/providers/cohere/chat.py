"""``POST .../v2/chat``: Cohere's chat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Answer, Bill, End, ModelCall, Wants
from genai_cache_magic.providers.billing import Counted, first, leftover
from genai_cache_magic.providers.fields import (
    is_asked,
    is_conversation,
    is_one_token,
    is_score,
    last_user_text,
    objects,
    pop_form,
    positive,
)
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.formats.media import fold_parts
from genai_cache_magic.providers.reading import (
    as_object,
    as_text,
    count,
    gravest,
    is_success,
    load_answer,
    load_object,
    whole_if_scored,
)
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

PATH: Final = "/v2/chat"

_SUFFIX: Final = "/chat"  # the version stays in the origin

MEDIA: Final = {"image_url": ("image_url", "url")}
"""Type of content part -> where its media lie."""

FINISH: Final = {
    "COMPLETE": End.COMPLETE,
    "STOP_SEQUENCE": End.COMPLETE,
    "TOOL_CALL": End.TOOL_CALLS,
    "MAX_TOKENS": End.TRUNCATED,
    "ERROR_LIMIT": End.TRUNCATED,
    "ERROR_TOXIC": End.FILTERED,
    "ERROR": End.ERROR,
    "TIMEOUT": End.ERROR,
    "USER_CANCEL": End.CUT,
}
"""`finish_reason` -> how the answer ended. One that is not here is not understood, and so not stored."""

_KNOWN: Final = frozenset({"billed_units", "tokens", "cached_tokens", "api_version"})
_BILLED: Final = frozenset({"input_tokens", "output_tokens"})
"""Units of the bill with a price by the token. Others (searches, classifications, images) have their own."""


@dataclass(frozen=True, slots=True)
class CohereChat:
    """The chat API, second version; `is_scored` says that the probabilities of one token are asked for."""

    vendor: str = ""
    is_scored: bool = False
    surface: ClassVar[str] = "cohere.chat"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a stream ends with ``message-end``."""
        return whole_if_scored(self._read(response), is_scored=self.is_scored)

    def _read(self, response: Response) -> Answer:
        if response.form is Form.STREAM:
            return _read_stream(response)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        message = as_object(answer.get("message"))
        return _answer(answer, is_empty=not _has_output(message))

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body is no conversation with a model."""
    messages = body.get("messages")
    if type(body.get("model")) is not str or not is_conversation(messages):
        return None
    preview = last_user_text(messages)
    form = pop_form(body)
    media: list[str] = []
    ids = Renumbering()
    for i, message in enumerate(objects(messages)):
        fold_parts(message.get("content"), f"/messages/{i}/content", MEDIA, media)
        # In this order, whatever the order of the keys.
        for tool_call in objects(message.get("tool_calls")):
            ids.apply(tool_call, "id")
        ids.apply(message, "tool_call_id")
    ids.finish(body)
    is_scored = is_score(body.get("logprobs")) and is_one_token(body.get("max_tokens"))
    target = find_target(call, body, origins, _SUFFIX)
    return ModelCall(
        provider=CohereChat(target.place.vendor, is_scored),
        request=target.request(CohereChat.surface, body, form, media),
        wants=Wants(form),
        # Connectors search before the model answers; functions are run by the caller.
        refused=("server-tools",) if is_asked(body.get("connectors")) or _has_server_tool(body) else (),
        preview=preview,
        max_output_tokens=positive(body.get("max_tokens")),
    )


def _has_server_tool(body: JsonObject) -> bool:
    return any(tool.get("type", "function") != "function" for tool in objects(body.get("tools")))


def _has_output(message: JsonObject) -> bool:
    """Tell whether a message is more than thought and empty text."""
    content = message.get("content")
    parts = content if type(content) is list else [content]
    return bool(message.get("tool_calls")) or any(as_object(part).get("text") for part in parts)


def _answer(fields: JsonObject, *, is_empty: bool) -> Answer:
    end = FINISH.get(as_text(fields.get("finish_reason")), End.UNREADABLE)
    told = read_usage(fields.get("usage"))
    return Answer(gravest({end}, is_empty=is_empty), told.usage, bill=told.bill)


def _read_stream(response: Response) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    is_empty = True
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            break
        fields = load_object(event.data)
        if event.name == b"error" or (fields is not None and fields.get("error") is not None):
            return Answer(End.ERROR)
        if fields is None:
            return Answer(End.UNREADABLE)
        kind = as_text(fields.get("type")) or event.name.decode("utf-8", "replace")
        delta = as_object(fields.get("delta"))
        if kind == "message-end":
            return Answer(End.ERROR) if delta.get("error") else _answer(delta, is_empty=is_empty)
        is_empty &= kind != "tool-call-start" and not _has_output(as_object(delta.get("message")))
    return Answer(End.CUT)


def read_usage(usage: JsonValue) -> Counted:
    """Return the tokens that are billed, or else those that were counted."""
    fields = as_object(usage)
    billed = as_object(fields.get("billed_units"))
    told = billed or as_object(fields.get("tokens"))
    counted = Usage(
        input_tokens=count(told.get("input_tokens")),
        output_tokens=count(told.get("output_tokens")),
        cached_input_tokens=count(fields.get("cached_tokens")) or 0,
    )
    return Counted(counted, Bill(unclear=first(leftover(billed, _BILLED), leftover(fields, _KNOWN))))
