"""Many who ask one new thing at one time: how often the model is asked."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import openai
from harness import BenchmarkError, Finding, Row, exactly

from genai_cache_magic import llm_cache
from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Effort

CALLERS = 32
LATENCY_S = 1.0
"""How long the simulated model thinks [s]: all callers have arrived long before it answers."""


def run(effort: Effort) -> Iterator[Finding]:
    """Ask from threads, then from tasks."""
    del effort
    with SimulatedModelServer("unique", latency_s=LATENCY_S) as server:
        for what, ask in (("threads", _threads), ("tasks", _tasks)):
            server.reset()
            answers = ask(server.openai_url, f"A new question of {CALLERS} {what}?")
            if len(answers) != CALLERS:
                raise BenchmarkError(f"{len(answers)} of {CALLERS} {what} were answered")
            yield Finding(f"{CALLERS} {what}, one new prompt", exactly(server.count), "calls", 1)


def _threads(url: str, prompt: str) -> list[str]:
    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)
    together = threading.Barrier(CALLERS)
    answers: list[str] = []

    def ask() -> None:
        together.wait()
        answers.append(_text(client.chat.completions.create(model="gpt-4.1-mini", messages=_asking(prompt))))

    with llm_cache():
        threads = [threading.Thread(target=ask) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return answers


def _tasks(url: str, prompt: str) -> list[str]:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
            calls = [
                client.chat.completions.create(model="gpt-4.1-mini", messages=_asking(prompt)) for _ in range(CALLERS)
            ]
            return [_text(answer) for answer in await asyncio.gather(*calls)]

    with llm_cache():
        return asyncio.run(ask())


def _asking(prompt: str) -> Any:
    return [{"role": "user", "content": prompt}]


def _text(answer: Any) -> str:
    text: str = answer.choices[0].message.content
    return text


ROW = Row("stampede", f"upstream calls when {CALLERS} ask one new prompt", run)
