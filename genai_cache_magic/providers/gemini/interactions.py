"""``POST .../interactions``: Gemini's Interactions API, at Google AI and on Vertex AI, whole and as events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers import lookups
from genai_cache_magic.providers.base import STATEFUL, Answer, End, Follows, Given, ModelCall, Wants
from genai_cache_magic.providers.fields import is_asked, objects, pop_form, positive, preview_of
from genai_cache_magic.providers.formats import sse, streams
from genai_cache_magic.providers.formats.media import fold_either_alphabet
from genai_cache_magic.providers.gemini.usage import read_usage
from genai_cache_magic.providers.named_by_path import take_from_query
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
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/interactions"

MEDIA: Final = frozenset({"audio", "document", "image", "video"})
"""Types of content that carry media in their `data`."""

_CLIENT_TOOLS: Final = frozenset({"computer_use", "function", "tool_search"})
"""Types of tool that the caller runs, and the search among the request's own tools."""

_PREVIOUS: Final = "previous_interaction_id"
_STATEFUL: Final = (_PREVIOUS, "background", "continuation_token", "environment")

_STATUS: Final = {
    "completed": End.COMPLETE,
    "requires_action": End.TOOL_CALLS,
    "incomplete": End.TRUNCATED,
    "budget_exceeded": End.TRUNCATED,
    "requires_continuation": End.TRUNCATED,
    "failed": End.ERROR,
    "cancelled": End.ERROR,
    "queued": End.CUT,
    "in_progress": End.CUT,
}

_COUNTS: Final = {
    "total_input_tokens": "promptTokenCount",
    "total_tool_use_tokens": "toolUsePromptTokenCount",
    "total_cached_tokens": "cachedContentTokenCount",
    "total_output_tokens": "candidatesTokenCount",
    "total_thought_tokens": "thoughtsTokenCount",
    "total_tokens": "totalTokenCount",
}
_BY_MODALITY: Final = {
    "input_tokens_by_modality": "promptTokensDetails",
    "tool_use_tokens_by_modality": "toolUsePromptTokensDetails",
    "cached_tokens_by_modality": "cacheTokensDetails",
    "output_tokens_by_modality": "candidatesTokensDetails",
}
"""Names of counts here -> those of the content generation API, which mean the same."""


@dataclass(frozen=True, slots=True)
class GeminiInteractions:
    """The Interactions API."""

    vendor: str = ""
    surface: ClassVar[str] = "google.interactions"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        if response.form is Form.STREAM:
            return _read_stream(response)
        answer = load_answer(response)
        if isinstance(answer, Answer):
            return answer
        return _answer(answer, map(_end_of_step, objects(answer.get("steps"))))

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` if it has the form that this caller wants; its usage is always there."""
        return response if response.form is wants.form else None

    def given(self, response: Response) -> tuple[Given, ...]:
        """Return the id of `response`, which stands for its steps."""
        given = ""
        said: list[JsonValue] = []
        for told in streams.objects(response):
            interaction = as_object(told.get("interaction")) if response.form is Form.STREAM else told
            given = as_text(interaction.get("id")) or given
            if response.form is not Form.STREAM:
                said = [_without_ids(step) for step in objects(told.get("steps"))]
            elif as_text(told.get("event_type")).startswith("step."):
                said.append(_without_ids(as_object(told.get("delta") or told.get("step"))))
        return (Given(given, said),) if given else ()


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no input, or is for neither a model nor an agent."""
    asked = body.get("input")
    is_for_one = type(body.get("model")) is str or type(body.get("agent")) is str
    if type(asked) not in {str, list, dict} or not asked or not is_for_one:
        return None
    call, _ = take_from_query(call, "alt", "$alt")
    preview = _preview(asked)
    form = pop_form(body)
    media: list[str] = []
    # The results of calls that an earlier answer asked for name them by its ids.
    _clean(body, media, None if is_asked(body.get(_PREVIOUS)) else Renumbering())
    target = find_target(call, body, origins, SUFFIX)
    return ModelCall(
        provider=GeminiInteractions(target.place.vendor),
        request=target.request(GeminiInteractions.surface, body, form, media),
        wants=Wants(form),
        refused=tuple(_refusals(body)),
        follows=tuple(_follows(body)),
        preview=preview,
        max_output_tokens=positive(as_object(body.get("generation_config")).get("max_output_tokens")),
    )


def _clean(body: JsonObject, media: list[str], ids: Renumbering | None) -> None:
    """Fold media and renumber ids in the input of `body`, in place."""
    asked = body.get("input")
    for i, item in enumerate(as_list(asked)):
        if type(item) is dict:
            _clean_item(item, f"/input/{i}", media, ids)
    if type(asked) is dict:
        _clean_item(asked, "/input", media, ids)
    if ids is not None:
        ids.finish(body)


def _clean_item(item: JsonObject, path: str, media: list[str], ids: Renumbering | None) -> None:
    """Fold and renumber in one step, or one piece of content."""
    if as_text(item.get("type")) in MEDIA:
        fold_either_alphabet(item, "data", path, media)
    for field in ("content", "result", "summary"):
        for j, part in enumerate(as_list(item.get(field))):
            if type(part) is dict and as_text(part.get("type")) in MEDIA:
                fold_either_alphabet(part, "data", f"{path}/{field}/{j}", media)
    if ids is not None and as_text(item.get("type")) in {"function_call", "function_result"}:
        ids.apply(item, "id")
        ids.apply(item, "call_id")


def _refusals(body: JsonObject) -> Iterator[str]:
    """Yield why the answer to `body` must not be stored."""
    if any(is_asked(body.get(field)) for field in _STATEFUL):
        yield STATEFUL
    # Google's agents search, read and run code by themselves.
    if "agent" in body or any(as_text(tool.get("type")) not in _CLIENT_TOOLS for tool in objects(body.get("tools"))):
        yield lookups.REASON


def _follows(body: JsonObject) -> Iterator[Follows]:
    """Yield the answer that `body` goes on from, if it is the only thing that the server must remember."""
    previous = body.get(_PREVIOUS)
    if type(previous) is str and not any(is_asked(body.get(field)) for field in _STATEFUL if field != _PREVIOUS):
        yield Follows(f"/{_PREVIOUS}", previous)


def _preview(asked: JsonValue) -> str:
    """Return the first characters of the last input of the user."""
    if type(asked) is str:
        return preview_of(asked)
    items = [asked] if type(asked) is dict else list(objects(asked))
    for item in reversed(items):
        if as_text(item.get("type")) in {"text", "user_input"}:
            text = preview_of([item] if "text" in item else item.get("content"))
            if text:
                return text
    return ""


def _end_of_step(step: JsonObject) -> End:
    kind = as_text(step.get("type"))
    if kind == "function_call":
        return End.TOOL_CALLS
    if kind != "model_output":
        return End.EMPTY
    if step.get("error") is not None:
        return End.ERROR
    return End.COMPLETE if any(map(_is_output, objects(step.get("content")))) else End.EMPTY


def _is_output(part: JsonObject) -> bool:
    kind = as_text(part.get("type"))
    return bool(part.get("text")) if kind == "text" else kind in MEDIA


def _answer(interaction: JsonObject, ends: Iterable[End]) -> Answer:
    status = _STATUS.get(as_text(interaction.get("status")), End.UNREADABLE)
    seen = set(ends) - {End.EMPTY}
    told = read_usage(_usage(interaction))
    end = gravest({status, *seen}, is_empty=not seen)
    return Answer(end, told.usage, as_text(interaction.get("model")), told.bill)


def _usage(interaction: JsonObject) -> JsonObject:
    """Return what `interaction` says of its tokens, in the words of the content generation API."""
    usage: JsonObject = {}
    for name, value in as_object(interaction.get("usage")).items():
        if name in _BY_MODALITY:
            usage[_BY_MODALITY[name]] = [
                {"modality": as_text(one.get("modality")).upper(), "tokenCount": one.get("tokens")}
                for one in objects(value)
            ]
        else:
            usage[_COUNTS.get(name, name)] = value
    tier = as_text(interaction.get("service_tier"))
    return {**usage, "serviceTier": tier} if tier else usage


def _read_stream(response: Response) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    ends: set[End] = set()
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            break
        told = load_object(event.data)
        if told is None:
            return Answer(End.UNREADABLE)
        kind = as_text(told.get("event_type")) or event.name.decode("utf-8", "replace")
        if kind == "error" or told.get("error") is not None:
            return Answer(End.ERROR)
        if kind == "interaction.completed":
            return _answer(as_object(told.get("interaction")), ends)
        if kind == "step.start":
            ends.add(_end_of_step(as_object(told.get("step"))))
        elif kind == "step.delta" and _is_output(as_object(told.get("delta"))):
            ends.add(End.COMPLETE)
    return Answer(End.CUT)


def _without_ids(step: JsonObject) -> JsonValue:
    return {name: value for name, value in step.items() if name != "id"}
