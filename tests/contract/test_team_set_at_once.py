"""Two machines that set one key where nothing was, before either has told the team: the later counts, for all."""

from __future__ import annotations

import os

import pytest
from away_teams import (  # noqa: F401 - fixtures
    LARGEST_SMALL_BYTES,
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
SIZES = [(first, then) for first in (1, 2 * LARGEST_SMALL_BYTES) for then in (1, 2 * LARGEST_SMALL_BYTES)]


def set_each(cache, items):
    for key, value in items.items():
        cache.set(key, value)


def set_in_a_pipeline(cache, items):
    batch = cache.pipeline()
    for key, value in items.items():
        batch.set(key, value)
    batch.execute()


WAYS = {"set": set_each, "mset": lambda cache, items: cache.mset(items), "pipeline": set_in_a_pipeline}


def seen_by_all(time, machines):
    time.now_s += 6
    return [one.get_value("key") for one in machines]


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
            WAYS[set_many](machine.cache, dict.fromkeys(KEYS, name))
        for name in order:
            machines[name].told()
    third = team.machine("c")
    for key in KEYS:
        assert len(set(everywhere([a, b, third], key))) == 1
    assert not not_kept(a)
    assert not not_kept(b)


@pytest.mark.service
@pytest.mark.usefixtures("sockets_collected")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # as `services.LEAVES_SOCKETS`
@pytest.mark.parametrize("tier", ["both", "cluster"], indirect=True)
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_of_what_lies_in_two_places_the_later_counts(team, machines, monkeypatch, order):
    """On whichever side of a limit one or both of them lie, or on whichever node; in each way of setting."""
    values = {}
    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        for number, machine in enumerate(machines.values()):
            made = {how: {f"{how} {at}": os.urandom(one[number]) for at, one in enumerate(SIZES)} for how in WAYS}
            for how, items in made.items():
                WAYS[how](machine.cache, items)
                values |= items
        for name in order:
            machines[name].told()
    third = team.machine("c")
    for _ in range(2):  # as it comes from the team, and as it lies here then
        for key, value in values.items():
            assert everywhere([*machines.values(), third], key) == [value] * 3
    for machine in machines.values():
        assert not not_kept(machine)
        assert machine.cache.team.waiting() == (0, 0)


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


@pytest.mark.parametrize("order", ["abc", "bac"])
def test_what_a_third_decides_while_it_is_decided_is_looked_at(time, machine, monkeypatch, order):
    """What it has put there was set before ours, which is the last, and no deletion of it."""
    machines = {name: machine(name) for name in "abc"}
    for name in order:
        machines[name].set_value("key", ord(name))
        time.now_s += 1
    a, b, c = (machines[name] for name in order)
    assert a.tell()
    change = c.live.change

    def after_another(how):
        monkeypatch.setattr(c.live, "change", change)
        assert b.tell()
        return change(how)

    monkeypatch.setattr(c.live, "change", after_another)
    assert c.tell()
    time.now_s += 6
    assert [one.get_value("key") for one in (a, b, c, machine("d"))] == [ord("c")] * 4


def test_what_a_third_is_about_to_store_is_waited_for(time, machine, monkeypatch):
    """He has made invalid what was there, and ours with it, which is the last: it is no deletion."""
    a, b, c = (machine(name) for name in "abc")
    for number, one in enumerate([a, b, c]):
        one.set_value("key", number)
        time.now_s += 1
    assert a.tell()
    change, look, looks = b.live.change, c.team._settling._look, []

    def cut_off_then(how):
        changed = change(how)
        b.network.is_cut = True
        return changed

    with monkeypatch.context() as patch:
        patch.setattr(b.live, "change", cut_off_then)
        assert not b.tell()
    assert seen_by_all(time, [a, machine("d")]) == [None, None]

    def looks_again():
        if looks:
            b.network.is_cut = False
            assert b.tell()
        looks.append(look())

    monkeypatch.setattr(c.team._settling, "_look", looks_again)
    assert c.tell()
    monkeypatch.undo()
    assert seen_by_all(time, [a, b, c, machine("e")]) == [2] * 4


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
    outbox.begin({id_: b"set", other: b"set too"})
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


@pytest.mark.parametrize("is_told", [False, True])
def test_set_again_while_it_is_set(time, machine, monkeypatch, is_told):
    """By another thread, between its place here and the queue: the team hears of what lies here, not of the first."""
    a, b = machine("a"), machine("b")
    keep = b.team.keep

    def set_again_first(envelopes, **more):
        monkeypatch.setattr(b.team, "keep", keep)
        if is_told:
            assert b.tell()
        time.now_s += 1
        b.set_value("key", 2)
        keep(envelopes, **more)

    monkeypatch.setattr(b.team, "keep", set_again_first)
    b.set_value("key", 1)
    assert b.tell()
    assert seen_by_all(time, [a, b, machine("c")]) == [2] * 3
