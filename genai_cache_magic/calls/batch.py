"""A call that asks about many things at once, each of which is an entry of its own: what is known of it so far.

The answer to the call itself is stored too, so that asking the same again costs one read. `design/0018-embeddings.md`
says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Usage
from genai_cache_magic.core.options import Samples
from genai_cache_magic.events import Tier
from genai_cache_magic.providers.reading import is_success

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genai_cache_magic.calls.coalesce import Flight
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.model import Account, EntryId, Header, Response
    from genai_cache_magic.entries.entries import Found
    from genai_cache_magic.providers.base import Divides, ModelCall

_MOST_WAITS: Final = 3
"""So often a call waits for others that ask about some of the same things; then it asks for what it still lacks."""


_MOST_TIMES: Final = 32
"""An answer that is stored item by item is held in memory up to so many times the largest that is stored."""

_MOST_SHOWN: Final = 10
"""So many items a message names."""


@dataclass(slots=True)
class Batch:
    """A call of many items on its way. It belongs to one caller.

    Attributes
    ----------
    call
        The call as it was asked.
    ids
        The entry id of each of its items; the same item twice has one id.
    known
        The answers to those items that need not be asked about.
    headers
        What decides whether those are valid.
    outdated
        Entries that are valid by themselves, but the call they would answer was invalidated since they were stored.
    asked
        What is asked about, once that is decided.
    body
        What is sent in the place of the caller's body; None if that is sent itself.
    part, fresh
        What was answered to `body`, and what that says of each item.
    answer
        The answer to the whole call, once it is put together.
    """

    call: ModelCall = field(repr=False)
    division: Divides = field(repr=False)
    ids: tuple[EntryId, ...] = field(repr=False)
    known: dict[EntryId, Response] = field(default_factory=dict, repr=False)
    accounts: dict[EntryId, Account] = field(default_factory=dict, repr=False)
    tier: Tier = Tier.L1
    headers: dict[EntryId, Header] = field(default_factory=dict, repr=False)
    outdated: set[EntryId] = field(default_factory=set, repr=False)
    flights: dict[EntryId, Flight] = field(default_factory=dict, repr=False)
    waits_left: int = _MOST_WAITS
    asked: tuple[EntryId, ...] = field(default=(), repr=False)
    body: bytes | None = field(default=None, repr=False)
    part: Response | None = field(default=None, repr=False)
    fresh: dict[EntryId, Response] = field(default_factory=dict, repr=False)
    answer: Response | None = field(default=None, repr=False)

    def limit_bytes(self, each_bytes: int) -> int:
        """Return how large an answer may be whose items are stored, each of up to `each_bytes` [bytes]."""
        return each_bytes * min(len(self.asked) or len(self.ids), _MOST_TIMES)

    @property
    def missing(self) -> list[EntryId]:
        """What is not known, each once, in order."""
        return [one for one in dict.fromkeys(self.ids) if one not in self.known]

    @property
    def said(self) -> str:
        """How many of its items are known, in words."""
        count = sum(one in self.known for one in self.ids)
        return f"{count:,} of {len(self.ids):,} {self.division.noun} from the cache"

    @property
    def lacking(self) -> str:
        """Which of its items are not known, in words: by their places, counted from 1."""
        places = [place + 1 for place, one in enumerate(self.ids) if one not in self.known]
        shown = ", ".join(map(str, places[:_MOST_SHOWN]))
        more = f" and {len(places) - _MOST_SHOWN:,} more" if len(places) > _MOST_SHOWN else ""
        return f"without number {shown}{more}"

    def places_of(self, entry_ids: Iterable[EntryId]) -> list[int]:
        """Return where each of `entry_ids` stands first."""
        first: dict[EntryId, int] = {}
        for place, one in enumerate(self.ids):
            first.setdefault(one, place)
        return [first[one] for one in entry_ids]

    def take(self, entry_id: EntryId, found: Found) -> None:
        """Note what is stored for an item; raises ``EntryUndecodable``."""
        self.accounts[entry_id] = found.sealed.account()
        self.known[entry_id] = found.response
        self.headers[entry_id] = found.sealed.header
        if found.tier is Tier.L2:
            self.tier = Tier.L2

    def forget(self) -> None:
        """Let go of what is known: it does not go together."""
        self.known.clear()
        self.accounts.clear()
        self.headers.clear()

    def joined(self) -> Response | None:
        """Return the answer that is known altogether; None if something is missing, or does not go together."""
        if self.missing:
            return None
        return self.division.join([self.known[one] for one in self.ids])

    def depart(self, *, may_divide: bool) -> ModelCall:
        """Decide what is asked about: what is missing, if it is less than all and `may_divide`; return that call."""
        missing = self.missing
        if may_divide and len(missing) < len(self.ids) and not self.division.is_fixed:
            places = self.places_of(missing)
            self.asked = tuple(missing)
            self.body = self.division.body_of(places)
            return self.division.call_of(self.call, places)
        self.asked, self.body = self.ids, None
        self.forget()
        return self.call

    def answered(self, response: Response) -> Response:
        """Take what was received; return the answer to the whole call, or what was received if there is none."""
        if self.body is None:
            return response
        self.part = response
        each = self.division.split(response, self.places_of(self.asked))
        if each is None:
            return response
        self.fresh = dict(zip(self.asked, each, strict=True))
        both = {**self.known, **self.fresh}
        self.answer = self.division.join([both[one] for one in self.ids], response)
        return response if self.answer is None else self.answer

    @property
    def is_apart(self) -> bool:
        """Whether what was received is an answer, and could not be put together with what is known."""
        return self.part is not None and self.answer is None and is_success(self.part)

    def saved(self) -> tuple[Usage, Decimal | None]:
        """Return the tokens and the price [USD] of what is known; None is unknown."""
        told = [self.accounts.get(one) for one in self.ids if one in self.known]
        tokens = [None if one is None else one.usage.input_tokens for one in told]
        prices = [None if one is None else one.cost_usd for one in told]
        counted = [n for n in tokens if n is not None]
        priced = [price for price in prices if price is not None]
        asked = sum(counted) if len(counted) == len(tokens) else None
        return Usage(asked, 0), sum(priced, Decimal(0)) if len(priced) == len(prices) else None

    @property
    def model(self) -> str:
        """Who answered what is known."""
        return next((one.model for one in self.accounts.values() if one.model), "")


def is_divided(call: ModelCall, scope: CellScope) -> bool:
    """Tell whether `call` is looked up item by item: not where every call is to have an answer of its own."""
    return call.division is not None and scope.options.samples is not Samples.DISTINCT and not call.refused


def shared_cost(whole: Decimal | None, weights: Sequence[int]) -> list[Decimal | None]:
    """Return a price [USD] in parts as the `weights` are; the parts are exactly as much as the whole."""
    if whole is None or not weights:
        return [None] * len(weights)
    total = sum(weights) or len(weights)
    parts = [whole * (weight if sum(weights) else 1) / total for weight in weights[:-1]]
    return [*parts, whole - sum(parts, Decimal(0))]


def as_old_as(header: Header, others: Iterable[Header]) -> Header | None:
    """Return `header` for what was put together with parts of these `others`; None if they are of two histories.

    It dies with the first of them, whatever makes that one invalid.
    """
    all_of_them = [header, *others]
    if len({one.birth.root for one in all_of_them}) > 1:
        return None
    created_ms = min(one.created_ms for one in all_of_them)
    ends_ms = min(one.created_ms + 1000 * one.ttl_s for one in all_of_them)
    return replace(
        header,
        birth=min((one.birth for one in all_of_them), key=lambda birth: birth.ver),
        created_ms=created_ms,
        ttl_s=max(0, (ends_ms - created_ms) // 1000),
        tags=tuple(sorted({tag for one in all_of_them for tag in one.tags})),
    )
