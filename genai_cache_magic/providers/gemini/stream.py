"""Gemini's answers in both forms: one ``GenerateContentResponse`` <-> its chunks.

Shape of a stream: every chunk is an answer of its own, with the next parts of each candidate. A text goes on where a
chunk begins with plain text of the kind that the last one ended with; parts that come in one chunk are parts of the
whole. A candidate's last piece gives its reason and all else that is known of it. All chunks state `_HEAD` and what
was used so far, of which the last word counts.

A part with a signature stays as it came: Google asks to send it back so, never joined with its neighbours.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.providers.forms import (
    Inconvertible,
    event,
    index_of,
    joined,
    load,
    object_of,
    objects_of,
    only,
    pieces,
    text_of,
)
from genai_cache_magic.providers.reading import as_object, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.providers.formats.sse import Event

_HEAD: Final = ("createTime", "modelVersion", "modelStatus", "responseId")
_ANSWER: Final = ("candidates", "promptFeedback", "usageMetadata", *_HEAD)

_ASKED: Final = (
    "promptTokenCount",
    "promptTokensDetails",
    "cachedContentTokenCount",
    "cacheTokensDetails",
    "trafficType",
)
"""Fields of `usageMetadata` that are known before anything is said."""

_CANDIDATE: Final = (
    "index",
    "content",
    "finishReason",
    "finishMessage",
    "safetyRatings",
    "citationMetadata",
    "groundingMetadata",
    "groundingAttributions",
    "urlContextMetadata",
    "tokenCount",
    "avgLogprobs",
    "logprobsResult",
)

_PART: Final[Mapping[str, tuple[str, ...]]] = {
    "functionCall": ("id", "name", "args"),  # one that comes in pieces has more
    "executableCode": ("id", "language", "code"),
    "codeExecutionResult": ("id", "outcome", "output"),
    "inlineData": ("mimeType", "data", "displayName"),
    "fileData": ("mimeType", "fileUri", "displayName"),
}
"""What a part may hold beside text, and the fields of that."""

_BESIDE: Final = ("text", "thought", "thoughtSignature", "partMetadata", "videoMetadata", "mediaResolution")

_PIECEMEAL: Final = ("executableCode", "codeExecutionResult", "inlineData")
"""What could come in pieces as text does, though nobody says how."""


def to_events(answer: JsonObject) -> Iterator[Event]:
    """Yield the chunks that say `answer`; only the last states all of its usage."""
    head: JsonObject = {name: answer[name] for name in _HEAD if name in answer}
    once: JsonObject = {name: answer[name] for name in ("promptFeedback",) if name in answer}
    told: JsonObject = {name: object_of(answer[name]) for name in ("usageMetadata",) if name in answer}
    asked: JsonObject = {n: v for n, v in as_object(told.get("usageMetadata")).items() if n in _ASKED}
    turns = list(zip_longest(*map(_steps, objects_of(answer.get("candidates", []))))) or [()]
    for number, turn in enumerate(turns, 1):
        said: JsonObject = {"candidates": [s for s in turn if s is not None]} if "candidates" in answer else {}
        usage: JsonObject = told if number == len(turns) else {"usageMetadata": asked} if asked else {}
        yield event({**said, **once, **usage, **head})
        once = {}


def _steps(candidate: JsonObject) -> Iterator[JsonObject]:
    """Yield what the chunks say of one candidate."""
    content = object_of(candidate.get("content", {}))
    if "parts" not in content:
        yield candidate
        return
    place: JsonObject = {"index": candidate["index"]} if "index" in candidate else {}
    *early, last = _groups(objects_of(content["parts"]))
    for group in early:
        yield {"content": {**content, "parts": group}, **place}
    yield {**candidate, "content": {**content, "parts": last}}


def _groups(parts: list[JsonObject]) -> Iterator[list[JsonValue]]:
    """Yield `parts` as the chunks bring them: a part that could be taken for more of the one before comes with it."""
    group: list[JsonValue] = []
    before: JsonObject = {}
    for part in parts:
        if before and not (_is_nothing(part) or _goes_on(before, part)):
            yield group
            group = []
        said: list[JsonObject] = [{**part, "text": p} for p in pieces(_text(part))] if _is_plain(part) else []
        first, *rest = said or [part]
        group.append(first)
        for piece in rest:
            yield group
            group = [piece]
        before = part
    yield group


# --- parts


def goes_on(candidate: JsonObject) -> bool:
    """Tell whether a piece of a candidate says more; some servers let an empty one follow the reason."""
    parts = as_object(candidate.get("content")).get("parts")
    return type(parts) is list and any(part not in _NOTHING for part in parts)


_NOTHING: Final[tuple[JsonObject, ...]] = ({}, {"text": ""})


def _is_plain(part: JsonObject) -> bool:
    """Tell whether `part` is a text or a thought and nothing else, such as may come in pieces."""
    return "text" in part and part.keys() <= {"text", "thought"} and type(part.get("thought", False)) is bool


def _is_nothing(part: JsonObject) -> bool:
    """Tell whether `part` adds nothing to those before it; many a stream ends with such a one."""
    return _is_plain(part) and not _text(part)


def _goes_on(before: JsonObject, part: JsonObject) -> bool:
    """Tell whether `part`, at the beginning of a chunk, could be more of the part before it."""
    if _is_plain(before) and _is_plain(part):
        return before.get("thought") is part.get("thought")
    return any(name in before and name in part and not _is_picture(part) for name in _PIECEMEAL)


def _is_picture(part: JsonObject) -> bool:
    return as_text(as_object(part.get("inlineData")).get("mimeType")).startswith("image/")


def _text(part: JsonObject) -> str:
    return text_of(part.get("text"))


def _known(part: JsonObject) -> JsonObject:
    """Return `part`, all of which is known."""
    only(part, *_BESIDE, *_PART)
    for name in _PART.keys() & part.keys():
        only(object_of(part[name]), *_PART[name])
    return part


# --- and back


def to_answer(events: Iterable[Event]) -> JsonObject:
    """Return the answer that the chunks of a whole stream say."""
    answer: JsonObject = {}
    usage: JsonObject = {}
    candidates: dict[int, _Candidate] = {}
    is_listed = False
    for one in events:
        if one.name:
            raise Inconvertible("event")
        chunk = only(load(one.data), *_ANSWER)
        is_listed |= "candidates" in chunk
        said = objects_of(chunk.pop("candidates", []))
        for index, candidate in zip(_places(said), said, strict=True):
            candidates.setdefault(index, _Candidate()).absorb(candidate)
        usage = object_of(chunk.pop("usageMetadata", {})) or usage
        _take(answer, chunk)
    if not candidates and not as_object(answer.get("promptFeedback")).get("blockReason"):
        raise Inconvertible("cut")
    if candidates and max(candidates) >= len(candidates):
        raise Inconvertible("index")
    listed: JsonObject = {"candidates": [candidates[i].end() for i in sorted(candidates)]} if is_listed else {}
    return {**listed, **answer, **({"usageMetadata": usage} if usage else {})}


def _places(candidates: list[JsonObject]) -> list[int]:
    """Return the places of a chunk's candidates, left out where it is the first; no two are at one place."""
    places = [index_of(candidate.get("index", 0)) for candidate in candidates]
    if len({*places}) < len(places):
        raise Inconvertible("index")
    return places


def _take(into: JsonObject, fields: JsonObject) -> None:
    """Take `fields` into `into`: what is said again must say the same, or all of it and more."""
    for name, value in fields.items():
        # Its spelling first, which no depth of nesting survives that a walk would not.
        if name in into and dumps(value) != dumps(into[name]) and not _covers(value, into[name]):
            raise Inconvertible("conflict")
        into[name] = value


def _covers(later: JsonValue, earlier: JsonValue) -> bool:
    """Tell whether `later` says all that `earlier` says, as metadata do that grow from chunk to chunk."""
    if type(later) is dict and type(earlier) is dict:
        return all(name in later and _covers(later[name], value) for name, value in earlier.items())
    if type(later) is list and type(earlier) is list:
        return len(later) >= len(earlier) and all(map(_covers, later, earlier))
    return earlier is None or (type(later) is type(earlier) and later == earlier)


class _Candidate:
    """What has been said of one candidate."""

    __slots__ = ("_content", "_fields", "_parts")

    def __init__(self) -> None:
        self._fields: JsonObject = {}
        self._content: JsonObject | None = None
        # Each part with the pieces of its text, if it may go on.
        self._parts: list[tuple[JsonObject, list[str]]] | None = None

    def absorb(self, said: JsonObject) -> None:
        """Take in what one chunk says of it."""
        only(said, *_CANDIDATE)
        # The last word counts: early models gave a reason, and ratings, with every piece.
        if said.get("finishReason") or goes_on(said):
            self._fields.pop("finishReason", None)
        elif "finishReason" in said:
            del said["finishReason"]
        if "safetyRatings" in said:
            self._fields.pop("safetyRatings", None)
        if "content" in said:
            self._hear(object_of(said.pop("content")))
        _take(self._fields, said)

    def _hear(self, content: JsonObject) -> None:
        only(content, "parts", "role")
        if self._content is None:
            self._content = {}
        if "parts" in content:
            parts = objects_of(content.pop("parts"))
            self._say(parts)
        _take(self._content, content)

    def _say(self, parts: list[JsonObject]) -> None:
        if self._parts is None:
            self._parts = []
        if parts and self._parts:
            before, texts = self._parts[-1]
            if _goes_on(before, parts[0]):
                if not texts:
                    raise Inconvertible("pieces")
                texts.append(_text(parts.pop(0)))
            elif _is_nothing(parts[0]):
                del parts[0]
        self._parts += [(_known(part), [_text(part)] if _is_plain(part) else []) for part in parts]

    def end(self) -> JsonObject:
        """Return the candidate."""
        text_of(self._fields.get("finishReason"))
        if self._content is None:
            return self._fields
        if self._parts is None:
            return {"content": self._content, **self._fields}
        parts: list[JsonValue] = [{**part, "text": joined(texts)} if texts else part for part, texts in self._parts]
        return {"content": {"parts": parts, **self._content}, **self._fields}
