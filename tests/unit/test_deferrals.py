"""Bodies on their way from where their rendering was put off: who waits for them waits for no others."""

from __future__ import annotations

import pytest

from genai_cache_magic.intercept.stainless import bodies


@pytest.fixture
def waits(monkeypatch):
    """How often somebody waited for bodies to arrive."""
    told = []
    monkeypatch.setattr(bodies.time, "sleep", told.append)
    monkeypatch.setattr(bodies, "_LONGEST_WAY_S", 0.01)
    return told


def one():
    return bodies.Deferred({"model": "m"}, b"{}", dict, object())


def test_who_waits_for_bodies_on_their_way(waits):
    """A body that has not arrived is waited for, also beside one that has and says the same."""
    deferrals, arrived, late = bodies.Deferrals(), one(), one()
    assert deferrals.may_go(arrived)
    assert deferrals.may_go(late)
    deferrals.arrived(arrived)
    deferrals.end()
    assert waits


def test_bodies_that_arrived_or_were_lost(waits):
    """A body that has arrived, or that nobody holds any more since its call failed before, is not waited for."""
    deferrals, arrived, lost = bodies.Deferrals(), one(), one()
    assert deferrals.may_go(arrived)
    assert deferrals.may_go(lost)
    deferrals.arrived(arrived)
    del lost
    deferrals.end()
    assert waits == []


def test_bodies_that_come_too_late(waits):
    """Once it is over, no body goes, and none that wanted to is waited for."""
    deferrals, late = bodies.Deferrals(), one()
    deferrals.end()
    assert not deferrals.may_go(late)
    deferrals.end()
    assert waits == []
