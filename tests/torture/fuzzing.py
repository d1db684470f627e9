"""Every parser under changed examples for minutes, and coverage-guided ones where `pip install atheris` was run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from parsers import fuzzed

_GUIDED = Path(__file__).with_name("guided.py")
_LARGEST_INPUT_BYTES = 4096
_MEMORY_MB = 2048


@dataclass
class FuzzReport:
    """How many inputs were tried, and what went wrong."""

    inputs: int = 0
    guided: int = 0
    faults: list[str] = field(default_factory=list)


def run_fuzzing(directory: Path, seconds: float, seed: str) -> FuzzReport:
    """Fuzz for so long [s]: half the time by chance, half guided by coverage if atheris is there.

    Parameters
    ----------
    directory : Path
        For inputs that were found to reach something.
    """
    if importlib.util.find_spec("atheris") is None:
        return FuzzReport(*_by_chance(seconds, seed))
    inputs, _, faults = _by_chance(seconds / 2, seed)
    directory.mkdir(parents=True)
    options = [f"-max_total_time={max(1, round(seconds / 2))}", f"-max_len={_LARGEST_INPUT_BYTES}"]
    run = subprocess.run(
        [sys.executable, str(_GUIDED), str(directory), *options, f"-rss_limit_mb={_MEMORY_MB}"],
        capture_output=True,
        text=True,
        cwd=directory,
        check=False,
    )
    done = re.search(r"Done (\d+) runs", run.stderr)
    if run.returncode or done is None:
        faults.append(f"guided by coverage: {run.stderr[-3000:]}")
    return FuzzReport(inputs, int(done[1]) if done else 0, faults)


def _by_chance(seconds: float, seed: str) -> tuple[int, int, list[str]]:
    inputs, faults = fuzzed(seconds, seed, time.monotonic)
    return inputs, 0, faults
