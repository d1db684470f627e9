"""What one token of each kind costs, learnt from the price list itself, so that it is not asked of every answer.

The list works out a price from its units, which takes a hundred times as long as to multiply. Where a price is the sum
of so much for each token, it follows from what the list says of one token more of each kind: exactly, in decimals. That
is learnt of a price that is asked for again, and only where what comes of it is what the list said. A price with tiers
is learnt below its first one. What the list may refuse, or count otherwise, is left to it.
"""

from __future__ import annotations

import copy
from contextlib import suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_INPUT: Final = "input_tokens"
_OUTPUT: Final = "output_tokens"
_REASONING: Final = "output_reasoning_tokens"
_SAMPLE: Final = {_INPUT: 1000, _OUTPUT: 1000, "cache_read_tokens": 100, "cache_write_tokens": 100, _REASONING: 100}
"""Kinds of token that are learnt, each with a number of which there can be one more."""

_MOST_TOKENS: Final = 10**12
"""Beyond, a sum might have more digits than a decimal keeps."""

_MOST_KNOWN: Final = 256

_NOT_AS_EXPECTED: Final = (AttributeError, ImportError, LookupError, TypeError, ValueError)
"""Raised where a release of the list is built differently, or it was brought up to date meanwhile: nothing is learnt
then."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A price of the list, and what is known of it.

    Attributes
    ----------
    snapshot, model, price
        The list, its model, and the price that this one had.
    said
        What that price said when it was learnt: whoever has prices of their own may have changed it in its place.
    rates
        Kind of token -> price of one [USD]; None if it was asked for once, or can't be learnt.
    most
        So many tokens of input it holds for.
    """

    snapshot: Any = field(repr=False)
    model: Any = field(repr=False)
    price: Any = field(repr=False)
    said: Mapping[str, Any] = field(repr=False)
    rates: Mapping[str, Decimal] | None
    most: int = _MOST_TOKENS


class Rates:
    """The rates that were learnt, of one process. Safe to share between threads: each operation is atomic."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | None, str, tuple[str, ...]], _Known] = {}

    def usd(self, provider: str | None, name: str, counts: Mapping[str, int], at: Any) -> Decimal | None:
        """Return what the list would say of `counts` at its standard terms [USD]; None if it has to be asked."""
        known = self._known.get((provider, name, tuple(counts)))
        if known is None or known.rates is None or not _are_plain(counts) or counts[_INPUT] > known.most:
            return None
        if known.snapshot is not _list() or known.model.get_prices(at) is not known.price:
            return None
        if vars(known.price) != known.said:
            return None
        return _sum(known.rates, counts)

    def learn(
        self,
        provider: str | None,
        name: str,
        counts: Mapping[str, int],
        found: Any,
        ask: Callable[[dict[str, int]], Any],
    ) -> None:
        """Take note of what was `found` for `counts`, all of which have a price; the second time, learn its rates.

        `ask` asks the list about other counts of the same kinds.
        """
        if not counts.keys() <= _SAMPLE.keys() or not _are_plain(counts) or 0 in counts.values():
            return
        with suppress(*_NOT_AS_EXPECTED):
            self._note((provider, name, tuple(counts)), counts, found, ask)

    def _note(
        self,
        key: tuple[str | None, str, tuple[str, ...]],
        counts: Mapping[str, int],
        found: Any,
        ask: Callable[..., Any],
    ) -> None:
        snapshot, price = _list(), found.model_price
        if not all(map(_is_of_the_list, (snapshot, found.model, price))):
            return
        known = self._known.get(key)
        is_same = known is not None and known.snapshot is snapshot and known.price is price
        if known is None or not is_same or vars(price) != known.said:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = _Known(snapshot, found.model, price, copy.deepcopy(vars(price)), None)
        elif known.rates is None and known.most:
            self._known[key] = _learnt(known, counts, Decimal(found.total_price), ask)


def _learnt(known: _Known, counts: Mapping[str, int], total: Decimal, ask: Callable[[dict[str, int]], Any]) -> _Known:
    """Return `known` with its rates, or as one that can't be learnt: its `most` is 0."""
    starts = [tier.start for price in known.said.values() for tier in getattr(price, "tiers", ())]
    most = min((_MOST_TOKENS, *starts))
    sample = {kind: _SAMPLE[kind] for kind in counts}
    if most <= sample[_INPUT]:
        return replace(known, most=0)
    first, *others = [ask(one) for one in (sample, *({**sample, kind: n + 1} for kind, n in sample.items()))]
    if any(one.model_price is not known.price for one in (first, *others)):
        return known  # of another list, or of another hour
    at_first = Decimal(first.total_price)
    rates = {kind: Decimal(one.total_price) - at_first for kind, one in zip(sample, others, strict=True)}
    is_exact = _sum(rates, sample) == at_first and (counts[_INPUT] > most or _sum(rates, counts) == total)
    return replace(known, rates=rates, most=most) if is_exact else replace(known, most=0)


def _is_of_the_list(part: Any) -> bool:
    """Tell whether a `part` of a price works as genai-prices has it: a class of somebody else's may count otherwise."""
    return type(part).__module__.partition(".")[0] == "genai_prices"


def _are_plain(counts: Mapping[str, int]) -> bool:
    """Tell whether the parts of `counts` are within their whole, as the list wants them."""
    asked, said = counts.get(_INPUT, -1), counts.get(_OUTPUT, -1)
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    return 0 <= cached <= asked < _MOST_TOKENS and 0 <= counts.get(_REASONING, 0) <= said < _MOST_TOKENS


def _sum(rates: Mapping[str, Decimal], counts: Mapping[str, int]) -> Decimal:
    return sum((rate * counts[kind] for kind, rate in rates.items()), Decimal(0))


def _list() -> Any:
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


rates = Rates()
"""One per process, as the price list is."""
