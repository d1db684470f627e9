"""Memory and disk against a dict, under moves that Hypothesis chooses."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genai_cache_magic.stores.disk.record import HEADER_BYTES, Flaw, pack, unpack
from genai_cache_magic.stores.disk.store import DiskStore
from genai_cache_magic.testing.stateful import StoreMachine


class DiskMachine(StoreMachine):
    can_reopen = True

    def make_store(self, clock):
        return DiskStore(Path(tempfile.mkdtemp(prefix="genai-cache-machine-")), clock=clock)

    def reopen_store(self, store, clock):
        store.close()
        return DiskStore(store.directory, clock=clock)

    def discard_store(self, store):
        store.close()
        shutil.rmtree(store.directory)


_relaxed = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))

TestMemoryMachine = StoreMachine.TestCase
TestMemoryMachine.settings = _relaxed
TestDiskMachine = DiskMachine.TestCase
TestDiskMachine.settings = _relaxed


@given(key=st.binary(min_size=32, max_size=32), blob=st.binary(max_size=300), ttl_s=st.floats(0.001, 1e9))
def test_record_round_trip(key, blob, ttl_s):
    """A record gives its value back until it expires, and to its own key only."""
    record = pack(key, blob, stored_at=1e9, expires_at=1e9 + ttl_s)
    assert len(record) == HEADER_BYTES + len(blob)
    assert unpack(key, record, now=1e9) == blob
    assert unpack(key, record, now=1e9 + ttl_s) is Flaw.EXPIRED
    assert unpack(bytes(32) if key != bytes(32) else bytes([1] * 32), record, now=1e9) is Flaw.DAMAGED


@given(blob=st.binary(max_size=100), place=st.integers(0, 131), change=st.integers(1, 255))
def test_record_shows_every_changed_byte(blob, place, change):
    """No single changed, added or missing byte of a record goes unnoticed, its times included."""
    record = bytearray(pack(bytes(32), blob, stored_at=1e9, expires_at=2e9))
    record[place % len(record)] ^= change
    assert unpack(bytes(32), bytes(record), now=1.5e9) is Flaw.DAMAGED
    good = pack(bytes(32), blob, stored_at=1e9, expires_at=2e9)
    assert unpack(bytes(32), good + b"\0", now=1.5e9) is Flaw.DAMAGED
    assert unpack(bytes(32), good[:-1], now=1.5e9) is Flaw.DAMAGED
