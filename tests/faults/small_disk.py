"""Runs in a mount namespace of its own: stores on a small file system, then fills it or mounts it for reading only.

Usage: ``unshare -Urm python small_disk.py full|read-only|killed|stuck|open DIRECTORY``; prints as JSON what new
processes then meet. With "killed" it is mounted for reading only after a kill has left SQLite's log behind; with
"stuck" a process filled it with answers, so that its log can't even be moved into the database; with "open" a
process stays.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

COUNT = 24
VALUES = [random.Random(number).randbytes(9000) for number in range(COUNT)]
LARGE = random.Random(COUNT).randbytes(60_000)
QUESTION = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}


def mount(*arguments):
    subprocess.run(["mount", *map(str, arguments)], check=True)


def fill(directory):
    """Leave no room at all."""
    with open(directory / "ballast", "wb", buffering=0) as ballast:  # noqa: PTH123 - written byte by byte
        for size in (1 << 16, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(size))


def new_process(step, *arguments):
    command = [sys.executable, __file__, step, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    if done.returncode != 0:
        raise RuntimeError(f"{step}: {done.stderr}")
    return json.loads(done.stdout)


def said(action):
    """Return what `action` returns, or the words that it raises."""
    from genai_cache_magic.errors import CellInterrupt, GenaiCacheError

    try:
        return action()
    except (GenaiCacheError, CellInterrupt) as error:
        return f"{type(error).__name__}: {error}"


def store(url):
    from genai_cache_magic import create_cache

    with create_cache() as cache:
        for number in range(COUNT):
            cache.set(f"k{number}", VALUES[number], tags=["odd"] if number % 2 else [])
        cache.set("large", LARGE)
    return ask(url)


def store_and_die(url):
    from genai_cache_magic import create_cache

    cache = create_cache()
    for number in range(COUNT):
        cache.set(f"k{number}", VALUES[number], tags=["odd"] if number % 2 else [])
    cache.set("large", LARGE)
    return _die(ask(url))


def store_too_much(url):
    from genai_cache_magic import create_cache
    from genai_cache_magic.errors import StoreUnavailable

    asked = ask(url)
    cache = create_cache()
    with contextlib.suppress(StoreUnavailable):
        for number in range(100_000):
            cache.set(f"k{number}", VALUES[number % COUNT])
    fill(Path(os.environ["GENAI_CACHE_DIR"]).parent)
    return _die(asked)


def live(_url):
    """Return what a process meets that has the cache open, in two threads, while its disk becomes full."""
    from genai_cache_magic import create_cache

    told = []
    cache = create_cache(on_event=lambda event: told.append(event.message))
    for number in range(COUNT):
        cache.set(f"k{number}", VALUES[number], tags=["odd"] if number % 2 else [])
    is_over = threading.Event()
    reader = threading.Thread(target=lambda: (cache.get("k1"), is_over.wait()), daemon=True)
    reader.start()
    fill(Path(os.environ["GENAI_CACHE_DIR"]).parent)
    found = {
        "get": cache.get("k3") == VALUES[3],
        "set": said(lambda: cache.set("new", LARGE)),
        "invalidate": said(lambda: cache.invalidate_tag("odd").count > 0),
        "gc": said(lambda: cache.collect().entries >= 0),
        "left": (left := cache.keys()),
        "intact": all(cache.get(key) == VALUES[int(key[1:])] for key in left),
        "clear": said(lambda: cache.clear().count >= 0),
        "told": told,
    }
    cache.collect()
    found["again"] = said(lambda: cache.set("new", VALUES[0]))
    is_over.set()
    reader.join()
    return found


def _die(result):
    json.dump(result, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


def read(_url):
    from genai_cache_magic import create_cache

    with create_cache() as cache:
        stats = cache.stats()
        return {
            "values": sum(cache.get(f"k{number}") == VALUES[number] for number in range(COUNT)),
            "large": cache.get("large") == LARGE,
            "entries": stats.entries,
            "names": len(cache.keys()),
            "bytes": stats.size_bytes > 0,
        }


def write(_url):
    from genai_cache_magic import create_cache

    with create_cache() as cache:
        return said(lambda: cache.set("new", VALUES[0]))


def ask(url, mode="use", question="hello"):
    import httpx

    from genai_cache_magic import llm_cache

    def call():
        with llm_cache(mode=mode) as cell:
            body = {**QUESTION, "messages": [{"role": "user", "content": question}]}
            httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).raise_for_status()
        return [[call.outcome.value, call.stored] for call in cell.calls], [t.message for t in cell.troubles]

    return said(call)


def use(url):
    """Return what a process meets that wants answers."""
    return {
        "ask": ask(url),
        "replay": ask(url, "replay"),
        "other": ask(url, "use", "something else"),
        "read": read(url),
        "write": write(url),
    }


def commands(_url):
    """Return what each command does: whether it fails, and what it prints."""
    from typer.testing import CliRunner

    from genai_cache_magic.cli.main import app

    found = {}
    for line in ("stats", "entries", "invalidate --tag odd", "gc", "clear --yes", "gc", "stats"):
        done = CliRunner().invoke(app, line.split())
        error = "" if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)
        found[f"{line} again" if line in found else line] = [done.exit_code, done.output + error]
    return found


STEPS = {step.__name__: step for step in (store, store_and_die, store_too_much, live, use, commands, write)}
FIRST = {"killed": "store_and_die", "stuck": "store_too_much"}


def main(case, directory):
    from genai_cache_magic.testing.model_server import SimulatedModelServer

    directory = Path(directory)
    mount("-t", "tmpfs", "-o", "size=6m,mode=700", "tmpfs", directory)
    os.environ["GENAI_CACHE_DIR"] = str(directory / "cache")
    with SimulatedModelServer("unique") as server:
        if case == "open":
            return new_process("live", server.url)
        found = {"stored": new_process(FIRST.get(case, "store"), server.url)}
        if case == "full":
            fill(directory)
        elif case != "stuck":
            mount("-o", "remount,ro", directory)
        found |= {step: new_process(step, server.url) for step in ("use", "commands")}
        found["after"] = new_process("write", server.url)
    return {**found, **found["use"], **found["commands"]}


if __name__ == "__main__":
    first, *rest = sys.argv[1:]
    json.dump(STEPS[first](*rest) if first in STEPS else main(first, *rest), sys.stdout)
