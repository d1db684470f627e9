"""Threads and pools that a cell starts carry its scope; nothing else is captured."""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing.pool import ThreadPool

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.intercept.active import active
from genai_cache_magic.testing.model_server import SimulatedModelServer


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


def in_force():
    here = active.get()
    return None if here is None else here.scope


def in_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_thread_carries_the_scope():
    """A thread started by the cell is in its scope, and so is one that this one starts."""
    with llm_cache() as cell:
        assert in_thread(in_force) is cell
        assert in_thread(lambda: in_thread(in_force)) is cell
    assert in_thread(in_force) is None


def test_thread_made_before_and_started_within():
    """It is the start that counts, not the making."""
    found = []
    thread = threading.Thread(target=lambda: found.append(in_force()))
    with llm_cache() as cell:
        thread.start()
    thread.join()
    assert found == [cell]


def test_subclass_and_timer_carry_the_scope():
    """A class with a `run` of its own, and a timer, carry the scope too."""
    found = []

    class Own(threading.Thread):
        def run(self):
            found.append(in_force())

    with llm_cache() as cell:
        threads = [Own(), threading.Timer(0, lambda: found.append(in_force()))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [cell, cell]


def test_pool_carries_each_calls_scope():
    """In a pool each call has the scope of whoever submitted it, whichever thread runs it."""
    with ThreadPoolExecutor(2) as pool:
        assert pool.submit(in_force).result() is None
        with llm_cache() as one:
            assert pool.submit(in_force).result() is one
            assert list(pool.map(lambda _: in_force(), range(8))) == [one] * 8
        with llm_cache() as two:
            assert {future.result() for future in as_completed([pool.submit(in_force) for _ in range(8)])} == {two}
        assert list(pool.map(lambda _: in_force(), range(8))) == [None] * 8


def test_pool_that_a_cell_began_captures_nothing_later():
    """A pool whose threads were started by a cell does not keep that cell's scope for others."""
    pool = ThreadPoolExecutor(4)
    barrier = threading.Barrier(4, timeout=30)
    with llm_cache() as cell:
        assert list(pool.map(lambda _: (barrier.wait(), in_force())[1], range(4))) == [cell] * 4
    assert list(pool.map(lambda _: (barrier.wait(), in_force())[1], range(4))) == [None] * 4
    pool.shutdown()


def test_pool_of_multiprocessing_carries_each_calls_scope():
    """A `ThreadPool` made in one scope works for whoever hands work in, and keeps no scope for others."""
    with llm_cache() as one:
        pool = ThreadPool(2)
        assert pool.map(lambda _: in_force(), range(4)) == [one] * 4
        assert pool.apply(in_force) is one
    with llm_cache() as two:
        assert pool.map(lambda _: in_force(), range(4), chunksize=2) == [two] * 4
        assert list(pool.imap(lambda _: in_force(), range(4))) == [two] * 4
        assert list(pool.imap_unordered(lambda _: in_force(), range(4))) == [two] * 4
        assert pool.starmap(lambda *_: in_force(), [(1, 2)]) == [two]
        assert pool.apply_async(in_force).get() is two
    assert pool.map(lambda _: in_force(), range(4)) == [None] * 4
    pool.terminate()
    pool.join()


def test_threads_of_a_pool_start_in_no_scope(monkeypatch):
    """A pool's thread starts with no scope in force, for the builds of Python in which threads inherit it."""
    seen = []
    original = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (seen.append(in_force()), original(self))[1])
    with llm_cache() as cell, ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_force).result() is cell
        assert in_force() is cell
    assert seen == [None]


def test_what_is_submitted_is_called_as_it_is():
    """Arguments, results, errors, and callables of every kind pass unchanged."""

    class Callable:
        def __call__(self, a, *, b):
            return a, b

    with llm_cache(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(Callable(), 1, b=2).result() == (1, 2)
        assert pool.submit(functools.partial(max, 3), 4).result() == 4
        assert pool.submit(int, "7").result() == 7
        assert pool.submit("a,b".split, ",").result() == ["a", "b"]
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 // 0).result()


def test_process_pool_is_left_alone():
    """Work for other processes is pickled and sent as ever."""
    with llm_cache(), ProcessPoolExecutor(1) as pool:
        assert pool.submit(abs, -3).result() == 3


def test_nested_scopes_in_threads():
    """A scope opened in a thread is that thread's alone."""
    with llm_cache() as outer:

        def inner():
            with llm_cache() as cell:
                return in_force() is cell, in_thread(in_force) is cell

        assert in_thread(inner) == (True, True)
        assert in_force() is outer


def test_wrap():
    """`llm_cache.wrap` takes the scope to wherever the function runs, and keeps its name."""
    with llm_cache() as cell:
        wrapped = llm_cache.wrap(in_force)
    assert wrapped() is cell
    assert in_thread(wrapped) is cell
    assert wrapped.__name__ == "in_force"
    assert in_force() is None


async def test_wrap_of_a_coroutine_function():
    """The same for a coroutine function: its body runs in the scope, wherever it is awaited."""

    async def later():
        await asyncio.sleep(0)
        return in_force()

    with llm_cache() as cell:
        wrapped = llm_cache.wrap(later)
    assert await wrapped() is cell
    assert in_force() is None


async def test_to_thread_and_executor():
    """`asyncio.to_thread` and `run_in_executor` carry the scope, and leave none behind."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        with llm_cache() as cell:
            assert await asyncio.to_thread(in_force) is cell
            assert await loop.run_in_executor(None, in_force) is cell
            assert await loop.run_in_executor(pool, in_force) is cell
        assert await asyncio.to_thread(in_force) is None
        assert await loop.run_in_executor(None, in_force) is None
        assert await loop.run_in_executor(pool, in_force) is None


async def test_loop_in_a_thread_of_the_cell():
    """A loop whose thread a cell started runs what others give it in their own scope."""
    loop = asyncio.new_event_loop()
    with llm_cache() as one:
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

    async def scope():
        return in_force()

    def ask():
        return asyncio.run_coroutine_threadsafe(scope(), loop).result()

    with llm_cache() as two:
        assert ask() is two
    assert ask() is None
    assert one is not two
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_uninstalled_threads_are_plain():
    """After uninstalling, threads and pools are the standard library's own again."""
    originals = threading.Thread.start, ThreadPoolExecutor.submit
    with llm_cache():
        assert threading.Thread.start is not originals[0]
        uninstall()
    assert (threading.Thread.start, ThreadPoolExecutor.submit) == originals


async def test_task_that_outlives_its_scope_is_recorded_to_it(unique_server):
    """A call that is still on its way when its cell ends is recorded to that cell, not to the next."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0)
    unique_server.hold()
    with llm_cache() as first:
        task = asyncio.ensure_future(
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "a"}]),
        )
        assert await asyncio.to_thread(unique_server.wait_for, 1)
    with llm_cache() as second:
        unique_server.release()
        await task
    assert [call.outcome for call in first.calls] == [Outcome.MISS]
    assert second.calls == ()
    await client.close()


def test_worker_thread_works_for_whoever_gives_it_work():
    """A thread that takes work from a queue does it in the scope in which it was put there, and keeps none."""
    work, found = queue.Queue(), []

    def consume():
        while work.get() is not None:
            found.append(in_force())
            work.task_done()
        work.task_done()

    def give(piece):
        work.put(piece)
        work.join()

    before = threading.Thread(target=consume)
    with llm_cache():
        pass  # who waits in a queue since before the first scope of a process takes one piece as ever
    before.start()
    with llm_cache() as one:
        give(1)
        give(1)
    give(1)
    with llm_cache() as two:
        give("two")
        within = threading.Thread(target=consume)
        work.put(None)
        before.join()
        within.start()
    give(2)
    with llm_cache() as three:
        give(3)
        with pytest.raises(queue.Full):
            full(queue.Queue(1))
        assert in_force() is three
    work.put(None)
    within.join()
    assert found == [one, one, None, two, None, three]


@pytest.mark.parametrize("kind", [queue.LifoQueue, queue.Queue])
def test_a_store_of_connections_gives_nobody_work(kind):
    """Who takes a connection that another cell put back, as from urllib3's pool, goes on in the scope that it had."""
    store, found = kind(), []

    def borrow():
        connection = store.get()
        found.append(in_force())
        store.put(connection)

    with llm_cache():
        store.put("connection")
    with llm_cache() as mine:
        thread = threading.Thread(target=borrow)
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(borrow).result()
            pool.submit(borrow).result()
    assert found == [mine] * 3


def full(bounded):
    """Put two things where there is room for one."""
    bounded.put(1)
    bounded.put_nowait(2)


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ThreadPool])
def test_what_a_pool_does_first_belongs_to_the_cell(isolated, pool):
    """An initializer that calls a model is cached and counted, and in `replay` its miss ends the cell."""
    with SimulatedModelServer() as server, openai.OpenAI(base_url=server.openai_url, api_key="k") as client:

        def first(text):
            client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": text}])

        with llm_cache() as cell, pool(1, initializer=first, initargs=("hello",)) as workers:
            assert list(workers.map(len, ["a"])) == [1]
        assert cell.misses == 1
        with (
            pytest.raises(ReplayMiss),
            llm_cache(mode="replay"),
            pool(1, initializer=first, initargs=("x",)) as workers,
        ):
            list(workers.map(len, ["a"]))
        assert server.count == 1
