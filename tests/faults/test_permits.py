"""Permits to ask the model: one at a time, given back by whoever ends, and held up by no tier that can't be asked."""

from __future__ import annotations

import itertools
import math
import os
import threading

import pytest
from waiters import A, Leases, Waiter, permits_of_mine, permits_of_theirs  # noqa: F401 - fixtures

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries import permits as permits_module
from genai_cache_magic.entries.permits import LIFE_S, Permit, Permits
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.disk.locks import KeyLocks
from genai_cache_magic.testing.contracts.store import key_of


def test_one_at_a_time(mine, theirs):
    """While one process asks another waits, and gets its turn."""
    permit = mine.try_take(A)
    assert permit is not None
    assert theirs.try_take(A) is None
    waiter = Waiter()
    theirs.take(A, waiter)
    mine.release(permit)
    waiter.wait()
    assert mine.try_take(A) is None
    theirs.release(waiter.permit)
    assert mine.try_take(A) is not None


def test_a_process_does_not_wait_for_itself(mine):
    """Within a process flights see to it: a second permit for the same file holds nothing, and is there at once."""
    first, second = mine.try_take(A), mine.try_take(A)
    assert second is not None
    mine.release(second)
    mine.release(first)
    assert mine.try_take(A) is not None


def test_a_call_that_is_dropped_lets_go(mine, theirs):
    """A call that nobody ended, and whose objects are gone, holds nobody up."""
    permit = mine.try_take(A)
    assert theirs.try_take(A) is None
    del permit
    assert theirs.try_take(A) is not None


def test_who_gave_up_gets_none(mine, theirs):
    """A permit that comes too late is given back."""
    permit = mine.try_take(A)
    late = Waiter(is_wanted=False)
    theirs.take(A, late)
    mine.release(permit)
    late.wait()
    waiter = Waiter()
    mine.take(A, waiter)
    assert waiter.wait().lock is not None


def test_without_a_directory_everyone_may_ask(tmp_path):
    """Where no lock can be made, the call is made all the same."""
    (tmp_path / "file").write_text("")
    assert Permits(KeyLocks(tmp_path / "file" / "locks")).try_take(A) is not None


class BadLeases:
    """A tier that can't be asked."""

    def try_take(self, key, *, life_s):
        raise StoreUnavailable("away")

    def extend_many(self, held, *, life_s):
        raise StoreUnavailable("away")

    release = try_take


def test_without_the_tier_the_machine_decides(tmp_path):
    """A team that can't be asked holds nobody up."""
    waiter = Waiter()
    Permits(KeyLocks(tmp_path), BadLeases()).take(A, waiter)
    assert waiter.wait().token is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gives_nothing_of_its_parent_back(tmp_path):
    """A call that was on its way when a process forked keeps its lease, whatever the child ends or closes."""
    leases, waiter = Leases(), Waiter()
    permits = Permits(KeyLocks(tmp_path), leases)
    permits.take(A, waiter)
    permit = waiter.wait()
    child = os.fork()
    if child == 0:
        permits.release(permit)
        permits.close()
        os._exit(len(leases.given_back) + len(permits._leaving))
    assert os.waitpid(child, 0)[1] == 0
    permits.close()
    assert leases.given_back == [A]


def test_a_team_that_can_not_be_told_is_not_waited_for_without_end(tmp_path, monkeypatch):
    """It is asked for less and less often whether the team was told, and no longer than a lease lives."""
    leases, now = Leases(), [0.0]
    permits = Permits(KeyLocks(tmp_path), leases, is_told=lambda _: False, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: None)  # each look is this test's own
    permits.release(Permit(A, token=b"token"))
    pauses = [permits._let_go() for _ in range(30)]
    assert sorted(pauses) == pauses
    assert pauses[-1] > 10 * pauses[0]
    assert leases.given_back == []
    now[0] = LIFE_S + 1
    permits._let_go()
    assert leases.given_back == [A]


class Renewals(Leases):
    """Leases of which it is known when they were extended, and how many at once."""

    def __init__(self, now):
        super().__init__()
        self.now = now
        self.extended = []
        self.lost = set()

    def extend_many(self, held, *, life_s):
        assert life_s == LIFE_S
        self.extended.append((self.now[0], set(held)))
        return set(held) - self.lost


def test_a_lease_lives_as_long_as_its_holder(tmp_path, monkeypatch):
    """All that a process holds is extended by one round, twice at least while it lives; what was lost no more."""
    now = [0.0]
    leases = Renewals(now)
    permits = Permits(KeyLocks(tmp_path), leases, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: None)  # each look is this test's own
    held = {EntryId(key_of(name)): Permit(EntryId(key_of(name))) for name in "abc"}
    assert all(permits._is_granted(permit) for permit in held.values())
    while now[0] < 2 * LIFE_S:
        permits._extend()
        now[0] += permits_module._GLANCE_S
    moments = [0.0, *(at for at, _ in leases.extended), now[0]]
    assert max(later - earlier for earlier, later in itertools.pairwise(moments)) < LIFE_S / 2
    assert all(extended == set(held) for _, extended in leases.extended)
    leases.lost.add(A)
    for _ in range(2):
        now[0] += LIFE_S
        permits._extend()
    assert [extended for _, extended in leases.extended[-2:]] == [set(held), set(held) - {A}]


def test_what_is_held_is_extended_while_others_are_served_slowly(tmp_path, monkeypatch):
    """A tier that takes its time to give leases to many lets none of those end that are held."""
    now = [0.0]

    class Slow(Renewals):
        def try_take(self, key, *, life_s):
            now[0] += LIFE_S / 8
            return super().try_take(key, life_s=life_s)

    leases, served = Slow(now), []
    permits = Permits(KeyLocks(tmp_path), leases, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: True)  # the thread is this test's own
    permits._thread = threading.current_thread()

    def deliver(permit):
        served.append(permit)
        if len(served) == 16:
            permits._thread = None
        return True

    for number in range(16):
        permits.take(EntryId(key_of(str(number))), deliver)
    permits._run()
    moments = [0.0, *(at for at, _ in leases.extended)]
    assert now[0] == 2 * LIFE_S
    assert max(later - earlier for earlier, later in itertools.pairwise([*moments, now[0]])) < LIFE_S


class LeasesForAWhile(Leases):
    """Leases that can't be given back at first."""

    failures = 3

    def release(self, key, token):
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
        return super().release(key, token)


def test_what_could_not_be_given_back_is_given_back_later(tmp_path, monkeypatch):
    """A tier that was away in that moment does not let a whole team wait for as long as a lease lives."""
    leases, now = LeasesForAWhile(), [0.0]
    permits = Permits(KeyLocks(tmp_path), leases, clock=lambda: now[0])
    monkeypatch.setattr(permits, "_wake", lambda: None)  # each look is this test's own
    permits.release(Permit(A, token=b"token"))
    for _ in range(3):
        permits._let_go()
        assert leases.given_back == []
    permits._let_go()
    permits._let_go()
    assert leases.given_back == [A]
    leases.failures = 10
    permits.release(Permit(A, token=b"token"))
    permits._let_go()
    now[0] = LIFE_S + 1
    permits._let_go()
    assert permits._leaving == []  # it has ended by itself


def test_a_lease_is_given_back_while_its_holder_leaves_the_tier_alone(tmp_path):
    """Who waits for it may be on better terms with the tier, and nobody is held up by the attempt."""
    leases, is_back = LeasesForAWhile(), threading.Event()
    leases.failures = math.inf
    refusals = iter([StoreUnavailable("a node is lost")])

    def returns(key, token):
        assert (key, token) == (A, b"token")
        for refusal in refusals:
            raise refusal
        is_back.set()

    permits, waiter = Permits(KeyLocks(tmp_path), leases, returns=returns), Waiter()
    permits.take(A, waiter)
    permits.release(waiter.wait())
    del waiter
    assert is_back.wait(30)
