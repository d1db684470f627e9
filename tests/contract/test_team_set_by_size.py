"""Machines that set one key, small or large, over a tier whose part for what is large may be away alone."""

from __future__ import annotations

import itertools

import pytest
from by_size_teams import LARGE_BYTES, SMALL_BYTES, machine_by_size, shared_by_size  # noqa: F401 - fixtures
from simulated import Network, passing_time  # noqa: F401 - fixtures

from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.stores.redis.by_size import SizedStore

SIZES = list(itertools.product((SMALL_BYTES, LARGE_BYTES), repeat=2))


def seen_by(*machines):
    """Return what each gets under `key`, once what it knew is too old to go by."""
    machines[0].time.now_s += 6
    return [one.get_value("key") for one in machines]


@pytest.fixture
def way_of(shared):
    """Return a machine's way to what is large."""
    return lambda name: shared.ways.setdefault(name, Network())


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_the_later_counts_and_leaves_nothing_else(time, machine, shared, sizes, order):
    """Whichever of them is large: of what lost nothing lies in either part."""
    machines = {"a": machine("a"), "b": machine("b")}
    for number, (one, size_bytes) in enumerate(zip(machines.values(), sizes, strict=True)):
        one.set_value("key", number, size_bytes=size_bytes)
        time.now_s += 1
    for name in order:
        assert machines[name].tell()
    assert seen_by(*machines.values(), machine("c")) == [1] * 3
    assert (shared.server.store.count(), shared.large.count()) == (1, int(sizes[1] == LARGE_BYTES))


class FirstCut(Network):
    """A way of which the first use fails."""

    def enter(self):
        self.is_cut = not self.calls
        super().enter()


def test_a_part_that_comes_and_goes_loses_nothing(time, machine, shared, way_of, monkeypatch):
    """Also where it is back the moment after it failed, and is away again once the other value was made invalid."""
    shared.ways["b"] = FirstCut()
    a, b = machine("a"), machine("b")
    a.set_value("key", 1, size_bytes=LARGE_BYTES)
    time.now_s += 1
    b.set_value("key", 2, size_bytes=LARGE_BYTES)
    assert a.tell()
    change = b.live.change

    def away_then(how):
        changed = change(how)
        shared.ways["b"].calls = -1
        return changed

    with monkeypatch.context() as patch:
        patch.setattr(b.live, "change", away_then)
        b.tell()
        b.tell()
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [2] * 3


@pytest.mark.parametrize("size_bytes", [SMALL_BYTES, LARGE_BYTES])
def test_what_is_set_over_a_large_value_that_is_away_takes_its_place(time, machine, way_of, size_bytes):
    """At once, for all who can know it: nobody goes on answering with what was overwritten until it is back."""
    a, b = machine("a"), machine("b")
    a.set_value("key", 1, size_bytes=LARGE_BYTES)
    assert a.tell()
    time.now_s += 1
    for name in "abc":
        way_of(name).is_cut = True
    b.set_value("key", 2, size_bytes=size_bytes)
    b.tell()
    assert seen_by(a, b, machine("c")) == [None, 2, None]
    for name in "abc":
        way_of(name).is_cut = False
    assert b.tell()
    assert seen_by(a, b, machine("c")) == [2] * 3


@pytest.mark.parametrize("is_later", [False, True])
def test_a_large_value_is_compared_with_a_small_one_though_its_place_is_away(time, machine, way_of, is_later):
    """What is there can be looked at: nobody is alone with the earlier of the two until it is back."""
    a, b = machine("a"), machine("b")
    large = b if is_later else a
    for number, one in enumerate([a, b]):
        one.set_value("key", number, size_bytes=LARGE_BYTES if one is large else SMALL_BYTES)
        time.now_s += 1
    for name in "abc":
        way_of(name).is_cut = True
    small = a if is_later else b
    assert small.tell()
    assert large.tell() is not is_later
    assert seen_by(a, b, machine("c")) == ([None, 1, None] if is_later else [1, 1, 1])
    for name in "abc":
        way_of(name).is_cut = False
    assert large.tell()
    assert seen_by(a, b, machine("c")) == [1, 1, 1]


def test_what_loses_is_put_nowhere(time, machine, shared, monkeypatch):
    """Nothing large is sent whose place is taken; what stands there is read once, to see that it is whole."""
    a, b = machine("a"), machine("b")
    b.set_value("key", 1, size_bytes=LARGE_BYTES)
    time.now_s += 1
    a.set_value("key", 2, size_bytes=LARGE_BYTES)
    assert a.tell()
    sent, read = [], []
    put, resolve = MemoryStore.put, SizedStore.resolve

    def sends(store, key, blob, **more):
        sent.extend([key] if store is shared.large else [])
        put(store, key, blob, **more)

    def reads(store, value):
        read.append(value)
        return resolve(store, value)

    monkeypatch.setattr(MemoryStore, "put", sends)
    monkeypatch.setattr(SizedStore, "resolve", reads)
    assert b.tell()
    assert (len(sent), len(read)) == (0, 1)
    assert seen_by(a, b) == [2, 2]
