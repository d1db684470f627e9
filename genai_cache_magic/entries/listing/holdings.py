"""What is kept of which model, tag and run, and the room that it takes."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.entries.growth import DAY_MS, Crop, Growth, growth

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.rows import Rows


@dataclass(frozen=True, slots=True)
class Holding:
    """How many entries there are of a ``model``, ``tag`` or ``run``, and the room that they take here [bytes]."""

    kind: str
    name: str
    entries: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry as its row has it: `label` is the keyed tag of its model; times in milliseconds since the epoch."""

    entry_id: EntryId = field(repr=False)
    label: bytes = field(repr=False)
    created_ms: int
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Limited:
    """What is kept of a model or tag that has a limit, and when it will have reached that."""

    kind: str
    name: str
    entries: int
    growth: Growth = field(repr=False)


@dataclass(frozen=True, slots=True)
class Stock:
    """What is known of what a tier holds: how it came and goes, and the room that it takes [bytes]."""

    crops: Sequence[Crop] = field(repr=False)
    size_bytes: int
    limited: tuple[Limited, ...] = field(repr=False)


def holdings(
    rows: Rows,
    entries: Mapping[int, Kept],
    tags: Iterable[tuple[int, bytes]],
    sizes: Mapping[str, int],
) -> tuple[Holding, ...]:
    """Return what is kept, the largest first.

    Parameters
    ----------
    entries
        By the numbers of their rows.
    tags
        Each keyed tag that a row carries.
    sizes
        The room that entries take [bytes].
    """
    found = []
    for (kind, name), rows_of in _groups(rows, entries, tags).items():
        taken = sum(sizes.get(entries[n].entry_id, 0) for n in rows_of if n in entries)
        found.append(Holding(kind, name, len(rows_of), taken))
    return tuple(sorted(found, key=lambda one: (-one.size_bytes, -one.entries, one.name)))


def stock(  # noqa: PLR0913 - what `holdings` takes, and what is compared with it
    rows: Rows,
    entries: Mapping[int, Kept],
    tags: Iterable[tuple[int, bytes]],
    sizes: Mapping[str, int],
    limits: Mapping[tuple[str, str], int],
    *,
    now_ms: int,
) -> Stock:
    """Return what is known of those entries that have `sizes`, and of what has `limits` [bytes] by kind and name."""
    there = {n: kept for n, kept in entries.items() if kept.entry_id in sizes}
    groups = _groups(rows, there, ((n, tag) for n, tag in tags if n in there)) if limits else {}
    limited = []
    for (kind, name), limit_bytes in limits.items():
        found = [there[n] for n in groups.get((kind, name), ())]
        taken = sum(sizes[kept.entry_id] for kept in found)
        grown = growth(_crops(found, now_ms), size_bytes=taken, limit_bytes=limit_bytes)
        limited.append(Limited(kind, name, len(found), grown))
    return Stock(_crops(there.values(), now_ms), sum(sizes[kept.entry_id] for kept in there.values()), tuple(limited))


def _groups(
    rows: Rows, entries: Mapping[int, Kept], tags: Iterable[tuple[int, bytes]]
) -> dict[tuple[str, str], list[int]]:
    """Return the numbers of rows by model, tag and run."""
    added: dict[tuple[str, bytes], list[int]] = {}
    models = ((n, ("model", kept.label)) for n, kept in entries.items())
    for n, key in itertools.chain(models, ((n, ("tag", tag)) for n, tag in tags)):
        added.setdefault(key, []).append(n)
    found: dict[tuple[str, str], list[int]] = {}
    for (kind, tag), numbers in added.items():
        if kind == "model":
            found.setdefault((kind, rows.label(tag)), []).extend(numbers)
        elif (named := rows.name(tag)) is not None and named.kind in {"user", "run"}:
            found["tag" if named.kind == "user" else named.kind, named.name] = numbers
    return found


def _crops(kept: Collection[Kept], now_ms: int) -> list[Crop]:
    """Return how many entries are how old, and have how long left."""
    ages = Counter(
        (max(0, now_ms - one.created_ms) // DAY_MS, max(0, one.expires_ms - now_ms) // DAY_MS) for one in kept
    )
    return [Crop(age, left, count) for (age, left), count in ages.items()]
