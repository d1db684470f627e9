"""``Cache.get`` from disk: beside raw `diskcache`, and as the cache grows."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import diskcache
from canned import ANSWER_CHARS, prose
from harness import BenchmarkError, Finding, Row, take_turns, timed

from genai_cache_magic import create_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Effort

    from genai_cache_magic import Cache

_RATIO_TARGET = 6
_TIME_TARGET_US = 40
_GROWTH_TARGET = 1.4
_CALLS = 50
_ENTRIES = 1_000


def run_lookup(effort: Effort) -> Iterator[Finding]:
    """Compare a look-up, opened and checked, with what `diskcache` alone takes for the same bytes."""
    values = {f"key-{n:06}": prose(ANSWER_CHARS, n).encode() for n in range(_ENTRIES)}
    with diskcache.Cache("raw") as raw, _cache("sealed") as sealed, _cache("plain", encryption="off") as plain:
        for key, value in values.items():
            raw.set(key, value)
        sealed.mset(values)
        plain.mset(values)
        cases = {
            "diskcache": timed(_reader(raw.get, list(values)), calls=_CALLS),
            "sealed": timed(_reader(sealed.get, list(values)), calls=_CALLS),
            "unsealed": timed(_reader(plain.get, list(values)), calls=_CALLS),
        }
        samples = take_turns(cases, rounds=effort.pick(400, 100))
        if any(sealed.get(key) != value or plain.get(key) != value for key, value in values.items()):
            raise BenchmarkError("a value came back changed")
    medians = samples.medians
    sealed_us = samples.absolute("sealed").scaled(1e6)
    yield Finding("Cache.get, sealed", samples.ratio("sealed", "diskcache"), target=_RATIO_TARGET, medians=medians)
    yield Finding("Cache.get, sealed, absolute", sealed_us, "µs", _TIME_TARGET_US)
    yield Finding("Cache.get, unsealed", samples.ratio("unsealed", "diskcache"), target=_RATIO_TARGET)


def run_growth(effort: Effort) -> Iterator[Finding]:
    """Compare a look-up among many entries with one among a thousand; every entry is as likely as any other."""
    many = effort.pick(100_000, 10_000)
    with _cache("few") as few, _cache("many") as much:
        # A hundred texts for all: what a look-up costs does not depend on whose text it is.
        texts = [prose(ANSWER_CHARS, n).encode() for n in range(100)]
        for cache, size in ((few, _ENTRIES), (much, many)):
            for n in range(size):
                cache.set(f"key-{n:06}", texts[n % len(texts)])
        cases = {
            f"{size:,} entries": timed(_reader(cache.get, [f"key-{n:06}" for n in range(size)]), calls=_CALLS)
            for cache, size in ((few, _ENTRIES), (much, many))
        }
        samples = take_turns(cases, rounds=effort.pick(400, 100))
    small, large = cases
    what = f"Cache.get among {large} / {small}"
    yield Finding(what, samples.ratio(large, small), target=_GROWTH_TARGET, medians=samples.medians)


def _cache(name: str, encryption: str = "local") -> Cache:
    return create_cache("disk", dir=name, encryption=encryption)


def _reader(get: Callable[[str], object], keys: list[str]) -> Callable[[], object]:
    """Return a function that looks up another key each time; one that misses would be no look-up."""
    random.Random(11).shuffle(keys)
    following = itertools.cycle(keys)

    def read() -> object:
        value = get(next(following))
        if value is None:
            raise BenchmarkError("a look-up missed")
        return value

    return read


LOOKUP = Row("lookup", "Cache.get / raw diskcache get of the same 2 KB", run_lookup)
GROWTH = Row("growth", "Cache.get among many entries / among 1,000", run_growth)
