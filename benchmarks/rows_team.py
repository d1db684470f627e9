"""A team's Redis: one answer of a teammate's, a thousand of them at once, and a server that never answers."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import openai
import redis
from canned import ANSWER, ANSWER_CHARS, Canned, openai_answer, prose
from harness import BenchmarkError, Finding, Row, estimate, exactly, take_turns
from rows_peers import CannedServer, Peer, Worker, install, not_installed

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.session import current_session, reset_session
from genai_cache_magic.testing.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Effort

    from genai_cache_magic import Cache

_MANY = 1_000
_BATCH_TARGET = 1.5
_FIRST_CELL_TARGET_MS = 2_000
_OPEN_BREAKER_TARGET_MS = 1
_TOLD_WITHIN_S = 60

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
        yield from _values(server, effort)
        yield from _calls(server, effort)
        yield from _teammates(server, effort)
    yield from _black_hole(effort)


# A thousand at once


def _values(server: RedisServer, effort: Effort) -> Iterator[Finding]:
    """A thousand values by `mget`; one read of Redis, and a thousand times key and opening, are the base."""
    values = {f"key-{n:04}": prose(ANSWER_CHARS, n).encode() for n in range(_MANY)}
    with _machine(server, "values") as filling:
        filling.mset(values)
        _told(filling)
        keys = list(values)
        names = _names(server)
        numbers = itertools.count()

        def from_redis() -> float:
            with _machine(server, f"values-{next(numbers)}") as cache:
                start = time.perf_counter()
                found = cache.mget(keys)
                seconds = time.perf_counter() - start
            if found != list(values.values()):
                raise BenchmarkError("a value came back changed, or not at all")
            return seconds

        with redis.Redis.from_url(server.url) as client:

            def base() -> float:
                # What is here is found by one read of the disk: key, read and opening of each, a thousand times.
                start = time.perf_counter()
                client.mget(names)
                filling.mget(keys)
                return time.perf_counter() - start

            samples = take_turns({"mget": from_redis, "base": base}, rounds=effort.pick(30, 7), warm_up=2)
    what = f"{_MANY:,} values from Redis by mget / (one MGET + {_MANY:,} x (key + open))"
    yield Finding(what, samples.ratio("mget", "base"), target=_BATCH_TARGET, medians=samples.medians)


def _calls(server: RedisServer, effort: Effort) -> Iterator[Finding]:
    """A thousand calls under one `gather`, less what the client itself takes for them without a network."""
    transport = Canned([openai_answer()])
    client = openai.AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport), max_retries=0)
    loop = asyncio.new_event_loop()

    def ask_all() -> float:
        async def gather() -> list[Any]:
            return await asyncio.gather(*(_asked(client, number) for number in range(_MANY)))

        start = time.perf_counter()
        texts = loop.run_until_complete(gather())
        seconds = time.perf_counter() - start
        if set(texts) != {ANSWER}:
            raise BenchmarkError("another answer came")
        return seconds

    with _team_settings(server):
        with _own("calls"), llm_cache():
            ask_all()
            _told(current_session().cache("default"))
        asked = transport.requests
        numbers = itertools.count()

        def from_redis() -> float:
            with _own(f"calls-{next(numbers)}"), llm_cache() as cell:
                current_session().cache("default").get("nothing")  # it knows its team
                seconds = ask_all()
            if cell.hits != _MANY or {call.tier for call in cell.calls} != {"L2"}:
                raise BenchmarkError("a hit was none from Redis")
            return seconds

        def from_here() -> float:
            with _own("calls"), llm_cache() as cell:
                current_session().cache("default").get("nothing")
                seconds = ask_all()
            if cell.hits != _MANY:
                raise BenchmarkError("a hit was none")
            return seconds

        cases = {"gather from Redis": from_redis, "gather from disk": from_here, "no cache, no network": ask_all}
        samples = take_turns(cases, rounds=effort.pick(15, 5), warm_up=1)
        if transport.requests - asked != _MANY * (effort.pick(15, 5) + 1):
            raise BenchmarkError("a hit reached the model")
    loop.run_until_complete(client.close())
    loop.close()
    what = f"{_MANY:,} hits under one gather: from Redis"
    medians = samples.medians
    yield Finding(
        f"{what} / the client alone", samples.ratio("gather from Redis", "no cache, no network"), medians=medians
    )
    yield Finding(f"{what} / from disk", samples.ratio("gather from Redis", "gather from disk"))


async def _asked(client: openai.AsyncOpenAI, number: int) -> str:
    messages: Any = [{"role": "user", "content": f"Question {number} of a thousand."}]
    answer = await client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    return answer.choices[0].message.content or ""


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
    with _team_settings(server):
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
            _told(cache)
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


# Machines of a team


def _machine(server: RedisServer, name: str) -> Cache:
    """Return a cache of a machine with a disk of its own that has seen its team."""
    cache = create_cache("redis", l2=server.url, dir=name, key_file="team.key", namespace="bench-values")
    cache.get("nothing")
    return cache


@contextmanager
def _team_settings(server: RedisServer) -> Iterator[None]:
    before = dict(os.environ)
    os.environ["GENAI_CACHE_L2"] = server.url
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        reset_session()


@contextmanager
def _own(name: str) -> Iterator[None]:
    """Let the session of this process be that of another machine."""
    os.environ["GENAI_CACHE_DIR"] = str(Path(name).absolute())
    reset_session()
    yield
    reset_session()


def _told(cache: Cache) -> None:
    assert cache.team is not None
    if not cache.team.tell(within_s=_TOLD_WITHIN_S):
        raise BenchmarkError("the team could not be told in time")


def _names(server: RedisServer) -> list[bytes]:
    with redis.Redis.from_url(server.url) as client:
        return list(client.scan_iter(match="genai-cache:1:bench-values:e:*", count=_MANY))


ROW = Row("team", "a team's Redis, beside other caches in Redis", run, prepare)
