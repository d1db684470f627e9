"""What would make a cache answer more, or hold less: advice from what was counted, with numbers; nothing is applied."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.ledger.accounts import usd
from genai_cache_magic.ledger.statistics import AGES_H, REASONS, Measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from genai_cache_magic.ledger.statistics import Measured

_DAY_H: Final = 24
_ENOUGH: Final = 0.8
"""A time to live is proposed that would have kept at least this part of what a year would have."""

_UNREAD_DAYS: Final = 7
_MANY_UNREAD: Final = 10
_MOST_UNREAD: Final = 0.5
_MANY_VALUES: Final = 3
_NOTES: Final = re.compile(
    r"(?i)(?:.*[_-])?(?:id|ids|uuid|guid|nonce|session|trace|span|run|timestamp|created|created_at|time|request|user"
    r"|metadata|seed|safety_identifier|tags)|.*(?:Id|ID|Uuid|At)"
)
"""Fields that are named like a note about the call, and not like a part of what is asked."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that could be otherwise.

    Attributes
    ----------
    about
        ``ttl``, ``eviction``, ``noise``, ``field`` or ``unread``.
    says
        What was seen, in a sentence.
    write
        What to write, and where; empty where that is a matter of judgement.
    calls
        How many calls would have been answered from the cache, or answers need not be kept.
    saved_usd
        What is known of what they cost [USD]; of `unknown` calls the price is not known.
    """

    about: str = field(repr=False)
    says: str = field(repr=False)
    write: str = field(repr=False)
    calls: int
    saved_usd: Decimal = Decimal(0)
    unknown: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "about": self.about,
            "says": self.says,
            "write": self.write,
            "calls": self.calls,
            "saved_usd": f"{self.saved_usd:f}",
            "unknown": self.unknown,
        }


@dataclass(frozen=True, slots=True)
class KnownEntry:
    """What is known of a stored answer.

    Attributes
    ----------
    without_noise
        Which key its request would have had under rules, with ``+`` between, that take noise out of it.
    components
        A digest of each part of its request, by name.
    """

    entry_id: str = field(repr=False)
    created_ms: int
    cost_usd: Decimal | None
    without_noise: Mapping[str, str] = field(repr=False, default_factory=dict)
    components: Mapping[str, str] = field(repr=False, default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """What advice is given on: `ttl_s` and `size_limit` are in force, the rest was counted.

    Attributes
    ----------
    noted_since_ms
        Since when it is known what was read [ms since the epoch]; None if it isn't.
    sizes
        The room that an answer takes [bytes].
    """

    ttl_s: int
    size_limit: str
    now_ms: int
    measured: Sequence[Measured] = field(repr=False)
    entries: Sequence[KnownEntry] = field(repr=False)
    read: AbstractSet[str] = field(repr=False)
    noted_since_ms: int | None
    sizes: Mapping[str, int] = field(repr=False)


def advise(facts: Facts) -> tuple[Advice, ...]:
    """Return all advice, what saves most first."""
    found = [*_ttl(facts), *_eviction(facts), *_noise(facts), *_fields(facts), *_unread(facts)]
    return tuple(sorted(found, key=lambda one: (-one.saved_usd, -one.calls)))


def _ttl(facts: Facts) -> Iterable[Advice]:
    by_age: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    for one in facts.measured:
        if one.measure == Measure.EXPIRED:
            for n, amount in enumerate((one.calls, one.spent, one.unknown)):
                by_age[one.bucket][n] += amount
    kept = {
        edge: [sum(amounts[n] for bucket, amounts in by_age.items() if bucket <= place) for n in range(3)]
        for place, edge in enumerate(AGES_H)
        if edge >= _DAY_H
    }
    most = max((calls for calls, _, _ in kept.values()), default=0)
    if not most:
        return
    edge = next(edge for edge, (calls, _, _) in kept.items() if calls >= _ENOUGH * most)
    calls, spent, unknown = kept[edge]
    longer, now = _days(edge), _days(facts.ttl_s / 3600)
    than = f"instead of {now}" if edge * 3600 > facts.ttl_s else "where a shorter one was asked for"
    yield Advice(
        "ttl",
        f"a ttl of {longer} {than} would have turned {calls:,} {_misses(calls)} into {_hits(calls)}",
        f'ttl = "{longer}"' if edge * 3600 > facts.ttl_s else f"--ttl {longer}",
        calls,
        usd(spent),
        unknown,
    )


def _eviction(facts: Facts) -> Iterable[Advice]:
    place = REASONS.index("evicted")
    found = [one for one in facts.measured if one.measure == Measure.WHY and one.bucket == place]
    calls = sum(one.calls for one in found)
    if calls:
        yield Advice(
            "eviction",
            f"{calls:,} {_misses(calls)} asked for what had been stored and was evicted since: at most "
            f"{facts.size_limit} is kept",
            "a larger size_limit",
            calls,
            usd(sum(one.spent for one in found)),
            sum(one.unknown for one in found),
        )


def _noise(facts: Facts) -> Iterable[Advice]:
    groups: dict[str, dict[str, list[KnownEntry]]] = defaultdict(lambda: defaultdict(list))
    for entry in facts.entries:
        for rules, key in entry.without_noise.items():
            groups[rules][key].append(entry)
    joined: set[str] = set()
    for rules in sorted(groups, key=lambda names: (names.count("+"), names)):
        more = []
        for same in groups[rules].values():
            same.sort(key=lambda entry: (entry.created_ms, entry.entry_id))
            more += [entry for entry in same[1:] if entry.entry_id not in joined]
        joined.update(entry.entry_id for entry in more)
        if more:
            names = rules.split("+")
            yield _joining(
                "noise",
                f"{len(more):,} stored {_answers(len(more))} another in {' and '.join(names)} alone",
                " ".join(f"--ignore {name}" for name in names),
                more,
            )


def _fields(facts: Facts) -> Iterable[Advice]:
    by_field: dict[str, dict[frozenset[tuple[str, str]], list[KnownEntry]]] = defaultdict(lambda: defaultdict(list))
    for entry in facts.entries:
        whole = {name: digest for name, digest in entry.components.items() if "[" not in name}
        for name in whole:
            if name.startswith("body.") and _NOTES.fullmatch(name.removeprefix("body.")):
                rest = frozenset(part for part in whole.items() if part[0] != name)
                by_field[name.removeprefix("body.")][rest].append(entry)
    for name, groups in sorted(by_field.items()):
        more = []
        for same in groups.values():
            values = Counter(entry.components[f"body.{name}"] for entry in same)
            if len(values) >= _MANY_VALUES and max(values.values()) == 1:
                same.sort(key=lambda entry: (entry.created_ms, entry.entry_id))
                more += same[1:]
        if more:
            yield _joining(
                "field",
                f"{len(more):,} stored {_answers(len(more))} another in the field {name} alone, which has "
                "another value each time",
                f'key_exclude = ["{name}"], if it decides nothing' if name != "seed" else "one seed, or none",
                more,
            )


def _unread(facts: Facts) -> Iterable[Advice]:
    if facts.noted_since_ms is None:
        return
    before_ms = facts.now_ms - _UNREAD_DAYS * 86_400_000
    old = [entry for entry in facts.entries if facts.noted_since_ms <= entry.created_ms < before_ms]
    unread = [entry for entry in old if entry.entry_id not in facts.read]
    if len(unread) >= _MANY_UNREAD and len(unread) >= _MOST_UNREAD * len(old):
        size_bytes = sum(facts.sizes.get(entry.entry_id, 0) for entry in unread)
        room = f", and take {size_bytes / 1024**2:,.1f} MB" if size_bytes else ""
        yield Advice(
            "unread",
            f"{len(unread):,} of {_stored(len(old))} that are older than {_UNREAD_DAYS} days were never read again on "
            f"this machine{room}",
            f'ttl = "{_UNREAD_DAYS}d", if nobody else reads them',
            len(unread),
        )


def _joining(about: str, says: str, write: str, more: Sequence[KnownEntry]) -> Advice:
    known = [entry.cost_usd for entry in more if entry.cost_usd is not None]
    return Advice(about, says, write, len(more), sum(known, Decimal(0)), len(more) - len(known))


def _days(hours: float) -> str:
    return f"{hours / _DAY_H:.0f}d" if hours >= _DAY_H and hours % _DAY_H == 0 else f"{hours:g}h"


def _stored(count: int) -> str:
    return "1 answer" if count == 1 else f"{count:,} answers"


def _plural(one: str, many: str) -> Callable[[int], str]:
    return lambda count: one if count == 1 else many


_misses, _hits, _answers = (
    _plural("miss", "misses"),
    _plural("a hit", "hits"),
    _plural("answer differs from", "answers differ from"),
)
