"""What a call may cost before it is made: a range, from its text, its limit, and what its model's calls came to before.

A bill can be foretold no better than the answer's length. Input is counted by its text, since tokenizers differ by
model and none is worth a download; output is bounded by the request's own limit where it sets one, and else guessed
from answers of the past.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - of a field
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_cache_magic.calls.pricing import asked_terms, cost_usd
from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Usage
from genai_cache_magic.providers.base import Answer, Bill, End

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.providers.base import ModelCall

_BYTES_A_TOKEN: Final = (5, 4, 2)
"""Bytes of text that make a token, at most, as a rule, and at least (of code, and of scripts beside the Latin one)."""
_MEDIA_TOKENS: Final = (80, 800, 2_500)
"""What an image or another file of unknown size counts [tokens], likewise."""
_OUTPUT_TOKENS: Final = (1, 250, 1_000)
"""How long answers are of which nothing is known [tokens]."""
_OF_THE_PAST: Final = 4
"""An answer is hardly longer than so many times those of the past on average."""
_LEAST_PAST: Final = 1
_WITHOUT_TEXT: Final = frozenset({"embeddings", "embed", "rerank"})
"""Parts of a surface's name whose answers hold no tokens that anybody bills."""


class Past(NamedTuple):
    """What calls of a model came to before, as far as it is known.

    `answers` were told their tokens; of `priced` calls the price is known, `spent_usd` in all.
    """

    answers: int = 0
    output_tokens: int = 0
    priced: int = 0
    spent_usd: Decimal = Decimal(0)


NO_PAST: Final = Past()


@dataclass(frozen=True, slots=True)
class Range:
    """The least, the expected and the most; prices [USD] are None where no list and no call before tells one."""

    least: Decimal | None
    expected: Decimal | None
    most: Decimal | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one call may come to.

    Attributes
    ----------
    input_tokens, output_tokens
        As expected.
    usd
        What it may cost.
    is_bounded
        Whether the request itself sets a limit to its answer.
    """

    input_tokens: int
    output_tokens: int
    usd: Range
    is_bounded: bool


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What requests would come to.

    Attributes
    ----------
    hits, misses
        How many are in the cache, and how many would be asked. Of equal ones that are not in it one is asked.
    input_tokens, output_tokens
        Of those that would be asked, as expected.
    least_usd, expected_usd, most_usd
        What they may cost, as far as prices are known [USD].
    unknown
        How many of them have a price that nobody knows.
    unbounded
        How many of them set no limit to their answer: those may cost more than the most.
    left_out
        How many more of a run file can't be asked again, by the reason.
    """

    hits: int = 0
    misses: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    least_usd: Decimal = Decimal(0)
    expected_usd: Decimal = Decimal(0)
    most_usd: Decimal = Decimal(0)
    unknown: int = 0
    unbounded: int = 0
    left_out: Mapping[str, int] = field(repr=False, default_factory=dict)

    def plus(self, one: Estimate) -> Foreseen:
        """Return this and one call more that would be asked."""
        usd = one.usd
        known = usd.least is not None and usd.expected is not None and usd.most is not None
        return replace(
            self,
            misses=self.misses + 1,
            input_tokens=self.input_tokens + one.input_tokens,
            output_tokens=self.output_tokens + one.output_tokens,
            least_usd=self.least_usd + (usd.least or 0),
            expected_usd=self.expected_usd + (usd.expected or 0),
            most_usd=self.most_usd + (usd.most or 0),
            unknown=self.unknown + (not known),
            unbounded=self.unbounded + (not one.is_bounded),
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD]."""
        numbers = ("hits", "misses", "input_tokens", "output_tokens", "unknown", "unbounded")
        money = {name: f"{getattr(self, name):f}" for name in ("least_usd", "expected_usd", "most_usd")}
        return {**{name: getattr(self, name) for name in numbers}, **money, "left_out": dict(self.left_out)}


NOT_SENT: Final = "dry run"
"""Why a call that was only looked up was not made, in its record."""

UNKNOWN: Final = Estimate(0, 0, Range(None, None, None), is_bounded=False)
"""Of a call of which nothing can be foretold."""


def estimate(call: ModelCall, past: Callable[[str], Past] | None, *, now_ms: int) -> Estimate:
    """Return what `call` may come to at the prices of `now_ms` [ms since the epoch].

    Parameters
    ----------
    past
        Tells what calls of a model came to before; None where nobody knows.
    """
    before = NO_PAST if past is None else past(call.request.model)
    received = _input_tokens(call)
    answered = _output_tokens(call, before)
    listed = [_listed(call, *tokens, now_ms=now_ms) for tokens in zip(received, answered, strict=True)]
    return Estimate(received[1], answered[1], _priced(listed, before), call.max_output_tokens is not None)


def _priced(listed: list[Decimal | None], before: Past) -> Range:
    """Return the price by the list, else by what is known of calls before: of gateways that tell their own bill."""
    if None not in listed and (any(listed) or not before.spent_usd):
        return Range(*listed)
    if not before.priced:
        return Range(None, None, None)
    average = before.spent_usd / before.priced
    return Range(average / _OF_THE_PAST, average, average * _OF_THE_PAST)


def _input_tokens(call: ModelCall) -> list[int]:
    size, media = len(dumps(call.request.body)), len(call.request.media)
    return [size // each + media * much for each, much in zip(_BYTES_A_TOKEN, _MEDIA_TOKENS, strict=True)]


def _output_tokens(call: ModelCall, before: Past) -> list[int]:
    limit = call.max_output_tokens
    if limit == 0 or _WITHOUT_TEXT.intersection(call.request.surface.split(".")):
        return [0, 0, 0]
    least, usual, most = _OUTPUT_TOKENS
    if before.answers >= _LEAST_PAST:
        usual = max(1, before.output_tokens // before.answers)
        most = max(most, usual * _OF_THE_PAST)
    answers = _answers(call)
    if limit is not None:  # holds for all answers together
        return [least, min(usual * answers, limit), limit]
    return [least * answers, usual * answers, most * answers]


def _answers(call: ModelCall) -> int:
    """Return how many answers the request asks for."""
    number = call.request.body.get("n")
    return number if type(number) is int and 0 < number <= 1_000 else 1  # noqa: PLR2004 - no API gives more


def _listed(call: ModelCall, received: int, answered: int, *, now_ms: int) -> Decimal | None:
    answer = Answer(End.COMPLETE, Usage(received, answered), bill=Bill(terms=asked_terms(call)))
    return cost_usd(call, answer, now_ms=now_ms)
