"""What ``estimate`` and ``warm`` say, in a notebook and in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.jupyter.report import Report
from genai_cache_magic.jupyter.words import counted

if TYPE_CHECKING:
    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.api.warming import Foreseen, Warmed


def foreseen_for(cache: Cache, what: str, *, endpoint: str = "") -> Foreseen:
    """Return what the requests of a file would come to, or, if there is no such file, the calls of a run."""
    if Path(what).suffix or Path(what).is_file():
        return cache.estimate(what, endpoint=endpoint)
    return cache.estimate(run=what)


def foreseen_report(found: Foreseen) -> Report:
    """Return the sentence about what is there and what the rest costs, and what can't be foretold of it."""
    total = found.hits + found.misses
    said = f"{found.hits:,} of {counted(total, 'call')} cached"
    if found.misses > found.unknown:
        said += (
            f", about {dollars(found.expected_usd)} for the rest "
            f"(from {dollars(found.least_usd)} to {dollars(found.most_usd)}), about {found.input_tokens:,} tokens in, "
            f"{found.output_tokens:,} out"
        )
    notes = []
    if found.unknown:
        notes.append(f"of {counted(found.unknown, 'call')} nobody knows the price: what they cost comes on top")
    if found.unbounded:
        notes.append(f"{counted(found.unbounded, 'call')} set no limit such as max_tokens, and may cost more than that")
    return Report(said, None, tuple(notes))


def warmed_report(done: Warmed) -> Report:
    """Return the sentence about what was asked and stored, and what went wrong."""
    spent = "unknown" if done.spent_usd is None else dollars(done.spent_usd)
    parts = [f"{done.hits:,} cached before", f"{done.stored:,} asked and stored"]
    parts += [f"{done.not_stored:,} asked and not stored"] if done.not_stored else []
    parts += [f"{done.failed:,} failed"] if done.failed else []
    parts += [f"{done.left:,} left"] if done.left else []
    more = done.failed - len(done.errors)
    notes = [done.stopped_by] if done.stopped_by else []
    notes += [*done.errors, *([f"and {counted(more, 'more error')}"] if more > 0 else [])]
    return Report(f"{', '.join(parts)}, spent {spent}", None, tuple(notes))
