"""How a worker is spoken to: JSON lines over its standard streams. Standard library only.

Each peer lives in an environment of its own, where nothing of this project is installed. A worker knows one
thing, how to ask its cached model; the rest is here.

    {"do": "hit", "prompt": P, "calls": N}      ->  {"seconds": median of N calls, "text": the answer}
    {"do": "each", "prompts": [P, ...]}         ->  {"seconds": of each, "texts": the answers, each once}
    {"do": "storm", "prompt": P, "callers": N}  ->  {"answered": how many of N threads,
                                                     "errors": the classes of what the others got}
"""

from __future__ import annotations

import gc
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

    Ask = Callable[[str], str]

_WARM_UP_CALLS = 3  # the other workers had the processor's caches meanwhile


def serve(ask: Ask, *packages: str) -> None:
    """Answer commands until the input ends; `ask` returns the model's text for a prompt, in any thread."""
    # Libraries print what they like: they get standard error, the protocol a descriptor of its own.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    commands: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "hit": lambda command: _hit(ask, command["prompt"], command["calls"]),
        "each": lambda command: _each(ask, command["prompts"]),
        "storm": lambda command: _storm(ask, command["prompt"], command["callers"]),
    }
    _say(out, {"packages": {name: version(name) for name in packages}})
    for line in sys.stdin:
        command = json.loads(line)
        _say(out, commands[command["do"]](command))


def _say(out: Any, value: dict[str, Any]) -> None:
    out.write(json.dumps(value) + "\n")
    out.flush()


def _hit(ask: Ask, prompt: str, calls: int) -> dict[str, Any]:
    text = ""
    for _ in range(_WARM_UP_CALLS):
        text = ask(prompt)
    gc.collect()
    gc.freeze()
    gc.disable()
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        text = ask(prompt)
        seconds.append(time.perf_counter() - start)
    gc.enable()
    gc.unfreeze()
    return {"seconds": statistics.median(seconds) if seconds else 0.0, "text": text}


def _each(ask: Ask, prompts: list[str]) -> dict[str, Any]:
    seconds, texts = [], set()
    for prompt in prompts:
        start = time.perf_counter()
        texts.add(ask(prompt))
        seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "texts": sorted(texts)}


def _storm(ask: Ask, prompt: str, callers: int) -> dict[str, Any]:
    together = threading.Barrier(callers)
    texts: list[str] = []
    errors: list[str] = []

    def one() -> None:
        together.wait()
        try:
            texts.append(ask(prompt))
        except Exception as exc:  # noqa: BLE001 - whatever a peer's callers would see is what is reported
            errors.append(type(exc).__name__)

    threads = [threading.Thread(target=one) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"answered": len(texts), "errors": sorted(set(errors))}
