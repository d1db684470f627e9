"""What a miss costs beside the same call without a cache: above HTTP and by HTTP, stored and not.

By the processor's time of the thread that asks: what it waits for, a disk's or another process's turn, is no work.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
from canned import Canned, anthropic_answer, openai_answer
from harness import BenchmarkError, Finding, Row, take_turns
from rows_hit import HOOKED
from surroundings import scope_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness import Effort, Sampler

_MOST_US = 10
_US = 1e6
_KEPT = {"stored": "use", "not stored": "read"}
"""What becomes of the answers -> in which mode."""

_NEW = itertools.count()


def run(effort: Effort) -> Iterator[Finding]:
    """Ask something new each time, in a scope and outside of any, by a client that is foretold and by another one."""
    rounds = effort.pick(600, 150)
    for sdk, made in (("openai", _openai), ("anthropic", _anthropic)):
        for what, mode in _KEPT.items():
            yield from _compare(f"{sdk}, {what}", made, mode, rounds)


def _openai(**options: Any) -> tuple[Canned, Callable[[], Any]]:
    transport = Canned([openai_answer()])
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport, **options))
    return transport, lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=_asked())


def _anthropic(**options: Any) -> tuple[Canned, Callable[[], Any]]:
    transport = Canned([anthropic_answer()])
    client = anthropic.Anthropic(api_key="none", http_client=httpx2.Client(transport=transport, **options))
    return transport, lambda: client.messages.create(model="claude-sonnet-4-5", max_tokens=1024, messages=_asked())


def _asked() -> Any:
    return [{"role": "user", "content": f"Question {next(_NEW)}: why is the sky blue?"}]


def _timed(ask: Callable[[], Any]) -> Sampler:
    def sample() -> float:
        start = time.thread_time()
        ask()
        return time.thread_time() - start

    return sample


def _compare(what: str, made: Callable[..., Any], mode: str, rounds: int) -> Iterator[Finding]:
    transport, ask = made()
    hooked_transport, ask_by_http = made(**HOOKED)
    with scope_of(namespace="misses", mode=mode) as (context, scope):
        cases = {
            "uncached": _timed(ask),
            "above": _timed(lambda: context.run(ask)),
            "uncached, by HTTP": _timed(ask_by_http),
            "by HTTP": _timed(lambda: context.run(ask_by_http)),
        }
        samples = take_turns(cases, rounds=rounds)
        sent = transport.requests + hooked_transport.requests
        if scope.hits or 2 * scope.misses != sent or scope.troubles:
            raise BenchmarkError(f"{what}: {scope.misses} misses among {sent} calls, {scope.troubles}")
        if any(call.stored != (mode == "use") for call in scope.calls):
            raise BenchmarkError(f"{what}: an answer was stored, or was not")
    for name, ours, base in (
        ("beside the same call uncached", "above", "uncached"),
        ("by HTTP, beside the same call uncached", "by HTTP", "uncached, by HTTP"),
        ("above HTTP, beside one by HTTP", "above", "by HTTP"),
    ):
        medians = {case: samples.medians[case] for case in (ours, base)}
        added = samples.added(ours, base).scaled(_US)
        yield Finding(f"{what}: {name}", added, unit="µs", target=_MOST_US, medians=medians)


ROW = Row("miss", "what a miss takes more of the processor's time", run)
