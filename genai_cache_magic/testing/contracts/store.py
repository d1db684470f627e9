"""What every ``Store`` promises, as tests to inherit.

Subclass ``StoreContract`` in a test module under a name that starts with ``Test``, override the fixtures, and
the suite runs over your store. A promise of an optional power is tested if the store has the power::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock):
            return MyStore(clock=clock)
"""

from __future__ import annotations

import hashlib
import math
import threading
from typing import TYPE_CHECKING

import pytest

from genai_cache_magic.stores.base import (
    Put,
    SupportsDeleteMany,
    SupportsFill,
    SupportsFillMany,
    SupportsGetMany,
    SupportsHeads,
    SupportsSize,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.base import Store


def key_of(label: str) -> str:
    """Return the key, 64 lowercase hex characters, that tests call `label`."""
    return hashlib.sha256(label.encode()).hexdigest()


class FakeClock:
    """A clock [s] that moves when told to; it starts at a plausible wall time."""

    def __init__(self, start_s: float = 1_900_000_000.0) -> None:
        self.now_s = start_s

    def __call__(self) -> float:
        """Return the time [s]."""
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now_s += seconds


class StoreContract:
    """Inherit, override ``store`` and, for a store that has no ``clock`` parameter, ``pass_time``.

    Attributes
    ----------
    ttl_s
        A short time to live [s]: short enough that ``pass_time`` can wait for it, where waiting is real.
    largest_blob_bytes
        The size of the largest value that is tried [bytes].
    """

    ttl_s = 60.0
    largest_blob_bytes = 3 << 20

    @pytest.fixture
    def clock(self) -> FakeClock:
        """Return the clock to construct the store with."""
        return FakeClock()

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `store`")

    @pytest.fixture
    def pass_time(self, clock: FakeClock) -> Callable[[float], None]:
        """Return what lets that many seconds pass for the store."""
        return clock.advance

    @pytest.fixture
    def raw_put(self) -> Callable[[str, bytes], None] | None:
        """Return a back door that replaces what is at rest under a key, or None where there is none.

        The key was put before. What the door writes is no valid value: it stands for damage.
        """
        return None

    def test_absent_key_is_none(self, store: Store) -> None:
        """A key that nobody put is None, and was not there to delete."""
        assert store.get(key_of("absent")) is None
        assert store.delete(key_of("absent")) is False

    @pytest.mark.parametrize("size", [0, 1, 2048, 32_767, 32_768, 300_000])
    def test_returns_what_was_put(self, store: Store, size: int) -> None:
        """Values of every size come back byte for byte, also across the sizes where stores change their ways."""
        blob = hashlib.shake_128(b"contract").digest(size)
        store.put(key_of("a"), blob, ttl_s=self.ttl_s)
        answer = store.get(key_of("a"))
        assert answer == blob
        assert type(answer) is bytes

    def test_returns_the_largest(self, store: Store) -> None:
        """A value of the promised largest size comes back."""
        blob = hashlib.shake_128(b"large").digest(self.largest_blob_bytes)
        store.put(key_of("large"), blob, ttl_s=self.ttl_s)
        assert store.get(key_of("large")) == blob

    @pytest.mark.parametrize("sizes", [(10, 20), (10, 100_000), (100_000, 10), (100_000, 100_001)])
    def test_put_replaces(self, store: Store, sizes: tuple[int, int]) -> None:
        """The last put wins, whatever the sizes of the old value and the new."""
        for size in sizes:
            store.put(key_of("a"), bytes(size), ttl_s=self.ttl_s)
        assert store.get(key_of("a")) == bytes(sizes[-1])
        assert list(store.scan()) == [key_of("a")]

    def test_keys_are_apart(self, store: Store) -> None:
        """A value is found under its own key only."""
        for label in "abc":
            store.put(key_of(label), label.encode(), ttl_s=self.ttl_s)
        assert [store.get(key_of(label)) for label in "abcd"] == [b"a", b"b", b"c", None]

    def test_delete_says_whether_it_was_there(self, store: Store) -> None:
        """The first delete of a key is True, the second False, and other keys stay."""
        store.put(key_of("a"), b"a", ttl_s=self.ttl_s)
        store.put(key_of("b"), bytes(100_000), ttl_s=self.ttl_s)
        assert [store.delete(key_of("a")), store.delete(key_of("a"))] == [True, False]
        assert store.get(key_of("a")) is None
        assert store.get(key_of("b")) == bytes(100_000)

    def test_expires(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """A value is served until its time to live is over, and never after."""
        store.put(key_of("a"), b"a", ttl_s=self.ttl_s)
        pass_time(self.ttl_s / 2)
        assert store.get(key_of("a")) == b"a"
        pass_time(self.ttl_s)
        assert store.get(key_of("a")) is None
        assert list(store.scan()) == []
        assert store.delete(key_of("a")) is False

    def test_put_renews_the_time_to_live(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """The time to live is that of the last put, longer or shorter."""
        store.put(key_of("longer"), b"1", ttl_s=self.ttl_s)
        store.put(key_of("longer"), b"2", ttl_s=self.ttl_s * 10)
        store.put(key_of("shorter"), b"1", ttl_s=self.ttl_s * 10)
        store.put(key_of("shorter"), b"2", ttl_s=self.ttl_s)
        pass_time(self.ttl_s * 2)
        assert store.get(key_of("longer")) == b"2"
        assert store.get(key_of("shorter")) is None

    @pytest.mark.parametrize("ttl_s", [0.0, -1.0])
    def test_no_time_to_live_is_not_kept(self, store: Store, ttl_s: float) -> None:
        """A value without time left is not kept, and what it replaces is gone as well."""
        store.put(key_of("a"), b"old", ttl_s=self.ttl_s)
        store.put(key_of("a"), b"new", ttl_s=ttl_s)
        assert store.get(key_of("a")) is None

    def test_endless_time_to_live(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """An infinite time to live means what it says."""
        store.put(key_of("a"), b"a", ttl_s=math.inf)
        pass_time(self.ttl_s * 2)
        assert store.get(key_of("a")) == b"a"

    def test_scan_by_prefix(self, store: Store) -> None:
        """Scanning yields each key that starts with the prefix once, and no other."""
        keys = {key_of(str(number)) for number in range(40)}
        for key in keys:
            store.put(key, b"x", ttl_s=self.ttl_s)
        one = min(keys)
        for prefix in ("", one[:1], one[:2], one[:3], one):
            found = list(store.scan(prefix))
            assert len(found) == len(set(found))
            assert set(found) == {key for key in keys if key.startswith(prefix)}

    @pytest.mark.parametrize("prefix", ["g", "AB", "%", "*", "0" * 65, "0_"])
    def test_scan_by_a_prefix_of_no_key(self, store: Store, prefix: str) -> None:
        """A prefix that no key can have finds nothing: it is no pattern."""
        store.put("0" * 64, b"x", ttl_s=self.ttl_s)
        store.put("a" * 64, b"x", ttl_s=self.ttl_s)
        assert list(store.scan(prefix)) == []

    def test_scan_survives_changes(self, store: Store) -> None:
        """Keys deleted or put while a scan runs don't break it."""
        keys = sorted(key_of(str(number)) for number in range(20))
        for key in keys:
            store.put(key, b"x", ttl_s=self.ttl_s)
        seen = []
        for key in store.scan():
            seen.append(key)
            store.delete(key)
            store.put(key_of(f"more {len(seen) % 3}"), b"y", ttl_s=self.ttl_s)
        assert set(keys) <= set(seen)

    @pytest.mark.parametrize("key", ["", "ab", "A" * 64, "g" * 64, "../" + "a" * 61, "a" * 65, "a" * 63 + "\n"])
    def test_refuses_other_keys(self, store: Store, key: str) -> None:
        """A key of another shape is the caller's mistake, at every door."""
        for call in (
            lambda: store.get(key),
            lambda: store.put(key, b"x", ttl_s=self.ttl_s),
            lambda: store.delete(key),
        ):
            with pytest.raises(ValueError, match="64 lowercase hex"):
                call()

    @pytest.mark.parametrize("blob", ["text", None, bytearray(b"x"), memoryview(b"x"), 1, {"a": 1}])
    def test_refuses_what_is_not_bytes(self, store: Store, blob: object) -> None:
        """Only bytes are kept; nothing is ever turned into bytes on the way."""
        with pytest.raises(TypeError):
            store.put(key_of("a"), blob, ttl_s=self.ttl_s)  # type: ignore[arg-type]  # the point of the test
        assert store.get(key_of("a")) is None

    def test_damage_is_a_miss(self, store: Store, raw_put: Callable[[str, bytes], None] | None) -> None:
        """Bytes that were damaged at rest are None, and can be put anew."""
        if raw_put is None:
            pytest.skip("no back door: the store keeps what it is given, unexamined")
        for size in (2048, 100_000):
            store.put(key_of("a"), bytes(size), ttl_s=self.ttl_s)
            raw_put(key_of("a"), b"damaged")
            assert store.get(key_of("a")) is None
            store.put(key_of("a"), b"again", ttl_s=self.ttl_s)
            assert store.get(key_of("a")) == b"again"

    def test_threads(self, store: Store) -> None:
        """Threads that put and get at once see whole values of their keys."""
        wrong: list[str] = []
        keys = [key_of(str(number)) for number in range(4)]

        def work(number: int) -> None:
            for turn in range(25):
                key = keys[(number + turn) % len(keys)]
                store.put(key, bytes.fromhex(key) * (64 + turn), ttl_s=self.ttl_s)
                blob = store.get(key)
                if blob is not None and {blob[i : i + 32] for i in range(0, len(blob), 32)} != {bytes.fromhex(key)}:
                    wrong.append(key)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert set(store.scan()) == set(keys)

    def test_get_many_agrees_with_get(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """Many look-ups at once find what as many single ones do: nothing absent, nothing expired."""
        if not isinstance(store, SupportsGetMany):
            pytest.skip("the store does not answer many look-ups at once")
        store.put(key_of("brief"), b"brief", ttl_s=self.ttl_s)
        keys = [key_of(str(number)) for number in range(600)]
        for number, key in enumerate(keys[:30]):
            store.put(key, bytes(number * 2000), ttl_s=self.ttl_s * 10)
        pass_time(self.ttl_s * 2)
        expected = {key: bytes(number * 2000) for number, key in enumerate(keys[:30])}
        assert store.get_many([*keys, key_of("brief"), keys[0]]) == expected
        assert store.get_many([]) == {}

    def test_heads_are_how_values_begin(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """A head is as long as it was asked for, or the whole of what is shorter; nothing absent, nothing expired."""
        if not isinstance(store, SupportsHeads):
            pytest.skip("the store does not read how values begin")
        store.put(key_of("brief"), b"brief", ttl_s=self.ttl_s)
        sizes = (0, 1, 63, 64, 65, 70_000, 2 << 20)
        values = {key_of(str(size)): (bytes(range(251)) * (size // 251 + 1))[:size] for size in sizes}
        for key, value in values.items():
            store.put(key, value, ttl_s=self.ttl_s * 10)
        pass_time(self.ttl_s * 2)
        for size_bytes in (64, 8192):
            expected = {key: value[:size_bytes] for key, value in values.items()}
            found = store.get_heads([*values, key_of("absent"), key_of("brief")], size_bytes=size_bytes)
            assert found == expected
        assert store.get_heads([], size_bytes=64) == {}

    @pytest.mark.parametrize("size", [10, 100_000])
    def test_a_fill_replaces_only_what_was_seen(self, store: Store, size: int) -> None:
        """A value is replaced if it is the one that was judged, and left alone if another was put or removed."""
        if not isinstance(store, SupportsFill):
            pytest.skip("the store does not fill on a condition")
        key = key_of("a")
        assert store.held(key) is None
        assert store.put_if(key, b"1" * size, ttl_s=self.ttl_s, held=None)
        first = store.held(key)
        assert first is not None
        assert first.blob == store.get(key) == b"1" * size
        assert not store.put_if(key, b"2" * size, ttl_s=self.ttl_s, held=None)
        assert store.get(key) == b"1" * size
        assert store.put_if(key, b"3" * size, ttl_s=self.ttl_s, held=first)
        assert not store.put_if(key, b"4" * size, ttl_s=self.ttl_s, held=first)
        assert store.get(key) == b"3" * size
        third = store.held(key)
        store.delete(key)
        assert not store.put_if(key, b"5" * size, ttl_s=self.ttl_s, held=third)
        assert store.get(key) is None
        assert list(store.scan()) == []

    def test_a_fill_takes_the_place_of_what_expired(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """What has expired counts as nothing, whether it was removed yet or not."""
        if not isinstance(store, SupportsFill):
            pytest.skip("the store does not fill on a condition")
        for size in (10, 100_000):
            key = key_of(f"{size}")
            store.put(key, b"1" * size, ttl_s=self.ttl_s)
            old = store.held(key)
            pass_time(self.ttl_s * 2)
            assert store.held(key) is None
            assert not store.put_if(key, b"2" * size, ttl_s=self.ttl_s, held=old)
            assert store.put_if(key, b"3" * size, ttl_s=self.ttl_s, held=None)
            assert store.get(key) == b"3" * size

    def test_a_fill_with_no_time_left_removes_what_was_seen(self, store: Store) -> None:
        """As with a put: what could not be kept does not leave the older value behind."""
        if not isinstance(store, SupportsFill):
            pytest.skip("the store does not fill on a condition")
        store.put(key_of("a"), b"1", ttl_s=self.ttl_s)
        assert not store.put_if(key_of("a"), b"2", ttl_s=0, held=None)
        assert store.put_if(key_of("a"), b"2", ttl_s=0, held=store.held(key_of("a")))
        assert store.get(key_of("a")) is None

    def test_a_fill_takes_the_place_of_damage(self, store: Store, raw_put: Callable[[str, bytes], None] | None) -> None:
        """Bytes that were damaged at rest count as nothing."""
        if raw_put is None or not isinstance(store, SupportsFill):
            pytest.skip("no back door, or no fill on a condition")
        for size in (2048, 100_000):
            store.put(key_of("a"), bytes(size), ttl_s=self.ttl_s)
            raw_put(key_of("a"), b"damaged")
            assert store.put_if(key_of("a"), b"again", ttl_s=self.ttl_s, held=None)
            assert store.get(key_of("a")) == b"again"

    def test_many_fills_are_as_many_single_ones(self, store: Store, pass_time: Callable[[float], None]) -> None:
        """Each of many is put if what its caller has seen is still there, whatever becomes of the others."""
        if not isinstance(store, SupportsFillMany):
            pytest.skip("the store does not fill many at once")
        assert store.held_many([]) == {}
        assert store.put_many_if([]) == []
        old, new, brief, gone = (key_of(label) for label in ("old", "new", "brief", "gone"))
        assert store.put_many_if([Put(old, b"1", self.ttl_s * 10), Put(brief, b"1" * 50_000, self.ttl_s)]) == [True] * 2
        held = store.held_many([new, old, brief])
        assert {key: one.blob for key, one in held.items()} == {old: b"1", brief: b"1" * 50_000}
        pass_time(self.ttl_s * 2)
        held = store.held_many([old])  # where nobody can turn a store's clock, what is there is made older
        puts = [
            Put(new, b"2" * 50_000, self.ttl_s * 10),
            Put(old, b"2" * 50_000, self.ttl_s * 10),
            Put(brief, b"2", self.ttl_s * 10),
            Put(gone, b"2", self.ttl_s * 10, held[old]),
        ]
        assert store.put_many_if(puts) == [True, False, True, False]
        assert [store.get(key) for key in (new, old, brief, gone)] == [b"2" * 50_000, b"1", b"2", None]
        puts = [Put(old, b"3", self.ttl_s * 10, held[old]), Put(new, b"", 0, store.held_many([new])[new])]
        assert store.put_many_if(puts) == [True, True]
        assert [store.get(key) for key in (new, old, gone)] == [None, b"3", None]

    @pytest.mark.parametrize("wrong", [Put("x", b"1", 60), Put("0" * 64, "text", 60)])  # type: ignore[arg-type]  # the point
    def test_a_wrong_one_among_many_fills_puts_none(self, store: Store, wrong: Put) -> None:
        """A mistake of the caller is found before anything is put."""
        if not isinstance(store, SupportsFillMany):
            pytest.skip("the store does not fill many at once")
        with pytest.raises((ValueError, TypeError)):
            store.put_many_if([Put(key_of("a"), b"1", self.ttl_s), wrong])
        assert store.get(key_of("a")) is None

    def test_many_deletions_are_as_many_single_ones(self, store: Store) -> None:
        """Those that were there are named, and all are gone."""
        if not isinstance(store, SupportsDeleteMany):
            pytest.skip("the store does not delete many at once")
        for label in "abc":
            store.put(key_of(label), label.encode() * 50_000, ttl_s=self.ttl_s)
        assert store.delete_many([]) == set()
        assert store.delete_many(map(key_of, "abx")) == {key_of("a"), key_of("b")}
        assert list(store.scan()) == [key_of("c")]

    def test_one_of_many_fills_wins(self, store: Store) -> None:
        """Of threads that fill the same gap at once, one does, and its value is the one that is there."""
        if not isinstance(store, SupportsFill):
            pytest.skip("the store does not fill on a condition")
        start = threading.Barrier(4)
        won: list[tuple[int, int]] = []

        def fill(number: int) -> None:
            for turn in range(10):
                start.wait()
                key = key_of(f"turn {turn}")
                if store.put_if(key, b"%d" % number, ttl_s=self.ttl_s, held=None):
                    won.append((turn, number))

        threads = [threading.Thread(target=fill, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(turn for turn, _ in won) == list(range(10))
        assert all(store.get(key_of(f"turn {turn}")) == b"%d" % number for turn, number in won)

    def test_size(self, store: Store) -> None:
        """The count is the number of entries, and the size grows with what is put."""
        if not isinstance(store, SupportsSize):
            pytest.skip("the store does not know its size")
        assert store.count() == 0
        before = store.size_bytes()
        for number in range(3):
            store.put(key_of(str(number)), bytes(200_000), ttl_s=self.ttl_s)
        assert store.count() == 3  # noqa: PLR2004 - just put
        assert store.size_bytes() >= before + 600_000
        store.delete(key_of("0"))
        assert store.count() == 2  # noqa: PLR2004 - one less

    def test_close_twice(self, store: Store) -> None:
        """Closing is done once and harmless after that."""
        store.put(key_of("a"), b"a", ttl_s=self.ttl_s)
        store.close()
        store.close()
        assert store.close() is None  # type: ignore[func-returns-value]  # says that nothing is promised
