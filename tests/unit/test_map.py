"""``Cache.map``: each different item once, in order, a few at a time, and what was done is kept whatever happens."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest
from genai_cache_magic.intercept.active import active


@pytest.fixture(params=["disk", "memory"])
def cache(request, isolated):
    with create_cache(request.param, namespace="tests") as cache:
        yield cache


class Work:
    """A function to map, named as one, that counts its calls."""

    def __init__(self):
        self.__qualname__ = "double"
        self.calls = []
        self.fails_at = None

    def __call__(self, item):
        self.calls.append(item)
        if item == self.fails_at:
            raise ValueError(item)
        return item * 2


@pytest.fixture
def work():
    return Work()


@pytest.mark.parametrize("workers", [1, 3, 100])
def test_results_are_in_the_order_of_the_items(cache, work, workers):
    """However many work at one time, and however often an item occurs."""
    items = [*range(40), 3, 3]
    assert cache.map(work, items, max_workers=workers) == [item * 2 for item in items]
    assert sorted(work.calls) == list(range(40))
    assert cache.map(work, iter(items), max_workers=workers) == [item * 2 for item in items]
    assert len(work.calls) == 40
    assert cache.map(work, []) == []


def test_no_more_work_at_one_time_than_was_said(cache):
    """The model's own limits are respected."""
    going, most, lock, together = set(), [0], threading.Lock(), threading.Barrier(3)

    def ask(item):
        with lock:
            going.add(item)
            most[0] = max(most[0], len(going))
        together.wait(30)
        with lock:
            going.discard(item)

    cache.map(ask, range(12), max_workers=3)
    assert most == [3]


def test_one_that_fails_loses_no_other(cache, work):
    """Its error is raised, no more are begun, and what was done is not done again."""
    work.fails_at = 5
    with pytest.raises(ValueError, match="5"):
        cache.map(work, range(100), max_workers=1)
    assert len(work.calls) < 20
    done = set(work.calls) - {5}
    assert set(range(5)) <= done
    work.fails_at = None
    work.calls.clear()
    assert cache.map(work, range(100)) == [item * 2 for item in range(100)]
    assert done.isdisjoint(work.calls)


def test_an_interrupt_keeps_what_was_done(cache):
    """It ends the batch at once; what was done is kept, and so is what is under way when that is done."""
    may_end, is_asked = threading.Event(), threading.Event()

    def ask(item):
        if item == 1:
            is_asked.set()
            assert may_end.wait(30)
        return item

    def told(done, _total):
        if done:
            assert is_asked.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.map(ask, [0, 1], max_workers=2, progress=told)
    assert cache.mget(cache.keys("map:*")) == [0]
    may_end.set()
    for thread in threading.enumerate():
        if thread.name.startswith("genai-cache-map"):
            thread.join(30)
    assert cache.map(ask, [0, 1], name=f"{ask.__module__}.{ask.__qualname__}") == [0, 1]
    assert sorted(cache.mget(cache.keys("map:*"))) == [0, 1]


class AsyncWork(Work):
    """The same as a coroutine function."""

    async def __call__(self, item):
        await asyncio.sleep(0)
        return super().__call__(item)


async def test_a_coroutine_function_is_awaited(cache):
    """What `map` returns is awaited, shares entries with a plain function of that name, and is in order."""
    work = AsyncWork()
    assert await cache.map(work, [3, 1, 2, 1], max_workers=2) == [6, 2, 4, 2]
    assert sorted(work.calls) == [1, 2, 3]
    assert cache.map(Work(), [1, 2, 3]) == [2, 4, 6]
    work.fails_at = 9
    with pytest.raises(ValueError, match="9"):
        await cache.map(work, [8, 9, *range(20, 60)], max_workers=1)
    assert await cache.map(work, [8]) == [16]
    assert work.calls.count(8) == 1
    assert len(work.calls) == 5


async def test_a_cancelled_batch_keeps_what_was_done(cache):
    """An interrupt of an async cell cancels its task: the calls under way are cancelled, the others kept."""
    is_asked, ended = asyncio.Event(), []

    async def ask(item):
        if item:
            is_asked.set()
            try:
                await asyncio.sleep(600)
            finally:
                ended.append(item)
        return item

    task = asyncio.ensure_future(cache.map(ask, [0, 1, 2], max_workers=2))
    await asyncio.wait_for(is_asked.wait(), 30)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    assert cache.mget(cache.keys("map:*")) == [0]


def test_it_works_under_trio(cache):
    """One after the other, there."""
    trio = pytest.importorskip("trio", reason="pip install trio")

    async def ask(item):
        await trio.sleep(0)
        return item

    assert trio.run(functools.partial(cache.map, ask), [1, 2, 1]) == [1, 2, 1]


def test_a_function_without_a_name_is_refused(cache, work):
    """Two lambdas would get each other's results; a name of the user's own tells them apart."""
    for nameless in (lambda item: item, functools.partial(work)):
        with pytest.raises(ConfigurationError, match="name="):
            cache.map(nameless, [1])
    assert cache.map(lambda item: item + 1, [1], name="next") == [2]
    assert cache.map(lambda item: item - 1, [1], name="before") == [0]


@pytest.mark.parametrize("wrong", [{"max_workers": 0}, {"max_workers": 1.5}, {"ttl": "soon"}, {"tags": "text"}])
def test_a_wrong_option_is_an_error_before_any_work(cache, work, wrong):
    """Nothing is computed first."""
    with pytest.raises(ConfigurationError):
        cache.map(work, [1], **wrong)
    with pytest.raises(UncacheableRequest):
        cache.map(work, [1, object()])
    assert work.calls == []


def test_what_can_not_be_kept_is_returned_all_the_same(cache):
    """A result that is no JSON costs nothing but its being computed again."""

    def ask(item):
        return {item} if item == 1 else item

    assert cache.map(ask, [1, 2]) == [{1}, 2]
    assert cache.mget(cache.keys("map:*")) == [2]


@pytest.mark.parametrize(
    ("mode", "computed", "kept"), [("off", 2, 1), ("read", 1, 1), ("refresh", 2, 2), ("use", 1, 2)]
)
def test_the_mode_of_the_scope_holds(cache, work, mode, computed, kept):
    """Off neither reads nor keeps, read keeps nothing, refresh computes all and overwrites."""
    cache.map(work, [1])
    work.calls.clear()
    with llm_cache(mode=mode):
        assert cache.map(work, [1, 2]) == [2, 4]
    assert len(work.calls) == computed
    assert len(cache.keys("map:*")) == kept


def test_results_carry_the_tags_of_the_scope(cache, work):
    """What invalidates the cell's answers invalidates what was made of them."""
    with llm_cache(tags=("baseline",)):
        cache.map(work, [1], tags=("own",))
    assert cache.invalidate_tag("baseline", dry_run=True).count == 1
    assert cache.invalidate_tag("own").count == 1
    cache.map(work, [1])
    assert work.calls == [1, 1]


def test_work_in_threads_belongs_to_the_scope(cache):
    """Model calls that the function makes are the cell's: its mode, its record."""
    with llm_cache(salt="this one"):
        assert cache.map(lambda _: active.get().scope.options.salt, [1], name="salt") == ["this one"]
