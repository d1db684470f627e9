"""What a whole run has spent under its budget: one count, changed by every process and machine that shares the cache.

It is where counts are (`Cache.hincrby`): with the team, else on this machine. Each call adds what it reserves before it
is sent, and corrects that when its price is known. While nobody can be asked, a process goes on with what its own cell
may spend, and says so.
"""

from __future__ import annotations

import time
from concurrent.futures import wait
from typing import TYPE_CHECKING, Final, TypeVar

from genai_cache_magic.entries.link import within
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from genai_cache_magic.calls.scope import CellScope, Counts

T = TypeVar("T")

NAME: Final = "budget of run {}"
FIELD: Final = "nano USD, spent or reserved"
_DEADLINE_S: Final = 1.8
"""So long a call waits to be counted [s]; then it goes without."""
_PAUSE_S: Final = 30.0
"""So long nobody is asked again who did not answer [s]."""
_SETTLING_S: Final = 5.0
"""How long the end of a scope waits until what its calls have cost is counted [s]."""


class RunShare:
    """One scope's part in the budget of a run."""

    def __init__(self, run: str, limit: int, scope: CellScope) -> None:
        self._name = NAME.format(run)
        self._limit = limit
        self._scope = scope
        self._workers = Workers(1, "genai-cache budget")  # one, so that all is counted in its order
        self._last: Future[None] | None = None
        self._retry_at = 0.0  # of the worker's thread alone

    def reserve(self, amount: int) -> Future[int | None]:
        """Begin to set `amount` of the run's budget aside [1e-9 USD]; raises nothing.

        Its result is None if that was done, or is to be, since nobody could be asked; else what the others have.
        """
        return self._workers.submit(self._reserve, amount)

    def count(self, amount: int) -> Future[int | None]:
        """Count `amount`, whether or not it is left; returns as `reserve`."""
        return self._workers.submit(self._count, amount)

    def correct(self, reserved: Future[int | None], amount: int) -> None:
        """Add `amount` to what was `reserved`, if it was, in the background."""
        self._last = self._workers.submit(self._correct, (reserved, amount))

    def wait(self) -> None:
        """Wait until all is counted, for a moment at most."""
        last = self._last
        if last is not None:
            wait([last], _SETTLING_S)

    def _reserve(self, amount: int) -> int | None:
        # In one step for all who share the count: so what is too much for one is never in the way of another.
        added = self._asked(amount, lambda counts: counts.add_within(self._name, FIELD, amount, at_most=self._limit))
        if added is None:
            return None
        is_reserved, committed = added
        return None if is_reserved else committed

    def _count(self, amount: int) -> None:
        self._added(amount)

    def _correct(self, what: tuple[Future[int | None], int]) -> None:
        reserved, amount = what
        if amount and reserved.result() is None:  # it is there: all is done in its order
            self._added(amount)

    def _added(self, amount: int) -> None:
        self._asked(amount, lambda counts: counts.add(self._name, FIELD, amount))

    def _asked(self, amount: int, ask: Callable[[Counts], T]) -> T | None:
        """Add what is owed, then `ask`, which adds `amount`; return None if nobody could be asked."""
        counts: Counts | None = self._scope.counts
        now = time.monotonic()
        if counts is None:
            return None
        if now < self._retry_at:
            counts.owe(self._name, amount)
            return None
        owed = counts.take_owed(self._name)  # also by an earlier scope, which ended while nobody could be asked
        try:
            if owed:
                within(_DEADLINE_S, lambda: counts.add(self._name, FIELD, owed), overdue=_overdue)
                owed = 0
            return within(_DEADLINE_S, lambda: ask(counts), overdue=_overdue)
        except (StoreUnavailable, ConfigurationError) as exc:
            # Perhaps it was counted all the same: then the run is held to less than its budget, never to more.
            counts.owe(self._name, owed + max(0, amount))
            self._retry_at = now + _PAUSE_S
            self._scope.emit(
                Trouble(
                    "budget",
                    type(exc).__name__,
                    f"what the run has spent can't be counted now: this cell is held to the budget for itself ({exc})",
                )
            )
            return None


def _overdue() -> str:
    return f"no answer within {_DEADLINE_S:g} s"
