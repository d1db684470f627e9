"""``@cached``."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from genai_cache_magic import cached, create_cache
from genai_cache_magic.errors import ConfigurationError


@pytest.fixture
def cache(tmp_path):
    with create_cache(dir=tmp_path / "cache", key_file=tmp_path / "keys" / "key") as cache:
        yield cache


def test_a_call_is_computed_once_however_it_is_spelled(cache):
    """Positional, by name and with the default written out are the same call."""
    calls = []

    @cached(cache=cache, tags=("memo",))
    def add(a, b=2):
        """Add."""
        calls.append((a, b))
        return {"sum": a + b}

    assert add(1) == add(a=1) == add(1, b=2) == {"sum": 3}
    assert add(1, 3) == {"sum": 4}
    assert calls == [(1, 2), (1, 3)]
    assert add.__doc__ == "Add."
    cache.invalidate_tag("memo")
    assert add(1) == {"sum": 3}
    assert len(calls) == 3


async def test_coroutines_are_cached_and_coalesced(cache):
    """Of eight tasks that ask at once, one computes."""
    started = asyncio.Event()
    go = asyncio.Event()
    calls = []

    @cached(cache=cache)
    async def slow(x):
        calls.append(x)
        started.set()
        await go.wait()
        return x * 2

    tasks = [asyncio.create_task(slow(4)) for _ in range(8)]
    await started.wait()
    go.set()
    assert await asyncio.gather(*tasks) == [8] * 8
    assert await slow(4) == 8
    assert calls == [4]


def test_threads_are_coalesced(cache):
    """Of eight threads that ask at once, one computes."""
    gate = threading.Barrier(8)
    release = threading.Event()
    calls = []

    @cached(cache=cache)
    def slow(x):
        calls.append(x)
        release.wait(10)
        return x

    def ask(_):
        gate.wait(10)
        release.set()
        return slow(5)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [5] * 8
    assert calls == [5]


def test_errors_are_not_kept(cache):
    """A call that failed is computed again."""
    outcomes = [ValueError("first"), 7]

    @cached(cache=cache)
    def flaky():
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with pytest.raises(ValueError, match="first"):
        flaky()
    assert flaky() == 7


def test_recursion_does_not_wait_for_itself(cache):
    """A function that calls itself with the same arguments computes instead of waiting for ever."""
    depth = []

    @cached(cache=cache)
    def twice(x):
        depth.append(x)
        return twice(x) if len(depth) == 1 else x

    assert twice(3) == 3


def test_what_can_not_be_keyed_or_kept_is_computed(cache):
    """Arguments that are not JSON bypass the cache; results that are not are returned all the same."""
    calls = []

    @cached(cache=cache)
    def echo(x):
        calls.append(x)
        return x

    thing = object()
    assert echo(thing) is thing
    assert echo({1, 2}) == {1, 2}
    assert len(calls) == 2


@pytest.mark.parametrize("kind", ["call", "coroutine", "map"])
def test_the_first_result_is_like_every_other(cache, kind):
    """What the first caller gets has the types that later ones get, and is no object that somebody else holds."""
    made = []

    def pair(text):
        made.append({"pair": (text, ["b"])})
        return made[-1]

    @cached(cache=cache)
    async def pair_later(text):
        return pair(text)

    now = cached(cache=cache)(pair)
    ask = {
        "call": lambda: now("a"),
        "coroutine": lambda: asyncio.run(pair_later("a")),
        "map": lambda: cache.map(pair, ["a"])[0],
    }[kind]
    for _ in range(2):
        found = ask()
        assert found == {"pair": ["a", ["b"]]}
        found["pair"].append("mine")
    assert made == [{"pair": ("a", ["b"])}]


def test_wrong_options_are_refused_when_decorating():
    """A wrong time to live or tag is found at once, not in the middle of a run."""
    with pytest.raises(ConfigurationError):
        cached(ttl="soon")(len)
    with pytest.raises(ConfigurationError):
        cached(tags=("",))(len)
    with pytest.raises(ConfigurationError):
        cached(tags="features")(len)  # not a tag for each letter, by which nobody could invalidate


@pytest.mark.parametrize("nameless", [lambda n: n, functools.partial(pow, 2)])
def test_what_has_no_name_is_refused(cache, nameless):
    """Two lambdas would get each other's results, and what is called like one has no name to be known by."""
    with pytest.raises(ConfigurationError, match="none of its own: define it with def"):
        cached(cache=cache)(nameless)


def test_wrappers_of_one_decorator_are_told_apart(cache):
    """A decorator that forgets ``functools.wraps`` gives all that it makes one name: what they wrap counts too."""

    def twice(function):
        def wrapper(n):
            return function(function(n))

        return wrapper

    def add(n):
        return n + 1

    def double(n):
        return n * 2

    assert [cached(cache=cache)(twice(one))(5) for one in (add, double, add)] == [7, 20, 7]
    assert cache.map(twice(add), [5]) == [7]
    assert cache.map(twice(double), [5]) == [20]
