"""A cell in which a call was missing in replay ends with that, wherever in its threads and tasks it was lost."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.service


@pytest.fixture(scope="module", autouse=True)
def _queues(kernel):
    kernel.run("import queue")


THREAD = "thread = threading.Thread(target=ask, args=('{0}',))\nthread.start()\nthread.join()\n1"
TASK = "task = asyncio.ensure_future(aask('{0}'))\nawait asyncio.wait({{task}})\n1"
KEPT = "len(await asyncio.gather(aask('{0}'), return_exceptions=True))"
QUEUE = """
work = queue.Queue()
def consume():
    while True:
        piece = work.get()
        try:
            ask(piece)
        except Exception:
            pass
        work.task_done()
threading.Thread(target=consume, daemon=True).start()
work.put('{0}')
work.join()
"""
TASKS = """
work = asyncio.Queue()
async def consume():
    while True:
        piece = await work.get()
        try:
            await aask(piece)
        except Exception:
            pass
        work.task_done()
task = asyncio.ensure_future(consume())
work.put_nowait('{0}')
await work.join()
"""
POOL = "from multiprocessing.pool import ThreadPool\nwith ThreadPool(2) as pool: pool.map(ask, ['{0}'])"


HEAD = "%%llm_cache --mode replay\n"


@pytest.mark.parametrize(
    "source",
    [HEAD + THREAD, HEAD + TASK, HEAD + KEPT, HEAD + QUEUE, HEAD + TASKS, HEAD + POOL, f"%%time\n{HEAD}{THREAD}"],
    ids=["thread", "task", "kept", "queue", "tasks", "pool", "below-time"],
)
def test_the_cell_ends_with_the_miss(kernel, server, source):
    """The reply says ``ReplayMiss``, the error is shown once, the badge stands last, and no model is called."""
    before = server.count
    ran = kernel.run(source.format("lost"))
    assert (ran.status, ran.reply.get("ename")) == ("error", "ReplayMiss")
    assert ran.error.count("ReplayMiss:") == 1
    assert ran.badges[-1]["errors"] >= 1
    assert server.count == before


@pytest.mark.parametrize("source", [QUEUE, THREAD], ids=["queue", "thread"])
def test_one_cell_after_another(kernel, source):
    """What ended one cell is not held against the next."""
    assert kernel.run(HEAD + source.format("once")).reply["ename"] == "ReplayMiss"
    assert kernel.run("%%llm_cache\nask('next')").status == "ok"
    assert kernel.run(f"{HEAD}queue.Queue().put(ask('next'))\nthreading.Event().wait(0.1)").counts == (1, 0)


def test_a_task_that_misses_after_its_cell(kernel, server):
    """A task that runs only when its cell is over stops the next cell that ends, which is told whose it was."""
    ran = kernel.run("%%llm_cache --mode replay\ntask = asyncio.ensure_future(aask('missed late'))")
    assert ran.status == "ok"
    after = kernel.run("await asyncio.wait({task})\n'more'")
    assert (after.status, after.reply.get("ename")) == ("error", "ReplayMiss")
    assert after.reply["evalue"].startswith("in a thread or task of an earlier cell: gpt-")
    assert kernel.run("1").status == "ok"


def test_what_the_cell_catches_is_its_own_matter(kernel):
    """A cell that catches the error by name goes on, wherever it came from."""
    ran = kernel.run(
        f"{HEAD}from genai_cache_magic.errors import ReplayMiss\n"
        "from concurrent.futures import ThreadPoolExecutor\ncaught = 0\n"
        "pool = ThreadPoolExecutor(1)\n"
        "for get in (lambda: ask('caught'), lambda: pool.submit(ask, 'caught').result()):\n"
        "    try:\n        get()\n    except ReplayMiss:\n        caught += 1\n"
        "try:\n    await asyncio.gather(aask('caught'), aask('too'))\nexcept ReplayMiss:\n    caught += 1\ncaught",
    )
    assert (ran.status, ran.result) == ("ok", "3"), ran.error
