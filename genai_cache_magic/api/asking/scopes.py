"""The scope that calls asked beforehand belong to, and what became of them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from genai_cache_magic.api.asking.outcomes import Warmed
from genai_cache_magic.api.asking.placeholders import placeholders
from genai_cache_magic.budgets.dry import DryAnswers, Tell
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.ignoring import checked_rules, combined
from genai_cache_magic.core.options import Options, checked_name, checked_tags
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept.active import Active, Answers
from genai_cache_magic.intercept.patching import patcher
from genai_cache_magic.intercept.workers.threads import in_force
from genai_cache_magic.runs.recorder import RunRecorder
from genai_cache_magic.runs.watching import WatchedAnswers
from genai_cache_magic.settings.units import parse_duration, parse_usd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from decimal import Decimal

    from genai_cache_magic.api.asking.rounds import Round
    from genai_cache_magic.api.asking.wanting import Wanting
    from genai_cache_magic.calls.estimates import Estimate
    from genai_cache_magic.core.model import EntryId, Response
    from genai_cache_magic.entries.team.counting import Counts
    from genai_cache_magic.ledger.usage import Ledger
    from genai_cache_magic.runs.runs import Runs

MOST_SHOWN: Final = 5
"""How many errors are told."""


class Warmable(Answers, Protocol):
    """What of a cache is needed here."""

    namespace: str
    ledger: Ledger
    counts: Counts
    runs: Runs
    fingerprint: str
    root: str
    directory: str
    ignore: tuple[str, ...]
    person: str

    @property
    def seal_key(self) -> bytes:
        """The secret of the namespace, bytes, shape (32,)."""

    def stored(self, entry_id: EntryId) -> Response | None:
        """Return the answer that is stored under an id, None if there is no valid one."""


def new_scope(cache: Warmable, options: Options, *, person: str = "") -> CellScope:
    """Return a scope of `cache`, whose calls are counted in its books, and are of `person` or of who opened it."""
    scope = CellScope(options, person=person or cache.person)
    scope.books, scope.store = cache.ledger.books, cache.fingerprint
    scope.past, scope.counts = cache.ledger.past, cache.counts
    return scope


def recorded(cache: Warmable, scope: CellScope) -> Answers:
    """Return the answers of `cache`, noted where the scope belongs to a run."""
    if not scope.options.run:
        return cache
    return WatchedAnswers(cache, RunRecorder(scope, now_ms=lambda: time.time_ns() // 1_000_000))


def told(scope: CellScope, round_: Round, wanted: Wanting) -> Warmed:
    """Return what became of the calls of `scope`, in which `round_` was asked."""
    counts = [call.outcome for call in scope.calls]
    asked = [call for call in scope.calls if call.outcome in (Outcome.MISS, Outcome.STALE, Outcome.REFUSED)]
    stored = sum(call.stored for call in asked)
    return Warmed(
        hits=counts.count(Outcome.HIT) + wanted.equal,
        stored=stored,
        not_stored=len(asked) - stored + counts.count(Outcome.BYPASS),
        failed=len(round_.errors),
        left=len(wanted.different) - round_.done,
        spent_usd=scope.spent_usd,
        stopped_by=round_.stopped_by,
        errors=tuple(round_.errors[:MOST_SHOWN]),
        left_out=dict(wanted.left_out),
    )


def key_options(cache: Warmable, ignore: Iterable[str] | None, salt: str) -> Options:
    """Return the options that decide where an answer is found; raises ``ConfigurationError``."""
    rules = combined(cache.ignore, checked_rules(ignore))
    return Options(namespace=cache.namespace, ignore=rules, salt=checked_name(salt, of="salt"))


def call_options(
    keyed: Options, *, run: str, tags: Iterable[str], ttl: str | None, spending: tuple[object, object] = (None, None)
) -> Options:
    """Return the options that what is asked for beforehand has, as those of a cell are written.

    Parameters
    ----------
    keyed
        From `key_options`.
    spending
        The budget, and what counts where nobody knows a price, both [USD]; None where there is no limit.

    Raises
    ------
    ConfigurationError
        One of them is written wrong.
    """
    limit, unknown = spending_of(*spending)
    return replace(
        keyed,
        run=checked_name(run, of="run"),
        tags=checked_tags(tags),
        ttl_s=None if ttl is None else parse_duration(ttl, name="ttl"),
        budget_usd=limit,
        budget_unknown_usd=unknown,
    )


def spending_of(budget: object, unknown: object) -> tuple[Decimal | None, Decimal | None]:
    """Return a budget, and what counts where nobody knows a price [USD]; raises ``ConfigurationError``."""
    return (
        None if budget is None else parse_usd(budget, name="budget"),
        None if unknown is None else parse_usd(unknown, name="budget_unknown", may_be_zero=True),
    )


@contextmanager
def dry(cache: Warmable, options: Options, wanted: Wanting, tell: Tell = lambda _, __: None) -> Iterator[CellScope]:
    """Let calls of the block be looked up alone: `tell` hears of those that would be made, which raise ``NotSent``."""
    scope = new_scope(cache, options.dry())
    scope.books = None  # nothing is spent, and what is looked up saves nothing

    def note(entry_id: str, one: Estimate) -> None:
        scope.foresee(entry_id, one)
        tell(entry_id, one)

    placeholders.fill()
    try:
        with in_scope(wanted.only(DryAnswers(cache, note)), scope):
            yield scope
    finally:
        placeholders.take_back()


@contextmanager
def in_scope(answers: Answers, scope: CellScope) -> Iterator[None]:
    """Let the calls of the block, and of threads that it starts, belong to `scope`."""
    patcher.install()
    try:
        with in_force(Active(answers, scope)):
            yield
    finally:
        scope.end()
