"""Many hits at once: a thousand under one `gather`, and from eight threads, beside the same calls without a cache."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx2
import openai
from canned import ANSWER, Canned, openai_answer
from harness import BenchmarkError, Finding, Row, take_turns
from surroundings import scope_of

from genai_cache_magic import llm_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from harness import Effort

    from genai_cache_magic.calls.scope import CellScope

_MANY = 1_000
_MANY_IN_A_TRIAL = 20
_THREADS = 8


def run(effort: Effort) -> Iterator[Finding]:
    """Compare with the floor: the same client, as often, over a transport that answers at once."""
    rounds, many = effort.pick(15, 5), effort.pick(_MANY, _MANY, _MANY_IN_A_TRIAL)
    with scope_of(namespace="tasks") as (context, scope), scope_of(namespace="tasks", memory=0) as (unkept, of_disk):
        yield from _tasks({"memory": (context, scope), "disk": (unkept, of_disk)}, rounds, many)
    with scope_of(namespace="threads") as (context, scope):
        yield _threads(context, scope, rounds, many)


def _tasks(scopes: dict[str, tuple[Context, CellScope]], rounds: int, many: int) -> Iterator[Finding]:
    transport = Canned([openai_answer()])
    client = openai.AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport), max_retries=0)

    async def one(number: int) -> str:
        answer = await client.chat.completions.create(model="gpt-4.1-mini", messages=_asking(number))
        return answer.choices[0].message.content or ""

    async def ask_all() -> float:
        start = time.perf_counter()
        texts = await asyncio.gather(*map(one, range(many)))
        seconds = time.perf_counter() - start
        if set(texts) != {ANSWER}:
            raise BenchmarkError("another answer came")
        return seconds

    with asyncio.Runner() as runner:
        cases = {"the client alone": lambda: runner.run(ask_all())}
        for name, (context, _) in scopes.items():
            runner.run(ask_all(), context=context)
            cases[name] = lambda context=context: runner.run(ask_all(), context=context)
        samples = _measured(cases, transport, [scope for _, scope in scopes.values()], (rounds, many))
        runner.run(client.close())
    for name in scopes:
        medians = {case: samples.medians[case] for case in (name, "the client alone")}
        what = f"{many:,} hits under one gather, from {name}"
        yield Finding(what, samples.ratio(name, "the client alone"), medians=medians)


def _threads(context: Context, scope: CellScope, rounds: int, many: int) -> Finding:
    transport = Canned([openai_answer()])
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport), max_retries=0)

    def one(number: int) -> str:
        return (
            client.chat.completions.create(model="gpt-4.1-mini", messages=_asking(number)).choices[0].message.content
            or ""
        )

    with ThreadPoolExecutor(_THREADS) as pool:

        def ask_all(ask: Callable[[int], str]) -> float:
            start = time.perf_counter()
            texts = set(pool.map(ask, range(many)))
            seconds = time.perf_counter() - start
            if texts != {ANSWER}:
                raise BenchmarkError("another answer came")
            return seconds

        cached = context.run(llm_cache.wrap, one)
        ask_all(cached)
        cases = {"the client alone": lambda: ask_all(one), "hits": lambda: ask_all(cached)}
        samples = _measured(cases, transport, [scope], (rounds, many))
    what = f"{many:,} hits from {_THREADS} threads"
    return Finding(what, samples.ratio("hits", "the client alone"), medians=samples.medians)


def _measured(cases: dict[str, Any], transport: Canned, scopes: list[CellScope], often: tuple[int, int]) -> Any:
    """Take samples, and vouch that what counts as a hit was one: everyone but the client alone asked the cache.

    `often` is how many rounds, and how many calls each case makes in one.
    """
    (rounds, many), before = often, transport.requests
    hits = [scope.hits for scope in scopes]
    samples = take_turns(cases, rounds=rounds, warm_up=1)
    asked = (rounds + 1) * many
    if transport.requests - before != asked or any(
        scope.hits - had != asked for scope, had in zip(scopes, hits, strict=True)
    ):
        raise BenchmarkError("a hit was none")
    return samples


def _asking(number: int) -> Any:
    return [{"role": "user", "content": f"Question {number} of a thousand."}]


ROW = Row("many", "many hits at once / the same client over a canned transport", run)
