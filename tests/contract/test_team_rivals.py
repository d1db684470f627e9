"""Entries that were set at once and can't be told as they are: what becomes of each, whoever has ruled meanwhile."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from simulated import machine_in_time, passing_time, shared_memory, value_id  # noqa: F401 - fixtures

from genai_cache_magic.core import validity
from genai_cache_magic.entries.placing import Places
from genai_cache_magic.entries.team import drain, settling
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.stores.snapshot import SnapshotDocument


def seen_by(*machines):
    """Return what each gets under `key`, once what it knew is too old to go by."""
    machines[0].time.now_s += 6
    return [one.get_value("key") for one in machines]


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
@pytest.mark.parametrize("apart_s", [0.01, 1_800.0])
def test_of_three_the_last_counts(time, machine, order, apart_s):
    """Whoever is told first: the second that is told does not make the third, and latest, one invalid."""
    machines = {name: machine(name) for name in "abc"}
    for number, one in enumerate(machines.values()):
        one.set_value("key", number)
        time.now_s += apart_s
    for name in order:
        assert machines[name].tell()
    assert seen_by(*machines.values(), machine("d")) == [2, 2, 2, 2]


@pytest.mark.parametrize("how", ["delete", "tag", "clear"])
def test_what_was_removed_before_it_is_told_stays_so(time, machine, how):
    """Also where what the team had then was set earlier."""
    a, b, c = machine("a"), machine("b"), machine("c")
    for number, one in enumerate([a, b, c]):
        one.set_value("key", number, ["t"])
        time.now_s += 1
    assert a.tell()
    assert b.tell()
    d = machine("d")
    d.look()
    if how == "delete":
        d.delete_value("key")
    elif how == "tag":
        d.invalidate_tag("t")
    else:
        d.clear()
    assert c.tell()
    assert seen_by(a, b, c, d) == [None] * 4


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_what_the_team_has_no_more_leaves_room(time, machine, monkeypatch, order):
    """What stopped it has gone by the time that it is compared: it is told then, and not left with its machine."""
    a, b = machine("a"), machine("b")
    for name, one in (("a", a), ("b", b)) if order == "ab" else (("b", b), ("a", a)):
        one.set_value("key", ord(name), ["t"] if name == "a" else [])
        time.now_s += 1
    assert a.tell()
    contest = b.team._settling.contest

    def after_an_invalidation(waiting):
        monkeypatch.undo()
        a.invalidate_tag("t")
        contest(waiting)

    monkeypatch.setattr(b.team._settling, "contest", after_an_invalidation)
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [ord("b")] * 3


def test_what_was_evicted_meanwhile_leaves_room(time, machine, shared, monkeypatch):
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    time.now_s += 1
    b.set_value("key", 2)
    assert a.tell()
    contest = b.team._settling.contest

    def after_an_eviction(waiting):
        monkeypatch.undo()
        shared.server.store.delete(value_id("key"))
        contest(waiting)

    monkeypatch.setattr(b.team._settling, "contest", after_an_eviction)
    assert b.tell()
    assert seen_by(b, machine("c")) == [2, 2]


def test_more_than_there_is_room_for_lose_nothing(time, machine, monkeypatch):
    """A record that is full makes all that was stored before invalid: rather than that, what was told first counts."""
    for module in (validity, settling):
        monkeypatch.setattr(module, "MAX_ENTRY_RECORDS", 6)
    a, b = machine("a"), machine("b")
    keys = [f"key {number}" for number in range(8)]
    for number, one in enumerate([a, b]):
        for key in keys:
            one.set_value(key, number)
        time.now_s += 1
    assert a.tell()
    assert b.tell()
    time.now_s += 6
    c = machine("c")
    found = [[one.get_value(key) for key in keys] for one in (a, b, c)]
    assert found[0] == found[1] == found[2]
    assert sorted(found[0]) == [0] * 5 + [1] * 3
    c.set_value(keys[-1], 2)
    c.set_value(keys[-2], 2)
    assert c.tell()
    time.now_s += 6
    assert [a.get_value(key) for key in keys] == [*found[0][:-2], 2, 2]


def test_an_invalidation_that_waits_here_is_about_it(time, machine):
    """What was set, and then invalidated while nobody could be told, ends with that; nothing goes round for ever."""
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    time.now_s += 1
    b.set_value("key", 2, ["t"])
    assert a.tell()
    b.network.is_cut = True
    b.invalidate_tag("t")
    b.network.is_cut = False
    b.team.fill(b.disk.outbox.entries(9))  # before the invalidation was told
    assert b.get_value("key") is None
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [None, None, None]


def test_who_has_not_seen_that_all_was_cleared_undoes_nothing(time, machine):
    """What waits of before is not put in place of what was set since, though its machine knows nothing of that."""
    a, b = machine("a"), machine("b")
    a.look()
    b.set_value("key", 1)
    time.now_s += 1
    a.clear()
    a.set_value("key", 2)
    assert a.tell()
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [2, 2, 2]


def test_records_are_for_what_was_contested(time, machine):
    """One for each key, however many machines have set it, and none for a key that one alone has set."""
    machines = [machine(name) for name in "abc"]
    for number, one in enumerate(machines):
        one.set_value("key", number)
        one.set_value(f"key of {number}", number)
        time.now_s += 1
    assert all(one.tell() for one in machines)
    assert list(machines[0].team.look_anew().entries) == [value_id("key")]


@pytest.mark.parametrize(("ttls_s", "expected"), [((9_000, 9), None), ((9, 9_000), 2), ((9, 9), None)])
@pytest.mark.parametrize("is_evicted", [False, True])
def test_what_expires_while_it_waits(  # noqa: PLR0917 - parts
    time, machine, shared, monkeypatch, ttls_s, expected, is_evicted
):
    """The last that was set counts, though its time is over by the time that it is told: then nobody has anything."""
    a, b = machine("a"), machine("b")
    for one, number, ttl_s in ((a, 1, ttls_s[0]), (b, 2, ttls_s[1])):
        one.set_value("key", number, ttl_s=ttl_s)
        time.now_s += 1
    assert a.tell()
    time.now_s += 60
    if is_evicted:
        shared.server.store.delete(value_id("key"))
    # As a container answers.
    put_if = MemoryStore.put_if
    monkeypatch.setattr(
        MemoryStore,
        "put_if",
        lambda store, key, blob, *, ttl_s, held: (
            (held or ttl_s > 0) and put_if(store, key, blob, ttl_s=ttl_s, held=held)
        ),
    )
    assert b.tell()
    found = seen_by(a, b, machine("c"))
    assert found == ([1, None, None] if is_evicted and ttls_s[0] == 9_000 else [expected] * 3)


def test_a_tier_that_neither_shows_nor_takes_it_is_asked_again_later(time, machine, monkeypatch):
    """It does not keep the queue busy, nor what waits behind it."""
    a, b = machine("a"), machine("b")
    b.set_value("key", 2)
    time.now_s += 1
    b.set_value("other", 3)
    put_if, asked = MemoryStore.put_if, []

    def lies(store, key, blob, **how):
        if key != value_id("key") or store is not a.team._tier._inner.server.store:
            return put_if(store, key, blob, **how)
        asked.append(key)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "put_if", lies)
        assert not b.tell()
        assert not b.tell()
    assert len(asked) < 200
    assert b.disk.outbox.count() == (0, 1)
    assert b.get_value("key") == 2
    assert b.tell()
    time.now_s += 6
    assert [one.get_value("key") for one in (a, b)] == [2, 2]
    assert a.get_value("other") == 3


def test_a_queue_that_fails_meanwhile_loses_nothing(time, machine, monkeypatch):
    """Once theirs is published as invalid, ours is told, though this machine's disk is full or busy by then."""
    a, b = machine("a"), machine("b")
    a.set_value("key", 1)
    time.now_s += 1
    b.set_value("key", 2)
    assert a.tell()
    with monkeypatch.context() as patch:

        def fails(*_):
            raise StoreUnavailable("the disk is full")

        patch.setattr(Outbox, "put_anew", fails)
        patch.setattr(Outbox, "drop_entries", fails)
        assert not b.tell()
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [2, 2, 2]


class Killed(BaseException):
    """Stands for the end of a process."""


_STEPS = (
    (Outbox, "put_anew"),
    (Outbox, "drop_entries"),
    (Places, "place"),
    (Places, "remove"),
    (SnapshotDocument, "replace"),
)


def dies_at(point, patch, steps=_STEPS):
    """Let whatever is done die at its step `point`, before it or after; return the steps that were done."""
    done = []

    def stepping(name, do):
        def stepped(*args, **more):
            if len(done) == point:
                raise Killed
            result = do(*args, **more)
            done.append(name)
            if len(done) == point:
                raise Killed
            return result

        return stepped

    for owner, name in steps:
        patch.setattr(owner, name, stepping(name, getattr(owner, name)))
    return done


@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("point", range(9))
def test_killed_while_it_is_decided(time, machine, monkeypatch, point, is_later):
    """The next process decides it again; only between publishing and queueing anew is it a miss, for all."""
    a, b = machine("a"), machine("b")
    for one, number in ((a, 1), (b, 2)) if is_later else ((b, 2), (a, 1)):
        one.set_value("key", number)
        time.now_s += 1
    assert a.tell()
    with monkeypatch.context() as patch:
        done = dies_at(point, patch)
        with contextlib.suppress(Killed):
            b.tell()
    b.start()
    assert b.tell()
    expected = (2 if is_later else 1) if done[-1:] != ["replace"] else None
    assert seen_by(a, b, machine("c")) == [expected] * 3


_SETTING = ((Outbox, "begin"), (Outbox, "add_begun"), (Places, "place"))


@pytest.mark.parametrize("point", range(6))
def test_killed_while_it_is_set(time, machine, monkeypatch, point):
    """The next process of its machine tells it, as if it had been set, or it never was: nobody is alone with it."""
    a, b = machine("a"), machine("b")
    b.look()
    with monkeypatch.context() as patch:
        dies_at(point, patch, _SETTING)
        with contextlib.suppress(Killed):
            b.set_value("key", 2)
    time.now_s += 1
    a.set_value("key", 1)
    assert a.tell()
    b.start()
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [1] * 3


def test_told_while_it_is_set(time, machine, monkeypatch):
    """By another thread, between the queue and its place here: what the team has decided holds here too."""
    a, b = machine("a"), machine("b")
    b.look()
    place = Places.place

    def told_first(places, *args, **more):
        if places is b.entries.places:
            monkeypatch.setattr(Places, "place", place)
            time.now_s += 1
            a.set_value("key", 1)
            assert a.tell()
            assert b.tell()
        return place(places, *args, **more)

    monkeypatch.setattr(Places, "place", told_first)
    b.set_value("key", 2)
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [1] * 3


@pytest.mark.parametrize("is_away", [False, True])
def test_what_another_process_has_set_meanwhile_waits_on(machine, monkeypatch, is_away):
    """Where it has the place of who set the key at once, takes that back, and is killed before it comes to more."""
    a, b = machine("a"), machine("b")
    b.look()
    other, begin = b.beside(), b.team.begin

    def after_another(envelopes):
        b.network.is_cut = is_away
        other.set_value("key", 1)
        b.network.is_cut = False
        return begin(envelopes)

    def dies(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(b.team, "begin", after_another)
        patch.setattr(b.team, "try_invalidate", dies)
        with pytest.raises(Killed):
            b.set_value("key", 2)
    b.start()
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [1] * 3


def test_set_away_over_what_was_told_while_it_was_set(machine, monkeypatch):
    """What is queued once more, since it is not known who told it, takes the place of nothing that was set since."""
    a, b = machine("a"), machine("b")
    b.look()
    keep = b.team.keep

    def after_another(envelopes, **more):
        monkeypatch.setattr(b.team, "keep", keep)
        assert b.tell()
        b.network.is_cut = True
        b.beside().set_value("key", 3)
        b.network.is_cut = False
        keep(envelopes, **more)

    monkeypatch.setattr(b.team, "keep", after_another)
    b.set_value("key", 2)
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [3] * 3


def test_of_many_that_are_set_some_lie_here(machine, monkeypatch):
    """Though the disk was full then, and the caller hears of it: what lies here is told, and the rest is not."""
    a, b = machine("a"), machine("b")
    b.look()
    put = Places._put

    def fills_up(places, pending, *more):
        first = dict(list(pending.items())[:1])
        put(places, first, *more)
        if first != pending:
            raise StoreUnavailable("the disk is full")
        return list(first)

    entries = {}
    with monkeypatch.context() as patch:
        patch.setattr(b.entries, "overwrite", entries.update)
        b.set_value("key", 1)
        b.set_value("other", 2)
    with monkeypatch.context() as patch:
        patch.setattr(Places, "_put", fills_up)
        with pytest.raises(StoreUnavailable):
            b.entries.overwrite(entries)
    assert b.tell()
    c = machine("c")
    assert seen_by(a, b, c) == [1] * 3
    assert [one.get_value("other") for one in (a, b, c)] == [None] * 3


def test_interrupted_while_it_is_set(machine, monkeypatch):
    """What has begun is told soon, and not with whatever is set next: it lies here, perhaps."""
    b = machine("b")
    b.look()
    pokes = []

    def interrupted(*_):
        monkeypatch.setattr(b.team._drain, "poke", lambda: pokes.append(b.disk.outbox.count()))
        raise KeyboardInterrupt

    monkeypatch.setattr(b.entries.places, "place", interrupted)
    with pytest.raises(KeyboardInterrupt):
        b.set_value("key", 1)
    assert pokes == [(0, 1)]


@pytest.mark.parametrize("batch", [1, 2, 1_000])
def test_many_that_the_tier_neither_shows_nor_takes(machine, monkeypatch, batch):
    """They are given up for now, also where each is told in a batch of its own, in turns with the others."""
    monkeypatch.setattr(drain, "_BATCH", batch)
    a, b = machine("a"), machine("b")
    keys = {value_id(key): b.set_value(key, 1) for key in ("key", "other", "third")}
    put_if, asked = MemoryStore.put_if, []

    def lies(store, key, blob, **how):
        if key not in keys or store is not a.team._tier._inner.server.store:
            return put_if(store, key, blob, **how)
        asked.append(key)
        assert len(asked) < 1_000
        return False

    with monkeypatch.context() as patch:
        patch.setattr(MemoryStore, "put_if", lies)
        assert not b.tell()
        assert not b.tell()
    assert b.tell()
    assert seen_by(a, b) == [1, 1]
