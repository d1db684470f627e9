"""Which of two values counts that were set while one machine was away: in simulated time, by what each could know."""

from __future__ import annotations

import itertools

import pytest
from away_teams import not_kept
from simulated import SharedMemory, Simulated, Time, nothing_by_itself, value_id

from genai_cache_magic.entries.team.settling import Settling


@pytest.fixture
def simulated(isolated, monkeypatch):
    time = Time()
    shared = SharedMemory(time)
    with nothing_by_itself(monkeypatch):

        def machine(name, **more):
            made = Simulated(shared, time, name, **more)
            made.look()
            return made

        yield time, machine


@pytest.mark.parametrize("skew_s", [0.0, 86_000.0, -86_000.0])
@pytest.mark.parametrize("apart_s", [-3_600.0, -3.0, 3.0, 3_600.0])
def test_where_nothing_was_the_order_decides(simulated, apart_s, skew_s):
    """A value that a teammate set where nothing was leaves no record: the tier's time decides, if it can."""
    time, machine = simulated
    a, b = machine("a", skew_s=-skew_s), machine("b", skew_s=skew_s)
    b.network.is_cut = True
    actions = [lambda: a.set_value("key", 1) or a.tell(), lambda: b.set_value("key", 2)]
    for action in actions if apart_s < 0 else reversed(actions):
        action()
        time.now_s += abs(apart_s)
    assert b.get_value("key") == 2
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    found = [a.get_value("key"), b.get_value("key")]
    if abs(apart_s) < 10:
        assert found == [None, None]
    else:
        assert found == ([2, 2] if apart_s < 0 else [1, 1])
    assert bool(not_kept(b)) is (found != [2, 2])


def test_a_clock_that_is_set_meanwhile_decides_nothing(simulated):
    """A machine's own clock may jump while it is away: what the team set later counts all the same."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    b.network.is_cut = True
    b.skew_s = 7_200.0
    b.set_value("key", 2)
    time.now_s += 60
    a.set_value("key", 1)
    assert a.tell()
    b.network.is_cut = False
    assert b.tell()
    assert [a.get_value("key"), b.get_value("key")] == [1, 1]
    assert not_kept(b)


def test_a_process_that_began_without_the_tier_knows_no_time(simulated):
    """What is there in the state that it knew may be later or not: nobody gets either, and that is said."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    time.now_s += 3_600
    b.network.is_cut = True
    b.start()
    assert b.set_value("key", 2) == 0
    assert b.get_value("key") == 2
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert not_kept(b)


def test_until_it_is_told_what_the_team_has_is_not_taken_in(simulated):
    """Even if what was set here has expired or was evicted: what it replaced does not come back for a moment."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    assert b.get_value("key") == 1
    b.network.is_cut = True
    b.set_value("key", 2)
    b.disk.store.delete(value_id("key"))
    b.start()
    b.network.is_cut = False
    time.now_s += 6
    assert b.get_value("key") is None
    assert b.tell()
    assert [b.get_value("key"), a.get_value("key")] == [2, 2]


def test_set_again_with_the_team_after_it_was_evicted_here(simulated):
    """What the team has is invalidated though it is not taken in."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    b.network.is_cut = True
    b.set_value("key", 2)
    b.disk.store.delete(value_id("key"))
    b.network.is_cut = False
    b.set_value("key", 3)
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [3, 3]
    assert not not_kept(b)


def test_set_again_by_another_process_while_it_is_told(simulated, monkeypatch):
    """That one had not heard of what waits, and a teammate has invalidated it by a tag: the later value is kept."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    other = b.beside()
    other.look()
    b.network.is_cut = True
    b.set_value("key", 1, tags=["t"])
    b.network.is_cut = False
    a.invalidate_tag("t")
    other.look()
    begin, is_told = other.team.begin, []

    def begin_later(envelopes):
        is_told.append(b.tell())  # between what it decides and what it stores
        return begin(envelopes)

    monkeypatch.setattr(other.team, "begin", begin_later)
    assert other.set_value("key", 2) == 0
    assert is_told == [True]
    assert other.tell()
    time.now_s += 6
    assert [one.get_value("key") for one in (a, b, other)] == [2, 2, 2]


def test_a_machine_that_never_saw_the_document_keeps_none(simulated, monkeypatch):
    """Nothing could be compared later; it is as it was: said at once, and what the team has is invalidated."""
    time, machine = simulated
    a = machine("a")
    a.set_value("key", 1)
    assert a.tell()
    with monkeypatch.context() as patch:
        patch.setattr(Simulated, "look", lambda _: None)
        b = machine("b")
    b.network.is_cut = True
    assert b.set_value("key", 2) == 1
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]


def test_after_more_than_a_day_it_is_not_kept(simulated):
    """Records live as long; what it replaced is gone all the same."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    assert b.get_value("key") == 1
    b.network.is_cut = True
    b.set_value("key", 2)
    time.now_s += 25 * 3_600
    b.network.is_cut = False
    assert b.tell()
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert not_kept(b)


def test_a_floor_that_rose_meanwhile(simulated):
    """Records that a teammate's `gc` has dropped can't be judged by: it is not kept, and said."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    b.network.is_cut = True
    b.set_value("key", 2)
    a.invalidate_tag("other")
    assert a.team.prune(lowest=None).records == 1
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert not_kept(b)


def test_what_is_stored_in_the_middle_of_it_was_set_later(simulated, monkeypatch):
    """A teammate who sets between the look and the publication loses to nobody who set before: both are misses."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    b.network.is_cut = True
    b.set_value("key", 2)
    time.now_s += 60
    b.network.is_cut = False
    looked, looks = Settling._theirs, itertools.count()

    def theirs(self, ids):
        found = looked(self, ids)
        if not next(looks):
            a.set_value("key", 1)
            assert a.tell()
        return found

    monkeypatch.setattr(Settling, "_theirs", theirs)
    assert b.tell()
    time.now_s += 6
    assert [a.get_value("key"), b.get_value("key")] == [None, None]
    assert not_kept(b)


@pytest.mark.parametrize("meanwhile", [None, 3])
def test_a_team_that_goes_once_it_is_published(simulated, monkeypatch, meanwhile):
    """The value that took the place of another by that waits on; what a teammate sets until it is told counts."""
    time, machine = simulated
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    assert a.tell()
    b.look()
    b.network.is_cut = True
    time.now_s += 60
    b.set_value("key", 2)
    b.network.is_cut = False
    change = b.live.change

    def cut_off_then(how):
        changed = change(how)
        b.network.is_cut = True
        return changed

    with monkeypatch.context() as patch:
        patch.setattr(b.live, "change", cut_off_then)
        assert not b.tell()
    time.now_s += 60
    if meanwhile:
        a.set_value("key", meanwhile)
        assert a.tell()
    b.network.is_cut = False
    assert b.tell()
    time.now_s += 6
    assert [one.get_value("key") for one in (a, b, machine("c"))] == [meanwhile or 2] * 3
    assert not not_kept(b)
