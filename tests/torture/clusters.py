"""Warming on real clusters: `python tests/torture/clusters.py [--dask] [--ray] [--seed TEXT]`, about a minute.

Several worker processes of Dask and of Ray on this machine warm one cache: all is asked once, a budget is kept, and a
worker that is killed loses its own part only. The exit code is 1 if anything was asked twice without need, a budget
was exceeded, a request was lost without a word, or the next warming didn't complete what was left.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from contextlib import contextmanager
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic import create_cache
from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from genai_cache_magic.api.cache import Cache

_REQUESTS = 60
_WORKERS = 3
_STORE_BYTES = 100 * 1024**2
_PACKAGES = {"dask": ("distributed", "dask[distributed]"), "ray": ("ray", "ray")}


def main() -> int:
    """Run the series of each package that is here, say what it showed, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in _PACKAGES:
        parser.add_argument(f"--{name}", action="store_true", help="this one alone; a package that is not here fails")
    asked = vars(parser.parse_args())
    wanted = [name for name in _PACKAGES if asked[name]]
    faults: list[str] = []
    for name in wanted or _PACKAGES:
        module, requirement = _PACKAGES[name]
        if find_spec(module) is None:
            say(f"{name}: not here, pip install '{requirement}'")
            faults += [f"{name} is not installed"] if wanted else []
            continue
        faults += run_cluster(name)
    for fault in faults:
        say(f"  {fault}")
    return 1 if faults else 0


def run_cluster(name: str) -> list[str]:
    """Warm caches with the workers of one package, and return what was wrong."""
    with (
        tempfile.TemporaryDirectory(prefix="genai-cache-clusters-") as folder,
        SimulatedModelServer("unique") as server,
    ):
        os.environ.update(
            GENAI_CACHE_DIR=str(Path(folder, "cache")),
            GENAI_CACHE_KEY_FILE=str(Path(folder, "default.key")),
            GENAI_CACHE_ORIGINS=json.dumps({server.url: "openai"}),
            OPENAI_BASE_URL=server.openai_url,
            OPENAI_API_KEY="k",
        )
        with create_cache() as cache, _CLUSTERS[name](folder) as (executor, processes):
            found = [
                *_asked_once(cache, server, executor),
                *_budget_is_kept(cache, server, executor),
                *_killed(cache, server, executor, processes),
            ]
    say(f"{name}: {_WORKERS} worker processes, {_REQUESTS} requests each time: {len(found)} wrong")
    return [f"{name}: {fault}" for fault in found]


def _asked_once(cache: Cache, server: SimulatedModelServer, executor: Executor) -> Iterator[str]:
    told: list[int] = []
    done = cache.warm(_bodies("a"), executor=executor, progress=lambda number, _: told.append(number))
    if (done.stored, done.failed, done.left, server.count) != (_REQUESTS, 0, 0, _REQUESTS):
        yield f"not each was asked once: {done}, {server.count} calls"
    if done.spent_usd != cache.usage().total.spent_usd or not told or told[-1] != _REQUESTS:
        yield f"what was spent or done was told wrong: {done.spent_usd}, {told}"
    again = cache.warm(_bodies("a"), executor=executor, progress=False)
    if (again.hits, server.count) != (_REQUESTS, _REQUESTS):
        yield f"what was in the cache was asked: {again}"


def _budget_is_kept(cache: Cache, server: SimulatedModelServer, executor: Executor) -> Iterator[str]:
    budget = Decimal("0.002")
    before = cache.usage().total.spent_usd
    done = cache.warm(_bodies("b"), executor=executor, budget=budget, progress=False)
    spent = cache.usage().total.spent_usd - before
    if not 0 < spent <= budget or not done.stored or done.stored + done.left != _REQUESTS:
        yield f"the budget of {budget} was not kept: {spent} spent, {done}"
    asked = server.count
    rest = cache.warm(_bodies("b"), executor=executor, progress=False)
    if (rest.hits, rest.stored, server.count) != (done.stored, done.left, asked + done.left):
        yield f"it did not go on from there: {rest}"


def _killed(
    cache: Cache, server: SimulatedModelServer, executor: Executor, processes: Callable[[], list[int]]
) -> Iterator[str]:
    victims = processes()[:1]

    def kill(done: int, _: int) -> None:
        while done and victims:
            os.kill(victims.pop(), signal.SIGKILL)

    budget, before, asked = Decimal(1), cache.usage().total.spent_usd, server.count
    done = cache.warm(_bodies("c"), executor=executor, budget=budget, progress=kill)
    if done.hits + done.stored + done.failed + done.left != _REQUESTS:
        yield f"requests were lost without a word: {done}"
    if done.failed and not any("lost with their worker" in error for error in done.errors):
        yield f"it was not said which requests were lost: {done}"
    if cache.usage().total.spent_usd - before > budget:
        yield "the budget was not kept when a worker was killed"
    came_to = f"{done.hits + done.stored} stored, {done.failed} lost, {done.left} left"
    say(f"  a worker killed: {came_to}; {done.errors} {done.stopped_by}")
    rest = cache.warm(_bodies("c"), progress=False)
    if rest.hits + rest.stored != _REQUESTS or server.count - asked > _REQUESTS + _WORKERS:
        yield f"the next warming did not complete it: {rest}, {server.count - asked} calls"


@contextmanager
def _dask(folder: str) -> Iterator[tuple[Executor, Callable[[], list[int]]]]:
    from distributed import Client, LocalCluster

    local = LocalCluster(
        n_workers=_WORKERS,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address=None,
        local_directory=folder,
        silence_logs="CRITICAL",
    )
    with local as cluster, Client(cluster) as client:
        yield client.get_executor(), lambda: list(client.run(os.getpid).values())


@contextmanager
def _ray(folder: str) -> Iterator[tuple[Executor, Callable[[], list[int]]]]:
    import ray

    from genai_cache_magic.integrations.ray import RayExecutor

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        num_cpus=_WORKERS,
        include_dashboard=False,
        object_store_memory=_STORE_BYTES,
        logging_level="ERROR",
        log_to_driver=False,
    )
    del folder
    try:
        with RayExecutor(num_cpus=1) as executor:
            yield executor, lambda: [executor.submit(os.getpid).result()]
    finally:
        ray.shutdown()


_CLUSTERS = {"dask": _dask, "ray": _ray}


def _bodies(text: str) -> list[dict[str, Any]]:
    messages = [[{"role": "user", "content": f"{text} {number}"}] for number in range(_REQUESTS)]
    return [{"model": "gpt-4.1-mini", "max_tokens": 100, "messages": each} for each in messages]


def say(text: str) -> None:
    """Write a line at once, since a series takes a while."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
