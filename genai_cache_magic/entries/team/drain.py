"""A thread that tells the team what is still to be told: invalidations, then values that were set, then entries."""

from __future__ import annotations

import math
import os
import threading
import time
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.errors import PartUnavailable, StoreThrottled, StoreUnavailable, WriteRefused
from genai_cache_magic.host import chance

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.validity import Change
    from genai_cache_magic.entries.team.outbox import Outbox, SetValue, Waiting
    from genai_cache_magic.stores.disk.locks import FileLock

_BATCH = 1_000
_VALUES = 100
_OTHERS_S = 0.5
"""How long to leave the queue to another process before looking at it again [s]."""
_MOST_DOUBLINGS = 16
_IDLE_S = 30.0
"""After so long without work the thread ends; the next entry starts another [s]."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a queue that can't be told is tried again, and after what pauses.

    Parameters
    ----------
    max_attempts
        After so many failures in a row it rests until there is something new to tell, or the team answers again; 0 is
        without end.
    first_pause_s, longest_pause_s
        After the first failure, and at most [s]; each is shortened by up to a half, to spread the machines of a team.
    is_exponential
        Whether the pause doubles with each failure.
    """

    max_attempts: int = 0
    first_pause_s: float = 0.5
    longest_pause_s: float = 60.0
    is_exponential: bool = True

    def pause_s(self, failures: int) -> float:
        """Return how long to wait after so many failures in a row [s]."""
        doubled = min(failures - 1, _MOST_DOUBLINGS) if self.is_exponential else 0
        return min(self.first_pause_s * float(1 << doubled), self.longest_pause_s) * chance.uniform(0.5, 1.0)

    def is_last(self, failures: int) -> bool:
        """Return whether that was the last failure before a rest."""
        return 0 < self.max_attempts <= failures


class Receives(Protocol):
    """The team, as the queue sees it. Every method raises ``StoreUnavailable`` while it can't be told."""

    def publish(self, changes: Sequence[Change]) -> None:
        """Publish invalidations, in this order, as one change."""

    def settle(self, values: Sequence[SetValue], own_changes: Sequence[Change]) -> None:
        """Take values that were set off the queue: as entries where they count, else for good.

        `own_changes` were published a moment ago, and may have made some of them invalid.
        """

    def fill(self, waiting: Sequence[Waiting]) -> None:
        """Store entries that would still be served, where nothing valid stands; leave out what nobody can read.

        Where something does, and ours was set, the later of the two is to count.
        """


class Drain:
    """Empties an outbox in the background. Safe to share between threads and by forked children.

    Parameters
    ----------
    outbox
        What is still to be told.
    team
        Who is to be told.
    lock
        Held by the one process of this machine that tells; None where there is only this one.
    told
        Called after invalidations were published.
    retries
        How to go on when the team can't be told.
    clock
        Seconds that never run backwards.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        outbox: Outbox,
        team: Receives,
        *,
        lock: FileLock | None = None,
        told: Callable[[], None] = lambda: None,
        retries: Retries | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._team = team
        self._file_lock = lock
        self._told = told
        self._retries = retries or Retries()
        self._clock = clock
        self._is_closed = False
        self._wakes_at: float
        self._thread: threading.Thread | None = None  # guarded by _lock; one that could not be started is none
        self._begin_anew()

    def poke(self) -> None:
        """Say that there may be something to tell; returns at once."""
        if self._pid != os.getpid():
            self._begin_anew()  # the thread is the parent's
        with self._lock:
            self._has_work.set()
            if self._is_closed:
                return
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="genai-cache-drain", daemon=True)
                with suppress(RuntimeError):  # there may be too many: whoever comes next tries again
                    Context().run(self._thread.start)  # it belongs to no cell

    def wake(self) -> None:
        """Say that the team answers: a queue that had given up, or waits for long by now, is told.

        Where that fails all the same the pauses grow anew, however often the team answers meanwhile.
        """
        if self._is_resting:
            self.poke()
        elif self._clock() >= self._wakes_at:
            self._wakes_at = math.inf
            self._pause.set()

    def close(self) -> None:
        """Tell nothing more in the background: what waits is left for whoever comes next; may be called twice."""
        with self._lock:
            self._is_closed = True
            self._thread = None
            self._has_work.set()
            self._pause.set()  # the thread that it was ends at once, unless it is telling right now

    def once(self) -> None:
        """Tell all that waits now, in this thread.

        Raises
        ------
        StoreUnavailable
            The team, or the queue itself, can't be reached; what was not told waits on.
        """
        if self._file_lock is None:
            self._tell_all()
            return
        if not self._file_lock.try_acquire():
            return  # another process of this machine is at it, and tells ours too
        try:
            self._tell_all()
        finally:
            self._file_lock.release()

    def finish(self, *, within_s: float) -> bool:
        """Tell what waits, for at most about `within_s` [s]; return whether nothing is left."""
        give_up_at = self._clock() + within_s
        while not self._is_empty():
            try:
                self.once()
            except StoreUnavailable:
                return False
            if self._clock() >= give_up_at:
                return False
            self._pause.wait(0.02)  # another process may hold the lock
        return True

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # re-entrant: the garbage collector may end a call in any line
        self._has_work = threading.Event()
        self._pause = threading.Event()
        self._thread = None
        self._is_resting = False  # whether it was tried often enough in vain; set by the thread alone
        self._wakes_at = math.inf  # from when on the pause after a failure may be ended [s]

    def _run(self) -> None:
        failures = woken = 0
        pid = self._pid
        while pid == os.getpid() and self._thread is threading.current_thread():
            if not self._has_work.wait(_IDLE_S):
                with self._lock:
                    if not self._has_work.is_set():
                        self._thread = None
                        return
            self._has_work.clear()
            self._is_resting = False
            try:
                self.once()
                failures = woken = 0
                if self._is_empty():
                    continue
            except StoreUnavailable as error:
                failures += 1
                if isinstance(error, WriteRefused) or self._retries.is_last(failures):
                    failures, self._is_resting = 0, True
                    continue
                asked_s = (isinstance(error, StoreThrottled) and error.retry_after_s) or 0.0
                woken += self._is_woken(
                    earliest_s=max(asked_s, self._retries.pause_s(woken + 1)),
                    latest_s=max(asked_s, self._retries.pause_s(failures)),
                )
            else:
                self._pause.wait(_OTHERS_S)  # another process tells, or was killed while it did
            self._has_work.set()

    def _is_woken(self, *, earliest_s: float, latest_s: float) -> bool:
        """Pause until the team is seen to answer, within these bounds from now on [s]; return whether it was."""
        self._wakes_at = self._clock() + earliest_s
        is_woken = self._pause.wait(latest_s)
        self._wakes_at = math.inf
        if not self._is_closed:
            self._pause.clear()
        return is_woken

    def _is_empty(self) -> bool:
        try:
            return self._outbox.count() == (0, 0)
        except StoreUnavailable:
            return False

    def _tell_all(self) -> None:
        changes = self._outbox.changes()
        if changes:
            self._team.publish([change for _, change in changes])
            self._outbox.drop_changes(number for number, _ in changes)
            self._told()
        late: dict[EntryId, PartUnavailable] = {}
        self._settle_all([change for _, change in changes], late)
        while batch := [waiting for waiting in self._outbox.entries(_BATCH) if waiting.entry_id not in late]:
            try:
                self._fill(batch)
            except StoreUnavailable as error:
                if len(batch) > 1:
                    self._fill_one_by_one(batch, late)  # it may be one of them alone that the tier does not take
                elif isinstance(error, PartUnavailable):
                    late[batch[0].entry_id] = error  # not once more: it waits under another number by now
                else:
                    raise
        if late:
            raise next(iter(late.values()))

    def _settle_all(self, changes: Sequence[Change], late: dict[EntryId, PartUnavailable]) -> None:
        """Settle values; note as `late` those that take a part of the tier which can't be asked now."""
        while batch := self._outbox.values(_VALUES, without=late):
            try:
                self._team.settle(batch, changes)
            except StoreUnavailable as error:
                if len(batch) == 1 and not isinstance(error, PartUnavailable):
                    raise
                for value in batch:
                    try:
                        self._team.settle([value], changes)
                    except PartUnavailable as part:
                        late[value.entry_id] = part

    def _fill_one_by_one(self, batch: Sequence[Waiting], late: dict[EntryId, PartUnavailable]) -> None:
        """Tell of each alone, and note as `late` what a part of the tier does not take now: no other waits for it."""
        for waiting in batch:
            try:
                self._fill([waiting])
            except PartUnavailable as error:
                late[waiting.entry_id] = error

    def _fill(self, batch: Sequence[Waiting]) -> None:
        try:
            self._team.fill(batch)
        except WriteRefused:
            pass  # nobody on this machine may tell of them, and they would wait for ever
        except StoreUnavailable:
            if len(batch) == 1:
                self._outbox.put_last(batch[0].number)
            raise
        self._outbox.drop_entries(waiting.number for waiting in batch)
