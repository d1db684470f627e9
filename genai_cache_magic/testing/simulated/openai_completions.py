"""OpenAI's legacy text completions, whole and as chunks."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, InvalidCallError, count_of
from genai_cache_magic.testing.simulated.composing import TEXT_FAULTS, Ending, Said, Turn, compose
from genai_cache_magic.testing.simulated.openai_chat import MOST_CHOICES, chunks, usage, wants_usage
from genai_cache_magic.testing.simulated.text import tokens_of
from genai_cache_magic.testing.simulated.wire import WireApi, openai_error, openai_error_event

if TYPE_CHECKING:
    from collections.abc import Iterator

_FINISH_REASONS = {
    Ending.DONE: "stop",
    Ending.LENGTH: "length",
    Ending.FILTERED: "content_filter",
    Ending.REFUSED: "content_filter",
}
_PROMPT_FIELDS = ("prompt", "suffix")


def answer(call: Call) -> dict[str, Any]:
    """The ``text_completion`` object: for each prompt, `n` choices."""
    said = _said(call)
    choices = [
        {
            "index": index,
            "text": one.text,
            "logprobs": _logprobs(call, tokens_of(one.text)),
            "finish_reason": _FINISH_REASONS[one.ending],
        }
        for index, one in enumerate(said)
    ]
    return {**_envelope(call), "choices": choices, "usage": usage(call.body, _PROMPT_FIELDS, said)}


def stream(call: Call) -> list[bytes]:
    """The same as events; chunks have the object ``text_completion`` too."""
    said = _said(call)
    return chunks(
        _envelope(call),
        [_steps(call, one) for one in said],
        usage(call.body, _PROMPT_FIELDS, said) if wants_usage(call.body) else None,
    )


def _said(call: Call) -> list[Said]:
    samples = count_of(call.body, "n", MOST_CHOICES)
    subjects = [subject for subject in _subjects(call.body.get("prompt")) for _ in range(samples)]
    return [compose(call, Turn(subject), choice) for choice, subject in enumerate(subjects)]


def _subjects(prompt: Any) -> list[str]:
    """The prompts as texts; token ids stand for themselves."""
    match prompt:
        case str():
            return [prompt]
        case [int(), *_]:
            return [str(prompt)]
        case [*several] if several and all(isinstance(one, str | list) for one in several):
            return [one if isinstance(one, str) else str(one) for one in several]
    raise InvalidCallError("'prompt' must be a text, a list of texts, or tokens")


def _envelope(call: Call) -> dict[str, Any]:
    return {
        "id": call.answer_id("cmpl-"),
        "object": "text_completion",
        "created": call.created_s,
        "model": call.model,
        "system_fingerprint": "fp_simulated",
    }


def _steps(call: Call, said: Said) -> Iterator[dict[str, Any]]:
    for piece in tokens_of(said.text):
        yield {"text": piece, "logprobs": _logprobs(call, [piece]), "finish_reason": None}
    yield {"text": "", "logprobs": None, "finish_reason": _FINISH_REASONS[said.ending]}


def _logprobs(call: Call, tokens: list[str]) -> dict[str, Any] | None:
    if not call.body.get("logprobs"):
        return None
    offsets = itertools.accumulate(map(len, tokens), initial=0)
    return {
        "tokens": tokens,
        "token_logprobs": [-0.25] * len(tokens),
        "top_logprobs": [{token: -0.25} for token in tokens],
        "text_offset": list(offsets)[: len(tokens)],
    }


API = WireApi(answer, stream, openai_error_event, openai_error, TEXT_FAULTS)
