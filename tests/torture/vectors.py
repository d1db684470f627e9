"""A vector cache to which very many texts are added: nothing is lost, and none costs more than the first ones."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genai_cache_magic import create_vector_cache

DIMENSION = 16
_BATCH = 2_000
_PARTS = 10
_LOOKED_FOR = 200
_MOST_BYTES = 3_000
"""So much memory each text may take in this process at most: its slot, its links and its numbers [bytes]."""
_MOST_TIMES = 3.0
"""So many times what a text of the second tenth takes one of the last may take: a graph's depth is a logarithm."""
_INVALIDATED = 1_000
"""So many are replaced, and as many deleted: beyond 10,000 records of a day all that is older would be invalid."""
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = 4_096


@dataclass
class VectorReport:
    """What a series of additions showed."""

    lines: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _vectors(first: int, count: int) -> Any:
    return np.random.default_rng(first).standard_normal((count, DIMENSION)).astype(np.float32)


def _resident_bytes() -> int:
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES if _STATM.exists() else 0


def run_vectors(directory: Path, count: int, seed: str) -> VectorReport:
    """Add `count` texts, each batch followed by a look-up; of each some are replaced, and some deleted."""
    report = VectorReport()
    rng = random.Random(seed)
    part = max(1, count // _PARTS // _BATCH) * _BATCH
    per_text_s, resident = [], [_resident_bytes()]
    with create_vector_cache("disk", dimension=DIMENSION, dir=directory) as cache:
        began, live = time.process_time(), 0
        for first in range(0, count, _BATCH):
            live += _add(cache, first, min(_BATCH, count - first), _step(count), report)
            if (first + _BATCH) % part == 0:
                per_text_s.append((time.process_time() - began) / part)
                resident.append(_resident_bytes())
                report.lines.append(
                    f"{first + _BATCH:,} texts added, {live:,} there: {per_text_s[-1] * 1e6:,.0f} µs of processor time "
                    f"each, {resident[-1] / 2**20:,.0f} MiB in this process"
                )
                began = time.process_time()
        _look(cache, count, live, rng, report)
    began = time.process_time()
    with create_vector_cache("disk", dimension=DIMENSION, dir=directory) as cache:
        cache.build()
        report.lines.append(f"the next process reads them in {time.process_time() - began:,.1f} s of processor time")
        _look(cache, count, live, rng, report)
    if len(per_text_s) > 2 and per_text_s[-1] > _MOST_TIMES * per_text_s[1]:
        report.faults.append(f"a text took {per_text_s[1] * 1e6:,.0f} µs, and in the end {per_text_s[-1] * 1e6:,.0f}")
    if (grown := resident[-1] - resident[0]) > _MOST_BYTES * count + (200 << 20):
        report.faults.append(f"{grown:,} bytes of memory for {live:,} vectors")
    return report


def _step(count: int) -> int:
    """Return of how many texts one is replaced, and one deleted."""
    return max(10, count // _INVALIDATED + 1)


def _expected(number: int, step: int) -> list[Any]:
    """Return the values that a text is found with (see `_asked`)."""
    return {0: ["replaced"], 5: []}.get(number % step, [number])


def _asked(vector: Any, number: int, step: int) -> Any:
    """Return the vector by which a text is found: turned round where it was replaced."""
    return -vector if number % step == 0 else vector


def _add(cache: Any, first: int, count: int, step: int, report: VectorReport) -> int:
    """Add a batch, replace some of it and delete some; return how many are there of it."""
    vectors = _vectors(first, count)
    numbers = range(first, first + count)
    cache.add_many([(f"text {n}", n) for n in numbers], vectors=vectors)
    if again := [n for n in numbers if n % step == 0]:
        cache.add_many([(f"text {n}", "replaced") for n in again], vectors=[-vectors[n - first] for n in again])
    gone = [n for n in numbers if n % step == 5]
    for number in gone:
        cache.delete(f"text {number}")
    found = cache.nearest(_asked(vectors[1], first + 1, step), similarity=0.999)
    if [one.value for one in found] != _expected(first + 1, step):
        report.faults.append(f"text {first + 1} was not found once it had been added")
    return count - len(gone)


def _look(cache: Any, count: int, live: int, rng: random.Random, report: VectorReport) -> None:
    """Check that there is what there must be, and that some of it is found."""
    step = _step(count)
    if len(cache) != live:
        report.faults.append(f"{len(cache):,} texts are there, and {live:,} were stored")
    for number in (rng.randrange(count) for _ in range(_LOOKED_FOR)):
        first = number - number % _BATCH
        vector = _vectors(first, min(_BATCH, count - first))[number - first]
        found = cache.nearest(_asked(vector, number, step), similarity=0.999)
        if [one.value for one in found] != _expected(number, step):
            report.faults.append(f"text {number}: found {[one.value for one in found]}")
