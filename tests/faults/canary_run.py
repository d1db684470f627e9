"""What the leak scan watches: a process that uses the whole package, with real SDKs, and says what it showed.

Run with the canaries as JSON in ``CANARIES``; writes ``shown.json`` into the working directory.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys
import traceback
from pathlib import Path
from typing import Any

_pickles: list[str] = []


def _watch(event: str, arguments: tuple) -> None:
    """Whatever pickle is told to find is told here: SDKs, clients and stores included."""
    if event.startswith("pickle."):
        _pickles.append(f"{event} {arguments!r}")


sys.addaudithook(_watch)

import pickle  # noqa: E402 - watched from its import on


def _watched(name: str) -> None:
    """Note each use of a function that reads pickles, one without any class in it too."""
    original = getattr(pickle, name)

    def noted(*arguments: object, **more: object) -> object:
        _pickles.append(f"pickle.{name} {''.join(traceback.format_stack(limit=4))}")
        return original(*arguments, **more)

    setattr(pickle, name, noted)


_watched("loads")
_watched("load")

import genai_cache_magic as package  # noqa: E402 - after the watch
from genai_cache_magic.api.scopes.session import current_session  # noqa: E402

CANARIES = json.loads(os.environ["CANARIES"])
PROMPT, SYSTEM, MODEL = CANARIES["prompt"], CANARIES["system"], CANARIES["model"]
TAG, RUN, KEY, NAME, VALUE = (CANARIES[name] for name in ("tag", "run", "api_key", "name", "value"))
OURS = ("genai_cache_magic", "redis", "azure", "urllib3", "msal")


def logs() -> io.StringIO:
    """Collect what we and the clients of stores log, everything of it."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(exc_info)s %(args)s"))
    for name in OURS:
        logger = logging.getLogger(name)
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
        logger.propagate = False
    return written


def ask_all(text: str) -> None:
    """Ask as notebooks do: two vendors' SDKs, streamed, asynchronous, and plain."""
    import anthropic
    import openai
    import requests

    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": f"{PROMPT} {text}"}]
    base = os.environ["MODELS_URL"]
    with openai.OpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0) as client:
        client.chat.completions.create(model=MODEL, messages=messages)
        for _ in client.chat.completions.create(model=MODEL, messages=[*messages, messages[1]], stream=True):
            pass
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": f"{PROMPT} large"}])
    with anthropic.Anthropic(base_url=base, api_key=KEY, max_retries=0) as client:
        client.messages.create(model=MODEL, max_tokens=9, messages=messages[1:], system=SYSTEM)
    body = {"model": MODEL, "messages": messages}
    headers = {"authorization": f"Bearer {KEY}"}
    requests.post(f"{base}/v1/chat/completions", json={**body, "seed": 7}, headers=headers, timeout=30)

    async def gathered() -> None:
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key=KEY, max_retries=0) as client:
            asked = [[*messages, {"role": "user", "content": f"{PROMPT} {number}"}] for number in range(3)]
            await asyncio.gather(*(client.chat.completions.create(model=MODEL, messages=one) for one in asked))

    asyncio.run(gathered())


def run_cells() -> tuple[list, list]:
    """Run a notebook's cells without a kernel; return what they show, and what they raise."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    shell.history_manager.enabled = False
    shown, raised = [], []

    def run(source: str) -> None:
        with capture_output() as captured:
            result = shell.run_cell(source)
        shown.append([captured.stdout, captured.stderr, [[out.data, out.metadata] for out in captured.outputs]])
        if not result.success:
            error = result.error_in_exec or result.error_before_exec
            raised.append("".join(traceback.format_exception(error)))
            raised.append(f"{error} {error!r}")

    shell.user_ns["ask_all"] = ask_all
    run("%load_ext genai_cache_magic")
    for _ in range(2):
        run(f"%%llm_cache --tag {TAG} --run {RUN}\nask_all('in a cell')")
    run(f"%%llm_cache --mode replay --tag {TAG}\nask_all('never asked before')")
    run(f"%llm_cache invalidate --tag {TAG} --yes")
    for line in ("explain", "stats", "status", "usage", "config", "doctor", "help"):
        run(f"%llm_cache {line}")
    return shown, raised


def use_cache(cache: Any) -> list[str]:
    """Use the programming interface; return what its objects show."""
    cache.set(NAME, {"value": VALUE}, tags=[TAG])
    assert cache.get(NAME) == {"value": VALUE}
    with package.llm_cache(tags=[TAG], run=RUN) as scope:
        ask_all("from Python")
        ask_all("from Python")
    assert scope.hits >= 8
    assert cache.runs.pin(RUN).is_told
    things = (*ours(cache), scope, *scope.troubles, current_session())
    return [text for thing in things for text in (repr(thing), str(thing))]


def ours(thing: object, depth: int = 3) -> list[object]:
    """Return an object and those objects of the package that it is made of."""
    found = [thing]
    slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    inner = [*vars(thing).values()] if hasattr(thing, "__dict__") else [getattr(thing, name, None) for name in slots]
    for part in inner if depth else ():
        if type(part).__module__.startswith("genai_cache_magic."):
            found += ours(part, depth - 1)
    return found


def main() -> None:
    """Use everything, wait while the stores are looked through, and go on without them; write down what was shown."""
    written = logs()
    cache = current_session().cache(current_session().settings.namespace)
    objects = use_cache(cache)
    cells, raised = run_cells()
    assert cache.team is not None
    assert cache.team._drain.finish(within_s=60)
    while cache.ledger.shared._sharer.once():
        pass  # its own thread is at it
    sys.stdout.write("told\n")
    sys.stdout.flush()
    sys.stdin.readline()
    with package.llm_cache(tags=[TAG], run=RUN) as scope:
        ask_all("while the team is away")
    objects.append(f"{scope!r} {scope.troubles!r}")
    pickles = list(_pickles)
    pickle.loads(pickle.dumps(Path()))
    assert len(_pickles) > len(pickles) + 1, "nobody watches"
    shown = {"cells": cells, "raised": raised, "objects": objects, "logs": written.getvalue(), "pickles": pickles}
    Path("shown.json").write_text(json.dumps(shown), "utf-8")


if __name__ == "__main__":
    main()
