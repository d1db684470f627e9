"""How a worker is spoken to: JSON lines over its standard streams. Standard library only.

Each peer lives in an environment of its own, where nothing of this project is installed. A worker knows one
thing, how to ask its cached model; the rest is here.

    {"do": "hit", "messages": M, "calls": N}    ->  {"seconds": median of N calls, "text": the answer, or its digest}
    {"do": "embed", "texts": T, "calls": N}     ->  {"seconds": the same, "text": what tells the vectors}
    {"do": "each", "prompts": [P, ...]}         ->  {"seconds": of each, "texts": the answers, each once}
    {"do": "storm", "prompt": P, "callers": N}  ->  {"answered": how many of N threads,
                                                     "errors": the classes of what the others got}

What fails is answered with {"error": why}.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import statistics
import sys
import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Messages = list[dict[str, str]]
    Ask = Callable[[Messages], str]
    Embed = Callable[[list[str]], Any]  # vectors, as sequences of numbers

_LONGEST_SHOWN = 10_000  # characters; of longer answers a digest is told
_WARM_UP_CALLS = 3  # the other workers had the processor's caches meanwhile


def _can_not_embed(_texts: list[str]) -> Any:
    raise NotImplementedError("it is not asked for vectors")


def serve(ask: Ask, *packages: str, embed: Embed = _can_not_embed) -> None:
    """Answer commands until the input ends; `ask` returns the model's text, `embed` its vectors, in any thread."""
    # Libraries print what they like: they get standard error, the protocol a descriptor of its own.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "hit": lambda command: _hit(lambda: ask(command["messages"]), command["calls"], _told),
        "embed": lambda command: _hit(lambda: embed(command["texts"]), command["calls"], _vectors_told),
        "each": lambda command: _each(ask, command["prompts"]),
        "storm": lambda command: _storm(ask, command["prompt"], command["callers"]),
    }
    _say(out, {"packages": {name: version(name) for name in packages}})
    for line in sys.stdin:
        command = json.loads(line)
        try:
            said = commands[command["do"]](command)
        except Exception as exc:  # noqa: BLE001 - whatever a peer fails of is what is reported
            said = {"error": f"{type(exc).__name__}: {str(exc).splitlines()[0] if str(exc) else ''}"}
        _say(out, said)


def _say(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def _hit(ask: Callable[[], Any], calls: int, told: Callable[[Any], str]) -> dict[str, Any]:
    answer = None
    for _ in range(_WARM_UP_CALLS):
        answer = ask()
    gc.collect()
    gc.freeze()
    gc.disable()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        answer = ask()
        seconds.append(time.perf_counter() - start)
    gc.enable()
    gc.unfreeze()
    return {"seconds": statistics.median(seconds) if seconds else 0.0, "text": told(answer)}


def _told(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else hashlib.sha256(text.encode()).hexdigest()


def _vectors_told(vectors: Any) -> str:
    numbers = [float(number) for vector in vectors for number in vector]
    return f"{len(vectors)} vectors, {len(numbers)} numbers, {sum(numbers):.3f}"


def _asking(prompt: str) -> Messages:
    return [{"role": "user", "content": prompt}]


def _each(ask: Ask, prompts: list[str]) -> dict[str, Any]:
    seconds, texts = [], set()
    for prompt in prompts:
        start = time.perf_counter()
        texts.add(ask(_asking(prompt)))
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "texts": sorted(texts)}


def _storm(ask: Ask, prompt: str, callers: int) -> dict[str, Any]:
    together = threading.Barrier(callers)
    texts: list[str] = []
    errors: list[str] = []

    def one() -> None:
        together.wait()
        try:
            texts.append(ask(_asking(prompt)))
        except Exception as exc:  # noqa: BLE001 - whatever a peer's callers would see is what is reported
            errors.append(type(exc).__name__)

    threads = [threading.Thread(target=one) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answered": len(texts), "errors": sorted(set(errors))}
