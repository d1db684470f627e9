"""Request coalescing: of all callers that ask one thing at one time, a single one asks the model.

The first caller leads; the others hold a future, which blocks no thread of ours: a synchronous caller
waits on it, a task awaits it. Coalescing is for efficiency only: whoever can't wait safely goes alone.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from genai_cache_magic.core.model import EntryId


@dataclass(frozen=True, slots=True)
class Landed:
    """The leader has an answer that every follower may use; `value` is what it handed over."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failed:
    """The origin failed for the leader, and so for those who waited; `error` is what it got."""

    error: Any


@dataclass(frozen=True, slots=True)
class Released:
    """The answer must not be shared: each follower goes alone."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """The leader gave up; this follower leads now."""

    flight: Flight


Landing: TypeAlias = Landed | Failed | Released | Promoted


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: needed to see who must not wait for whom."""

    thread: int
    task: asyncio.Task[Any] | None
    is_async: bool

    @classmethod
    def current(cls, *, is_async: bool) -> Caller:
        """Return the running caller."""
        try:
            task = asyncio.current_task()
        except RuntimeError:
            task = None
        return cls(threading.get_ident(), task, is_async)

    def must_not_wait_for(self, leader: Caller) -> bool:
        """Return whether waiting for `leader` could wait for ourselves.

        A blocked thread can't run the leader on it, be that a generator further up or a task of its loop.
        """
        if self.is_async:
            return self.task is leader.task and self.thread == leader.thread
        return self.thread == leader.thread


@dataclass(slots=True)
class Flight:
    """One upstream call on its way, and those who wait for it."""

    entry_id: EntryId
    leader: Caller
    waiting: deque[tuple[Future[Landing], Caller]] = field(default_factory=deque)


class Flights:
    """The upstream calls of this process, by entry id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[EntryId, Flight] = {}  # guarded by _lock, with each flight's `waiting`

    def join(self, entry_id: EntryId, caller: Caller) -> Flight | Future[Landing] | None:
        """Return a flight to lead, a future to wait for, or None: go alone."""
        with self._lock:
            flight = self._flights.get(entry_id)
            if flight is None:
                flight = self._flights[entry_id] = Flight(entry_id, caller)
                return flight
            if caller.must_not_wait_for(flight.leader):
                return None
            future: Future[Landing] = Future()
            flight.waiting.append((future, caller))
            return future

    def land(self, flight: Flight, landing: Landed | Failed | Released) -> None:
        """End `flight` with the same outcome for all who wait."""
        with self._lock:
            if self._flights.get(flight.entry_id) is flight:
                del self._flights[flight.entry_id]
            waiting, flight.waiting = flight.waiting, deque()
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(landing)

    def abandon(self, flight: Flight) -> None:
        """The leader was cancelled or gave up: promote the first follower still there, if any."""
        with self._lock:
            while flight.waiting:
                future, caller = flight.waiting.popleft()
                if future.set_running_or_notify_cancel():
                    flight.leader = caller
                    break
            else:
                if self._flights.get(flight.entry_id) is flight:
                    del self._flights[flight.entry_id]
                return
        future.set_result(Promoted(flight))
