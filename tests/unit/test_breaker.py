"""A breaker opens when waiting hurts, lets one probe through, and closes when that comes back."""

from __future__ import annotations

import contextlib
import threading

import pytest

from genai_cache_magic.errors import StoreDenied, StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.breaker import Breaker, Circuit
from genai_cache_magic.testing.contracts.store import FakeClock

DOWN = StoreUnavailable("the backend does not answer in time")


class Backend:
    """A breaker, its clock, and the states that it told of."""

    def __init__(self):
        self.clock = FakeClock(100.0)
        self.told = []
        self.breaker = Breaker(
            "backend", on_change=lambda state, _: self.told.append(state), clock=self.clock, jitter=lambda: 0.5
        )

    def call(self, error=None, *, took_s=0.0):
        leave = self.breaker.enter()
        self.clock.advance(took_s)
        if error is None:
            self.breaker.succeeded(leave)
        else:
            self.breaker.failed(leave, error)


@pytest.fixture
def backend():
    return Backend()


def test_a_slow_failure_opens_at_once(backend):
    """What cost a time-out is not tried again: the next call is refused without being made."""
    backend.call(DOWN, took_s=0.3)
    assert backend.breaker.state is Circuit.OPEN
    with pytest.raises(StoreUnavailable, match="does not answer in time"):
        backend.breaker.enter()


def test_quick_failures_count(backend):
    """A reset connection alone opens nothing; three in a row do, and a success between them starts anew."""
    for _ in range(2):
        backend.call(DOWN)
    backend.call()
    for _ in range(2):
        backend.call(DOWN)
    assert backend.breaker.state is Circuit.CLOSED
    backend.call(DOWN)
    assert backend.breaker.state is Circuit.OPEN


def test_one_probe(backend):
    """After its pause one caller is let through, and all others wait for what becomes of it."""
    backend.call(DOWN, took_s=1)
    backend.clock.advance(5)
    probe = backend.breaker.enter()
    assert probe.is_probe
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            backend.breaker.enter()
    backend.breaker.succeeded(probe)
    backend.call()
    assert backend.told == [Circuit.OPEN, Circuit.HALF_OPEN, Circuit.CLOSED]
    assert backend.breaker.reason == ""


def test_a_probe_that_never_ends_is_followed_by_another(backend):
    """Whoever had leave may have been interrupted, or be a thread that a forked child lacks."""
    backend.call(DOWN, took_s=1)
    backend.clock.advance(5)
    assert backend.breaker.enter().is_probe
    backend.clock.advance(59)
    with pytest.raises(StoreUnavailable):
        backend.breaker.enter()
    backend.clock.advance(1)
    backend.call()
    assert backend.breaker.state is Circuit.CLOSED


def test_pauses_grow_to_a_limit(backend):
    """Each failed probe doubles the pause, up to a minute, and a recovery starts from the first again."""
    pauses = []
    backend.call(DOWN, took_s=1)
    for _ in range(6):
        start = backend.clock.now_s
        while True:
            backend.clock.advance(1)
            try:
                probe = backend.breaker.enter()
            except StoreUnavailable:
                continue
            pauses.append(backend.clock.now_s - start)
            backend.breaker.failed(probe, DOWN)
            break
    assert pauses == [5, 10, 20, 40, 60, 60]


def test_retry_after_is_obeyed(backend):
    """A service that names a time is not asked before it."""
    backend.call(StoreThrottled("busy", retry_after_s=30))
    backend.clock.advance(29)
    with pytest.raises(StoreUnavailable):
        backend.breaker.enter()
    backend.clock.advance(2)
    assert backend.breaker.enter().is_probe


def test_a_denial_lasts_until_something_changes(backend):
    """Wrong credentials are not tried again, however long it takes, until they are changed."""
    backend.call(StoreDenied("wrong password"))
    backend.clock.advance(100_000)
    with pytest.raises(StoreDenied, match="wrong password"):
        backend.breaker.enter()
    backend.breaker.reset()
    backend.call()
    assert backend.told == [Circuit.OPEN, Circuit.CLOSED]


def test_an_interrupted_probe_is_given_back(backend):
    """A probe whose caller was interrupted says nothing, and the next caller probes."""
    backend.call(DOWN, took_s=1)
    backend.clock.advance(5)
    backend.breaker.gave_up(backend.breaker.enter())
    assert backend.breaker.enter().is_probe


def test_a_straggler_changes_nothing(backend):
    """A call that began before it opened, and ends while it is open, neither opens nor closes it."""
    early = backend.breaker.enter()
    late = backend.breaker.enter()
    backend.call(DOWN, took_s=1)
    backend.breaker.failed(early, DOWN)
    backend.breaker.succeeded(late)
    assert backend.breaker.state is Circuit.OPEN
    assert backend.told == [Circuit.OPEN]


def test_one_probe_of_many_threads(backend):
    """Of threads that come at once when the pause is over, one probes."""
    backend.call(DOWN, took_s=1)
    backend.clock.advance(6)
    start = threading.Barrier(8)
    given = []

    def ask():
        start.wait()
        with contextlib.suppress(StoreUnavailable):
            given.append(backend.breaker.enter())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(given) == 1


def test_it_can_be_tripped(backend):
    """Somebody who sees a call take for ever opens it, and what the call comes to later changes nothing."""
    leave = backend.breaker.enter()
    backend.breaker.trip(DOWN)
    backend.breaker.trip(DOWN)
    backend.breaker.succeeded(leave)
    assert backend.breaker.state is Circuit.OPEN
    assert backend.told == [Circuit.OPEN]
