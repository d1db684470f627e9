"""What every ``Counters`` promises, as tests to inherit: override ``counters``, and ``other`` with another's view."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from genai_cache_magic.stores.base import LARGEST_COUNT, Counted
from genai_cache_magic.testing.contracts.store import key_of

if TYPE_CHECKING:
    from genai_cache_magic.stores.base import Counters

_THREADS = 8
_EACH = 25


class CountersContract:
    """Inherit and override ``counters``, and ``other``."""

    @pytest.fixture
    def counters(self) -> Counters:
        """Return counters that hold nothing; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `counters`")

    @pytest.fixture
    def other(self, counters: Counters) -> Counters:
        """Return another view of the same."""
        return counters

    def test_nothing_is_counted(self, counters: Counters) -> None:
        """A name under which nothing was counted is empty."""
        assert counters.read(key_of("a")) == {}

    def test_counts_and_their_labels(self, counters: Counters, other: Counters) -> None:
        """Counts go up and down, each under its name and field, and keep the label of their first change."""
        assert counters.add(key_of("a"), key_of("x"), 3, b"x") == 3
        assert other.add(key_of("a"), key_of("x"), -5, b"other") == -2
        assert counters.add(key_of("a"), key_of("y"), 0, b"\0\xff") == 0
        assert counters.add(key_of("b"), key_of("x"), 7, b"z") == 7
        assert other.read(key_of("a")) == {key_of("x"): Counted(-2, b"x"), key_of("y"): Counted(0, b"\0\xff")}
        assert counters.read(key_of("b")) == {key_of("x"): Counted(7, b"z")}

    def test_the_range_is_that_of_64_bits(self, counters: Counters) -> None:
        """Large counts are exact, and one that would leave the range changes nothing."""
        assert counters.add(key_of("a"), key_of("x"), LARGEST_COUNT, b"x") == LARGEST_COUNT
        with pytest.raises(ValueError, match="64 bits"):
            counters.add(key_of("a"), key_of("x"), 1, b"x")
        assert counters.add(key_of("a"), key_of("x"), -1, b"x") == LARGEST_COUNT - 1
        assert counters.read(key_of("a"))[key_of("x")].count == LARGEST_COUNT - 1

    def test_a_bound_is_never_passed(self, counters: Counters, other: Counters) -> None:
        """What would be more is not added, and changes nothing; what is just enough is."""
        assert counters.add_within(key_of("a"), key_of("x"), 60, b"x", at_most=100) == (True, 60)
        assert other.add_within(key_of("a"), key_of("x"), 41, b"x", at_most=100) == (False, 60)
        assert counters.add_within(key_of("a"), key_of("x"), 40, b"x", at_most=100) == (True, 100)
        assert counters.add_within(key_of("a"), key_of("x"), -1, b"x", at_most=10) == (False, 100)
        assert other.read(key_of("a")) == {key_of("x"): Counted(100, b"x")}
        assert counters.add_within(key_of("b"), key_of("x"), 7, b"z", at_most=3) == (False, 0)
        assert counters.add(key_of("b"), key_of("x"), 2, b"z") == 2

    def test_all_at_once_take_what_there_is(self, counters: Counters, other: Counters) -> None:
        """Those who ask for too much are in nobody's way: of all who ask at once, some get just what is there."""
        amounts = [amount for _ in range(_EACH // 5) for one in (counters, other) for amount in ((one, 90), (one, 20))]
        assert counters.add(key_of("a"), key_of("x"), 20, b"x") == 20
        with ThreadPoolExecutor(_THREADS) as pool:
            got = list(
                pool.map(lambda a: a[0].add_within(key_of("a"), key_of("x"), a[1], b"x", at_most=100)[0], amounts)
            )
        assert [amount for (_, amount), is_added in zip(amounts, got, strict=True) if is_added] == [20] * 4
        assert counters.read(key_of("a"))[key_of("x")].count == 100

    def test_many_at_once_lose_nothing(self, counters: Counters, other: Counters) -> None:
        """Of threads that count at once, over two views, each sees a count of its own, and the sum is right."""
        turns = [(one, n) for n in range(_EACH) for one in (counters, other)]
        with ThreadPoolExecutor(_THREADS) as pool:
            seen = list(pool.map(lambda turn: turn[0].add(key_of("a"), key_of("x"), 1, b"x"), turns))
        assert sorted(seen) == list(range(1, len(turns) + 1))
        assert counters.read(key_of("a"))[key_of("x")].count == len(turns)

    @pytest.mark.parametrize("wrong", ["", "x", "0" * 63, "../" + "0" * 61])
    def test_another_name_is_a_mistake(self, counters: Counters, wrong: str) -> None:
        """Names and fields are 64 hex digits; anything else is refused before anything is asked."""
        for name, field in ((wrong, key_of("x")), (key_of("a"), wrong)):
            with pytest.raises(ValueError, match="64"):
                counters.add(name, field, 1, b"x")
            with pytest.raises(ValueError, match="64"):
                counters.add_within(name, field, 1, b"x", at_most=1)
        with pytest.raises(ValueError, match="64"):
            counters.read(wrong)
