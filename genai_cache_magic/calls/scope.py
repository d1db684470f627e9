"""The scope: what one cell (or ``with llm_cache(...)`` block) set, and what its calls did."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol

from genai_cache_magic import host
from genai_cache_magic.calls.coalesce import Caller
from genai_cache_magic.calls.estimates import NOT_SENT, UNKNOWN, Foreseen
from genai_cache_magic.calls.interrupts import Interrupts
from genai_cache_magic.calls.reports import Reports
from genai_cache_magic.errors import CellInterrupt, GenaiCacheError
from genai_cache_magic.events import CallRecord, Event, EventHook, Outcome, Trouble, trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from genai_cache_magic.calls.estimates import Estimate, Past
    from genai_cache_magic.calls.spending import Spending
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.providers.base import ModelCall


_ANSWERED = frozenset({Outcome.HIT, Outcome.MISS, Outcome.STALE})


def _is_sampled(surface: str) -> bool:
    """Tell whether another answer could be drawn: vectors and ranks are computed."""
    return not {"embeddings", "rerank"}.intersection(surface.split("."))


class SampleNumbers:
    """Numbers identical calls of one scope: each takes the lowest free index.

    An index is given back unless it was answered, so a failed call leaves no hole.
    """

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._taken: dict[str, set[int]] = {}  # guarded by _lock

    def take(self, request_id: str) -> int:
        """Return the lowest index that no call of this scope holds for `request_id`."""
        with self._lock:
            taken = self._taken.setdefault(request_id, set())
            index = next(i for i in range(len(taken) + 1) if i not in taken)
            taken.add(index)
            return index

    def give_back(self, request_id: str, index: int) -> None:
        """Free `index`, since no answer is stored under it."""
        with self._lock:
            self._taken.get(request_id, set()).discard(index)


class CarriesScope(Protocol):
    """Takes a scope to another process."""

    def entered(self) -> AbstractContextManager[None]:
        """Put the scope in force there."""


class Books(Protocol):
    """Counts what calls come to, in the process that makes them."""

    def note(self, call: CallRecord, *, run: str, person: str) -> None:
        """Count `call`, which has come to its end; never raises for trouble of its own."""


class Counts(Protocol):
    """Counts that all who share a cache change at once."""

    def add(self, name: str, field: object, amount: int) -> int:
        """Add `amount` and return what the count is then; raises ``StoreUnavailable``."""

    def add_within(self, name: str, field: object, amount: int, *, at_most: int) -> tuple[bool, int]:
        """Add `amount` unless the count would be more than `at_most`; return whether, and the count; raises so too."""

    def owe(self, name: str, amount: int) -> None:
        """Keep what could not be added under `name`, until `take_owed`."""

    def take_owed(self, name: str) -> int:
        """Return what is owed under `name`: it is the caller's to add now."""


class Budgeted(Protocol):
    """Holds the calls of a scope to what it may spend."""

    def let_pass(self, call: ModelCall | None) -> None:
        """Count a call that goes its way unwatched, None for one that is not known; raises ``BudgetExceeded``."""

    @property
    def terms(self) -> Any:
        """What they say, for other processes; it can be pickled."""

    def settled(self) -> None:
        """Wait, for a moment at most, until what the calls of the scope have cost is counted."""

    @property
    def state(self) -> Spending | None:
        """What the scope's own budget has come to; None if it has none of its own."""


class Watches(Protocol):
    """Hears of every call and trouble of a process, for other tools."""

    def note(self, event: Event) -> None:
        """Take note of `event`; never raises, and waits for nothing."""

    def alerts(self) -> tuple[str, ...]:
        """Return what is not as it should be now, in sentences."""


class Recording(Protocol):
    """Keeps what the calls of a scope were answered."""

    def flush(self) -> None:
        """Write what was recorded; raises ``GenaiCacheError``."""


class CellScope:
    """The record of one cell: its options, its calls, its sums.

    `notices` are sentences about what is in force, to be shown with it.

    Calls may come from any thread that the cell started, also after the cell ended.

    Attributes
    ----------
    opener
        The thread and the task whose code the scope belongs to.
    has_end
        Whether somebody ends it, and then raises what `interrupts` holds.
    is_over
        Whether that has happened.
    reports
        What other processes did for it; in such a process, where that is told.
    store
        Keyed fingerprint of the namespace and the store that its calls are answered from; empty where there is none.
    passport
        What takes it to another process; None where nothing does.
    recording
        The run file that its calls go to; None if there is none.
    monitor
        What passes on to other tools what its calls did; None where nobody asked for that.
    view
        What draws it, once it was shown in marimo.
    books
        Where its calls are counted; None while there is no cache to be opened.
    past
        What calls of a model came to before, by its name; likewise.
    counts
        What is counted together by all who share the cache; likewise.
    budgets
        What holds its calls to a budget, its own and those of scopes around it; None where there is none.
    """

    def __init__(
        self,
        options: Options,
        *,
        cell: str = "",
        person: str = "",
        hooks: Iterable[EventHook] = (),
        notices: Iterable[str] = (),
    ) -> None:
        self.options = options
        self.cell = cell
        self.person = person
        self.notices = tuple(notices)
        self.sample_numbers = SampleNumbers()
        self.opener = Caller.current(is_async=False)
        self.interrupts = Interrupts()
        self.has_end = True
        self.is_over = False
        self.reports = Reports()
        self.store = ""
        self.passport: CarriesScope | None = None
        self.books: Books | None = None
        self.past: Callable[[str], Past] | None = None
        self.counts: Counts | None = None
        self.budgets: Budgeted | None = None
        self.recording: Recording | None = None
        self.monitor: Watches | None = None
        self.view: Any = None
        self._followed: list[Any] = []  # processes that are to follow; guarded by _lock
        self._followers = 0  # those that said so; guarded by _lock
        self._hooks = tuple(hooks)
        self._lock = host.process_lock()
        self._calls: list[CallRecord] = []  # guarded by _lock, but for what is added alone
        self._open: dict[int | tuple[str, int], CallRecord] = {}  # guarded by _lock, like the next
        self._tickets = itertools.count(1)
        self._troubles: list[Trouble] = []  # guarded by _lock, like the next
        self._estimates: dict[str, Estimate] = {}

    def __repr__(self) -> str:
        said = [f"{self.hits} hit{'s' * (self.hits != 1)}", f"{self.misses} miss{'es' * (self.misses != 1)}"]
        said += [f"{self.similar} similar"] if self.similar else []
        said += [f"{self.open} still open"] if self.open else []
        said += [f"{self.unrecognised} not recognised"] if self.unrecognised else []
        return f"<llm_cache cell: {', '.join(said)}>"

    def _display_(self) -> Any:
        """Return what marimo draws where this is the last expression of a cell."""
        return repr(self) if self.view is None else self.view

    def opened(self, call: CallRecord) -> int:
        """Show `call` as one that is on its way, until `emit` closes the ticket that is returned, which is not 0."""
        with self._lock:
            ticket = next(self._tickets)
            self._open[ticket] = call
        if self.reports.is_elsewhere:
            self.reports.tell(call, ticket, is_open=True)
        return ticket

    def emit(self, event: Event, *, closes: int = 0) -> None:
        """Keep `event`, in the place of the open call of the ticket `closes`, count it, and pass it to the hooks."""
        if self.books is not None and isinstance(event, CallRecord):
            self.books.note(event, run=self.options.run, person=self.person)
        self._keep(event, closes)

    def add(self, call: CallRecord) -> None:
        """Do as `emit` with a call that was never open."""
        if self.books is not None:
            self.books.note(call, run=self.options.run, person=self.person)
        self._calls.append(call)  # which is atomic
        self._pass_on(call)

    def _keep(self, event: Event, closes: int = 0) -> None:
        with self._lock:
            if closes:
                self._open.pop(closes, None)
            if isinstance(event, CallRecord):
                self._calls.append(event)
            elif event not in self._troubles:
                self._troubles.append(event)
        self._pass_on(event, closes)

    def _pass_on(self, event: Event, closes: int = 0) -> None:
        if self.reports.is_elsewhere:
            self.reports.tell(event, closes)
        elif self.monitor is not None:  # here alone: what another process did is told to this one, and is kept here too
            self.monitor.note(event)
        for hook in self._hooks:
            hook(event)

    def follow(self, process: Any) -> None:
        """Take note of a process that was started to follow this scope."""
        with self._lock:
            self._followed.append(process)

    def end(self) -> None:
        """Take note that its cell or block is over."""
        self.is_over = True
        if self.recording is not None:
            try:
                self.recording.flush()
            except GenaiCacheError as exc:
                self.emit(trouble("run file", exc))
        if self.budgets is not None:
            self.budgets.settled()
        self._gather()
        with self._lock:
            ended = sum(process.exitcode is not None for process in self._followed)
            lost, self._followed = max(0, ended - self._followers), []
        if lost:
            which = "1 worker process was" if lost == 1 else f"{lost} worker processes were"
            what = "what it called is" if lost == 1 else "what they called is"
            self.emit(Trouble("processes", "NotFollowed", f"{which} not followed: {what} neither cached nor counted"))

    def outstanding(self) -> CellInterrupt | None:
        """Return what is still to be raised of what was missing in threads, tasks and processes; each once."""
        self._gather()
        return self.interrupts.pending()

    def _gather(self) -> None:
        """Take over what other processes told."""
        for told in self.reports.read():
            with self._lock:
                if isinstance(told.what, CallRecord) and told.is_open and told.ticket is not None:
                    self._open[told.ticket] = told.what
                elif told.ticket is not None:
                    self._open.pop(told.ticket, None)
                self._followers += told.what is None
            if isinstance(told.what, CellInterrupt):
                self.interrupts.note_told(told.what)
            elif told.what is not None and not told.is_open:
                self._keep(told.what)  # it was counted there

    @property
    def may_be_stopped(self) -> bool:
        """Whether a call of the scope may be refused with what ends the cell."""
        return not self.options.sends or self.budgets is not None

    def foresee(self, entry_id: str, one: Estimate) -> None:
        """Take note of what a call may come to that was looked up and not sent."""
        with self._lock:
            self._estimates.setdefault(entry_id or f"past the cache {len(self._estimates)}", one)

    @property
    def foreseen(self) -> Foreseen | None:
        """What the calls that were looked up would come to; None where they are made.

        Of one in another process it is known that it was looked up, and no more.
        """
        if not self.options.estimate:
            return None
        found = Foreseen(hits=self.hits)
        with self._lock:
            estimates = dict(self._estimates)
        for one in estimates.values():
            found = found.plus(one)
        stopped = {call.entry_id for call in self.calls if call.reason == NOT_SENT and call.entry_id}
        for _ in stopped - {*estimates} if self.reports.is_prepared else ():
            found = found.plus(UNKNOWN)
        return found

    @property
    def repeated(self) -> int:
        """Number of calls that asked a model what an earlier call of this scope had asked, and shared its answer."""
        answered = [call.entry_id for call in self.calls if call.outcome in _ANSWERED and _is_sampled(call.provider)]
        return len(answered) - len(set(answered))

    @property
    def calls(self) -> tuple[CallRecord, ...]:
        """All calls so far, in the order in which they ended; then those that are open, in which they began."""
        self._gather()
        with self._lock:
            return (*self._calls, *self._open.values())

    @property
    def troubles(self) -> tuple[Trouble, ...]:
        """What went wrong on our side, each thing once."""
        self._gather()
        with self._lock:
            return tuple(self._troubles)

    @property
    def hits(self) -> int:
        """Number of calls answered from the cache."""
        return self._count(Outcome.HIT)

    @property
    def similar(self) -> int:
        """Number of calls that got the answer to another question, much alike; they are no hits."""
        return self._count(Outcome.SIMILAR)

    @property
    def misses(self) -> int:
        """Number of calls that the model answered although the cache was asked; refused ones included."""
        return self._count(Outcome.MISS, Outcome.STALE, Outcome.REFUSED)

    @property
    def bypassed(self) -> int:
        """Number of calls that went past the cache."""
        return self._count(Outcome.BYPASS)

    @property
    def open(self) -> int:
        """Number of calls whose answers are not at their end yet: what they cost is unknown so far."""
        return self._count(Outcome.OPEN)

    @property
    def unrecognised(self) -> int:
        """Number of requests that may have asked a model in a way that is not known."""
        return self._count(Outcome.UNRECOGNISED)

    @property
    def errors(self) -> int:
        """Number of calls that failed at their origin."""
        return self._count(Outcome.ERROR)

    @property
    def spent_usd(self) -> Decimal | None:
        """What the calls cost [USD]; None if any price is unknown."""
        return total(call.spent_usd for call in self.calls)

    @property
    def saved_usd(self) -> Decimal | None:
        """What the hits would have cost [USD]; None if any price is unknown."""
        return total(call.saved_usd for call in self.calls)

    def _count(self, *outcomes: Outcome) -> int:
        return sum(call.outcome in outcomes for call in self.calls)


def total(amounts: Iterable[Decimal | None]) -> Decimal | None:
    """Return the sum [USD], or None if any amount is unknown."""
    result = Decimal(0)
    for amount in amounts:
        if amount is None:
            return None
        result += amount
    return result
