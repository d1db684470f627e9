"""The contract of ``Store``, over every local store and over the wrapper that ships for tests."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.base import SupportsCheck, SupportsFill, SupportsGetMany, SupportsSize
from genai_cache_magic.stores.breaker import Breaker, Circuit
from genai_cache_magic.stores.disk.store import DiskConfig, DiskStore
from genai_cache_magic.stores.guarded import guard_store
from genai_cache_magic.stores.memory import MemoryStore
from genai_cache_magic.testing.chaos import Chaos, ChaosBatchStore, ChaosFillStore, ChaosStore
from genai_cache_magic.testing.contracts.store import StoreContract, key_of


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return MemoryStore(clock=clock)

    def test_powers(self, store):
        """It answers in batches, fills on a condition and knows its size."""
        assert isinstance(store, SupportsGetMany)
        assert isinstance(store, SupportsFill)
        assert isinstance(store, SupportsSize)

    def test_evicts_what_was_stored_longest_ago(self, clock):
        """Beyond the limit the oldest put goes first, however often it was read."""
        store = MemoryStore(3 * 1500, clock=clock)
        for label in "abc":
            store.put(key_of(label), bytes(1000), ttl_s=60)
        store.put(key_of("a"), bytes(1000), ttl_s=60)
        assert store.get(key_of("b")) is not None
        store.put(key_of("d"), bytes(1000), ttl_s=60)
        assert [store.get(key_of(label)) is not None for label in "abcd"] == [True, False, True, True]

    def test_too_large_is_not_kept(self, clock):
        """A value beyond the limit evicts nothing but what it replaces."""
        store = MemoryStore(5000, clock=clock)
        store.put(key_of("a"), b"a", ttl_s=60)
        store.put(key_of("b"), b"b", ttl_s=60)
        store.put(key_of("b"), bytes(10_000), ttl_s=60)
        assert [store.get(key_of("a")), store.get(key_of("b"))] == [b"a", None]


class TestDiskStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path, clock):
        store = DiskStore(tmp_path / "l1", clock=clock)
        yield store
        store.close()

    @pytest.fixture
    def raw_put(self, tmp_path):
        def put(key, blob):
            with contextlib.closing(sqlite3.connect(tmp_path / "l1" / "cache.db")) as connection, connection:
                (filename,) = connection.execute(
                    "SELECT filename FROM Cache WHERE key = ?", (bytes.fromhex(key),)
                ).fetchone()
                if filename:
                    (tmp_path / "l1" / filename).write_bytes(blob)
                else:
                    connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (blob, bytes.fromhex(key)))

        return put

    def test_powers(self, store):
        """It answers in batches, fills on a condition and knows its size."""
        assert isinstance(store, SupportsGetMany)
        assert isinstance(store, SupportsFill)
        assert isinstance(store, SupportsSize)

    def test_outlives_the_process(self, store, tmp_path, clock):
        """What was put is there for the next store on the directory."""
        store.put(key_of("small"), b"small", ttl_s=60)
        store.put(key_of("large"), bytes(100_000), ttl_s=60)
        store.close()
        again = DiskStore(tmp_path / "l1", clock=clock)
        assert again.get_many([key_of("small"), key_of("large")]) == {
            key_of("small"): b"small",
            key_of("large"): bytes(100_000),
        }
        again.close()

    def test_closed_is_unavailable(self, store):
        """A closed store does not come back to life."""
        store.close()
        with pytest.raises(StoreUnavailable):
            store.get(key_of("a"))

    def test_nothing_is_opened_before_use(self, store, tmp_path):
        """Constructing a store checks its directory and leaves the database alone."""
        assert not (tmp_path / "l1" / "cache.db").exists()
        store.get(key_of("a"))
        assert (tmp_path / "l1" / "cache.db").exists()

    @pytest.mark.parametrize("size", [4_000, 100_000])
    def test_evicts_what_was_stored_longest_ago(self, tmp_path, size):
        """The directory stays near its limit, the newest values stay, the oldest go first."""
        store = DiskStore(tmp_path / "small", DiskConfig(size_limit_bytes=2 << 20))
        labels = [str(number) for number in range((6 << 20) // size)]
        for label in labels:
            store.put(key_of(label), bytes(size), ttl_s=600)
        kept = [label for label in labels if store.get(key_of(label)) is not None]
        assert kept == labels[-len(kept) :]
        assert (1 << 20) // size <= len(kept) <= (2 << 20) // size
        on_disk = sum(path.stat().st_size for path in (tmp_path / "small").rglob("*.val"))
        assert on_disk <= 2 << 20
        store.close()

    def test_large_values_make_room_among_small_ones(self, tmp_path):
        """One put may have to evict many: the limit holds whatever the sizes are."""
        store = DiskStore(tmp_path / "small", DiskConfig(size_limit_bytes=2 << 20))
        for number in range(300):
            store.put(key_of(str(number)), bytes(3_000), ttl_s=600)
        store.put(key_of("large"), bytes(1_500_000), ttl_s=600)
        assert store.get(key_of("large")) is not None
        assert store.get(key_of("299")) is not None
        assert store.get(key_of("0")) is None
        store.close()

    def test_too_large_is_not_kept(self, tmp_path):
        """A value beyond the limit evicts nothing but what it replaces."""
        store = DiskStore(tmp_path / "small", DiskConfig(size_limit_bytes=1 << 20))
        store.put(key_of("a"), b"a", ttl_s=60)
        store.put(key_of("b"), b"b", ttl_s=60)
        store.put(key_of("b"), bytes(1 << 20), ttl_s=60)
        assert [store.get(key_of("a")), store.get(key_of("b"))] == [b"a", None]
        store.close()

    def test_expired_are_evicted_first(self, tmp_path, clock):
        """Puts clear away what expired, rows and files."""
        store = DiskStore(tmp_path / "l1", clock=clock)
        store.put(key_of("a"), bytes(100_000), ttl_s=10)
        clock.advance(11)
        store.put(key_of("b"), b"b", ttl_s=10)
        assert store.count() == 1
        assert list((tmp_path / "l1").rglob("*.val")) == []
        store.close()

    def test_clock_set_back_prolongs_no_life(self, store, clock):
        """An entry from a future that no longer is has no known age, and is not served."""
        store.put(key_of("a"), b"a", ttl_s=60)
        clock.advance(-3600)
        assert store.get(key_of("a")) is None
        clock.advance(3600)
        assert store.get(key_of("a")) == b"a"

    def test_refuses_a_senseless_limit(self):
        """A limit below what an empty database takes is a mistake in the configuration."""
        with pytest.raises(ConfigurationError, match="size_limit_bytes"):
            DiskConfig(size_limit_bytes=1000)


class TestCalmChaosStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return ChaosStore(MemoryStore(clock=clock))


class TestCalmChaosBatchStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return ChaosBatchStore(MemoryStore(clock=clock))


class TestCalmChaosFillStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return ChaosFillStore(MemoryStore(clock=clock))


class TestGuardedMemoryStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return guard_store(MemoryStore(clock=clock), Breaker("memory"))

    def test_powers(self, store):
        """It has the powers of what it guards, and those only."""
        assert isinstance(store, SupportsFill)
        assert isinstance(store, SupportsGetMany)
        assert not isinstance(store, SupportsCheck)
        assert not isinstance(guard_store(ChaosStore(MemoryStore()), Breaker("chaos")), SupportsGetMany)


class TestGuardedDiskStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path, clock):
        store = guard_store(DiskStore(tmp_path / "l1", clock=clock), Breaker("disk"))
        yield store
        store.close()

    def test_powers(self, store):
        """It can look for what is damaged, as what it guards can."""
        assert isinstance(store, SupportsCheck)


class TestGuardedStore:
    def test_a_dead_store_is_left_alone(self):
        """After three failures no call reaches it, and its own sentence is what is said."""
        chaos = ChaosFillStore(MemoryStore(), Chaos(unavailable=1))
        store = guard_store(chaos, Breaker("backend"))
        for _ in range(10):
            with pytest.raises(StoreUnavailable, match="chaos"):
                store.get(key_of("a"))
        assert chaos.calls == 3

    def test_a_mistake_of_the_caller_is_no_trouble_of_the_backend(self):
        """A wrong key or value never opens the breaker."""
        breaker = Breaker("backend")
        store = guard_store(MemoryStore(), breaker)
        for _ in range(10):
            with pytest.raises(ValueError, match="hex"):
                store.get("x")
        assert breaker.state is Circuit.CLOSED


class TestChaosStore:
    @pytest.fixture
    def inner(self):
        return MemoryStore()

    def test_unavailable(self, inner):
        """A refused call raises and is not passed on; one whose answer is lost was."""
        store = ChaosStore(inner, Chaos(unavailable=1))
        with pytest.raises(StoreUnavailable):
            store.put(key_of("a"), b"a", ttl_s=60)
        assert inner.get(key_of("a")) is None
        store.chaos = Chaos(unavailable_after=1)
        with pytest.raises(StoreUnavailable):
            store.put(key_of("a"), b"a", ttl_s=60)
        assert inner.get(key_of("a")) == b"a"

    def test_lost_and_corrupt(self, inner):
        """A lost put keeps nothing; a corrupt get changes one byte."""
        store = ChaosStore(inner, Chaos(lost=1))
        store.put(key_of("a"), b"a", ttl_s=60)
        assert inner.get(key_of("a")) is None
        store.chaos = Chaos(corrupt=1)
        store.put(key_of("a"), b"abc", ttl_s=60)
        answer = store.get(key_of("a"))
        assert sum(left != right for left, right in zip(answer, b"abc", strict=True)) == 1

    def test_delays_by_the_given_function(self, inner):
        """Every call pauses first, through the function that was given."""
        pauses = []
        store = ChaosStore(inner, Chaos(delay_s=0.25), sleep=pauses.append)
        store.get(key_of("a"))
        store.delete(key_of("a"))
        assert pauses == [0.25, 0.25]

    def test_same_seed_same_faults(self):
        """Faults repeat, so that a failure can be looked into."""

        def run():
            store = ChaosStore(MemoryStore(), Chaos(lost=0.5))
            for number in range(30):
                store.put(key_of(str(number)), b"x", ttl_s=60)
            return sorted(store.scan())

        assert run() == run()
        assert 0 < len(run()) < 30
