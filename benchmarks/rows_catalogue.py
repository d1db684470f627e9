"""What is asked of a whole namespace, among many entries and among few: invalidating, counting, explaining."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from canned import prose
from harness import BenchmarkError, Estimate, Finding, Row, take_turns, timed

from genai_cache_magic import create_cache
from genai_cache_magic.core.model import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Effort

    from genai_cache_magic import Cache

_FEW = 1_000
_TAGS = 100
_ANSWER_CHARS = 200


def run(effort: Effort) -> Iterator[Finding]:
    """Compare each question with itself among a thousand entries; what is promised is the time among many."""
    many = effort.pick(100_000, 10_000, 2 * _FEW)
    with _filled("few", _FEW) as few, _filled("many", many) as much:
        questions: dict[str, tuple[float, Callable[[Cache], Callable[[], object]]]] = {
            "stats": (100, lambda cache: cache.stats),
            "the nearest call": (100, _nearest),
            "counting a tag that all bear": (50, lambda cache: lambda: cache.invalidate_tag("all", dry_run=True)),
            "invalidating a tag": (50, _invalidates),
        }
        for what, (target_ms, ask) in questions.items():
            cases = {f"{size:,} entries": timed(ask(cache)) for cache, size in ((few, _FEW), (much, many))}
            samples = take_turns(cases, rounds=effort.pick(40, 20))
            small, large = cases
            yield Finding(f"{what}, {large} / {small}", samples.ratio(large, small), medians=samples.medians)
            yield Finding(f"{what}, {large}", samples.absolute(large).scaled(1e3), "ms", target_ms)
        start = time.perf_counter()
        left = much.clear().count
        clear_ms = (time.perf_counter() - start) * 1e3
        if not 0 < left < many or much.stats().entries:
            raise BenchmarkError("what was invalidated was not counted right")
    yield Finding(f"clear, {many:,} entries, once", Estimate(clear_ms, clear_ms, clear_ms), "ms", 50)


def _filled(name: str, size: int) -> Cache:
    cache = create_cache("disk", dir=name)
    texts = [prose(_ANSWER_CHARS, n) for n in range(100)]
    for tag in range(_TAGS):
        values = {f"key-{n:06}": texts[n % len(texts)] for n in range(tag, size, _TAGS)}
        cache.mset(values, tags=("all", f"tag-{tag}"))
    return cache


def _invalidates(cache: Cache) -> Callable[[], object]:
    """Return a function that invalidates another tag each time: publishes it, and counts whom it hit."""
    tags = itertools.count()
    return lambda: cache.invalidate_tag(f"tag-{next(tags)}")


def _nearest(cache: Cache) -> Callable[[], object]:
    """Return a function that looks for the stored call that is nearest to one that is not there."""
    own = Metadata(surface="openai.chat", cell="cell", components={"surface": "0" * 16, "body.messages": "1" * 16})
    return lambda: cache.catalogue.nearest(own)


ROW = Row("catalogue", "questions to a whole namespace, among many entries / among 1,000", run)
