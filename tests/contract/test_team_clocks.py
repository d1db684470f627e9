"""Clocks that are wrong by up to a day: invalidation does not depend on them, and times to live hold all the same."""

from __future__ import annotations

import itertools

import pytest
from machines import Origin
from simulated import SharedMemory, Simulated, nothing_by_itself, passing_time  # noqa: F401 - fixtures

from genai_cache_magic.events import Outcome, Tier

DAY_S = 86_400.0
MINUTE_S = 60.0
OFF_S = (-DAY_S, 0.0, DAY_S)


@pytest.fixture
def machine(isolated, monkeypatch, time):
    with nothing_by_itself(monkeypatch):
        yield lambda shared, name, skew_s: Simulated(shared, time, name, skew_s=skew_s)


@pytest.mark.parametrize(("writer", "reader", "server"), list(itertools.product(OFF_S, repeat=3)))
def test_clocks_that_are_off_by_a_day(machine, time, writer, reader, server):
    """An hour is between 55 and 65 minutes for a reader, from the tier and from its copy; what is invalid is so."""
    origin = Origin()
    shared = SharedMemory(time, server_skew_s=server)
    a, b, c = machine(shared, "a", writer), machine(shared, "b", reader), machine(shared, "c", reader)
    a.ask(origin, "question", tags=["t"], ttl_s=3600)
    assert a.tell()
    time.now_s += 10 * MINUTE_S
    assert b.ask(origin, "question")[1].tier is Tier.L2
    time.now_s += 45 * MINUTE_S
    assert [one.ask(origin, "question")[0] for one in (a, b, c)] == [1, 1, 1]
    time.now_s += 10 * MINUTE_S
    for number, one in enumerate((a, b, c), 2):
        one.ask(origin, "question", mode="read")
        assert origin.answers == number
    b.ask(origin, "another", tags=["t"])
    assert b.tell()
    c.ask(origin, "another", tags=["t"])
    invalidated = origin.answers
    a.invalidate_tag("t")
    time.now_s += 6
    assert all(one.ask(origin, "another", tags=["t"])[0] > invalidated for one in (b, c))


@pytest.mark.parametrize("jump_s", [-DAY_S, -60 * MINUTE_S, 60 * MINUTE_S, DAY_S])
@pytest.mark.parametrize("whose", ["writer", "reader", "server"])
def test_a_clock_that_jumps_meanwhile(machine, time, whose, jump_s):
    """What is invalidated stays so, and what was valid is served; only the tier's clock says what is too old."""
    origin, shared = Origin(), SharedMemory(time)
    a, b = machine(shared, "a", 0.0), machine(shared, "b", 0.0)
    a.ask(origin, "question", tags=["t"], ttl_s=int(2 * DAY_S))
    assert a.tell()
    assert b.ask(origin, "question", tags=["t"])[1].tier is Tier.L2
    if whose == "server":
        clock = shared.server.clock
        shared.server.clock = lambda: clock() + jump_s
    else:
        {"writer": a, "reader": b}[whose].skew_s += jump_s
    time.now_s += 6
    assert [one.ask(origin, "question", tags=["t"])[0] for one in (a, b)] == [1, 1]
    a.invalidate_tag("t")
    time.now_s += 6
    assert all(one.ask(origin, "question", tags=["t"])[0] > 1 for one in (b, a))


@pytest.mark.parametrize(("mode", "where"), [("use", "here"), ("use", "with the team"), ("refresh", "here")])
def test_a_refetch_never_shortens_the_stored_time_to_live(machine, time, mode, where):
    """Who wants no old answer gets a new one; for the others that lives as long as what it replaced."""
    origin = Origin()
    shared = SharedMemory(time)
    a, b = machine(shared, "a", 0.0), machine(shared, "b", 0.0)
    a.ask(origin, "question", ttl_s=30 * int(DAY_S))
    assert a.tell()
    time.now_s += 120
    again = a if where == "here" else b
    assert again.ask(origin, "question", mode=mode, ttl_s=60)[0] == 2
    assert again.tell()
    time.now_s += 20 * DAY_S
    assert again.ask(origin, "question")[0] == 2
    # What is valid for others stays theirs, unless it was refreshed.
    other = b if again is a else a
    number, record = other.ask(origin, "question")
    assert (number, record.outcome) == (2 if mode == "refresh" else 1, Outcome.HIT)
    # What is over or invalid has no say.
    again.clear()
    again.ask(origin, "question", ttl_s=60)
    time.now_s += 120
    assert again.ask(origin, "question")[0] == 4
