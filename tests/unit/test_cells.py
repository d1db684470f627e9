"""Scopes for code: what is in force where, and that closing one never disturbs another."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from genai_cache_magic import last_cell, llm_cache
from genai_cache_magic.api.scopes.cells import open_cell
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Options
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.intercept import patching
from genai_cache_magic.intercept.active import active


def in_force():
    here = active.get()
    return None if here is None else here.scope


@pytest.fixture(autouse=True)
def _own(isolated):
    """Every test has a cache of its own."""


def test_block_is_a_scope():
    """Within the block its scope is in force, afterwards the outer one is again, and the record stays."""
    with llm_cache(tags=("a",)) as outer:
        assert in_force() is outer
        with llm_cache() as inner:
            assert in_force() is inner
        assert in_force() is outer
        assert last_cell() is inner
    assert in_force() is None
    assert last_cell() is outer
    assert outer.options.tags == ("a",)


async def test_asynchronous_block_is_a_scope():
    """``async with`` does the same, and each task is in the scope that was in force where it was made."""
    async with llm_cache() as outer:
        task = asyncio.ensure_future(asyncio.sleep(0, in_force()))
        async with llm_cache() as inner:
            within = asyncio.ensure_future(_scope_later())
        assert await task is outer
        assert await within is inner
    assert in_force() is None


async def _scope_later():
    await asyncio.sleep(0)
    return in_force()


def test_error_in_a_block_passes():
    """An error leaves the block as itself, and the scope is closed."""
    with pytest.raises(ZeroDivisionError), llm_cache() as cell:
        raise ZeroDivisionError
    assert in_force() is None
    assert last_cell() is cell


@pytest.mark.parametrize(
    "wrong",
    [{"mode": "offf"}, {"tag": "a"}, {"zzz": "a"}, {"ttl": 7}, {"tags": "a"}, {"samples": "all"}, {"store": "url"}],
    ids=repr,
)
def test_wrong_option_is_refused_where_it_is_written(wrong):
    """A wrong option of a decorator is told when it is applied, not when the function runs at last."""
    with pytest.raises(ConfigurationError):
        llm_cache(**wrong)
    with pytest.raises(ConfigurationError), llm_cache(namespace="a b"):
        pass
    assert in_force() is None


def test_a_record_reads_as_english():
    """One hit, two misses: also where the record itself is printed."""
    scope = CellScope(Options())
    assert repr(scope) == "<llm_cache cell: 0 hits, 0 misses>"
    for outcome in (Outcome.HIT, Outcome.MISS):
        scope.emit(CallRecord(outcome))
    assert repr(scope) == "<llm_cache cell: 1 hit, 1 miss>"


def test_decorated_function_has_a_scope_per_run():
    """Each run of a decorated function is a scope of its own, and what it returns is returned."""

    @llm_cache(tags=("x",))
    def work(a, *, b=1):
        """Do the work."""
        return a + b, in_force()

    first, second = work(1), work(1, b=2)
    assert (first[0], second[0]) == (2, 3)
    assert first[1] is not second[1]
    assert first[1].options.tags == ("x",)
    assert (work.__name__, work.__doc__) == ("work", "Do the work.")
    assert in_force() is None


async def test_decorated_coroutine_functions_don_t_mix():
    """Runs of one decorated coroutine function at the same time each have their own scope throughout."""

    @llm_cache()
    async def work():
        before = in_force()
        await asyncio.sleep(0)
        return before, in_force()

    scopes = await asyncio.gather(*(work() for _ in range(5)))
    assert len({id(before) for before, _ in scopes}) == 5
    assert all(before is after is not None for before, after in scopes)


def test_generator_is_refused():
    """A generator can't be decorated: its body would lend its scope to its consumer."""
    with pytest.raises(ConfigurationError):

        @llm_cache()
        def generator():
            yield 1

    with pytest.raises(ConfigurationError):

        @llm_cache()
        async def agenerator():
            yield 1


def test_one_object_in_many_threads():
    """One `llm_cache` object entered by several threads at once gives each its own scope, and closes the right one."""
    shared, together = llm_cache(), Barrier(4, timeout=30)

    def run():
        with shared as cell:
            together.wait()
            assert in_force() is cell
            together.wait()
        return in_force(), cell

    with ThreadPoolExecutor(4) as pool:
        results = [future.result() for future in [pool.submit(run) for _ in range(4)]]
    assert [left for left, _ in results] == [None] * 4
    assert len({id(cell) for _, cell in results}) == 4


async def test_one_object_in_many_tasks():
    """The same for tasks, which leave in another order than they entered."""
    shared, gates = llm_cache(), [asyncio.Event() for _ in range(3)]

    async def run(gate):
        with shared as cell:
            await gate.wait()
            assert in_force() is cell
        return in_force()

    tasks = [asyncio.ensure_future(run(gate)) for gate in gates]
    for gate in gates:
        await asyncio.sleep(0)
        gate.set()
    assert await asyncio.gather(*tasks) == [None] * 3


def test_scope_that_is_closed_elsewhere():
    """A coroutine that the garbage collector closes within another scope leaves that one in force."""

    async def work():
        with llm_cache():
            await _Suspended()

    coroutine = work()
    before = in_force()
    coroutine.send(None)
    active.set(None)  # a coroutine that is driven by hand shares our context
    assert before is None
    with llm_cache() as cell:
        del coroutine
        gc.collect()
        assert in_force() is cell
    assert in_force() is None


class _Suspended:
    def __await__(self):
        yield


def test_closing_twice_is_closing_once():
    """A closed cell that is closed again changes nothing."""
    session = current_session()
    first = open_cell(session, session.options())
    first.close()
    with llm_cache() as cell:
        first.close()
        assert in_force() is cell


def test_interrupt_while_opening_leaves_nothing_in_force(monkeypatch):
    """An interrupt before the block begins is the user's, and no later call belongs to a scope that never began."""

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(patching.patcher, "install", interrupted)
    with pytest.raises(KeyboardInterrupt), llm_cache():
        pytest.fail("the block must not begin")
    assert in_force() is None


def test_cell_tells_hooks_and_keeps_its_words():
    """Hooks given to a cell hear what it records, and it knows its cell's name and person."""
    session, heard = current_session(), []
    opened = open_cell(session, session.options(), cell="c1", hooks=[heard.append])
    try:
        opened.scope.emit("event")
    except AttributeError:
        pytest.fail("an event of any kind is passed on")
    finally:
        opened.close()
    assert heard == ["event"]
    assert (opened.scope.cell, opened.scope.person) == ("c1", "tester")


def test_cache_that_cannot_be_opened_lets_calls_pass(isolated, monkeypatch):
    """If the cache can't be opened the scope opens all the same, and says what is wrong."""
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / "file" / "sub"))
    (isolated / "file").write_text("not a directory")
    with llm_cache() as cell:
        assert in_force() is cell
    assert len(cell.troubles) == 1
