"""What a process pays once: the import, ``%load_ext``, and its first hit."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from harness import BenchmarkError, Finding, Row, take_turns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness import Effort, Sampler

_LOAD_TARGET_MS = 60
_FIRST_TARGET_MS = 10
_TIMEOUT_S = 120
_IPYTHON = ("-m", "IPython", "--quick", "--no-banner", "--HistoryManager.enabled=False", "-c")
_FIRST_CALL = str(Path(__file__).with_name("first_call.py"))


def run_load(effort: Effort) -> Iterator[Finding]:
    """Compare whole processes: with and without the extension, with and without the import."""
    cases = {
        "ipython": _process(*_IPYTHON, "pass"),
        "ipython, load_ext": _process(*_IPYTHON, "%load_ext genai_cache_magic"),
        "python": _process("-c", "pass"),
        "python, import": _process("-c", "import genai_cache_magic"),
    }
    samples = take_turns(cases, rounds=effort.pick(25, 7), warm_up=1)
    loading = samples.added("ipython, load_ext", "ipython").scaled(1e3)
    importing = samples.added("python, import", "python").scaled(1e3)
    medians = samples.medians
    yield Finding(
        "%load_ext, beyond IPython",
        loading,
        "ms",
        _LOAD_TARGET_MS,
        {name: medians[name] for name in ("ipython", "ipython, load_ext")},
    )
    yield Finding(
        "import genai_cache_magic, beyond Python",
        importing,
        "ms",
        medians={name: medians[name] for name in ("python", "python, import")},
    )


def run_first(effort: Effort) -> Iterator[Finding]:
    """Compare the first call of fresh processes: the SDK's own, and a hit."""
    _first_call("fill")
    scopes: list[float] = []

    def hit() -> float:
        said = _first_call("hit")
        if said["upstream"]:
            raise BenchmarkError("the first call of a process did not hit")
        scopes.append(said["scope_s"])
        return said["call_s"]

    cases = {"SDK's first call": lambda: _first_call("floor")["call_s"], "first hit": hit}
    samples = take_turns(cases, rounds=effort.pick(15, 5), warm_up=1)
    added = samples.added("first hit", "SDK's first call").scaled(1e3)
    medians = {**samples.medians, "opening the first scope": sorted(scopes)[len(scopes) // 2]}
    yield Finding("first hit, beyond the SDK's own first call", added, "ms", _FIRST_TARGET_MS, medians)


def _process(*arguments: str) -> Sampler:
    def sample() -> float:
        start = time.perf_counter()
        _output(arguments)
        return time.perf_counter() - start

    return sample


def _first_call(mode: str) -> dict[str, float]:
    said: dict[str, float] = json.loads(_output((_FIRST_CALL, mode)))
    return said


def _output(arguments: Sequence[str]) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    # IPython reports what fails and exits with 0.
    if done.returncode or "Error" in done.stdout + done.stderr:
        raise BenchmarkError(f"a process failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


LOAD = Row("load", "whole processes, with - without", run_load)
FIRST = Row("first", "first call of a process, hit - no cache", run_first)
