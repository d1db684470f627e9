"""Request coalescing: of all callers that ask one thing at one time, a single one asks the model.

The first caller leads; the others hold a future, which blocks no thread of ours: a synchronous caller
waits on it, a task awaits it. Coalescing is for efficiency only: whoever can't wait safely goes alone.

A flight belongs to its leader and lives no longer: whatever becomes of the leader, be it an interrupt
between any two lines or a stream that is never closed, nobody waits for one that is gone.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakValueDictionary

from genai_cache_magic import host
from genai_cache_magic.calls.tasks import current_task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.calls.alike import Similar
    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.link import Looked
    from genai_cache_magic.entries.permits import Permit


@dataclass(frozen=True, slots=True)
class Landed:
    """The leader has an answer that every follower may use; `value` is what it handed over.

    `asked` is the form in which it was asked for: who asks in the same one gets `value` as it is.
    """

    value: Any
    is_stored: bool = True
    asked: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The origin failed for the leader, and so for those who waited; `error` is what it got."""

    error: Any = field(repr=False)


@dataclass(frozen=True, slots=True)
class Released:
    """The answer must not be shared: each follower goes alone."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """The leader gave up; this follower leads now."""

    flight: Flight


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The team was asked: what it has is there to be judged."""

    looked: Looked = field(repr=False)


@dataclass(frozen=True, slots=True)
class LookedUpMany:
    """The team was asked for several entries at once."""

    looked: Mapping[EntryId, Looked] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    """No other process or machine asks any more; this caller may."""

    permit: Permit = field(repr=False)


@dataclass(frozen=True, slots=True)
class Likened:
    """Questions that are much alike were looked for: `similar` is the answer of one that may be served, if any."""

    similar: Similar | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PutTogether:
    """A thread has looked many items up: `go_on` says what becomes of their call."""

    go_on: Callable[[], Any] = field(repr=False)


Landing: TypeAlias = Landed | Failed | Released | Promoted | LookedUp | LookedUpMany | Admitted | Likened | PutTogether


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: needed to see who must not wait for whom."""

    thread: int
    task: object | None
    is_async: bool

    @classmethod
    def current(cls, *, is_async: bool) -> Caller:
        """Return the running caller."""
        return cls(threading.get_ident(), current_task(), is_async)

    def must_not_wait_for(self, leader: Caller) -> bool:
        """Return whether waiting for `leader` could wait for ourselves.

        A blocked thread can't run the leader on it, be that a generator further up or a task of its loop.
        """
        if self.is_async:
            return self.task is leader.task and self.thread == leader.thread
        return self.thread == leader.thread


class Pulse:
    """Whether a leader is getting on. Followers look at it, and so it holds no flight."""

    __slots__ = ("_rests_since",)

    def __init__(self) -> None:
        self._rests_since: float | None = None  # replaced as a whole, so needs no lock

    def beat(self) -> None:
        """The leader waits for the origin."""
        self._rests_since = None

    def rest(self) -> None:
        """The leader has handed on what it has; it is for its own caller to ask for more."""
        self._rests_since = time.monotonic()

    def idle_s(self, now: float) -> float:
        """Return how long the leader has been resting [s] at `now`, a time of the monotonic clock."""
        since = self._rests_since
        return 0.0 if since is None else now - since


class Seat(Future[Landing]):
    """What a follower waits on; `pulse` is its leader's."""

    def __init__(self, pulse: Pulse) -> None:
        super().__init__()
        self.pulse = pulse

    def looked_up(self, looked: Looked) -> None:
        """Tell who waits what a look-up brought, unless it has given up."""
        if self.set_running_or_notify_cancel():
            self.set_result(LookedUp(looked))

    def looked_up_many(self, looked: Mapping[EntryId, Looked]) -> None:
        """Tell who waits what look-ups brought, unless it has given up."""
        if self.set_running_or_notify_cancel():
            self.set_result(LookedUpMany(looked))

    def likened(self, similar: Similar | None) -> None:
        """Tell who waits whose answer may be served, unless it has given up."""
        if self.set_running_or_notify_cancel():
            self.set_result(Likened(similar))

    def admitted(self, permit: Permit) -> bool:
        """Hand a permit to who waits; return False if it has given up."""
        is_wanted = self.set_running_or_notify_cancel()
        if is_wanted:
            self.set_result(Admitted(permit))
        return is_wanted


@dataclass(slots=True, eq=False, weakref_slot=True)
class Flight:
    """One upstream call on its way, and those who wait for it."""

    entry_id: EntryId
    leader: Caller
    waiting: deque[tuple[Seat, Caller]] = field(default_factory=deque)
    pulse: Pulse = field(default_factory=Pulse)

    def __del__(self) -> None:
        # Its leader is gone without a word. No lock is needed: nobody else knows it any more, but for what the garbage
        # collector has found with it, which may be asked to give it up after this: by then nobody waits.
        waiting, self.waiting = self.waiting, deque()
        for seat, _ in waiting:
            if seat.set_running_or_notify_cancel():
                seat.set_result(Released())


class Flights:
    """The upstream calls of this process, by entry id."""

    def __init__(self) -> None:
        # Re-entrant: a stream that the garbage collector closes may end a flight in the middle of anything.
        self._lock = host.process_lock()
        # Guarded by _lock, with each flight's `waiting`; an entry is there as long as someone holds its flight.
        self._flights: WeakValueDictionary[EntryId, Flight] = WeakValueDictionary()
        self._pid = os.getpid()  # guarded by _lock

    def join(self, entry_id: EntryId, caller: Caller) -> Flight | Seat | None:
        """Return a flight to lead, a seat to wait in, or None: go alone."""
        with self._lock:
            self._own()
            flight = self._flights.get(entry_id)
            if flight is None:
                flight = self._flights[entry_id] = Flight(entry_id, caller)
                return flight
            if caller.must_not_wait_for(flight.leader):
                return None
            seat = Seat(flight.pulse)
            flight.waiting.append((seat, caller))
            return seat

    def join_many(
        self, entry_ids: Iterable[EntryId], caller: Caller, *, may_wait: bool
    ) -> dict[EntryId, Flight] | Seat:
        """Return flights to lead for those of `entry_ids` that nobody asks for; or, if it `may_wait`, a seat in one.

        Who waits leads nothing meanwhile, so two who need of each other never wait for each other.
        """
        with self._lock:
            self._own()
            flights = {entry_id: self._flights.get(entry_id) for entry_id in entry_ids}
            for flight in flights.values() if may_wait else ():
                if flight is not None and not caller.must_not_wait_for(flight.leader):
                    seat = Seat(flight.pulse)
                    flight.waiting.append((seat, caller))
                    return seat
            led = {entry_id: Flight(entry_id, caller) for entry_id, flight in flights.items() if flight is None}
            self._flights.update(led)
            return led

    def _own(self) -> None:
        """Forget what a fork left behind: the leaders of those flights are threads of the parent. Under the lock."""
        if self._pid != os.getpid():
            self._pid, self._flights = os.getpid(), WeakValueDictionary()

    def land(self, flight: Flight, landing: Landed | Failed | Released) -> None:
        """End `flight` with the same outcome for all who wait."""
        with self._lock:
            self._forget(flight)
            waiting, flight.waiting = flight.waiting, deque()
        for seat, _ in waiting:
            if seat.set_running_or_notify_cancel():
                seat.set_result(landing)

    def abandon(self, flight: Flight) -> None:
        """The leader was cancelled or gave up: promote the first follower still there, if any."""
        with self._lock:
            while flight.waiting:
                seat, caller = flight.waiting.popleft()
                if seat.set_running_or_notify_cancel():
                    flight.leader = caller
                    flight.pulse.beat()
                    break
            else:
                self._forget(flight)
                return
        seat.set_result(Promoted(flight))

    def _forget(self, flight: Flight) -> None:
        if self._flights.get(flight.entry_id) is flight:
            del self._flights[flight.entry_id]
