"""Answers made of ``choices``: chat and completions of everything OpenAI-compatible, in both forms."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import Answer, End
from genai_cache_magic.providers.billing import read_openai
from genai_cache_magic.providers.fields import is_one_token, is_score
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.reading import (
    as_list,
    as_object,
    as_text,
    gravest,
    is_success,
    load_answer,
    load_object,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response
    from genai_cache_magic.providers.base import Wants

# What servers of this family give as `finish_reason`. A word that is not here is not understood, and what is
# not understood is not stored.
FINISH: Final = {
    "stop": End.COMPLETE,
    "eos": End.COMPLETE,  # Together
    "eos_token": End.COMPLETE,  # text-generation-inference
    "end_turn": End.COMPLETE,
    "stop_sequence": End.COMPLETE,
    "tool_calls": End.TOOL_CALLS,
    "tool_use": End.TOOL_CALLS,
    "function_call": End.TOOL_CALLS,
    "length": End.TRUNCATED,
    "max_tokens": End.TRUNCATED,
    "model_length": End.TRUNCATED,  # Mistral: the context window is full
    "content_filter": End.FILTERED,
    "safety": End.FILTERED,
    "recitation": End.FILTERED,
    "error": End.ERROR,  # OpenRouter, Mistral
    "insufficient_system_resource": End.ERROR,  # DeepSeek
    "abort": End.CUT,  # vLLM
}

# Where a choice's output lies, in a message, a delta or a text completion. Reasoning alone is no output.
_OUTPUT: Final = ("content", "tool_calls", "text", "function_call", "audio", "images")
_CALLS: Final = ("tool_calls", "function_call")

_FOUND: Final = ("citations", "search_results", "search_info")
"""Fields of an answer that hold what a search found."""

_SEARCHED: Final = "a search"

# Cut out of the text, so that the rest of it stays byte for byte. Within a JSON text the quotes would be escaped.
_NULL_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null(?=\s*[,}])')


_SCORES: Final = ("logprobs", "top_logprobs", "prompt_logprobs")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the request says of its answer's end.

    Attributes
    ----------
    count
        How many choices there must be where nothing else tells that a stream is whole.
    usage
        Whether the caller wants a stream to tell the tokens: once it does, nothing follows that anyone waits for.
    is_scored
        Whether the caller wants probabilities of one token, or its own text back: then a limit that is reached, and
        an empty text, are what it asked for.
    """

    count: int = 1
    usage: bool = False
    is_scored: bool = False


ONE: Final = Asked()
"""One choice, as long as it likes."""


def asked_in(body: JsonObject, *, count: int, usage: bool) -> Asked:
    """Return what `body` says of its answer's end."""
    limits = [body.get(name) for name in ("max_completion_tokens", "max_tokens")]
    is_scored = any(is_score(body.get(name)) for name in _SCORES) and any(map(is_one_token, limits))
    return Asked(count, usage, is_scored or body.get("echo") is True)


class _Choice:
    """What has been seen of one choice."""

    __slots__ = ("has_calls", "has_output", "has_refusal", "has_scores", "reason")

    def __init__(self) -> None:
        self.reason: JsonValue = None
        self.has_output = self.has_calls = self.has_refusal = self.has_scores = False

    def absorb(self, choice: JsonObject) -> None:
        """Take in one choice of an answer, or one piece of it."""
        part = as_object(choice.get("delta") or choice.get("message")) or choice
        self.has_output |= any(part.get(field) for field in _OUTPUT)
        self.has_calls |= any(part.get(field) for field in _CALLS)
        self.has_refusal |= bool(part.get("refusal"))
        self.has_scores |= any(choice.get(field) for field in _SCORES)
        # Some servers say null or "" in what follows the reason.
        self.reason = choice.get("finish_reason") or self.reason

    def end(self, unfinished: End) -> End:
        """Return how this choice ended; `unfinished` if it gave no reason."""
        if self.reason is None:
            return unfinished
        end = FINISH.get(as_text(self.reason).lower(), End.UNREADABLE)
        if end in {End.COMPLETE, End.TOOL_CALLS}:
            return End.REFUSAL if self.has_refusal else End.TOOL_CALLS if self.has_calls else End.COMPLETE
        return end


def read(response: Response, vendor: str = "", asked: Asked = ONE) -> Answer:
    """Read an answer made of choices, served by `vendor`.

    A stream is whole at ``[DONE]``, and without it once every choice has its reason and either the body came to its
    end or the tokens, if they were asked for, are counted.
    """
    is_streamed = response.form is Form.STREAM
    return _read_stream(response, vendor, asked) if is_streamed else _read_json(response, vendor, asked)


def render(response: Response, wants: Wants) -> Response | None:
    """Return `response`, in its own form, with the usage event that this caller asked for or without it.

    None if it has another form, or lacks the usage that is asked for.
    """
    if response.form is not wants.form:
        return None
    if response.form is not Form.STREAM:
        return response
    if not wants.usage:
        return replace(response, body=b"".join(_without_usage(response.body)))
    asked_for = any(as_object(chunk.get("usage")) for chunk in _chunks(response.body) if chunk is not None)
    return response if asked_for else None


def _read_json(response: Response, vendor: str, asked: Asked) -> Answer:
    answer = load_answer(response)
    if isinstance(answer, Answer):
        return answer
    listed = answer.get("choices")
    if type(listed) is not list or not all(type(choice) is dict for choice in listed):
        return Answer(End.UNREADABLE)
    choices = [_Choice() for _ in listed]
    for choice, part in zip(choices, listed, strict=True):
        choice.absorb(as_object(part))
    usage = answer.get("usage") or _usage_within(listed)
    told = read_openai(usage, vendor, tier=answer.get("service_tier"), headers=response.headers, fee=_fee_of(answer))
    end = _end_of(choices, asked, unfinished=End.UNREADABLE)
    return Answer(end, told.usage, as_text(answer.get("model")), told.bill)


def _read_stream(response: Response, vendor: str, asked: Asked) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    choices: dict[int, _Choice] = {}
    usage: JsonValue = None
    tier: JsonValue = None
    model = fee = ""
    end = End.CUT
    is_whole = is_counted = False
    for event in sse.events(response.body):
        if event.data == sse.DONE:
            is_whole = True
            break
        chunk = load_object(event.data)
        if chunk is None:
            return Answer(End.UNREADABLE)
        if chunk.get("error") is not None or event.name == b"error":
            return Answer(End.ERROR)
        listed = as_list(chunk.get("choices"))
        counted = chunk.get("usage") or as_object(chunk.get("x_groq")).get("usage") or _usage_within(listed)
        usage = counted or usage
        tier = chunk.get("service_tier") or tier
        fee = fee or _fee_of(chunk)
        model = as_text(chunk.get("model")) or model
        for choice in listed:
            part = as_object(choice)
            index = part.get("index")
            choices.setdefault(index if type(index) is int else 0, _Choice()).absorb(part)
        is_counted = asked.usage and bool(counted) and _have_reasons(choices.values())
    if is_whole or ((response.has_ended or is_counted) and len(choices) >= asked.count):
        # A proxy may close an aborted stream in good form, so a choice without its reason is cut too.
        end = _end_of(list(choices.values()), asked, unfinished=End.CUT)
    told = read_openai(usage, vendor, tier=tier, headers=response.headers, fee=fee)
    return Answer(end, told.usage, model, told.bill)


def _fee_of(answer: JsonObject) -> str:
    """Return that an answer, or a piece of one, tells of a search, which costs more than its tokens; else nothing."""
    if any(answer.get(name) for name in _FOUND):
        return _SEARCHED
    for choice in map(as_object, as_list(answer.get("choices"))):
        part = as_object(choice.get("delta") or choice.get("message"))
        if any(as_object(note).get("type") == "url_citation" for note in as_list(part.get("annotations"))):
            return _SEARCHED
    return ""


def _usage_within(choices: list[JsonValue]) -> JsonValue:
    """Return the usage that a choice carries, as Moonshot tells it in the last chunk of a stream."""
    told = (as_object(as_object(choice).get("usage")) for choice in choices)
    return next((usage for usage in told if usage), None)


def _have_reasons(choices: Iterable[_Choice]) -> bool:
    return all(choice.reason is not None for choice in choices)


def _end_of(choices: list[_Choice], asked: Asked, *, unfinished: End) -> End:
    is_empty = not any(choice.has_output or choice.has_refusal for choice in choices)
    end = gravest((choice.end(unfinished) for choice in choices), is_empty=is_empty)
    is_wanted = end is End.TRUNCATED or (end is End.EMPTY and any(choice.has_scores for choice in choices))
    return End.COMPLETE if asked.is_scored and is_wanted else end


def _chunks(recording: bytes) -> Iterator[JsonObject | None]:
    """Yield the JSON object of each event of a stream, None for an event that has none."""
    return (load_object(event.data) for event in sse.events(recording))


def _without_usage(recording: bytes) -> Iterator[bytes]:
    """Yield the blocks of a stream without its usage event, and without the nulls that announced it."""
    for block in sse.blocks(recording):
        event = sse.parse(block) if b'"usage"' in block else None
        chunk = load_object(event.data) if event else None
        if chunk is None or "usage" not in chunk:
            yield block
        elif chunk["usage"] is None:
            yield _NULL_USAGE.sub(b"", block)
        elif chunk.get("choices") != []:
            yield block  # usage beside output comes unasked, so it stays
