"""A hit through the SDKs, against the same client over a canned transport."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
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

_BY_HTTP = 1.08
_OPENAI, _OPENAI_MANY, _ANTHROPIC, _STREAMED = 0.12, 0.04, 0.16, 0.25
_MANY = 20
_EVENTS = 20

HOOKED: dict[str, Any] = {"event_hooks": {"request": [lambda _: None], "response": []}}
"""What makes a call go by HTTP: a client with a hook, which is to see each request."""


async def _seen(_: object) -> None:
    """Look at a request."""


_HOOKED_ASYNC: dict[str, Any] = {"event_hooks": {"request": [_seen], "response": []}}

Made = tuple[Canned, "Callable[[], Any]"]


def run(effort: Effort) -> Iterator[Finding]:
    """Compare hits with what the client does by itself: above HTTP where that can be, and by HTTP."""
    rounds = effort.pick(1500, 300)
    short, many = messages(1), messages(_MANY)
    yield _compare("openai, a short prompt", _openai(short), rounds, _OPENAI)
    yield _compare(f"openai, {_MANY} messages", _openai(many), rounds, _OPENAI_MANY)
    yield _compare("anthropic, a short prompt", _anthropic(short), rounds, _ANTHROPIC)
    yield _compare(f"anthropic, {_MANY} messages", _anthropic(many), rounds, _ANTHROPIC)
    yield _compare(f"openai, streamed, {_EVENTS} chunks", _openai_stream(), rounds // 3, _STREAMED)
    yield _compare_async("openai, async", _openai_async(), rounds, _OPENAI)
    yield _compare_async("anthropic, async", _anthropic_async(), rounds, _ANTHROPIC)
    for what, made, target in (("openai", _openai, _OPENAI), ("anthropic", _anthropic, _ANTHROPIC)):
        yield _compare(f"{what}, a short prompt, read from disk each time", made(short), rounds, target, memory=0)
    for what, made in (("openai", _openai), ("anthropic", _anthropic)):
        yield _compare(f"by HTTP: {what}, a short prompt", made(short, **HOOKED), rounds, _BY_HTTP)
        yield _compare(f"by HTTP: {what}, {_MANY} messages", made(many, **HOOKED), rounds, _BY_HTTP)
    yield _compare(f"by HTTP: openai, streamed, {_EVENTS} chunks", _openai_stream(**HOOKED), rounds // 3, _BY_HTTP)
    yield _compare_async("by HTTP: openai, async", _openai_async(**_HOOKED_ASYNC), rounds, _BY_HTTP)
    yield _compare("by HTTP: openai, a short prompt, from disk", _openai(short, **HOOKED), rounds, _BY_HTTP, memory=0)


def _openai(asked: list[Any], **options: Any) -> Made:
    transport = Canned([openai_answer()])
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport, **options))
    return transport, lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=asked)


def _openai_stream(**options: Any) -> Made:
    transport = Canned(openai_events(pieces=_EVENTS), "text/event-stream")
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport, **options))
    asked: Any = messages(1)

    def ask() -> None:
        for _ in client.chat.completions.create(model="gpt-4.1-mini", messages=asked, stream=True):
            pass

    return transport, ask


def _anthropic(asked: list[Any], **options: Any) -> Made:
    transport = Canned([anthropic_answer()])
    client = anthropic.Anthropic(api_key="none", http_client=httpx2.Client(transport=transport, **options))
    return transport, lambda: client.messages.create(model="claude-sonnet-4-5", max_tokens=1024, messages=asked)


def _openai_async(**options: Any) -> Made:
    transport = Canned([openai_answer()])
    client = openai.AsyncOpenAI(api_key="none", http_client=httpx2.AsyncClient(transport=transport, **options))
    asked: Any = messages(1)
    return transport, lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=asked)


def _anthropic_async(**options: Any) -> Made:
    transport = Canned([anthropic_answer()])
    client = anthropic.AsyncAnthropic(api_key="none", http_client=httpx2.AsyncClient(transport=transport, **options))
    asked: Any = messages(1)
    return transport, lambda: client.messages.create(model="claude-sonnet-4-5", max_tokens=1024, messages=asked)


def _compare(what: str, made: Made, rounds: int, target: float, **settings: Any) -> Finding:
    transport, ask = made
    with scope_of(namespace=_namespace(what), **settings) as (context, scope):
        context.run(ask)
        cases = {"floor": timed(ask), "hit": timed(lambda: context.run(ask))}
        return replace(_finding(what, cases, (transport, scope, rounds)), target=target)


def _compare_async(what: str, made: Made, rounds: int, target: float) -> Finding:
    transport, ask = made

    async def timed_ask() -> float:
        # Timed inside of the loop: starting one belongs to neither side.
        start = time.perf_counter()
        await ask()
        return time.perf_counter() - start

    with asyncio.Runner() as runner, scope_of(namespace=_namespace(what)) as (context, scope):
        runner.run(timed_ask(), context=context)
        cases = {"floor": lambda: runner.run(timed_ask()), "hit": lambda: runner.run(timed_ask(), context=context)}
        return replace(_finding(what, cases, (transport, scope, rounds)), target=target)


def _namespace(what: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in what)


def _finding(what: str, cases: dict[str, Sampler], setting: tuple[Canned, CellScope, int]) -> Finding:
    transport, scope, rounds = setting
    before = transport.requests
    samples = take_turns(cases, rounds=rounds)
    floors = transport.requests - before
    if scope.misses != 1 or scope.hits != floors:
        raise BenchmarkError(f"{what}: {scope.hits} hits beside {floors} calls without a cache, {scope.troubles}")
    return Finding(what, samples.ratio("hit", "floor"), medians=samples.medians)


ROW = Row("hit", "a hit through an SDK / the same client over a canned transport, 2 KB answer", run)
