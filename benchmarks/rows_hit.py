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
from surroundings import scope_of

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
    yield _compare_async("openai, async", _openai_async(), rounds)
    yield _compare_async("anthropic, async", _anthropic_async(), rounds)
    for what, made in (("openai", _openai), ("anthropic", _anthropic)):
        yield _compare(f"{what}, a short prompt, read from disk each time", made(messages(1)), rounds, memory=0)


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


def _openai_async() -> tuple[Canned, Callable[[], Any]]:
    transport = Canned([openai_answer()])
    client = openai.AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport))
    asked: Any = messages(1)
    return transport, lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=asked)


def _anthropic_async() -> tuple[Canned, Callable[[], Any]]:
    transport = Canned([anthropic_answer()])
    client = anthropic.AsyncAnthropic(api_key="none", http_client=httpx2.AsyncClient(transport=transport))
    asked: Any = messages(1)
    return transport, lambda: client.messages.create(model="claude-sonnet-4-5", max_tokens=1024, messages=asked)


def _compare(what: str, made: tuple[Canned, Callable[[], Any]], rounds: int, **settings: Any) -> Finding:
    transport, ask = made
    with scope_of(namespace=_namespace(what), **settings) as (context, scope):
        context.run(ask)
        return _finding(what, {"floor": timed(ask), "hit": timed(lambda: context.run(ask))}, (transport, scope, rounds))


def _compare_async(what: str, made: tuple[Canned, Callable[[], Any]], rounds: int) -> Finding:
    transport, ask = made

    async def timed_ask() -> float:
        # Timed inside of the loop: starting one belongs to neither side.
        start = time.perf_counter()
        await ask()
        return time.perf_counter() - start

    with asyncio.Runner() as runner, scope_of(namespace=_namespace(what)) as (context, scope):
        runner.run(timed_ask(), context=context)
        cases = {"floor": lambda: runner.run(timed_ask()), "hit": lambda: runner.run(timed_ask(), context=context)}
        return _finding(what, cases, (transport, scope, rounds))


def _namespace(what: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in what)


def _finding(what: str, cases: dict[str, Sampler], setting: tuple[Canned, CellScope, int]) -> Finding:
    transport, scope, rounds = setting
    before = transport.requests
    samples = take_turns(cases, rounds=rounds)
    floors = transport.requests - before
    if scope.misses != 1 or scope.hits != floors:
        raise BenchmarkError(f"{what}: {scope.hits} hits beside {floors} calls without a cache, {scope.troubles}")
    return Finding(what, samples.ratio("hit", "floor"), target=_TARGET, medians=samples.medians)


ROW = Row("hit", "a hit through an SDK / the same client over a canned transport, 2 KB answer", run)
