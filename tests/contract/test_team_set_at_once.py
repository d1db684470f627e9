"""Two machines that set one key where nothing was, before either has told the team: the later counts, for all."""

from __future__ import annotations

import pytest
from away_teams import (  # noqa: F401 - fixtures
    everywhere,
    machine_a,
    machine_b,
    not_kept,
    team_that_can_be_cut,
    way_to_a_tier,
)
from machines import Origin
from simulated import machine_in_time, passing_time, shared_memory, value_id  # noqa: F401 - fixtures

from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.errors import StoreUnavailable

KEYS = [f"key {number}" for number in range(5)]


@pytest.fixture(name="machines")
def machines_a_and_b(a, b):
    return {"a": a, "b": b}


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("set_many", ["set", "mset", "pipeline"])
def test_all_get_one_value(team, machines, monkeypatch, order, set_many):
    """Whoever is told first, and in each way of setting; a third machine gets no other."""
    a, b = machines.values()
    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)  # neither has told the team before the other asks it
        for name, machine in machines.items():
            if set_many == "set":
                for key in KEYS:
                    machine.cache.set(key, name)
            elif set_many == "mset":
                machine.cache.mset(dict.fromkeys(KEYS, name))
            else:
                batch = machine.cache.pipeline()
                for key in KEYS:
                    batch.set(key, name)
                batch.execute()
        for name in order:
            machines[name].told()
    third = team.machine("c")
    for key in KEYS:
        assert len(set(everywhere([a, b, third], key))) == 1
    assert not not_kept(a)
    assert not not_kept(b)


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("apart_s", [0.001, 0.5, 3_600.0])
@pytest.mark.parametrize("skew_s", [0.0, 86_000.0])
def test_the_later_counts(time, machine, order, apart_s, skew_s):
    """By the tier's clock, whoever tells first, and whatever the machines' own clocks show."""
    machines = {"a": machine("a", skew_s), "b": machine("b", -skew_s)}
    for one in machines.values():
        one.look()
    machines["a"].set_value("key", 1)
    time.now_s += apart_s
    machines["b"].set_value("key", 2)
    for name in order:
        assert machines[name].tell()
    time.now_s += 6
    assert [one.get_value("key") for one in machines.values()] == [2, 2]
    assert machine("c").get_value("key") == 2
    assert not any(not_kept(one) for one in machines.values())


def test_of_two_in_one_moment_one_counts(machine):
    """All machines choose the same, and none undoes the other's choice for ever."""
    machines = [machine(name) for name in "abc"]
    for number, one in enumerate(machines):
        one.set_value("key", number)
    assert all(one.tell() for one in machines)
    assert all(one.tell() for one in machines)
    for one in machines:
        one.time.now_s += 6
        one.look()
    assert len({one.get_value("key") for one in machines}) == 1
    assert machines[0].get_value("key") is not None


def test_what_is_computed_takes_no_record(time, machine, shared):
    """Two answers to one call that were fetched at once: who told first counts, and no record is written."""
    a, b = machine("a"), machine("b")
    numbers = iter(range(2))
    for one in (a, b):
        origin = Origin()
        origin.answers = next(numbers)
        one.ask(origin, "question")
    assert a.tell()
    assert b.tell()
    assert not b.live.current().entries


@pytest.mark.parametrize(
    ("meanwhile", "counts"),
    [
        pytest.param(lambda _, b: b.set_value("key", 3), 3, id="set again here"),
        pytest.param(lambda a, _: a.delete_value("key"), None, id="deleted by a teammate"),
    ],
)
def test_what_happens_while_it_is_decided_counts(time, machine, monkeypatch, meanwhile, counts):
    """Whoever sets or deletes the key then comes after both."""
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    time.now_s += 1
    b.set_value("key", 2)
    assert a.tell()
    change = b.live.change

    def after_that(how):
        monkeypatch.setattr(b.live, "change", change)
        meanwhile(a, b)
        return change(how)

    monkeypatch.setattr(b.live, "change", after_that)
    assert b.tell()
    time.now_s += 6
    assert [one.get_value("key") for one in (b, a, machine("c"))] == [counts] * 3


def test_a_team_that_goes_meanwhile_decides_later(time, machine, monkeypatch):
    """What could not be decided waits on, also in the process that takes over from a killed one."""
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    time.now_s += 1
    b.set_value("key", 2)
    assert a.tell()
    with monkeypatch.context() as patch:

        def away(_how):
            raise StoreUnavailable("away")

        patch.setattr(b.live, "change", away)
        assert not b.tell()
    assert b.get_value("key") == 2
    b.start()
    assert b.tell()
    time.now_s += 6
    assert [b.get_value("key"), a.get_value("key")] == [2, 2]


def test_the_queue_knows_what_was_set(tmp_path):
    """Also after it was damaged; a fill in its place is none that was set."""
    id_, other = value_id("key"), value_id("other")
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.add_entries({id_: b"set", other: b"set too"}, are_set=True)
    assert [one.is_set for one in outbox.entries(9)] == [True, True]
    first, second = outbox.entries(9)
    assert list(outbox.put_anew({first.number: b"anew"})) == [first.number]
    assert not outbox.put_anew({first.number: b"too late"})
    assert [(one.envelope, one.is_set) for one in outbox.entries(9)] == [(b"set too", True), (b"anew", True)]
    outbox.add_entries({id_: b"filled"})
    assert {one.entry_id: one.is_set for one in outbox.entries(9)} == {id_: False, other: True}
    outbox.drop_entries([second.number])
    outbox.add_entries({other: b"filled"})
    assert [one.is_set for one in outbox.entries(9)] == [False, False]
    outbox.close()
