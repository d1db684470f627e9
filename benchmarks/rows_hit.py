"""A hit through the SDKs, against the same client over a canned transport."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
from canned import Canned, anthropic_answer, messages, openai_answer, openai_events
from harness import BenchmarkError, Finding, Row, take_turns, timed
from surroundings import scope_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Effort, Sampler

    from genai_cache_magic.calls.scope import CellScope

_TARGET = 1.08
_MANY = 20


def run(effort: Effort) -> Iterator[Finding]:
    """Compare hits with the floor that no cache at HTTP level can go below."""
    rounds = effort.pick(1500, 300)
    for count in (1, _MANY):
        asked = "a short prompt" if count == 1 else f"{count} messages"
        yield _compare(f"openai, {asked}", _openai(messages(count)), rounds)
        yield _compare(f"anthropic, {asked}", _anthropic(messages(count)), rounds)
    yield _compare("openai, streamed", _openai_stream(), rounds // 3)
    yield _compare_async("openai, async", messages(1), rounds)


def _openai(asked: list[Any]) -> tuple[Canned, Callable[[], Any]]:
    transport = Canned([openai_answer()])
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport))
    return transport, lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=asked)


def _openai_stream() -> tuple[Canned, Callable[[], Any]]:
    transport = Canned(openai_events(), "text/event-stream")
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport))

    def ask() -> None:
        for _ in client.chat.completions.create(model="gpt-4.1-mini", messages=messages(1), stream=True):  # type: ignore[arg-type]  # plain dictionaries
            pass

    return transport, ask


def _anthropic(asked: list[Any]) -> tuple[Canned, Callable[[], Any]]:
    transport = Canned([anthropic_answer()])
    client = anthropic.Anthropic(api_key="none", http_client=httpx2.Client(transport=transport))
    return transport, lambda: client.messages.create(model="claude-sonnet-4-5", max_tokens=1024, messages=asked)


def _compare(what: str, made: tuple[Canned, Callable[[], Any]], rounds: int) -> Finding:
    transport, ask = made
    with scope_beside(what) as (context, scope):
        context.run(ask)
        return _finding(what, {"floor": timed(ask), "hit": timed(lambda: context.run(ask))}, (transport, scope, rounds))


def _compare_async(what: str, asked: list[Any], rounds: int) -> Finding:
    transport = Canned([openai_answer()])
    client = openai.AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport))

    async def ask() -> float:
        # Timed inside of the loop: starting one belongs to neither side.
        start = time.perf_counter()
        await client.chat.completions.create(model="gpt-4.1-mini", messages=asked)
        return time.perf_counter() - start

    with asyncio.Runner() as runner, scope_beside(what) as (context, scope):
        runner.run(ask(), context=context)
        cases = {"floor": lambda: runner.run(ask()), "hit": lambda: runner.run(ask(), context=context)}
        return _finding(what, cases, (transport, scope, rounds))


def _finding(what: str, cases: dict[str, Sampler], setting: tuple[Canned, CellScope, int]) -> Finding:
    transport, scope, rounds = setting
    before = transport.requests
    samples = take_turns(cases, rounds=rounds)
    floors = transport.requests - before
    if scope.misses != 1 or scope.hits != floors:
        raise BenchmarkError(f"{what}: {scope.hits} hits beside {floors} calls without a cache, {scope.troubles}")
    return Finding(what, samples.ratio("hit", "floor"), target=_TARGET, medians=samples.medians)


ROW = Row("hit", "a hit through an SDK / the same client over a canned transport, 2 KB answer", run)
