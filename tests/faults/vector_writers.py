"""Processes that add to a vector cache, build its index and keep it: some are killed on the way, some write at once.

``python vector_writers.py killed DIRECTORY KIND POINTS`` kills a writer at each of so many points, spread over all that
the index and its file do, each in a directory of its own; ``together DIRECTORY KIND`` has two write at once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

from genai_cache_magic import create_vector_cache
from genai_cache_magic.stores import documents
from genai_cache_magic.vectors import collection, index, saved

DIMENSION = 16
BEFORE, BATCHES, BATCH = 25, 3, 8
_WATCHED = {module.__file__ for module in (collection, documents, index, saved)}
_SAVE_AFTER = 10


def graphs_begin_early(set_attribute: Any, kind: str) -> None:
    """Let graphs begin with few vectors, those of signs with short ones, and files be written after few."""
    set_attribute(collection, "FEW", 20)
    set_attribute(collection, "_SAVE_AFTER", _SAVE_AFTER)
    if kind == "Signs":
        set_attribute(index, "_LONG", 1)


def vector(text: str) -> Any:
    """Return the vector of a text, its own."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def opened(directory: Path, **options: Any) -> Any:
    """Return the vector cache in `directory`."""
    return create_vector_cache("disk", dimension=DIMENSION, dir=directory, **options)


def texts_of(name: str, batch: int) -> list[str]:
    """Return what a writer adds at once."""
    return [f"{name} {batch * BATCH + n}" for n in range(BATCH)]


def told(directory: Path) -> list[str]:
    """Return the texts of which writers were told that they are stored."""
    return [text for path in sorted(directory.glob("told *")) for text in path.read_text().splitlines()]


def add(cache: Any, directory: Path, name: str, texts: list[str]) -> None:
    """Add texts, and note them once that is done."""
    cache.add_many([(text, text) for text in texts], vectors=[vector(text) for text in texts])
    with (directory / f"told {name}").open("a") as file:
        file.write("".join(f"{text}\n" for text in texts))


def write(directory: Path, name: str) -> None:
    """Add batch after batch, look for what was added, and keep the index at the end."""
    with opened(directory) as cache:
        for batch in range(BATCHES):
            add(cache, directory, name, texts_of(name, batch))
            cache.nearest(vector(f"{name} 0"), similarity=-1)


def forked(work: Any) -> int:
    """Do `work` in a child; return its process id."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - the child has nobody else to tell
            sys.stderr.write(f"{exc!r}\n")
            os._exit(1)
        os._exit(0)
    return pid


def ended(pid: int) -> int:
    """Wait for a child; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def watched(work: Any, point: int, count: Any = None) -> None:
    """Do `work`, and be killed at its step `point`: a call, or a return, of what is watched or into C."""
    steps = 0

    def note(frame: Any, _event: str, _arg: object) -> None:
        nonlocal steps
        if frame.f_code.co_filename in _WATCHED:
            if steps == point:
                os.kill(os.getpid(), signal.SIGKILL)
            steps += 1

    sys.setprofile(note)
    work()
    sys.setprofile(None)
    if count is not None:
        count(steps)


def _prepare(directory: Path) -> None:
    with opened(directory) as cache:
        add(cache, directory, "before", [f"before {n}" for n in range(BEFORE)])
        cache.build()


def _killed(directory: Path, points: int) -> None:
    before, counted = directory / "before", directory / "counted"
    if ended(forked(lambda: _prepare(before))):
        raise SystemExit("what was there before could not be stored")
    shutil.copytree(before, counted)
    steps = directory / "steps"
    if ended(forked(lambda: watched(lambda: write(counted, "w"), -1, lambda n: steps.write_text(str(n))))):
        raise SystemExit("nothing was killed, and yet it failed")
    total = int(steps.read_text())
    shutil.rmtree(counted)
    running = []
    for number in range(points):
        place, point = directory / f"killed {number}", number * total // points
        shutil.copytree(before, place)
        running.append(forked(lambda place=place, point=point: watched(lambda: write(place, "w"), point)))
    if codes := {code for code in map(ended, running) if code != -signal.SIGKILL}:
        raise SystemExit(f"of {total} steps, ended with {codes}, and was not killed")


def _together(directory: Path) -> None:
    if ended(forked(lambda: _prepare(directory))):
        raise SystemExit("what was there before could not be stored")
    reader, writer = os.pipe()

    def work(name: str) -> None:
        os.close(writer)
        os.read(reader, 1)  # until the parent closes its end: both begin
        write(directory, name)

    children = [forked(lambda name=name: work(name)) for name in ("one", "other")]
    os.close(writer)
    if codes := [code for code in map(ended, children) if code]:
        raise SystemExit(f"ended with {codes}")


if __name__ == "__main__":
    graphs_begin_early(setattr, sys.argv[3])
    if sys.argv[1] == "killed":
        _killed(Path(sys.argv[2]), int(sys.argv[4]))
    else:
        _together(Path(sys.argv[2]))
