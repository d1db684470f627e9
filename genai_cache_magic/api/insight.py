"""How a cache is used, and what could be otherwise: counted from the books, the catalogue and the statistics."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.core.model import VALUE, EntryId
from genai_cache_magic.entries.growth import growth
from genai_cache_magic.ledger.accounts import usd
from genai_cache_magic.ledger.advice import Facts, KnownEntry, advise
from genai_cache_magic.ledger.statistics import REASONS, Measure, latency_of
from genai_cache_magic.ledger.usage import Period, today
from genai_cache_magic.settings.units import parse_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import date
    from decimal import Decimal

    from genai_cache_magic.entries.growth import Growth
    from genai_cache_magic.entries.listing.catalogue import Catalogue
    from genai_cache_magic.entries.listing.holdings import Holding
    from genai_cache_magic.ledger.advice import Advice
    from genai_cache_magic.ledger.statistics import Measured
    from genai_cache_magic.ledger.usage import Booked, Ledger, UsageRow

_TIERS: Final = (("L1", Measure.L1), ("L2", Measure.L2), ("run file", Measure.FILE), ("model", Measure.MODEL))
_PERCENTILES: Final = (0.5, 0.9, 0.99)
_POPULAR: Final = 10
_FEW: Final = 2_000
"""So many answers are counted by model, tag and run without being asked for."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long calls took that were answered from one place [s]: half, nine of ten, 99 of 100 were faster."""

    tier: str
    calls: int
    p50_s: float
    p90_s: float
    p99_s: float


@dataclass(frozen=True, slots=True)
class MissReason:
    """Why a model was asked (`ledger.statistics.REASONS`), how often, and what is known of what that cost [USD]."""

    why: str
    calls: int
    spent_usd: Decimal
    unknown: int


@dataclass(frozen=True, slots=True)
class Popular:
    """An answer that is read often, on this machine; `saved_usd` is what is known of it [USD]."""

    name: str
    tags: tuple[str, ...]
    reads: int
    saved_usd: Decimal


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a cache was used between two days on this machine, and which answers are read most.

    Attributes
    ----------
    models
        Hits and misses of each model.
    samples
        Answers that were stored, by which sample of their request they are: 0 for the first.
    holdings
        How many answers there are of each model, tag and run, and the room that they take; None: not counted.
    """

    namespace: str
    since: date | None
    until: date
    hits: int
    misses: int
    models: tuple[UsageRow, ...] = field(repr=False)
    reasons: tuple[MissReason, ...] = field(repr=False)
    latencies: tuple[Latency, ...] = field(repr=False)
    samples: Mapping[int, int] = field(repr=False)
    popular: tuple[Popular, ...] = field(repr=False)
    holdings: tuple[Holding, ...] | None = field(repr=False)

    @property
    def hit_rate(self) -> float | None:
        """The part of calls that were answered from the cache; None if there were none."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    @property
    def samples_per_request(self) -> float | None:
        """How many answers were stored of a request, in the mean; None if none were."""
        first = self.samples.get(0, 0)
        return sum(self.samples.values()) / first if first else None

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD]."""
        return {
            "namespace": self.namespace,
            "since": None if self.since is None else self.since.isoformat(),
            "until": self.until.isoformat(),
            "hits": self.hits,
            "misses": self.misses,
            "hit_rate": self.hit_rate,
            "models": [{"model": row.model, "hits": row.hits, "misses": row.misses} for row in self.models],
            "reasons": [{**asdict(one), "spent_usd": f"{one.spent_usd:f}"} for one in self.reasons],
            "latencies": [asdict(one) for one in self.latencies],
            "samples": {str(number): count for number, count in self.samples.items()},
            "samples_per_request": self.samples_per_request,
            "popular": [{**asdict(one), "saved_usd": f"{one.saved_usd:f}"} for one in self.popular],
            "holdings": None if self.holdings is None else [asdict(one) for one in self.holdings],
        }


class Insight:
    """What is asked of one cache. Nothing here changes it.

    Parameters
    ----------
    ttl_s, size_limit
        The settings in force, the second as it is written.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalogue: Catalogue,
        *,
        ttl_s: int,
        size_limit: str,
        now_ms: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        assert ledger.books.statistics is not None
        self._counted = ledger.books.statistics
        self._catalogue = catalogue
        self._ttl_s = ttl_s
        self._size_limit = size_limit
        self._now_ms = now_ms

    def statistics(
        self, since: object = "30d", until: object = None, *, has_holdings: bool | None = None
    ) -> Statistics:
        """Return how the cache was used between two days, given as to `Cache.usage`.

        Parameters
        ----------
        has_holdings
            Whether to count what is kept of each model, tag and run, which takes longer the more is kept; None:
            where that is few.

        Raises
        ------
        ConfigurationError
            A day is none.
        StoreUnavailable
            What was counted can't be read.
        """
        period = self._period(since, until)
        return self._statistics(self._ledger.booked(period), self._measured(period), has_holdings=has_holdings)

    def both(self, booked: Booked) -> tuple[Statistics, tuple[Advice, ...]]:
        """Return `statistics` and `optimize` of the same calls, which are this machine's; without what is kept.

        Raises ``StoreUnavailable`` as these.
        """
        measured = self._measured(booked.period)
        return self._statistics(booked, measured, has_holdings=False), self._advice(measured)

    def _period(self, since: object, until: object) -> Period:
        return Period.of(since, until, today=today(self._now_ms()))

    def _statistics(self, booked: Booked, measured: Sequence[Measured], *, has_holdings: bool | None) -> Statistics:
        period, used = booked.period, booked.by(("model",))
        if has_holdings is None:
            has_holdings = self._catalogue.rows.present() <= _FEW
        return Statistics(
            used.namespace,
            period.since,
            period.until,
            used.total.hits,
            used.total.misses,
            tuple(row for row in used.rows if row.hits or row.misses),
            _reasons(measured),
            _latencies(measured),
            _samples(measured),
            self._popular(),
            self._catalogue.holdings() if has_holdings else None,
        )

    def growth(self, size_bytes: int) -> Growth:
        """Return how fast this machine's copy grows, of which all takes `size_bytes`, and when it will be full.

        Raises ``StoreUnavailable`` if the catalogue can't be read.
        """
        crops = self._catalogue.rows.crops(self._now_ms())
        return growth(crops, size_bytes=size_bytes, limit_bytes=parse_size(self._size_limit))

    def optimize(self, since: object = "30d", until: object = None) -> tuple[Advice, ...]:
        """Return what could be otherwise, with the numbers of some days, what saves most first. Nothing is applied.

        What is told of answers, and not of calls, is told of those that are stored now. Raises as `statistics`.
        """
        return self._advice(self._measured(self._period(since, until)))

    def _advice(self, measured: Sequence[Measured]) -> tuple[Advice, ...]:
        read, noted_since_ms = self._counted.read_ids()
        entries = [
            KnownEntry(
                item.entry_id,
                item.header.created_ms,
                item.metadata.cost_usd,
                item.metadata.without_noise,
                item.metadata.components,
            )
            for item in self._catalogue.items()
            if item.metadata.surface != VALUE
        ]
        facts = Facts(
            self._ttl_s,
            self._size_limit,
            self._now_ms(),
            measured,
            entries,
            read,
            noted_since_ms,
            self._catalogue.sizes(),
        )
        return advise(facts)

    def _measured(self, period: Period) -> list[Measured]:
        self._ledger.books.flush()
        self._ledger.books.count()
        last = period.number(period.until)
        return self._counted.between(0 if period.since is None else period.number(period.since), last)

    def _popular(self) -> tuple[Popular, ...]:
        found: list[Popular] = []
        for use in self._counted.most_read(3 * _POPULAR):
            listed = self._catalogue.listed(EntryId(use.entry_id))
            if listed is not None and len(found) < _POPULAR:
                of = listed.metadata
                name = of.key or f"{of.label}:{use.entry_id[:12]}"
                found.append(Popular(name, of.tags, use.reads, usd(use.saved)))
        return tuple(found)


def _reasons(measured: Iterable[Measured]) -> tuple[MissReason, ...]:
    added: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in measured:
        if one.measure == Measure.WHY and one.bucket < len(REASONS):
            for n, amount in enumerate((one.calls, one.spent, one.unknown)):
                added[one.bucket][n] += amount
    ranked = sorted(added.items(), key=lambda item: -item[1][0])
    return tuple(MissReason(REASONS[place], n[0], usd(n[1]), n[2]) for place, n in ranked)


def _latencies(measured: Sequence[Measured]) -> tuple[Latency, ...]:
    found: list[Latency] = []
    for tier, measure in _TIERS:
        counts = Counter[int]()
        for one in measured:
            if one.measure == measure:
                counts[one.bucket] += one.calls
        if counts:
            found.append(Latency(tier, counts.total(), *(_percentile(counts, part) for part in _PERCENTILES)))
    return tuple(found)


def _percentile(counts: Counter[int], part: float) -> float:
    """Return the latency below which this part of the calls lies, to a fourth of an octave [s]."""
    left = part * counts.total()
    for bucket in sorted(counts):
        left -= counts[bucket]
        if left <= 0:
            return latency_of(bucket)
    return latency_of(max(counts))


def _samples(measured: Iterable[Measured]) -> dict[int, int]:
    counts = Counter[int]()
    for one in measured:
        if one.measure == Measure.SAMPLE:
            counts[one.bucket] += one.calls
    return dict(sorted(counts.items()))
