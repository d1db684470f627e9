"""Processes that a cell starts, and work that it gives to pools of them, are cached and counted as its own."""

# ruff: noqa: PT012 - what is tested is what happens in and at the end of a block

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from unit import work_elsewhere

from genai_cache_magic import llm_cache
from genai_cache_magic.calls.reports import Reports
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import CallRecord, Outcome, Trouble

pytestmark = [
    pytest.mark.timeout(100),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

METHODS = multiprocessing.get_all_start_methods()


@pytest.fixture(params=["fork", "spawn"])
def method(request, isolated):
    if request.param not in METHODS:
        pytest.skip(f"this system has no {request.param}")
    return multiprocessing.get_context(request.param)


@pytest.fixture
def any_method(request, isolated):
    return multiprocessing.get_context(request.param)


def outcomes(cell):
    return sorted(call.outcome.value for call in cell.calls)


@pytest.mark.parametrize("any_method", METHODS, indirect=True)
def test_executor(any_method, unique_server):
    """Its calls are hits, misses and money of the cell; nothing stays in force in its workers."""
    url = unique_server.openai_url
    with ProcessPoolExecutor(1, mp_context=any_method) as pool:
        assert pool.submit(work_elsewhere.scope_here).result() is None
        with llm_cache(tags=("one",)) as one:
            first = list(pool.map(work_elsewhere.ask, [url] * 2, ["a", "b"]))
            assert pool.submit(work_elsewhere.scope_here).result() == ("one",)
        with llm_cache(tags=("two",)) as two:
            assert list(pool.map(work_elsewhere.ask, [url] * 2, ["a", "b"])) == first
            assert work_elsewhere.ask(url, "a") == first[0]
            assert pool.submit(work_elsewhere.scope_here).result() == ("two",)
        assert pool.submit(work_elsewhere.scope_here).result() is None
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            pool.submit(work_elsewhere.ask, url, "unknown", max_retries=3).result()
        with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
            pool.submit(work_elsewhere.ask, url, "unknown").exception()
    assert (outcomes(one), outcomes(two)) == (["miss"] * 2, ["hit"] * 3)
    assert one.calls[0].input_tokens
    assert unique_server.count == 2


def test_pool_of_multiprocessing(method, unique_server):
    """The same for a `Pool`, made in one scope and used in others; a miss in it hangs nobody."""
    url = unique_server.openai_url
    with llm_cache(tags=("one",)) as one:
        pool = method.Pool(1)
        first = pool.starmap(work_elsewhere.ask, [(url, "a"), (url, "b")])
        assert pool.map(work_elsewhere.scope_here, [1]) == [("one",)]
    assert pool.apply(work_elsewhere.scope_here) is None
    with llm_cache(tags=("two",)) as two:
        assert pool.starmap(work_elsewhere.ask, [(url, "a"), (url, "b")], 2) == first
        assert list(pool.imap(work_elsewhere.scope_here, [1, 2])) == [("two",)] * 2
    with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
        pool.apply_async(work_elsewhere.ask, (url, "unknown")).get(60)
    pool.terminate()
    pool.join()
    assert (outcomes(one), outcomes(two)) == (["miss"] * 2, ["hit"] * 2)


@pytest.mark.parametrize("kind", ["Pool", "executor"])
def test_what_a_worker_does_first_belongs_to_the_cell(method, unique_server, kind):
    """An initializer's calls are cached and counted, and in a replay they are not made, and hang nobody."""
    url = unique_server.openai_url

    def work():
        first = {"initializer": work_elsewhere.ask, "initargs": (url, "first")}
        if kind == "Pool":
            with method.Pool(1, **first) as pool:
                return pool.map(work_elsewhere.scope_here, [1])
        with ProcessPoolExecutor(1, mp_context=method, **first) as pool:
            return list(pool.map(work_elsewhere.scope_here, [1]))

    with pytest.raises(ReplayMiss), llm_cache(mode="replay", tags=("one",)):
        assert work() == [("one",)]
    assert unique_server.count == 0
    for expected in ("miss", "hit"):
        with llm_cache(tags=("one",)) as cell:
            assert work() == [("one",)]
        assert outcomes(cell) == [expected]


def test_process(method, unique_server):
    """A process of its own belongs to the cell, with its threads, and whatever becomes of it in the end."""
    url = unique_server.openai_url
    with llm_cache() as cell:
        work = (work_elsewhere.ask_in_thread, work_elsewhere.ask_and_die)
        processes = [method.Process(target=one, args=(url, one.__name__)) for one in work]
        for process in processes:
            process.start()
            assert "run" not in vars(process)
        for process in processes:
            process.join()
    assert outcomes(cell) == ["miss"] * 2
    assert [trouble for trouble in cell.troubles if trouble.where == "processes"] == []
    with pytest.raises(ReplayMiss), llm_cache(mode="replay"):
        process = method.Process(target=work_elsewhere.ask_in_thread, args=(url, "unknown"))
        process.start()
        process.join()
    assert unique_server.count == 2


def test_process_that_can_not_follow(isolated, unique_server, monkeypatch):
    """Where a process could not follow, the cell says so in words."""
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr(work_elsewhere.ask_in_thread, "__module__", "no_such_module")
    monkeypatch.setitem(sys.modules, "no_such_module", work_elsewhere)
    with llm_cache() as cell:
        processes = [
            spawn.Process(target=work_elsewhere.ask_in_thread, args=(unique_server.openai_url, "a")) for _ in "ab"
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    (trouble,) = cell.troubles
    assert "2 worker processes were not followed" in trouble.message


@pytest.mark.skipif("fork" not in METHODS, reason="this system has no fork")
def test_plain_fork(isolated, unique_server):
    """A child of `os.fork` is counted too, killed or not; its files are the user's alone."""
    url = unique_server.openai_url
    with llm_cache() as cell:
        child = os.fork()
        if not child:
            work_elsewhere.ask_and_die(url, "a")
        os.waitpid(child, 0)
        directory = Path(cell.reports.directory)
        assert directory.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in directory.iterdir()] == [0o600]
    assert outcomes(cell) == ["miss"]


def test_another_python_is_not_ours(isolated, tmp_path):
    """A program that a cell runs is left alone."""
    with llm_cache() as cell:
        subprocess.run([sys.executable, "-c", "pass"], check=True, timeout=60)
    assert (cell.calls, cell.troubles) == ((), ())
    assert not Path(cell.reports.directory).exists()


def test_what_is_told(tmp_path):
    """Records, troubles and misses come over whole and once; an open call is closed; half a line is none yet."""
    ours = Reports()
    ours.prepare()
    theirs = Reports(ours.directory)
    call = CallRecord(Outcome.MISS, provider="openai.chat", model="m", input_tokens=3, differs=("body.seed",))
    theirs.hello()
    theirs.tell(CallRecord(Outcome.OPEN), 7, is_open=True)
    theirs.tell(call, 7)
    theirs.tell(Trouble("L1", "X", "y"))
    theirs.tell_lost(ReplayMiss("missing"))
    hello, opened, closed, trouble, lost = ours.read()
    assert (hello.what, opened.is_open, opened.ticket) == (None, True, closed.ticket)
    assert (closed.what, trouble.what) == (call, Trouble("L1", "X", "y"))
    assert isinstance(lost.what, ReplayMiss)
    assert list(ours.read()) == []
    (file,) = Path(ours.directory).iterdir()
    with file.open("ab") as end:
        end.write(b'not json\n{"call": 3}\n{"hello"')
    assert list(ours.read()) == []
    with file.open("ab") as end:
        end.write(b": true}\n")
    assert len(list(ours.read())) == 1
    directory = Path(ours.directory)
    del ours
    assert not directory.exists()


def test_no_place_for_reports(isolated, unique_server, monkeypatch):
    """A call doesn't fail because what it did can't be told."""
    reports = Reports(str(isolated / "gone"))
    reports.hello()
    reports.tell(CallRecord(Outcome.HIT))
    assert not (isolated / "gone").exists()
