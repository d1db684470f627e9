"""What a process pays once: the import, ``%load_ext``, and its first hit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness import BenchmarkError, Finding, Row, exactly, take_turns

from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.vault_server import SimulatedKeyVault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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
    samples = take_turns(cases, rounds=effort.pick(25, 7, 1), warm_up=effort.pick(1, 1, 0))
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
    samples = take_turns(cases, rounds=effort.pick(15, 5, 1), warm_up=effort.pick(1, 1, 0))
    added = samples.added("first hit", "SDK's first call").scaled(1e3)
    medians = {**samples.medians, "opening the first scope": sorted(scopes)[len(scopes) // 2]}
    yield Finding("first hit, beyond the SDK's own first call", added, "ms", _FIRST_TARGET_MS, medians)
    yield from _behind_a_vault(effort)


def _behind_a_vault(effort: Effort) -> Iterator[Finding]:
    """Start processes whose key a simulated vault guards: what they wait for, and what the vault is asked."""
    with SimulatedIdentity() as identity, SimulatedKeyVault(identity) as vault, TemporaryDirectory() as place:
        guarded = {
            **identity.environment(),
            "GENAI_CACHE_ENCRYPTION": "key-vault",
            "GENAI_CACHE_KEY_VAULT_URL": vault.url,
            "GENAI_CACHE_DIR": place,
        }
        made = subprocess.run(
            [sys.executable, "-m", "genai_cache_magic.cli.main", "keys", "init"],
            env={**os.environ, **guarded},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if made.returncode:
            raise BenchmarkError(f"no key was made: {made.stderr[-500:]}")
        _first_call("fill", guarded)
        asked: list[int] = []

        def hit() -> float:
            before = len(vault.requests)
            said = _first_call("hit", guarded)
            if said["upstream"]:
                raise BenchmarkError("the first call of a process did not hit")
            asked.append(sum(request.operation == "unwrapKey" for request in vault.requests[before:]))
            return said["call_s"] + said["scope_s"]

        def nothing() -> float:
            before = len(vault.requests)
            said = _first_call("open", guarded)
            if len(vault.requests) > before:
                raise BenchmarkError("a cell without a model call asked the vault")
            return said["scope_s"]

        cases = {"first hit": hit, "a cell without a call": nothing}
        samples = take_turns(cases, rounds=effort.pick(10, 3, 1), warm_up=effort.pick(1, 1, 0))
    medians = samples.medians
    yield Finding(
        "first hit behind a vault, its scope included", samples.absolute("first hit").scaled(1e3), "ms", medians=medians
    )
    yield Finding("unwrappings that it needs", exactly(max(asked)), "calls", 1)


def _process(*arguments: str) -> Sampler:
    def sample() -> float:
        start = time.perf_counter()
        _output(arguments)
        return time.perf_counter() - start

    return sample


def _first_call(mode: str, environment: Mapping[str, str] = MappingProxyType({})) -> dict[str, float]:
    said: dict[str, float] = json.loads(_output((_FIRST_CALL, mode), environment))
    return said


def _output(arguments: Sequence[str], environment: Mapping[str, str] = MappingProxyType({})) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    # IPython reports what fails and exits with 0.
    if done.returncode or "Error" in done.stdout + done.stderr:
        raise BenchmarkError(f"a process failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


LOAD = Row("load", "whole processes, with - without", run_load)
FIRST = Row("first", "first call of a process, hit - no cache", run_first)
