"""Several processes, as several kernels are, on one new cache."""

from __future__ import annotations

import multiprocessing

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
