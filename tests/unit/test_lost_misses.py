"""A `ReplayMiss` in a thread, task or worker: no runner hangs, and the scope in which it happened ends with it."""

# ruff: noqa: BLE001, PT012, SIM105, SIM117 - what is tested is what happens in and at the end of a block

from __future__ import annotations

import asyncio
import contextlib
import pickle
import queue
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import anyio
import anyio.to_thread
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import BudgetExceeded, ReplayMiss, as_raised, make_ordinary
from genai_cache_magic.intercept.workers import threads

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


@pytest.fixture
def ask(unique_server):
    """A way to ask what is not in the cache."""
    client = openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=3)

    def ask(text="unknown"):
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

    yield ask
    client.close()
    assert unique_server.count == 0


@pytest.fixture
async def aask(unique_server):
    """The same, asynchronously."""
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=3)

    async def aask(text="unknown"):
        return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

    yield aask
    await client.close()
    assert unique_server.count == 0


@pytest.mark.parametrize(
    "hand_in",
    [
        lambda pool, ask: pool.map(ask, ["a", "b"]),
        lambda pool, ask: pool.map(ask, ["a", "b"], chunksize=2),
        lambda pool, ask: pool.starmap(ask, [("a",), ("b",)]),
        lambda pool, ask: list(pool.imap(ask, ["a", "b"])),
        lambda pool, ask: list(pool.imap_unordered(ask, ["a", "b"])),
        lambda pool, ask: pool.apply(ask, ("a",)),
        lambda pool, ask: pool.apply_async(ask, ("a",)).get(),
        lambda pool, ask: pool.map_async(ask, ["a"]).get(),
        lambda pool, ask: pool.starmap_async(ask, [("a",)]).get(),
    ],
)
def test_pool_of_multiprocessing_hands_it_on(ask, hand_in):
    """Whatever way work is handed in, the error comes back as itself, and the pool goes on working."""
    with ThreadPool(2) as pool:
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            hand_in(pool, ask)
        assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]


def test_pool_whose_work_opens_its_own_scope(ask):
    """A pool doesn't hang either if there is no scope around it."""
    with ThreadPool(1) as pool, pytest.raises(ReplayMiss):
        # The patches are in place once a scope was opened.
        with llm_cache():
            pass
        pool.map(llm_cache(mode="replay")(ask), ["a"])


def test_worker_of_a_queue_that_opens_its_own_scope(ask):
    """In a thread the block's error can be caught as people catch errors, so that the worker goes on."""
    work = queue.Queue()
    thread = threading.Thread(target=consume, args=(work, llm_cache(mode="replay")(ask)))
    thread.start()
    for piece in ("a", "b"):
        work.put(piece)
    work.join()
    work.put(None)
    thread.join()


def test_executor_hands_it_on(ask):
    """The error comes back as itself, is an `Exception` for the runner, and what catches it by name has it."""
    with llm_cache(mode="replay"), ThreadPoolExecutor(2) as pool, pytest.raises(ReplayMiss) as caught:
        list(pool.map(ask, ["a", "b"]))
    assert isinstance(caught.value, Exception)
    assert type(caught.value).__name__ == "ReplayMiss"
    with llm_cache(mode="replay"), ThreadPoolExecutor(1) as pool, pytest.raises(ReplayMiss):
        pool.submit(ask).result()


def test_result_that_nobody_asks_for(ask):
    """A future that is never looked at, or whose error is only looked at, ends the scope with its error."""
    for look in (lambda future: None, lambda future: future.exception()):
        with pytest.raises(ReplayMiss), llm_cache(mode="replay"), ThreadPoolExecutor(1) as pool:
            look(pool.submit(ask))


def test_plain_thread(ask):
    """A thread that dies of it ends the scope with it, once, in the class that no SDK catches."""
    with pytest.raises(ReplayMiss) as caught, llm_cache(mode="replay"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
    assert not isinstance(caught.value, Exception)


def test_thread_that_swallows_it(ask):
    """A worker that catches everything hides nothing."""

    def swallow():
        with pytest.raises(BaseException):  # noqa: B017 - whatever it is
            ask()

    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        thread = threading.Thread(target=swallow)
        thread.start()
        thread.join()


def test_thread_in_which_all_was_there(ask):
    """What ends well ends well; what the cell's own code catches is its own matter."""
    with llm_cache(mode="replay") as cell:
        thread = threading.Thread(target=sum, args=([1],))
        thread.start()
        thread.join()
        with pytest.raises(ReplayMiss):
            ask()
    assert cell.errors == 1


def test_another_error_of_the_block_passes(ask):
    """An error that is on its way out of the block is not replaced."""
    with pytest.raises(ZeroDivisionError), llm_cache(mode="replay"):
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        raise ZeroDivisionError


def consume(work, ask):
    """Work as people write it: what fails is noted, and the next piece taken."""
    while (piece := work.get()) is not None:
        try:
            ask(piece)
        except Exception:
            pass
        work.task_done()


def test_workers_of_a_queue(ask):
    """Who joins a queue whose worker has died gets the error instead of waiting for ever."""
    work = queue.Queue()
    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        threading.Thread(target=consume, args=(work, ask), daemon=True).start()
        for piece in ("a", "b", "c"):
            work.put(piece)
        work.join()


@pytest.mark.parametrize("wait", ["get", "event", "barrier"])
def test_other_waits_for_a_thread(ask, wait):
    """The same for a queue of results, an event, a barrier."""
    results, done, barrier = queue.Queue(), threading.Event(), threading.Barrier(2)

    def work():
        ask()
        results.put(1)
        done.set()
        barrier.wait()

    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        threading.Thread(target=work).start()
        {"get": results.get, "event": done.wait, "barrier": barrier.wait}[wait]()


def test_waits_in_a_replay_keep_their_promises():
    """A wait with a time-out ends, says what it says without a scope, and is woken by what it waits for."""
    with llm_cache(mode="replay"):
        assert threading.Event().wait(0) is False
        assert threading.Event().wait(0.12) is False
        with pytest.raises(queue.Empty):
            queue.Queue().get(timeout=0.01)
        ready = threading.Event()
        timer = threading.Timer(0.12, ready.set)
        timer.start()
        assert ready.wait() is True
        timer.join()


async def test_task_that_nobody_awaits(aask):
    """A task that fails unseen ends the scope with its error."""
    with pytest.raises(ReplayMiss):
        with llm_cache(mode="replay"):
            task = asyncio.ensure_future(aask())
            await asyncio.wait({task})
    assert isinstance(task.exception(), ReplayMiss)


async def test_gather_that_keeps_errors_as_results(aask):
    """An error that is kept among the results ends the scope all the same; one that was caught does not."""
    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        (kept,) = await asyncio.gather(aask(), return_exceptions=True)
    assert isinstance(kept, ReplayMiss)
    with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
        await asyncio.gather(aask(), aask("b"))


async def test_task_groups(aask):
    """Groups cancel the others and raise their group, of asyncio as of anyio."""
    for make in (asyncio.TaskGroup, anyio.create_task_group):
        with pytest.raises(BaseExceptionGroup) as caught:
            with llm_cache(mode="replay"):
                async with make() as group:
                    start = getattr(group, "start_soon", None) or (lambda f, g=group: g.create_task(f()))
                    start(aask)
                    start(asyncio.Event().wait)
        assert caught.group_contains(ReplayMiss)


async def test_threads_of_asyncio_and_anyio(ask):
    """Work in a thread hands the error on to whoever awaits it."""
    loop = asyncio.get_running_loop()
    ways = (
        lambda: asyncio.to_thread(ask),
        lambda: loop.run_in_executor(None, ask),
        lambda: anyio.to_thread.run_sync(ask),
    )
    for way in ways:
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            await way()


async def aconsume(work, aask):
    while True:
        piece = await work.get()
        try:
            await aask(piece)
        except Exception:
            pass
        work.task_done()


async def test_workers_of_an_asynchronous_queue(aask):
    """Who joins a queue whose worker task has died gets the error instead of waiting for ever."""
    work = asyncio.Queue()
    workers = []
    with pytest.raises(ReplayMiss):
        with llm_cache(mode="replay"):
            workers = [asyncio.ensure_future(aconsume(work, aask)) for _ in range(2)]
            for piece in ("a", "b", "c"):
                work.put_nowait(piece)
            await work.join()
    for worker in workers:
        worker.cancel()
    await asyncio.gather(*workers, return_exceptions=True)


def test_loop_that_a_block_runs(unique_server):
    """The same where the block is synchronous and runs the loop itself; and a task that waits in another's stead."""
    asked = []

    async def main():
        client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k")

        async def aask(text):
            asked.append(text)
            return await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])

        work = asyncio.Queue()
        worker = asyncio.ensure_future(aconsume(work, aask))
        work.put_nowait("a")
        work.put_nowait("b")
        try:
            await asyncio.gather(asyncio.ensure_future(work.join()))
        finally:
            await asyncio.gather(worker, return_exceptions=True)
            await client.close()

    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        asyncio.run(main())
    assert asked == ["a"]
    assert unique_server.count == 0


@pytest.mark.parametrize("place", ["site-packages", "own"])
def test_runner_of_a_library_that_makes_a_list_of_errors(ask, tmp_path, place):
    """What a library swallows ends the scope; what people's own code catches is their own matter."""
    path = tmp_path / place / "runner.py"
    source = """
def run(pool, work):
    try:
        return pool.submit(work).result()
    except Exception as error:
        return error
"""
    runner = {}
    exec(compile(source, str(path), "exec"), runner)
    scope = pytest.raises(ReplayMiss) if place == "site-packages" else contextlib.nullcontext()
    with scope, llm_cache(mode="replay"), ThreadPoolExecutor(1) as pool:
        assert isinstance(runner["run"](pool, ask), ReplayMiss)


def test_a_wait_loses_no_notification(monkeypatch):
    """However often it is looked whether all is over, a future, an event and a queue wake who waits for them."""
    monkeypatch.setattr(threads, "_LOOK_EVERY_S", 0.0)
    heard = []
    with llm_cache(mode="replay"), ThreadPoolExecutor(1) as pool:

        def wait():
            for _ in range(100):
                event, line = threading.Event(), queue.Queue()
                pool.submit(lambda event=event, line=line: (event.set(), line.put(1)))
                event.wait()
                heard.append(line.get())
                heard.append(pool.submit(abs, -1).result())

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        thread.join(50)
    assert len(heard) == 200


@pytest.mark.parametrize("kind", [ReplayMiss, BudgetExceeded])
def test_ordinary_error_is_the_same_error(kind):
    """It keeps its class for whoever names it, survives the way between processes, and can be raised anew."""
    error = kind("what is missing")
    make_ordinary(error)
    make_ordinary(error)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert isinstance(one, kind)
        assert isinstance(one, Exception)
        assert (type(one).__name__, str(one)) == (kind.__name__, "what is missing")
    again = as_raised(error)
    assert type(again) is kind
    assert not isinstance(again, Exception)
