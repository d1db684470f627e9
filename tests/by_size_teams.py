"""A tier of two in memory, as machines in one thread share it: each machine's ways to the two parts can be cut."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from simulated import Network, SharedMemory, Simulated, nothing_by_itself

from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.stores.redis.by_size import SizedTier
from genai_cache_magic.testing.tier import MemoryTier

LIMIT_BYTES = 700
SMALL_BYTES, LARGE_BYTES = 0, 900


class SharedBySize(SharedMemory):
    """What rules, and holds what is small; and beside it what holds the rest."""

    def __init__(self, time, make_way=Network):
        super().__init__(time)
        self.large = MemoryStore(clock=lambda: time.now_s)
        self.ways = {}
        self._make_way = make_way

    def tier(self, name):
        way = self.ways.get(name) or self.ways.setdefault(name, self._make_way())
        fast = MemoryTier(self.server, name)
        return SizedTier(fast, self.large, way, bundles=SimpleNamespace(), limit_bytes=LIMIT_BYTES)


@pytest.fixture(name="shared")
def shared_by_size(time):
    """What the machines of a team share, in that time."""
    return SharedBySize(time)


@pytest.fixture(name="machine")
def machine_by_size(isolated, monkeypatch, shared, time):
    """Make a machine of the team, by its name, to which nothing happens by itself."""
    tiers = []

    def make(name, skew_s=0.0):
        machine = Simulated(shared, time, name, skew_s=skew_s)
        tiers.append(machine._tier._inner)
        return machine

    with nothing_by_itself(monkeypatch):
        yield make
    for tier in tiers:
        tier._workers.close()
