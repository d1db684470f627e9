"""A team's Redis: one answer of a teammate's, beside other caches in Redis, and a server that never answers."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from canned import ANSWER
from harness import BenchmarkError, Finding, Row, estimate, exactly
from rows_peers import CannedServer, Peer, Worker, install, not_installed
from surroundings import team_settings, told

from genai_cache_magic import create_cache
from genai_cache_magic.testing.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Effort

_FIRST_CELL_TARGET_MS = 2_000
_OPEN_BREAKER_TARGET_MS = 1

_LANGCHAIN = ("langchain-community>=0.4,<1", "langchain-openai>=1,<2", "redis>=6,<9")
PEERS = (
    Peer("litellm_redis", "LiteLLM Redis cache", ("litellm[proxy]>=1.80,<2", "redis>=6,<9")),
    Peer("langchain_redis", "LangChain RedisCache", _LANGCHAIN),
)


def prepare(effort: Effort) -> None:
    """Make the environments of the peers that are not there; a quick run makes do with those that are."""
    if not effort.is_quick:
        for peer in PEERS:
            if not peer.is_installed:
                install(peer)


def run(effort: Effort) -> Iterator[Finding]:
    """Measure over a redis-server of this run's own; it keeps nothing on disk."""
    with RedisServer() as server:
        yield from _teammates(server, effort)
    yield from _black_hole(effort)


# One at a time, beside others


def _teammates(server: RedisServer, effort: Effort) -> Iterator[Finding]:
    """What a teammate's process fetched, asked for the first time in this one: one prompt after the other."""
    prompts = [f"What is {number} in words?" for number in range(effort.pick(200, 50))]
    absent: list[Finding] = []
    fetched: dict[str, list[float]] = {}
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        model = stack.enter_context(CannedServer())
        for title, peer in (("ours", None), *((peer.title, peer) for peer in PEERS)):
            if peer is not None and not peer.is_installed:
                absent.append(Finding(peer.title, None, note=not_installed(peer)))
                continue
            try:
                fetched[title], versions[title] = _first_time(peer, model, server, prompts)
            except BenchmarkError as exc:
                absent.append(Finding(title, None, note=str(exc)))
    for title, seconds in fetched.items():
        if title != "ours":
            ratios = estimate([theirs / ours for theirs, ours in zip(seconds, fetched["ours"], strict=True)])
            medians = {name: estimate(fetched[name]).value for name in (title, "ours")}
            yield Finding(
                f"a teammate's answer, from Redis: {title} / ours", ratios, medians=medians, note=versions[title]
            )
    yield from absent


def _first_time(
    peer: Peer | None, model: CannedServer, server: RedisServer, prompts: list[str]
) -> tuple[list[float], str]:
    name = "team" if peer is None else peer.name
    python = Path(sys.executable) if peer is None else peer.python
    with team_settings(server):
        for machine in ("one", "two"):
            os.environ["GENAI_CACHE_DIR"] = str(Path(f"{name}-{machine}").absolute())
            os.environ["BENCH_REDIS"] = server.url
            with Worker(python, name, model.url) as worker:
                said = worker.ask(do="each", prompts=prompts)
                if set(said["texts"]) != {ANSWER}:
                    raise BenchmarkError(f"{name} gave another answer")
                if machine == "one":
                    asked = model.requests
    if model.requests != asked:
        raise BenchmarkError(f"{name}: {model.requests - asked} of {len(prompts)} hits reached the model")
    return said["seconds"], worker.versions


# A server that accepts and never answers


def _black_hole(effort: Effort) -> Iterator[Finding]:
    """What a tier costs that is not there any more: to begin and ask a first time, and each time after that."""
    settings = {"dir": "hole", "key_file": "team.key", "namespace": "bench-values"}
    with RedisServer() as server:
        with create_cache("redis", l2=server.url, **settings) as cache:  # so that the machine has seen its team
            cache.set("key", "value")
            told(cache)
        port, url = server.port, server.url
    first, later = [], []
    with _silent_server(port):
        for _ in range(effort.pick(5, 2)):
            start = time.perf_counter()
            with create_cache("redis", l2=url, **settings) as cache:
                if cache.get("key") != "value":
                    raise BenchmarkError("what is here was not served")
                first.append(time.perf_counter() - start)
                for number in range(200):
                    start = time.perf_counter()
                    cache.get(f"key {number}")
                    later.append(time.perf_counter() - start)
    yield Finding("a Redis that never answers, first call", exactly(max(first) * 1e3), "ms", _FIRST_CELL_TARGET_MS)
    after = estimate(later).scaled(1e3)
    yield Finding("a Redis that never answers, each call after it", after, "ms", _OPEN_BREAKER_TARGET_MS)


@contextmanager
def _silent_server(port: int) -> Iterator[None]:
    """Accept connections, and never answer."""
    taken: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                taken.append(listening.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", port)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()
    for connection in taken:
        connection.close()


ROW = Row("team", "a team's Redis, beside other caches in Redis", run, prepare)
