"""Warming by the providers' batch APIs, which answer within a day at half the price.

What is submitted is noted before it is sent, and stays noted until its results are in the cache: whoever is
interrupted, wherever, submits nothing twice and loses nothing. Submitting and collecting exclude each other on one
machine.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.api.asking.batch_notes import Asked, Note, Notes, kept_options
from genai_cache_magic.api.asking.clients import Clients, kind_of
from genai_cache_magic.api.asking.given import GivenAnswers
from genai_cache_magic.api.asking.outcomes import Collected, Submitted
from genai_cache_magic.api.asking.scopes import (
    MOST_SHOWN,
    call_options,
    dry,
    in_scope,
    key_options,
    new_scope,
    recorded,
    spending_of,
)
from genai_cache_magic.api.asking.vendors import MOST_BYTES, MOST_REQUESTS, batch_api, refused, was_refused
from genai_cache_magic.api.asking.wanting import wanting
from genai_cache_magic.calls.scope import total
from genai_cache_magic.calls.spending import in_cents
from genai_cache_magic.errors import ConfigurationError, NotSent
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept.workers.threads import in_force

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.api.asking.requests_file import Wanted
    from genai_cache_magic.api.asking.scopes import Warmable
    from genai_cache_magic.api.asking.vendors import BatchApi, Result
    from genai_cache_magic.api.asking.wanting import Wanting
    from genai_cache_magic.calls.estimates import Estimate
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.options import Options

_HALF: Final = Decimal("0.5")
_PAST: Final = "whose answers go past the cache"
SETTLES_S: Final = 60.0
"""How long after it was begun a batch may still appear in the provider's list [s]."""


class WarmsByBatch:
    """The part of a cache that submits batches and collects their results."""

    def submit_batch(  # noqa: PLR0913 - one parameter for each option of the command
        self: Warmable,
        requests: Any = (),
        *,
        endpoint: str = "",
        from_run: str = "",
        budget: object = None,
        budget_unknown: object = None,
        run: str = "",
        tags: Iterable[str] = (),
        ttl: str | None = None,
        ignore: Iterable[str] | None = None,
        salt: str = "",
    ) -> Submitted:
        """Submit what of `requests` is neither in the cache nor in a batch under way to the provider's batch API.

        Parameters
        ----------
        requests, endpoint, from_run, run, tags, ttl, ignore, salt
            As for `warm`.
        budget, budget_unknown
            What all that is submitted now may cost at most; at half of what single calls cost.

        Raises
        ------
        ConfigurationError
            As `warm`; or the provider, or whoever is asked in its place, took no batch.
        """
        options = call_options(key_options(self, ignore, salt), run=run, tags=tags, ttl=ttl)
        limit, unknown = spending_of(budget, budget_unknown)
        wanted = wanting(requests, self.runs, endpoint=endpoint, from_run=from_run)
        with _notes(self) as notes, Clients() as clients:
            known, _ = _settled(notes, clients)
            looked = _looked_up(self, options, wanted, {one.entry_id for note in known for one in note.requests})
            chosen, most = _within(looked.missing, limit, unknown)
            left = len(looked.missing) - len(chosen)
            made = [_submitted(notes, clients, each, options) for each in _batches(chosen)]
        return Submitted(
            looked.hits + wanted.equal,
            len(chosen),
            looked.pending,
            left,
            most,
            tuple(made),
            _why_left(left, limit),
            dict(wanted.left_out),
        )

    def collect_batches(self: Warmable, batch: str = "") -> Collected:
        """Store the results of batches that have come to their end, as the answers of single calls would be.

        What an invalidation meant that came after a batch was submitted, and before this, is not known of its answers.

        Parameters
        ----------
        batch
            The id of one, as the provider calls it; empty: all that are noted.

        Raises
        ------
        ConfigurationError
            There is no such batch, or it was submitted elsewhere than the environment leads to.
        """
        with _notes(self) as notes, Clients() as clients:
            known, unsettled = _settled(notes, clients)
            chosen = [note for note in known if not batch or note.remote == batch]
            if batch and not chosen:
                names = ", ".join(note.remote for note in known if note.remote) or "none"
                raise ConfigurationError(f"no batch {batch!r} is noted here; known are {names}")
            so_far = _Sum(waiting=[] if batch else [f"{note.name} (not confirmed yet)" for note in unsettled])
            for note in chosen:
                if note.remote:
                    _collected(self, notes, clients, note, so_far)
        return so_far.told()


@dataclass(slots=True)
class _LookedUp:
    """What is not to be submitted, and what is: with its entry and what it may cost."""

    hits: int = 0
    pending: int = 0
    missing: list[tuple[Asked, Estimate]] = field(repr=False, default_factory=list)


@dataclass(slots=True)
class _Sum:
    """What was collected so far."""

    batches: list[str] = field(repr=False, default_factory=list)
    waiting: list[str] = field(repr=False, default_factory=list)
    stored: int = 0
    hits: int = 0
    not_stored: int = 0
    failed: int = 0
    spent: list[Decimal | None] = field(repr=False, default_factory=list)
    errors: list[str] = field(repr=False, default_factory=list)

    def add(self, scope: CellScope) -> None:
        for call in scope.calls:
            self.hits += call.outcome is Outcome.HIT
            self.stored += call.stored and call.outcome is not Outcome.HIT
            self.not_stored += not call.stored and call.outcome in {Outcome.MISS, Outcome.STALE, Outcome.REFUSED}
            self.spent.append(call.spent_usd)

    def fail(self, line: int, why: str) -> None:
        self.failed += 1
        self.errors.append(f"request {line}: {why}")

    def told(self) -> Collected:
        counts = (self.stored, self.hits, self.not_stored, self.failed)
        ids = (tuple(self.batches), tuple(self.waiting))
        return Collected(*ids, *counts, total(self.spent), tuple(self.errors[:MOST_SHOWN]))


@contextmanager
def _notes(cache: Warmable) -> Iterator[Notes]:
    """Open the notes of `cache`, for this process alone, outside of any cell."""
    if not cache.directory:
        raise ConfigurationError("a cache in memory keeps no note of a batch: use one on disk")
    notes = Notes(Path(cache.directory), cache.seal_key)
    with notes.alone(), in_force(None):
        yield notes


def _settled(notes: Notes, clients: Clients) -> tuple[list[Note], list[Note]]:
    """Return the notes, and those of them of which it is not known yet whether they were submitted.

    One whose submission was interrupted is looked for at its provider. If it isn't there, its requests are free again.
    """
    known = list(notes.all())
    ids = {note.remote for note in known if note.remote}
    found, unsettled = [], []
    for note in known:
        if note.remote:
            found.append(note)
            continue
        remote = _api(clients, note).find(note, ids)
        if remote:
            found.append(notes.submitted(note, remote))
        elif remote == "" or time.time() - note.begun_s < SETTLES_S:
            found.append(note)
            unsettled.append(note)
        else:
            notes.remove(note)
    return found, unsettled


def _api(clients: Clients, note: Note) -> BatchApi:
    api = batch_api(note.kind, clients.client(note.kind))
    if api.origin != note.origin:
        raise ConfigurationError(
            f"batch {note.remote or note.name} was submitted to {note.origin}, and {note.kind}'s client asks "
            f"{api.origin}: set {note.kind.upper()}_BASE_URL as it was, and collect that first"
        )
    return api


def _looked_up(cache: Warmable, options: Options, wanted: Wanting, under_way: set[str]) -> _LookedUp:
    found = _LookedUp()
    told: list[tuple[str, Estimate]] = []
    seen: set[str] = set()
    with dry(cache, options, wanted, lambda *one: told.append(one)) as scope, Clients() as clients:
        for one in wanted.different:
            left_out = wanted.left_out.total()
            try:
                clients.ask(one)
            except NotSent:
                if not told and wanted.left_out.total() == left_out:
                    wanted.left_out[_PAST] += 1
            if not told:
                continue
            entry_id, estimated = told.pop()
            if entry_id in under_way or entry_id in seen:
                found.pending += entry_id in under_way
                found.hits += entry_id in seen
            elif not entry_id:
                wanted.left_out[_PAST] += 1
            else:
                seen.add(entry_id)
                found.missing.append((Asked(one.line, one.path, dict(one.body), entry_id), estimated))
        found.hits += scope.hits
    return found


def _within(
    missing: list[tuple[Asked, Estimate]], limit: Decimal | None, unknown: Decimal | None
) -> tuple[list[Asked], Decimal]:
    """Return those of `missing` that a budget allows, and what they may cost at most [USD]."""
    chosen: list[Asked] = []
    committed = Decimal(0)
    for one, estimated in missing:
        most = unknown if estimated.usd.most is None else estimated.usd.most * _HALF
        if limit is not None and (most is None or committed + most > limit):
            continue
        committed += most or Decimal(0)
        chosen.append(one)
    return chosen, committed


def _why_left(left: int, limit: Decimal | None) -> str:
    if not left or limit is None:
        return ""
    return (
        f"the budget of {in_cents(limit)} allows no more, or nobody knows the price (--budget-unknown 0.01): collect, "
        "and submit the rest with another budget"
    )


def _batches(chosen: list[Asked]) -> Iterator[list[Asked]]:
    """Cut into what one batch may hold: of one wire API and one model, and not too much."""
    ordered = sorted(chosen, key=_of_one)
    for _, group in groupby(ordered, key=_of_one):
        batch: list[Asked] = []
        size = 0
        for one in group:
            length = len(orjson.dumps(one.body))
            if batch and (len(batch) >= MOST_REQUESTS or size + length > MOST_BYTES):
                yield batch
                batch, size = [], 0
            batch.append(one)
            size += length
        yield batch


def _of_one(one: Asked) -> tuple[str, str]:
    return one.path, str(one.body.get("model"))


def _submitted(notes: Notes, clients: Clients, requests: list[Asked], options: Options) -> str:
    """Submit one batch, noted before and after; return its id."""
    kind = kind_of(requests[0].wanted)
    api = batch_api(kind, clients.client(kind))
    note = Note(notes.new_name(), kind, api.origin, time.time(), tuple(requests), kept_options(options))
    notes.write(note)
    try:
        remote = api.submit(note)
    except Exception as exc:
        if was_refused(exc):
            notes.remove(note)
            raise refused(kind, exc) from exc
        raise ConfigurationError(
            f"it is not known whether the batch was taken ({type(exc).__name__}): nothing of it is submitted again "
            "before warm --collect has found out"
        ) from exc
    return notes.submitted(note, remote).remote


def _collected(cache: Warmable, notes: Notes, clients: Clients, note: Note, so_far: _Sum) -> None:
    """Store the results of one batch; it is forgotten when all are stored."""
    results = _api(clients, note).results(note)
    if results is None:
        so_far.waiting.append(note.remote)
        return
    scope = new_scope(cache, note.scope_options(cache.namespace))
    given = GivenAnswers(recorded(cache, scope))
    answered: set[int] = set()
    try:
        with in_scope(given, scope):
            for result in results:
                number = note.number(result.custom_id)
                if number is not None and number not in answered:
                    answered.add(number)
                    _store(clients, given, note.requests[number].wanted, result, so_far)
    finally:
        so_far.add(scope)
    for number, one in enumerate(note.requests):
        if number not in answered:
            so_far.fail(one.line, "the batch holds no answer")
    notes.remove(note)
    so_far.batches.append(note.remote)


def _store(clients: Clients, given: GivenAnswers, one: Wanted, result: Result, so_far: _Sum) -> None:
    if result.error:
        so_far.fail(one.line, result.error)
        return
    given.put(result.body)
    try:
        clients.ask(one)
    except NotSent as exc:
        so_far.fail(one.line, str(exc))
    except Exception as exc:  # noqa: BLE001 - of whichever SDK; its text may hold what was asked
        so_far.fail(one.line, type(exc).__name__)
