"""Request coalescing beyond one process: of a machine's processes and a team's machines, one asks the model.

A permit is a file lock, which dies with its holder, and where there is a team also a lease in its tier, which lives ten
seconds and is extended while its holder asks. It is for efficiency only: whoever can't get one, or waits too
long, asks all the same, and what is valid is decided elsewhere.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakSet, WeakValueDictionary

from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.stores.base import Leases
    from genai_cache_magic.stores.disk.locks import FileLock, KeyLocks

LIFE_S = 10.0
"""How long a lease lives whose holder was killed [s]. Longer than a pause of the breaker and all that leads to it."""
LONGEST_WAIT_S = 60.0
"""How long anyone waits for another process or machine [s]."""
_EXTEND_S = 2.5
_LOOK_S = 1.0
"""How often who waits for another machine looks whether the tier could tell what that one stores [s]."""
_GLANCE_S = 0.5
"""How often somebody looks whether a lease is to be extended [s]."""
_FIRST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.1
_PAUSE_GROWTH = 1.4


@dataclass(eq=False, slots=True, weakref_slot=True)
class Permit:
    """Leave to ask the model for one entry, while others wait.

    `has_waited` says that somebody else had it before: what they fetched may be there now.
    """

    entry_id: EntryId = field(repr=False)
    has_waited: bool = False
    lock: FileLock | None = field(default=None, repr=False)
    token: bytes | None = field(default=None, repr=False)
    extended: float = 0.0
    released: float = 0.0
    pid: int = field(default_factory=os.getpid)

    def __del__(self) -> None:
        # A call that was dropped without an end; its lease ends by itself.
        with contextlib.suppress(AttributeError):  # of one that was never made whole
            self.let_go()

    def let_go(self) -> None:
        """Free the lock, unless it is a parent's: a forked child that freed it would free it for both."""
        lock, self.lock = self.lock, None
        if lock is not None and self.pid == os.getpid():
            lock.release()


@dataclass(eq=False, slots=True)
class _Applicant:
    """Who waits for a permit."""

    permit: Permit = field(repr=False)
    deliver: Callable[[Permit], bool] = field(repr=False)
    gives_up_at: float
    pause_s: float = _FIRST_PAUSE_S
    asks_at: float = 0.0
    looks_at: float = math.inf


class Permits:
    """The permits of one namespace. Safe to share between threads and by forked children.

    Parameters
    ----------
    locks
        The machine's.
    leases
        The team's, None without one.
    is_told
        Whether the team was told what was stored for an entry, so that its lease can go.
    is_away
        Whether the team can't be asked for any of these entries: what another machine stores won't be found then.
    returns
        Gives a lease back to a tier that `leases` leaves alone for now; None if it leaves none alone.
    clock
        Seconds that never run backwards.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        locks: KeyLocks,
        leases: Leases | None = None,
        *,
        is_told: Callable[[EntryId], bool] = lambda _: True,
        is_away: Callable[[Sequence[EntryId]], bool] = lambda _: False,
        returns: Callable[[EntryId, bytes], object] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._locks = locks
        self._leases = leases
        self._is_told = is_told
        self._is_away = is_away
        self._returns = returns
        self._clock = clock
        self._parents: set[str] = set()
        self._thread: threading.Thread | None = None  # guarded by _lock; one that could not be started is none
        self._begin_anew()

    def try_take(self, entry_id: EntryId) -> Permit | None:
        """Return a permit if it can be had at once, without asking a tier; None: `take` one."""
        self._ensure_own()
        permit = Permit(entry_id)
        return permit if self._leases is None and self._has_lock(permit) else None

    def take(self, entry_id: EntryId, deliver: Callable[[Permit], bool]) -> None:
        """Call `deliver`, from another thread, with a permit as soon as it can be had, or one that holds nothing.

        `deliver` returns False if nobody wants it any more. Where no thread can be started nobody waits: it is called
        at once.
        """
        self._ensure_own()
        applicant = _Applicant(Permit(entry_id), deliver, self._clock() + LONGEST_WAIT_S)
        with self._lock:
            self._applicants.append(applicant)
        if not self._wake():
            with self._lock:
                self._applicants.remove(applicant)
            deliver(applicant.permit)

    def release(self, permit: Permit) -> None:
        """Let the next one ask: those of this machine now, the team as soon as it was told what was stored."""
        if permit.pid != os.getpid():
            return  # the parent's, which asks, and gives it back
        if permit.lock is not None:
            with self._lock:
                self._held.pop(str(permit.lock.path), None)
            permit.let_go()
        if permit.token is not None:
            permit.released = self._clock()
            with self._lock:
                self._leaving.append(permit)
                self._pause_s = _FIRST_PAUSE_S
            self._wake()

    def close(self) -> None:
        """Give all leases back; may be called twice."""
        self._ensure_own()
        with self._lock:
            permits = [*self._asking, *self._leaving]
            self._asking.clear()
            self._leaving.clear()
        for permit in permits:
            self._give_back(permit)

    def _ensure_own(self) -> None:
        if self._pid != os.getpid():
            # Locks, leases and threads are the parent's. It may be waiting for us, so we don't wait for it.
            parents = {*self._parents, *self._held}
            self._begin_anew()
            self._parents = parents

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.RLock()  # re-entrant: the garbage collector may end a call in any line
        # Guarded by _lock, as what follows; a permit is there as long as a call holds it.
        self._held: WeakValueDictionary[str, Permit] = WeakValueDictionary()
        self._applicants: list[_Applicant] = []
        self._asking: WeakSet[Permit] = WeakSet()
        self._leaving: list[Permit] = []
        self._pause_s = _FIRST_PAUSE_S  # until it is asked again whether the team was told
        self._returning: threading.Thread | None = None
        self._returns_at = 0.0
        self._thread = None
        self._has_work = threading.Event()

    def _wake(self) -> bool:
        """See to it that somebody works, and return whether anybody does."""
        with self._lock:
            self._has_work.set()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="genai-cache-permits", daemon=True)
                try:
                    Context().run(self._thread.start)  # it belongs to no cell
                except RuntimeError:  # there may be too many: whoever comes next tries again
                    return False
        return True

    def _run(self) -> None:
        pid = self._pid
        while pid == os.getpid() and self._thread is threading.current_thread():
            with self._lock:
                applicants = list(self._applicants)
                if not applicants and not self._leaving and not self._asking:
                    self._thread = None
                    return
                self._has_work.clear()
            pauses = []
            for applicant in applicants:
                pauses.append(self._serve(applicant))
                self._extend()  # each may have waited for the tier for seconds
            self._look()
            pauses.append(self._let_go())
            self._extend()
            self._has_work.wait(min(pauses))

    def _serve(self, applicant: _Applicant) -> float:
        """Try for `applicant`; return when to look again [s]."""
        now = self._clock()
        if now < applicant.asks_at:
            return applicant.asks_at - now
        if not self._is_granted(applicant.permit) and now < applicant.gives_up_at:
            applicant.permit.has_waited = True
            applicant.pause_s = min(applicant.pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)
            applicant.asks_at = now + applicant.pause_s
            if self._leases is not None and self._has_lock(applicant.permit):  # so what it lacks is the lease
                applicant.looks_at = min(applicant.looks_at, now + _LOOK_S)
            return applicant.pause_s
        self._grant(applicant)
        return _LONGEST_PAUSE_S

    def _grant(self, applicant: _Applicant) -> None:
        with self._lock:
            self._applicants.remove(applicant)
        if not applicant.deliver(applicant.permit):
            self.release(applicant.permit)

    def _is_granted(self, permit: Permit) -> bool:
        """Take what `permit` still lacks, as far as it can be had now; what can't be asked for is done without."""
        return self._has_lock(permit) and (self._leases is None or self._has_lease(permit, self._leases))

    def _look(self) -> None:
        """Let those go who wait for another machine in vain.

        In a cluster a lease may lie on a node that is well, and what its holder is to store on one that is lost.
        """
        now = self._clock()
        with self._lock:
            due = [applicant for applicant in self._applicants if applicant.looks_at <= now]
        if not due:
            return
        is_away = self._is_away([applicant.permit.entry_id for applicant in due])
        for applicant in due:
            applicant.looks_at = self._clock() + _LOOK_S
            if is_away:
                self._grant(applicant)

    def _has_lock(self, permit: Permit) -> bool:
        if permit.lock is not None:
            return True
        lock = self._locks.of(permit.entry_id)
        name = str(lock.path)
        with self._lock:
            if name in self._held or name in self._parents:
                # This process's own, for this entry or for another on the same file: in here flights see to it, and
                # to wait for ourselves could be to wait for ever.
                return True
            try:
                if not lock.try_acquire():
                    return False
            except StoreUnavailable:
                return True
            permit.lock = lock
            self._held[name] = permit
        return True

    def _has_lease(self, permit: Permit, leases: Leases) -> bool:
        if permit.token is None:
            try:
                permit.token = leases.try_take(permit.entry_id, life_s=LIFE_S)
            except StoreUnavailable:
                return True
            if permit.token is None:
                return False
            permit.extended = self._clock()
            with self._lock:
                self._asking.add(permit)
        return True

    def _let_go(self) -> float:
        """Give back the leases of which the team was told; return when to look again [s].

        Where it can't be told for as long as a lease lives, nobody waits for that any more.
        """
        now = self._clock()
        with self._lock:
            leaving = list(self._leaving)
            pause_s = self._pause_s
            self._pause_s = min(pause_s * _PAUSE_GROWTH, _LONGEST_PAUSE_S)
        for permit in leaving:
            if now - permit.released > LIFE_S or self._is_told(permit.entry_id):
                self._give_back(permit, is_last=now - permit.extended > LIFE_S)
        self._return_in_time(now)
        return pause_s if leaving else _GLANCE_S

    def _extend(self) -> None:
        now = self._clock()
        with self._lock:
            due = [permit for permit in self._asking if now - permit.extended > _EXTEND_S]
        if not due or self._leases is None:
            return
        for permit in due:
            permit.extended = now
        held: dict[str, bytes] = {permit.entry_id: token for permit in due if (token := permit.token) is not None}
        with contextlib.suppress(StoreUnavailable):
            ours = self._leases.extend_many(held, life_s=LIFE_S)
            with self._lock:  # one that has ended is not asked about again
                self._asking.difference_update(permit for permit in due if permit.entry_id not in ours)

    def _give_back(self, permit: Permit, *, is_last: bool = True) -> None:
        """Give a lease back; where that fails, and it is not the last attempt, it is tried again while it lives."""
        with self._lock:
            self._asking.discard(permit)
        token = permit.token
        try:
            if token is not None and self._leases is not None:
                self._leases.release(permit.entry_id, token)
        except StoreUnavailable:
            if not is_last:
                return
        self._is_back(permit)

    def _return_in_time(self, now: float) -> None:
        """Try, by a thread that holds nobody up, to give leases back that can't go the usual way now.

        Who waits for them may be on better terms with the tier, or they lie on a node of a cluster that is well.
        """
        with self._lock:
            kept = [permit for permit in self._leaving if permit not in self._asking]
            is_at_it = self._returning is not None and self._returning.is_alive()
            if self._returns is None or not kept or is_at_it or now < self._returns_at:
                return
            self._returns_at = now + _LOOK_S
            self._returning = threading.Thread(
                target=self._return, args=(kept, self._returns), name="genai-cache-returns", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # there may be too many: they end by themselves
                Context().run(self._returning.start)

    def _return(self, permits: Sequence[Permit], returns: Callable[[EntryId, bytes], object]) -> None:
        give_up_at = self._clock() + _LOOK_S
        for permit in permits:
            with contextlib.suppress(StoreUnavailable):
                if (token := permit.token) is not None:
                    returns(permit.entry_id, token)
                self._is_back(permit)
            if self._clock() > give_up_at:
                return

    def _is_back(self, permit: Permit) -> None:
        permit.token = None
        with self._lock:
            if permit in self._leaving:
                self._leaving.remove(permit)
