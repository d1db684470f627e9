"""Keeps the books: calls are noted as they end, and added to their accounts behind.

What was spent is in the database when its caller goes on, so that a killed kernel forgets no bill. A hit is only put
on a list, which a thread adds up a moment later.
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import sys
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Outcome
from genai_cache_magic.ledger.accounts import DAY_MS, Account, Batch, Sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.events import CallRecord
    from genai_cache_magic.ledger.accounts import Accounts
    from genai_cache_magic.ledger.run_rows import RunNote
    from genai_cache_magic.ledger.statistics import Statistics

_BEHIND_S: Final = 0.5
"""How long hits are gathered before they are added [s]."""

_MOST_UNCOUNTED: Final = 20_000
"""So many calls wait to be counted at most; beyond, the oldest are forgotten, which no bill depends on."""

_IDLE_S: Final = 10.0
"""After so long without a hit the thread ends; the next hit starts another [s]."""


class Books:
    """What the calls of this process come to, for one namespace. Safe to share between threads and by forked children.

    Trouble with the database is nobody's but ours: what could not be added is tried again with what comes next.

    Parameters
    ----------
    accounts
        Where they are added up.
    now_ms
        The wall clock [ms since the epoch].
    random_bytes
        Makes this process's name among the writers.
    statistics
        What else is counted of the same calls, always behind.
    """

    def __init__(
        self,
        accounts: Accounts,
        *,
        now_ms: Callable[[], int],
        random_bytes: Callable[[int], bytes] = os.urandom,
        statistics: Statistics | None = None,
    ) -> None:
        self._accounts = accounts
        self.statistics = statistics
        self._now_ms = now_ms
        self._random_bytes = random_bytes
        self._lock = host.process_lock()
        self._is_closed = False
        self._is_adding = False  # guarded by _lock
        self._counting = host.process_lock()
        self._is_counting = False  # guarded by _counting
        self.added: Callable[[], None] = lambda: None  # called when something was added, under _lock
        self._begin_anew()

    def note(self, call: CallRecord, *, run: str, person: str) -> None:
        """Count `call`, which has come to its end."""
        if self._pid != host.process_id():
            self._begin_anew()  # what waits is the parent's to add, and so is its thread
        self._waiting.append((self._now_ms(), call, run, person))
        if call.outcome is not Outcome.HIT:
            self.flush()
        if not self._has_work.is_set():
            self._has_work.set()
            self._ensure_thread()

    def note_run(self, note: RunNote) -> None:
        """Note a call of a named run."""
        if self._pid != host.process_id():
            self._begin_anew()
        self._notes.append(note)
        if note.call.outcome != Outcome.HIT:
            self.flush()
        elif not self._has_work.is_set():
            self._has_work.set()
            self._ensure_thread()

    def count(self) -> None:
        """Count what has been added to the accounts; what can't be counted now is tried again with what comes next."""
        if self.statistics is None:
            return
        with self._counting:
            if self._is_counting:
                return
            self._is_counting = True
            noted: list[tuple[int, CallRecord]] = []
            try:
                with contextlib.suppress(IndexError):
                    while len(noted) < _MOST_UNCOUNTED:
                        noted.append(self._uncounted.popleft())
                self.statistics.add(noted)
            except StoreUnavailable:
                self._uncounted.extendleft(reversed(noted))
            finally:
                self._is_counting = False

    def flush(self) -> bool:
        """Add what waits to the accounts, and return whether all of it is there."""
        with self._lock:
            if self._is_adding:  # the garbage collector ended a call in the middle of this: it comes with the next
                return False
            self._is_adding = True
            try:
                return self._add_all()
            finally:
                self._is_adding = False

    def now_ms(self) -> int:
        """Return the time by the clock that calls are counted by [ms since the epoch]."""
        return max(0, self._now_ms())

    def today(self) -> int:
        """Return the day of today, counted as in an account."""
        return max(0, self._now_ms()) // DAY_MS

    def unwritten(self) -> dict[Account, Sums]:
        """Return what could not be added so far."""
        with self._lock:
            return {} if self._batch is None else dict(self._batch.sums)

    def close(self) -> None:
        """Add what waits, and end the thread; may be called twice."""
        if self._is_closed or self._pid != os.getpid():
            return
        self._is_closed = True
        self._has_work.set()
        self._stopping.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join()
        self.flush()
        self.count()
        self._accounts.file.close()
        if self.statistics is not None:
            self.statistics.close()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._writer = self._random_bytes(16)
        self._number = 0  # of the last batch; guarded by _lock, like the next two
        self._batch: Batch | None = None
        self._is_adding = self._is_counting = False  # by a thread that is not here
        self._thread: threading.Thread | None = None
        self._waiting: deque[tuple[int, CallRecord, str, str]] = deque()
        self._uncounted: deque[tuple[int, CallRecord]] = deque(maxlen=_MOST_UNCOUNTED)
        self._notes: deque[RunNote] = deque()
        self._has_work = threading.Event()
        self._stopping = threading.Event()
        _at_the_end(self)

    def _add_all(self) -> bool:
        """Add the batch that could not be added before, then what has come since; the caller holds the lock."""
        for _ in range(2):
            if self._batch is None and not self._gather():
                return True
            assert self._batch is not None
            try:
                # Under its number: where nobody can tell whether it went through, it is added again and counts once.
                self._accounts.add(self._writer, self._batch, day=self._now_ms() // DAY_MS)
            except StoreUnavailable:
                return False
            self._batch = None
            self.added()
        return not (self._waiting or self._notes)

    def _gather(self) -> bool:
        """Make what waits the next batch, and return whether there is anything."""
        if not (self._waiting or self._notes):
            return False
        sums: dict[Account, Sums] = {}
        notes: list[RunNote] = []
        self._number += 1
        self._batch = Batch(self._number, sums, notes)  # now, so that an interrupt in the middle loses nothing
        with contextlib.suppress(IndexError):  # others put on while this takes off
            while True:
                at_ms, call, run, person = self._waiting.popleft()
                account = Account(max(0, at_ms) // DAY_MS, call.provider, call.model, run, person)
                sums.setdefault(account, Sums()).add_call(call)
                self._uncounted.append((at_ms, call))
        with contextlib.suppress(IndexError):
            while True:
                notes.append(self._notes.popleft())
        return True

    def _ensure_thread(self) -> None:
        with self._lock:
            is_there = self._thread is not None and self._thread.is_alive()
            if is_there or self._is_closed:
                return
            try:
                self._thread = threading.Thread(target=self._run, name="genai-cache ledger", daemon=True)
                # It belongs to no cell, whose scope it would keep alive.
                contextvars.Context().run(self._thread.start)
            except Exception:  # noqa: BLE001 - too many threads, or one that somebody else has put in its place
                self._thread = None
                self._has_work.clear()  # what waits is added with the next miss, or at the end

    def _run(self) -> None:
        while True:
            if not self._has_work.wait(_IDLE_S):
                with self._lock:
                    if not self._has_work.is_set():
                        self._thread = None
                        return
            self._stopping.wait(_BEHIND_S)
            self._has_work.clear()  # before what waits is taken: whoever comes later says so again
            if not self.flush():
                self._has_work.set()
            self.count()
            if self._is_closed:
                return


def _at_the_end(books: Books) -> None:
    """Let what waits be added when this process ends, also in a worker, which skips what ``atexit`` holds."""
    known = weakref.ref(books)

    def flush() -> None:
        if (there := known()) is not None and not there._is_closed:  # noqa: SLF001 - a function of this file's only class
            there.flush()
            there.count()

    atexit.register(flush)
    workers = sys.modules.get("multiprocessing.util")
    if workers is not None:
        workers.Finalize(None, flush, exitpriority=1)
