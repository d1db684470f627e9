"""What ``estimate`` and ``warm`` say, in a notebook and in a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.jupyter.shown.report import Report
from genai_cache_magic.jupyter.shown.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.api.asking.outcomes import Collected, Submitted, Warmed
    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.calls.estimates import Foreseen


def foreseen_for(cache: Cache, what: str, *, endpoint: str = "", **key: Any) -> Foreseen:
    """Return what the requests of a file would come to, or, if there is no such file, the calls of a run."""
    if is_file(what):
        return cache.estimate(what, endpoint=endpoint, **key)
    return cache.estimate(run=what)


def is_file(what: str) -> bool:
    """Tell whether `what` names a file; else it is the name of a run."""
    return bool(Path(what).suffix) or Path(what).is_file()


def warmed_from(cache: Cache, what: str, **options: Any) -> Warmed:
    """Return what became of the requests of a file, or, if there is no such file, of those that a run keeps."""
    return cache.warm(what, **options) if is_file(what) else cache.warm(from_run=what, **options)


def submitted_from(cache: Cache, what: str, **options: Any) -> Submitted:
    """Submit, as a batch, the requests of a file, or, if there is no such file, those that a run keeps."""
    return cache.submit_batch(what, **options) if is_file(what) else cache.submit_batch(from_run=what, **options)


def left_out(reasons: Mapping[str, int]) -> list[str]:
    """Return what is said of recorded calls that can't be asked again."""
    return [f"not asked: {counted(count, 'call')} {why}" for why, count in reasons.items()]


def foreseen_report(found: Foreseen) -> Report:
    """Return the sentence about what is there and what the rest costs, and what can't be foretold of it."""
    total = found.hits + found.misses
    said = f"{found.hits:,} of {counted(total, 'call')} cached"
    if found.misses > found.unknown:
        said += (
            f", about {dollars(found.expected_usd)} for the rest "
            f"(from {dollars(found.least_usd)} to {dollars(found.most_usd)}), "
            f"about {counted(found.input_tokens, 'token')} in, {found.output_tokens:,} out"
        )
    notes = []
    if found.unknown:
        notes.append(f"of {counted(found.unknown, 'call')} nobody knows the price, which comes on top")
    if found.unbounded:
        notes.append(f"{counted(found.unbounded, 'call')} without a limit such as max_tokens may cost more than that")
    notes += left_out(found.left_out)
    return Report(said, None, tuple(notes))


def batch_report(found: Submitted) -> Report:
    """Return the sentence about what was submitted, and what is left."""
    parts = [
        f"{found.hits:,} cached before",
        f"{found.submitted:,} submitted in {counted(len(found.batches), 'batch', 'batches')}",
    ]
    parts += [f"{found.pending:,} under way"] if found.pending else []
    parts += [f"{found.left:,} left"] if found.left else []
    cost = [f"at most about {dollars(found.most_usd)}"] if found.submitted else []
    notes = [found.stopped_by] if found.stopped_by else []
    notes += [f"batch {name}: its results are stored by warm --collect" for name in found.batches]
    return Report(", ".join([*parts, *cost]), None, (*notes, *left_out(found.left_out)))


def collected_report(found: Collected) -> Report:
    """Return the sentence about what batches brought."""
    if not (found.batches or found.waiting or found.failed):
        return Report("no batch is under way: there is nothing to collect", None)
    spent = "unknown" if found.spent_usd is None else dollars(found.spent_usd)
    parts = [f"{counted(len(found.batches), 'batch', 'batches')} collected", f"{found.stored:,} stored"]
    parts += [f"{found.hits:,} cached before"] if found.hits else []
    parts += [f"{found.not_stored:,} not stored"] if found.not_stored else []
    parts += [f"{found.failed:,} failed"] if found.failed else []
    more = found.failed - len(found.errors)
    notes = [f"batch {name} is under way: collect later" for name in found.waiting]
    notes += [*found.errors, *([f"and {counted(more, 'more error')}"] if more > 0 else [])]
    return Report(f"{', '.join(parts)}, spent {spent}", None, tuple(notes))


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
    notes += left_out(done.left_out)
    return Report(f"{', '.join(parts)}, spent {spent}", None, tuple(notes))
