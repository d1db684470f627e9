"""A thread that asks the shared tier for everyone: look-ups that come together go as one, and nobody waits in a lock.

Who asks gives a function that is called with the outcome: exactly once, from another thread, and soon after the
deadline at the latest, whatever the tier does meanwhile.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from concurrent.futures import Future, wait
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId

T = TypeVar("T")

DEADLINE_S = 1.8
"""How long a round may take [s]."""
_BURST_S = 0.02
"""Threads that ask within so long of each other are at it together, and wait for each other at most so long [s]."""
_QUIET_S = 0.002
"""After so long without another look-up those that came are a round [s]."""
_IDLE_S = 30.0
"""After so long without work the threads end; the next look-up starts others [s]."""
_GLANCE_S = 0.2
"""How often somebody looks whether a round is overdue [s]: no time-out of a client bounds a byte a second."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look-up brought: the sealed entry, or None; `trouble` says why the tier could not be asked.

    Not `is_offline`, it can be reached, and lets us not do what was asked. `is_away` says that there is an entry which
    can't be had now: a miss.
    """

    envelope: bytes | None = field(default=None, repr=False)
    trouble: str = ""
    is_offline: bool = True
    is_away: bool = False

    @property
    def says(self) -> str:
        """The trouble as people see it."""
        return f"L2 offline, serving L1: {self.trouble}" if self.is_offline else self.trouble


UNREAD: Final = b""
"""Stands for a value that is there, and was too much to be read in time: no value of ours is empty."""
AWAY: Final = b"\0"
"""Stands for a value that is there, and lies in a part of the tier that can't be asked: none of ours is one byte."""
_TOO_MUCH: Final = "so much was asked for at once that it could not all be sent in time: ask for less at once, or again"


@dataclass(eq=False, slots=True)
class _Worker:
    """A thread that carries out rounds, and the round that it is in since `started` [s]."""

    thread: threading.Thread | None = field(default=None, repr=False)
    started: float = 0.0
    entry_ids: tuple[EntryId, ...] = field(default=(), repr=False)


def within(deadline_s: float, work: Callable[[], T], *, overdue: Callable[[], str]) -> T:
    """Return what `work` returns, or raise what it raises, if that comes soon enough.

    Raises
    ------
    StoreUnavailable
        It took longer than `deadline_s` [s]; what `overdue` returns says so. What is still going on is given up.
    """
    ended: Future[T] = Future()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:  # noqa: BLE001 - passed on to who waits
            ended.set_exception(error)

    thread = threading.Thread(target=run, name="genai-cache-within", daemon=True)
    Context().run(thread.start)
    if not wait([ended], deadline_s).done:
        raise StoreUnavailable(overdue())
    return ended.result()


class Link:
    """Gathers the look-ups of one process into rounds. Safe to share between threads and by forked children.

    Parameters
    ----------
    ask
        Looks the ids of a round up, and returns what is there, and why the tier could not be asked; raises nothing.
        What is there and could not be read in time is `UNREAD`, what is in a part that can't be asked is `AWAY`.
    overdue
        Called when a round takes too long, which is then given up; returns what to say.
    deadline_s
        How long a round may take [s].
    round_size
        How many ids one round asks for.
    clock
        Seconds that never run backwards.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[EntryId]], tuple[Mapping[EntryId, bytes], str]],
        *,
        overdue: Callable[[], str],
        deadline_s: float = DEADLINE_S,
        round_size: int = 1_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._overdue = overdue
        self._deadline_s = deadline_s
        self._round_size = round_size
        self._clock = clock
        self._begin_anew()

    def look_up(self, entry_id: EntryId, deliver: Callable[[Looked], None]) -> None:
        """Look `entry_id` up; who asks for one that is on its way shares what comes of it."""
        self.look_up_many([(entry_id, deliver)])

    def look_up_many(self, asked: Iterable[tuple[EntryId, Callable[[Looked], None]]]) -> None:
        """Look up all that is `asked`, as `look_up`: what one caller asks for together goes together."""
        if self._pid != os.getpid():
            self._begin_anew()  # threads and locks are the parent's
        with self._lock:
            asked = list(asked)
            wanted = [entry_id for entry_id in dict(asked) if not self._waiting.get(entry_id)]
            self._note_caller()
            if wanted and not self._has_worker():
                self._start()
            for start in range(0, len(wanted), self._round_size):
                self._queue.put(tuple(wanted[start : start + self._round_size]))
            # After all that an interrupt may come into, or nobody would ever ask for what is noted here.
            for entry_id, deliver in asked:
                self._waiting.setdefault(entry_id, []).append(deliver)

    def _begin_anew(self) -> None:
        self._lock = host.process_lock()
        self._queue: queue.SimpleQueue[tuple[EntryId, ...]] = queue.SimpleQueue()
        self._waiting: dict[EntryId, list[Callable[[Looked], None]]] = {}  # guarded by _lock, like the next
        self._worker: _Worker | None = None
        self._last = (0, 0.0)  # which thread asked, and when [s]
        self._burst_until = 0.0
        self._pid = os.getpid()

    def _note_caller(self) -> None:
        """See whether several threads ask in turns; the caller holds the lock."""
        thread, now = threading.get_ident(), self._clock()
        if thread != self._last[0] and now - self._last[1] < _BURST_S:
            self._burst_until = now + _BURST_S
        self._last = thread, now

    def _start(self) -> None:
        """Start a worker and its watch; the caller holds the lock."""
        worker = self._worker = _Worker()
        for work in (self._watch, self._work):
            worker.thread = threading.Thread(target=work, args=(worker,), name="genai-cache-link", daemon=True)
            # It belongs to no cell, and threads carry the scope of whoever starts them.
            Context().run(worker.thread.start)

    def _has_worker(self) -> bool:
        """Return whether a thread carries rounds out, be it about to; the caller holds the lock."""
        worker = self._worker
        return worker is not None and worker.thread is not None and worker.thread.is_alive()

    def _work(self, worker: _Worker) -> None:
        while self._worker is worker:
            try:
                first = self._queue.get(timeout=_IDLE_S)
            except queue.Empty:
                with self._lock:
                    if self._worker is worker and self._queue.empty():
                        self._worker = None
                        return
                continue
            entry_ids = self._with_others(first)
            worker.entry_ids, worker.started = entry_ids, self._clock()
            found, trouble = self._ask(entry_ids)
            with self._lock:
                if self._worker is not worker:
                    return  # overdue, and all who waited were told
                worker.entry_ids = ()
            self._deliver(entry_ids, found, trouble)

    def _with_others(self, first: tuple[EntryId, ...]) -> tuple[EntryId, ...]:
        """Return `first` and what else waits; a caller's own are never torn apart, so a round may be twice its size.

        While several threads ask in turns, it is waited for a moment who else comes.
        """
        entry_ids = list(first)
        longest = self._clock() + _BURST_S
        while len(entry_ids) < self._round_size:
            try:
                if self._clock() < min(longest, self._burst_until):
                    entry_ids += self._queue.get(timeout=_QUIET_S)
                else:
                    entry_ids += self._queue.get_nowait()
            except queue.Empty:
                break
        return tuple(entry_ids)

    def _watch(self, worker: _Worker) -> None:
        pause = threading.Event()
        while self._worker is worker:
            pause.wait(_GLANCE_S)
            with self._lock:
                entry_ids = worker.entry_ids
                is_overdue = bool(entry_ids) and self._clock() - worker.started > self._deadline_s
                if not is_overdue or self._worker is not worker:
                    continue
                self._worker = None
                if not self._queue.empty():
                    self._start()
            self._deliver(entry_ids, {}, self._overdue())

    def _deliver(self, entry_ids: Sequence[EntryId], found: Mapping[EntryId, bytes], trouble: str) -> None:
        with self._lock:
            waiting = [(entry_id, self._waiting.pop(entry_id, [])) for entry_id in entry_ids]
        for entry_id, delivers in waiting:
            for deliver in delivers:
                deliver(looked(found.get(entry_id), trouble))


def looked(value: bytes | None, trouble: str) -> Looked:
    """Return what a look-up brought that found `value`, or had this `trouble`."""
    if value == UNREAD:
        return Looked(None, _TOO_MUCH, is_offline=False)
    return Looked(is_away=True) if value == AWAY else Looked(value, trouble)
