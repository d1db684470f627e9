"""Entries of several processes on one store: whatever the order of calls, what is served is never out of date."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from genai_cache_magic.core.model import Entry, EntryId, Metadata, Response, Stamp
from genai_cache_magic.core.policy import Filled
from genai_cache_magic.core.validity import ENTRY_RECORD_LIFE_MS, PRUNED
from genai_cache_magic.entries.codec import Codec, Compression, Unsealed
from genai_cache_magic.entries.entries import Entries, Found
from genai_cache_magic.entries.generations import LiveGenerations
from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.testing.contracts.store import FakeClock

IDS = [EntryId(f"{n:064x}") for n in range(2)]
TAG = b"t" * 16
DAY_S = 86_400


@dataclass(frozen=True)
class Asked:
    """A call on its way: asked by which process, at which step, with what stamp, when [ms]."""

    process: int
    entry_id: EntryId
    step: int
    stamp: Stamp
    at_ms: int
    tags: tuple[bytes, ...]


class World:
    """Two processes on one store. An answer's body is the step at which it was asked for; an invalidation is a step."""

    def __init__(self, make_store=MemoryStore) -> None:
        self.clock = FakeClock()
        self.store, document = make_store(clock=self.clock), MemoryDocument()
        self.entries = [
            Entries(
                self.store,
                Codec(Unsealed(), Compression()),
                LiveGenerations(document, namespace="n", mac_key=b"k" * 32, random_bytes=os.urandom),
                recent_bytes=1 << 20,
                clock=self.clock,
            )
            for _ in range(2)
        ]
        self.steps = 0
        self.out_of_date = dict.fromkeys(IDS, 0)
        self.tag_out_of_date = 0
        self.served = dict.fromkeys(IDS, 0)
        self.tags_of: dict[int, tuple[bytes, ...]] = {}

    def step(self) -> int:
        self.steps += 1
        return self.steps

    def ask(self, process: int, entry_id: EntryId, tags=(), *, is_refresh: bool = False) -> Asked:
        entries = self.entries[process]
        if is_refresh:
            entries.publish([entry_id])
            self.out_of_date[entry_id] = self.step()
        stamp, step = entries.stamp(), self.step()
        self.tags_of[step] = tags
        return Asked(process, entry_id, step, stamp, entries.now_ms(), tags)

    def answer(self, asked: Asked, ttl_s: int = 30 * DAY_S) -> None:
        entries = self.entries[asked.process]
        if entries.now_ms() - asked.at_ms >= ENTRY_RECORD_LIFE_MS:
            return  # as `Keeper` does
        header = entries.header(asked.stamp, ttl_s=ttl_s, tags=asked.tags)
        filled = entries.fill(asked.entry_id, Entry(header, Metadata(), Response(200, (), b"%d" % asked.step)))
        assert (filled is Filled.OUTDATED) is not self.is_fresh(asked.entry_id, asked.step)
        if filled is Filled.KEPT:
            assert self.look(asked.process, asked.entry_id)

    def overwrite(self, process: int, entry_id: EntryId) -> None:
        entries, step = self.entries[process], self.step()
        if self.store.get(entry_id) is not None:
            self.out_of_date[entry_id] = step - 1
        header = entries.header(entries.stamp(), ttl_s=30 * DAY_S, tags=())
        entries.overwrite({entry_id: Entry(header, Metadata(), Response(200, (), b"%d" % step))})
        self.tags_of[step] = ()
        assert self.look(process, entry_id) == step
        # What was asked for before and is still on its way may only fill a gap, and there is none.
        self.served[entry_id] = step

    def delete(self, process: int, entry_id: EntryId) -> None:
        self.entries[process].delete([entry_id])
        self.out_of_date[entry_id] = self.step()
        assert self.look(process, entry_id) is None

    def invalidate_tag(self, process: int) -> None:
        self.entries[process].generations.change(lambda g: g.invalidating_tags([TAG]))
        self.tag_out_of_date = self.step()
        self.served = dict.fromkeys(IDS, 0)  # an earlier answer without the tag may take its place

    def clear(self, process: int) -> None:
        self.entries[process].generations.change(lambda g: g.cleared(os.urandom(16)))
        self.out_of_date = dict.fromkeys(IDS, self.step())

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.served = dict.fromkeys(IDS, 0)  # the gap that an expired answer leaves may be filled by an earlier one

    def look(self, process: int, entry_id: EntryId) -> int | None:
        """Find, as both a kernel's memory and the store see it, and hold what is served to the promises."""
        troubles: list[object] = []
        found = self.entries[process].find_call(entry_id, ttl_s=None, tell=troubles.append)
        assert troubles == []
        if not isinstance(found, Found):
            return None
        step = int(found.response.body)
        assert self.is_fresh(entry_id, step), "served although it was out of date"
        assert step >= self.served[entry_id], "an earlier answer took the place of a later one"
        self.served[entry_id] = step
        return step

    def look_everywhere(self) -> None:
        for process, entry_id in itertools.product(range(2), IDS):
            self.look(process, entry_id)

    def is_fresh(self, entry_id: EntryId, step: int) -> bool:
        limit = self.out_of_date[entry_id]
        return step > (max(limit, self.tag_out_of_date) if TAG in self.tags_of[step] else limit)


class Processes(RuleBasedStateMachine):
    """The world, with Hypothesis for its users."""

    processes = st.integers(0, 1)
    ids = st.sampled_from(IDS)

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.on_their_way: list[Asked] = []

    @rule(process=processes, entry_id=ids, tags=st.sampled_from([(), (TAG,)]), is_refresh=st.booleans())
    def ask(self, process, entry_id, tags, is_refresh):
        self.on_their_way.append(self.world.ask(process, entry_id, tags, is_refresh=is_refresh))

    @rule(data=st.data(), ttl_s=st.sampled_from([DAY_S // 2, 30 * DAY_S]))
    def answer(self, data, ttl_s):
        if self.on_their_way:
            self.world.answer(self.on_their_way.pop(data.draw(st.integers(0, len(self.on_their_way) - 1))), ttl_s)

    @rule()
    def fail(self):
        self.on_their_way[:1] = []

    @rule(process=processes, entry_id=ids, move=st.sampled_from(["overwrite", "delete", "look"]))
    def move(self, process, entry_id, move):
        getattr(self.world, move)(process, entry_id)

    @rule(process=processes, move=st.sampled_from(["invalidate_tag", "clear"]))
    def invalidate(self, process, move):
        getattr(self.world, move)(process)

    @rule(seconds=st.sampled_from([3600, DAY_S + 1, 31 * DAY_S]))
    def wait(self, seconds):
        self.world.wait(seconds)


Processes.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestProcesses = Processes.TestCase

MOVES = {
    "A": lambda world, calls: calls.setdefault("a", world.ask(0, IDS[0], (TAG,))),
    "B": lambda world, calls: calls.setdefault("b", world.ask(1, IDS[0])),
    "R": lambda world, calls: calls.setdefault("r", world.ask(1, IDS[0], is_refresh=True)),
    "a": lambda world, calls: world.answer(calls["a"]),
    "b": lambda world, calls: world.answer(calls["b"]),
    "r": lambda world, calls: world.answer(calls["r"]),
    "d": lambda world, _: world.wait(DAY_S + 1),
    "o": lambda world, _: world.delete(1, IDS[1]),  # another publication, at which old records are dropped
    "s": lambda world, _: world.overwrite(1, IDS[0]),
    "x": lambda world, _: world.delete(1, IDS[0]),
    "c": lambda world, _: world.clear(1),
    "t": lambda world, _: world.invalidate_tag(1),
}


def interleavings(moves: str):
    """Yield each order of `moves` in which no call is answered before it is made."""
    for order in itertools.permutations(moves):
        places = {move: place for place, move in enumerate(order)}
        if all(places[call] < places.get(call.lower(), 99) for call in "ABR" if call in places):
            yield order


@pytest.mark.parametrize("moves", ["AaRdo", "AaRrdo", "AaBbRr", "AaBbs", "Aasdo", "Aaxdo", "AaRrc", "AaBbt", "AaRcdo"])
def test_every_order_of_a_few_calls_is_right(moves):
    """Refreshes that succeed or fail, slow calls, days, `set`, `delete`, `clear` and tags: in each order of them."""
    for order in interleavings(moves):
        world, calls = World(), {}
        for move in order:
            MOVES[move](world, calls)
            world.look_everywhere()
        world.wait(DAY_S + 1)
        world.delete(0, IDS[1])
        world.look_everywhere()


@pytest.mark.parametrize("order", ["AaRdo", "AaRrdo", "ARra", "ABba", "AaRcdo"])
def test_the_same_on_disk(order, tmp_path):
    """The local store keeps the promises as the one in memory does."""
    world, calls = World(lambda clock: DiskStore(tmp_path / "l1", clock=clock)), {}
    for move in order:
        MOVES[move](world, calls)
        world.look_everywhere()
    world.store.close()
    assert world.steps > 0


def test_a_record_is_dropped_with_what_it_made_invalid():
    """After a day the room of what was refreshed away is given back, and the record with it."""
    world = World()
    world.answer(world.ask(0, IDS[0]))
    world.ask(0, IDS[0], is_refresh=True)
    world.wait(DAY_S + 1)
    world.delete(0, IDS[1])
    assert set(world.entries[0].generations.current().entries) == {IDS[1], PRUNED}
    assert list(world.store.scan()) == []
