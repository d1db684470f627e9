"""Workers of an executor ask what is to be in the cache: progress, budget and failures are those of the whole."""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from decimal import Decimal

import pytest
from priced_model import body, own_priced_model, users_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.simulated.call import Fault

pytestmark = pytest.mark.timeout(100)


def bodies(number):
    return [body(f"{text}") for text in range(number)]


class Losing(Executor):
    """Does all work at once, but for that of some numbers, whose worker is gone."""

    def __init__(self, *lost, breaks=False):
        self.lost, self.breaks, self.parts, self.is_broken = lost, breaks, [], False

    def submit(self, fn, /, *args, **kwargs):
        if self.is_broken:
            raise BrokenExecutor("broken")
        future = Future()
        self.parts.append(args[0])
        if len(self.parts) in self.lost:
            self.is_broken = self.breaks
            future.set_exception(BrokenExecutor("a secret"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_threads_of_somebody_elses_pool(cache, unique_server):
    """What they asked is in the cache, progress is told, and the second time nothing is asked."""
    told = []
    with ThreadPoolExecutor(4) as pool:
        done = cache.warm(
            [*bodies(10), body("0")], executor=pool, run="r", progress=lambda done, total: told.append((done, total))
        )
        again = cache.warm(bodies(10), executor=pool, progress=False)
    assert (done.stored, done.hits, done.failed, done.left) == (10, 1, 0, 0)
    assert done.spent_usd == cache.usage().total.spent_usd
    assert told[-1] == (10, 10)
    assert (again.hits, again.stored, again.spent_usd, unique_server.count) == (10, 0, 0, 10)
    assert cache.runs.show("r").summary.calls == 10


def test_a_cache_in_memory(unique_server):
    """A pool of threads warms it too."""
    with ThreadPoolExecutor(2) as pool, create_cache("memory") as cache:
        assert cache.warm(bodies(3), executor=pool, progress=False).stored == 3


def test_processes_open_the_cache_themselves(cache, tmp_path, unique_server):
    """Each by its own settings, or in the directory that is named; what they ask is found here."""
    elsewhere = create_cache(dir=tmp_path / "elsewhere")
    in_memory = create_cache("memory")
    with elsewhere, in_memory, ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = cache.warm(bodies(6), executor=pool, max_workers=2, budget="0.01", progress=False)
        assert (done.stored, done.failed, done.left, done.stopped_by) == (6, 0, 0, "")
        assert 0 < done.spent_usd <= Decimal("0.01")
        assert elsewhere.warm(bodies(1), executor=pool, progress=False).stored == 1
        with pytest.raises(ConfigurationError, match="memory"):
            in_memory.warm(bodies(1), executor=pool)
    assert cache.warm(bodies(6), progress=False).hits == 6
    assert unique_server.count == 7


class Mortal(ProcessPoolExecutor):
    """Its second worker dies in the middle."""

    def submit(self, fn, /, *args, **kwargs):
        if args[0].name[1] == 2:
            return super().submit(os._exit, 1)
        return super().submit(fn, *args, **kwargs)


def test_a_worker_that_dies(cache, unique_server):
    """It is said which requests it had; nothing waits for ever, and the next time goes on from there."""
    with Mortal(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = cache.warm(bodies(4), executor=pool, max_workers=1, progress=False)
    assert (done.stored, done.failed, done.left, done.spent_usd) == (1, 1, 2, None)
    assert done.errors == ("request 2: lost with their worker (BrokenProcessPool)",)
    assert "BrokenProcessPool" in done.stopped_by
    again = cache.warm(bodies(4), progress=False)
    assert (again.hits, again.stored, unique_server.count) == (1, 3, 4)


def test_who_dies_loses_the_own_part_only(cache, unique_server):
    """An executor that goes on without it does the rest; the error's text is not told."""
    pool = Losing(2)
    done = cache.warm(bodies(8), executor=pool, max_workers=1, progress=False)
    assert (done.stored, done.failed, done.left) == (6, 2, 0)
    assert done.errors == ("requests 3 to 4: lost with their worker (BrokenExecutor)",)
    broken = cache.warm(bodies(10), executor=Losing(2, breaks=True), max_workers=1, progress=False)
    assert (broken.hits + broken.stored, broken.failed, broken.left) == (3, 3, 4)
    assert "no more work" in broken.stopped_by


def test_a_budget_is_shared_out(cache, unique_server):
    """No more than it is spent by all together, all of it can be used, and the next one goes on."""
    with ThreadPoolExecutor(4) as pool:
        first = cache.warm(bodies(20), executor=pool, budget="0.0007", max_workers=4, progress=False)
        assert 0 < first.spent_usd <= Decimal("0.0007")
        assert first.left == 20 - first.stored > 0
        assert "the budget of $0.0007" in first.stopped_by
        alone = create_cache(namespace="alone")
        with alone:
            by_one = alone.warm(bodies(20), budget="0.0007", max_workers=1, progress=False)
        assert first.stored >= by_one.stored - 1
        second = cache.warm(bodies(20), executor=pool, budget=1, progress=False)
    assert (second.hits, second.stored, second.left) == (first.stored, first.left, 0)


def test_what_a_lost_worker_held_is_spent(cache):
    """Nobody knows what it paid for, so its allowance is gone: the budget is kept whatever it did."""
    pool = Losing(1)
    done = cache.warm(bodies(2), executor=pool, budget="0.01", max_workers=1, progress=False)
    assert (done.failed, done.stored, done.left) == (1, 0, 1)
    assert pool.parts[0].allowance_usd == Decimal("0.01")
    assert pool.parts[-1].allowance_usd == 0


def test_work_that_is_given_out_again_is_not_paid_for_again(cache, unique_server):
    """An executor that repeats the work of a dead worker gets nothing done under a budget, and it is said."""

    class Repeating(Losing):
        def submit(self, fn, /, *args, **kwargs):
            super().submit(fn, *args, **kwargs)
            return super().submit(fn, *args, **kwargs)

    done = cache.warm(bodies(1), executor=Repeating(), budget="0.01", max_workers=1, progress=False)
    assert (done.left, unique_server.count) == (1, 1)
    assert "its worker died" in done.stopped_by


def test_a_price_that_nobody_knows(cache):
    """Stops as it does without an executor, and the reason is told."""
    with ThreadPoolExecutor(2) as pool:
        done = cache.warm([body("a", model="nobody-knows")], executor=pool, budget=1, progress=False)
        assert (done.left, "nobody knows" in done.stopped_by) == (1, True)
        done = cache.warm(
            [body("a", model="nobody-knows")], executor=pool, budget=1, budget_unknown="0.01", progress=False
        )
    assert (done.stored, done.spent_usd) == (1, None)


def test_a_budget_of_a_run(cache):
    """What others have spent of it counts."""
    cache.warm(bodies(4), run="r", budget="0.001", max_workers=1, progress=False)
    spent = cache.usage(by="run").total.spent_usd
    with ThreadPoolExecutor(2) as pool:
        cache.warm([body(f"more {n}") for n in range(20)], executor=pool, run="r", budget="0.001", progress=False)
    assert spent < cache.usage(by="run").total.spent_usd <= Decimal("0.001")


def test_failures_are_told_by_their_line(cache, unique_server):
    """As without an executor."""
    unique_server.fail_next(Fault.SERVER_ERROR, 9)
    with ThreadPoolExecutor(1) as pool:
        done = cache.warm([body("a secret")], executor=pool, progress=False)
    assert (done.failed, done.errors) == (1, ("request 1: InternalServerError",))


def test_a_run_file_is_shared_out(cache, tmp_path):
    """Each worker checks its own part of it."""
    import openai

    path = tmp_path / "sweep.jsonl"
    with llm_cache(mode="record", run_file=str(path)), openai.OpenAI() as client:
        for one in bodies(6):
            client.chat.completions.create(**one)
        client.chat.completions.create(
            **body([{"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}}])
        )
    cache.clear()
    with ThreadPoolExecutor(2) as pool:
        done = cache.warm(path, executor=pool, progress=False)
    assert (done.stored, done.failed, sum(done.left_out.values())) == (6, 0, 1)


def test_what_is_no_executor(cache):
    """And one whose workers could not be held to the budget of a cell around it."""
    with pytest.raises(ConfigurationError, match="executor is int"):
        cache.warm(bodies(1), executor=3)
    with llm_cache(budget=1), pytest.raises(ConfigurationError, match="budget of the cell"):
        cache.warm(bodies(1), executor=Losing())
    with pytest.raises(ConfigurationError, match="1 to 1024"):
        cache.warm(bodies(1), executor=Losing(), max_workers=2000)


def test_the_budget_of_the_cell_holds_a_pool_of_threads(cache):
    """What warming spends in a cell is spent of the cell's budget."""
    with llm_cache(budget="0.0004") as cell, ThreadPoolExecutor(2) as pool:
        done = cache.warm(bodies(12), executor=pool, progress=False)
    assert 0 < done.stored < 12
    assert cell.budgets.state.spent_usd <= Decimal("0.0004")
    assert "budget" in done.stopped_by


def test_ray_that_is_not_installed(monkeypatch):
    """The executor for it says what to install."""
    from genai_cache_magic.integrations.ray import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match="pip install ray"):
        RayExecutor()
