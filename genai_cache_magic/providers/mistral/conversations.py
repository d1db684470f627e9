"""``POST .../conversations``: the first turn of a conversation that Mistral keeps, with a model or an agent.

Its later turns go to the conversation by its id, ``.../conversations/{id}``, and are asked of what Mistral remembers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers import lookups
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.billing import read_openai
from genai_cache_magic.providers.fields import last_user_text, objects, pop_form, positive, preview_of
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.formats.media import fold_parts
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    gravest,
    is_success,
    load_answer,
    load_object,
)
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/conversations"

MEDIA: Final = {
    "image_url": ("image_url", "url"),
    "document_url": ("document_url", ""),
    "input_audio": ("input_audio", ""),
}
"""Type of content part -> where its media lie."""

_CALL: Final = "function.call"
_OUTPUT: Final = "message.output"
_DONE: Final = "conversation.response.done"
_FAILED: Final = "conversation.response.error"


@dataclass(frozen=True, slots=True)
class MistralConversations:
    """The first turn of a conversation."""

    vendor: str = ""
    surface: ClassVar[str] = "mistral.conversations"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        if response.form is Form.STREAM:
            return _read_stream(response, self.vendor)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        if type(answer.get("outputs")) is not list:
            return Answer(End.UNREADABLE)
        entries = list(objects(answer.get("outputs")))
        return _answer(map(_end_of, entries), answer, _model_of(entries), self.vendor)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no inputs, or is for neither a model nor an agent."""
    inputs = body.get("inputs")
    is_for_one = type(body.get("model")) is str or type(body.get("agent_id")) is str
    if type(inputs) not in {str, list} or not inputs or not is_for_one:
        return None
    preview = preview_of(inputs) if type(inputs) is str else last_user_text(inputs)
    form = pop_form(body)
    media: list[str] = []
    for i, entry in enumerate(as_list(inputs)):
        fold_parts(as_object(entry).get("content"), f"/inputs/{i}/content", MEDIA, media)
    is_looking_up = any(as_text(tool.get("type")) != "function" for tool in objects(body.get("tools")))
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=MistralConversations(target.place.vendor),
        request=target.request(MistralConversations.surface, body, form, media),
        wants=Wants(form),
        refused=(lookups.REASON,) if is_looking_up else (),
        preview=preview,
        max_output_tokens=positive(as_object(body.get("completion_args")).get("max_tokens")),
    )


def _end_of(entry: JsonObject) -> End:
    """Return how an entry of an answer, or a piece of one, ended."""
    kind = as_text(entry.get("type"))
    if kind.startswith(_CALL):
        return End.TOOL_CALLS
    return End.COMPLETE if kind.startswith(_OUTPUT) and entry.get("content") else End.EMPTY


def _model_of(entries: Iterable[JsonObject]) -> str:
    return next((model for model in (as_text(entry.get("model")) for entry in entries) if model), "")


def _answer(ends: Iterable[End], told: JsonObject, model: str, vendor: str) -> Answer:
    seen = set(ends) - {End.EMPTY}
    usage = read_openai(told.get("usage"), vendor)
    return Answer(gravest({End.COMPLETE, *seen}, is_empty=not seen), usage.usage, model, usage.bill)


def _read_stream(response: Response, vendor: str) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    ends: set[End] = set()
    model = ""
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            break
        told = load_object(event.data)
        if told is None:
            return Answer(End.UNREADABLE)
        kind = as_text(told.get("type")) or event.name.decode("utf-8", "replace")
        if kind == _FAILED:
            return Answer(End.ERROR)
        if kind == _DONE:
            return _answer(ends, told, model, vendor)
        ends.add(_end_of(told))
        model = model or as_text(told.get("model"))
    return Answer(End.CUT)
