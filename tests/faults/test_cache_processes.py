"""Several processes, as several kernels are, on one new cache."""

from __future__ import annotations

import itertools
import multiprocessing
import os

from genai_cache_magic import create_cache

PROCESSES = 8
VALUES = 20


def settings(home):
    return {"dir": home / "cache", "key_file": home / "keys" / "key"}


def work(home, number, barrier):
    barrier.wait(60)
    with create_cache(**settings(home)) as cache:
        for i in range(VALUES):
            cache.set(f"{number}:{i}", [number, i], tags=(f"process-{number}",))
        if number == 0:
            cache.invalidate_tag("process-0")


def test_first_use_by_many_processes_at_once(tmp_path):
    """Key, keyset, generation document and database are made once; nothing is lost, no invalidation either."""
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(PROCESSES)
    processes = [context.Process(target=work, args=(tmp_path, n, barrier)) for n in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    with create_cache(**settings(tmp_path)) as cache:
        for number in range(1, PROCESSES):
            keys = [f"{number}:{i}" for i in range(VALUES)]
            assert cache.mget(keys) == [[number, i] for i in range(VALUES)]
        assert cache.keys("0:*") == []
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["key"]


def busy(home, number, started):
    with create_cache(**settings(home)) as cache:
        for i in itertools.count():
            cache.set(f"{number}:{i % 40}", os.urandom(200 + i % 3 * 40_000), tags=(f"t{i % 3}",))
            if i % 7 == 0:
                cache.invalidate_tag(f"t{i % 2}")
            if i % 11 == 0:
                cache.delete(f"{number}:{i % 5}")
            if i == 5:
                started.set()


def test_killed_processes_leave_a_catalogue_that_is_right(tmp_path):
    """After kills in the middle of anything, listings and counts say what is there, to those that go on as well."""
    context = multiprocessing.get_context("spawn")
    with create_cache(**settings(tmp_path)) as survivor:
        for turn in range(3):
            started = [context.Event() for _ in range(2)]
            processes = [context.Process(target=busy, args=(tmp_path, n, started[n])) for n in range(2)]
            for process in processes:
                process.start()
            assert all(event.wait(60) for event in started)
            survivor.set(f"survivor:{turn}", turn)
            for process in processes:
                process.kill()
                process.join(60)
            for cache in (survivor, create_cache(**settings(tmp_path))):
                opened = {metadata.key for _, _, metadata in cache._entries.scan()}
                assert set(cache.keys()) == opened
                assert cache.stats().entries == len(opened)
                if cache is not survivor:
                    cache.close()
        assert survivor.keys("survivor:*") == [f"survivor:{turn}" for turn in range(3)]
