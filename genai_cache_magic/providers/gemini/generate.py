"""``POST .../models/{model}:generateContent`` and ``:streamGenerateContent``: Gemini, at Google AI and on Vertex AI.

A stream comes as events (``alt=sse``) or, without that, as one JSON array; one entry serves callers of all three
forms. Field names may be spelt in camel or in snake case; both are read, and stay two requests, since nothing says
that they were not meant so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers import forms
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.fields import is_asked, is_conversation, is_one_token, objects, positive, preview_of
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.formats.media import fold_either_alphabet
from genai_cache_magic.providers.gemini import array, stream
from genai_cache_magic.providers.gemini.usage import read_usage
from genai_cache_magic.providers.named_by_path import take_from_query, target_named_by_path
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    gravest,
    is_success,
    load_object,
    whole_if_scored,
)
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

WHOLE: Final = ":generateContent"
STREAMED: Final = ":streamGenerateContent"

_CLIENT_TOOLS: Final = frozenset({"functionDeclarations", "function_declarations", "computerUse", "computer_use"})
"""Tools that the caller runs. Any other one (search, maps, code, URLs, files) runs at Google, on live data."""

_IDENTIFIED: Final = ("functionCall", "function_call", "functionResponse", "function_response")
MEDIA: Final = ("inlineData", "inline_data")
"""Parts that carry media in their `data`."""

FINISH: Final = {
    "STOP": End.COMPLETE,
    "MAX_TOKENS": End.TRUNCATED,
    "SAFETY": End.FILTERED,
    "RECITATION": End.FILTERED,
    "LANGUAGE": End.FILTERED,
    "BLOCKLIST": End.FILTERED,
    "PROHIBITED_CONTENT": End.FILTERED,
    "SPII": End.FILTERED,
    "MODEL_ARMOR": End.FILTERED,
    "IMAGE_SAFETY": End.FILTERED,
    "IMAGE_PROHIBITED_CONTENT": End.FILTERED,
    "IMAGE_RECITATION": End.FILTERED,
    "NO_IMAGE": End.EMPTY,
}
"""`finishReason` -> how a candidate ended. What is not here (`OTHER`, `MALFORMED_FUNCTION_CALL`) is of no use."""


@dataclass(frozen=True, slots=True)
class Gemini:
    """The content generation API.

    `is_array` says that this caller reads a stream as one JSON array, `is_scored` that it wants the probabilities of
    one token, so that a limit which is reached is what it asked for.
    """

    vendor: str = ""
    is_array: bool = False
    is_scored: bool = False
    surface: ClassVar[str] = "google.generate"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a stream is whole if the last word of every candidate gave its reason."""
        return whole_if_scored(self._read(response), is_scored=self.is_scored)

    def _read(self, response: Response) -> Answer:
        if not is_success(response):
            return Answer(End.ERROR)
        if response.form is Form.STREAM:
            return _read((load_object(event.data) for event in sse.events(response.body)), End.CUT)
        if not array.is_array(response):
            return _read([load_object(response.body)], End.UNREADABLE)
        try:
            chunks = array.chunks_of(response.body)
        except (forms.Inconvertible, UncacheableRequest):
            return Answer(End.UNREADABLE)
        return _read(chunks, End.CUT)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` in the form that this caller wants; its usage is always there."""
        found: Response | None = response
        if array.is_array(response):
            if self.is_array:
                return response
            found = array.to_stream(response)
        asked = Wants(Form.STREAM) if self.is_array else wants
        if found is not None and found.form is not asked.form:
            found = forms.convert(found, asked, stream, usage="")
        return array.to_array(found) if found is not None and self.is_array else found


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body has no contents or its answer would not be JSON."""
    contents = body.get("contents")
    if not is_conversation(contents):
        return None
    path, _, verb = call.path.rstrip("/").rpartition(":")
    call, alt = take_from_query(call, "alt", "$alt")
    wanted = _wanted(verb, alt)
    if wanted is None:
        return None
    form, is_array = wanted
    preview = _last_user_text(contents)
    media: list[str] = []
    ids = Renumbering()
    for i, content in enumerate(objects(contents)):
        _clean_parts(content.get("parts"), f"/contents/{i}/parts", media, ids)
    ids.finish(body)
    base, _, model = path.rpartition("/")
    target = target_named_by_path(call, base, model, origins)
    return ModelCall(
        provider=Gemini(target.place.vendor, is_array, _is_scored(body)),
        request=target.request(Gemini.surface, body, None, media),
        wants=Wants(form, options="array" if is_array else ""),
        refused=("server-tools",) if any(map(_is_server_tool, objects(body.get("tools")))) else (),
        preview=preview,
        max_output_tokens=_limit(body),
    )


def _wanted(verb: str, alt: str) -> tuple[Form, bool] | None:
    """Return the form that path and query ask for, and whether it is an array; None if it is none that we read."""
    is_streamed = f":{verb}" == STREAMED
    if alt in {"", "json"}:
        return Form.JSON, is_streamed
    return (Form.STREAM, False) if is_streamed and alt == "sse" else None


def _clean_parts(parts: JsonValue, path: str, media: list[str], ids: Renumbering) -> None:
    """Fold media and renumber ids in `parts`, and in the parts of a function's response, in place."""
    for j, part in enumerate(as_list(parts)):
        if type(part) is not dict:
            continue
        here = f"{path}/{j}"
        for name in MEDIA:
            holder = part.get(name)
            if type(holder) is dict:
                fold_either_alphabet(holder, "data", f"{here}/{name}", media)
        for name in _IDENTIFIED:
            holder = part.get(name)
            if type(holder) is dict:
                ids.apply(holder, "id")
                _clean_parts(holder.get("parts"), f"{here}/{name}/parts", media, ids)


def _last_user_text(contents: JsonValue) -> str:
    for content in reversed(as_list(contents)):
        if type(content) is dict and content.get("role", "user") == "user":
            text = preview_of(content.get("parts"))
            if text:
                return text
    return ""


def _is_server_tool(tool: JsonObject) -> bool:
    return any(name not in _CLIENT_TOOLS and is_asked(value) for name, value in tool.items())


def _limit(body: JsonObject) -> int | None:
    settings = as_object(body.get("generationConfig") or body.get("generation_config"))
    limit = positive(settings.get("maxOutputTokens") or settings.get("max_output_tokens"))
    candidates = positive(settings.get("candidateCount") or settings.get("candidate_count")) or 1
    return limit and limit * candidates


def _is_scored(body: JsonObject) -> bool:
    settings = as_object(body.get("generationConfig") or body.get("generation_config"))
    limit = settings.get("maxOutputTokens", settings.get("max_output_tokens"))
    asked = (settings.get("responseLogprobs"), settings.get("response_logprobs"))
    return True in asked and is_one_token(limit)


class _Candidate:
    """What has been seen of one candidate."""

    __slots__ = ("has_calls", "has_output", "reason")

    def __init__(self) -> None:
        self.reason: JsonValue = None
        self.has_output = self.has_calls = False

    def absorb(self, candidate: JsonObject) -> None:
        """Take in a candidate, or one piece of it."""
        # The last word counts: early models gave a reason with every piece, which nothing that goes on takes back.
        reason = candidate.get("finishReason") or None
        if reason is not None or stream.goes_on(candidate):
            self.reason = reason
        for part in objects(as_object(candidate.get("content")).get("parts")):
            is_call = is_asked(part.get("functionCall"))
            self.has_calls |= is_call
            self.has_output |= is_call or _is_output(part)

    def end(self, unfinished: End) -> End:
        """Return how this candidate ended; `unfinished` if it gave no reason."""
        if self.reason is None:
            return unfinished
        end = FINISH.get(as_text(self.reason), End.UNREADABLE)
        return End.TOOL_CALLS if end is End.COMPLETE and self.has_calls else end


def _is_output(part: JsonObject) -> bool:
    """Tell whether a part is more than a thought, an empty text or a signature."""
    if part.get("thought") is True:
        return False
    return bool(part.get("text")) or any(
        name in part for name in ("inlineData", "executableCode", "codeExecutionResult")
    )


def _read(chunks: Iterable[JsonObject | None], unfinished: End) -> Answer:
    candidates: dict[int, _Candidate] = {}
    usage: JsonObject = {}
    model = ""
    is_blocked = has_looked_up = False
    for chunk in chunks:
        if chunk is None:
            return Answer(End.UNREADABLE)
        if chunk.get("error") is not None:
            return Answer(End.ERROR)
        usage = as_object(chunk.get("usageMetadata")) or usage
        model = as_text(chunk.get("modelVersion")) or model
        is_blocked |= as_object(chunk.get("promptFeedback")).get("blockReason") is not None
        for index, candidate in _candidates(chunk):
            candidates.setdefault(index, _Candidate()).absorb(candidate)
            has_looked_up |= is_asked(candidate.get("groundingMetadata"))
    end = _end_of(list(candidates.values()), unfinished, is_blocked=is_blocked)
    counted, bill = read_usage(usage)
    if has_looked_up:
        bill = replace(bill, unclear=bill.unclear or "grounding")  # by the prompt or by the query, some are free
    return Answer(end, counted, model, bill)


def _candidates(chunk: JsonObject) -> Iterator[tuple[int, JsonObject]]:
    for candidate in objects(chunk.get("candidates")):
        index = candidate.get("index")  # left out where it is 0
        yield (index if type(index) is int else 0), candidate


def _end_of(candidates: list[_Candidate], unfinished: End, *, is_blocked: bool) -> End:
    if is_blocked:
        return End.FILTERED
    if not candidates:
        return unfinished
    is_empty = not any(candidate.has_output for candidate in candidates)
    return gravest((candidate.end(unfinished) for candidate in candidates), is_empty=is_empty)
