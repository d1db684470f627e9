"""How things are timed here, and what a row of the report is.

Everything that is compared is measured in one run, in turns: one sample of this, one of that, the order
swapped every round. A machine that slows down half-way slows both, and the ratio stands. The garbage
collector is off while a sample is taken and runs between rounds; what was alive before is frozen.
"""

from __future__ import annotations

import gc
import math
import os
import platform
import sqlite3
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_COLLECT_EVERY = 50  # rounds
_WARM_UP_ROUNDS = 5
_TRIAL = 3

Sampler: TypeAlias = "Callable[[], float]"
"""Takes one sample and returns it, in seconds per call."""


class BenchmarkError(Exception):
    """A measurement that would not mean what its row says: a hit that was none, an answer that differs."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure."""

    is_quick: bool = False
    is_trial: bool = False

    def pick(self, full: int, quick: int, trial: int = _TRIAL) -> int:
        """Return `quick` in a quick run, `trial` or less in a trial, else `full`."""
        return min(quick, trial) if self.is_trial else quick if self.is_quick else full


@dataclass(frozen=True, slots=True)
class Estimate:
    """A median, and between which order statistics it lies with a confidence of 95%."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Estimate:
        """Return the same in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes
    ----------
    what
        What was compared with what.
    measured
        In `unit`: ``x`` for a ratio, ``µs``, ``ms``, ``calls``, ``hits``. None if it could not be measured; `note`
        says why.
    target
        The most that is promised, in the same unit; None for what stands here for context.
    medians
        Absolute medians [s]: they belong to this machine on this day.
    """

    what: str
    measured: Estimate | None
    unit: str = "x"
    target: float | None = None
    medians: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``NOT met``, or nothing where nothing is promised."""
        if self.target is None or self.measured is None:
            return ""
        return "met" if self.measured.value <= self.target else "NOT met"


@dataclass(frozen=True, slots=True)
class Row:
    """Findings that are measured together.

    Attributes
    ----------
    name
        What the command line calls it.
    run
        Measures, in the surroundings of ``surroundings.isolated``.
    prepare
        Runs before that, in the user's own environment: what has to be installed needs the user's proxies.
    """

    name: str
    about: str
    run: Callable[[Effort], Iterator[Finding]]
    prepare: Callable[[Effort], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Samples:
    """What `take_turns` measured: seconds per call, by case, in the order of the rounds."""

    seconds: Mapping[str, Sequence[float]]

    def ratio(self, ours: str, base: str, *, less: str = "") -> Estimate:
        """Return how many times as long `ours`, without what is `less`, took as the `base` of the same round."""
        taken_off = self.seconds[less] if less else [0.0] * len(self.seconds[ours])
        rounds = zip(self.seconds[ours], taken_off, self.seconds[base], strict=True)
        return estimate([(a - c) / b for a, c, b in rounds])

    def added(self, ours: str, base: str) -> Estimate:
        """Return how much longer `ours` took than the `base` of the same round [s]."""
        pairs = zip(self.seconds[ours], self.seconds[base], strict=True)
        return estimate([a - b for a, b in pairs])

    def absolute(self, name: str) -> Estimate:
        """Return how long `name` took [s]."""
        return estimate(self.seconds[name])

    @property
    def medians(self) -> dict[str, float]:
        """The medians of all cases [s]."""
        return {name: statistics.median(values) for name, values in self.seconds.items()}


def timed(function: Callable[[], Any], *, calls: int = 1) -> Sampler:
    """Return a sampler that calls `function` so many times and divides."""

    def sample() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            function()
        return (time.perf_counter() - start) / calls

    return sample


def take_turns(cases: Mapping[str, Sampler], *, rounds: int, warm_up: int = _WARM_UP_ROUNDS) -> Samples:
    """Sample each case once per round, in orders in which each comes as often after each other one."""
    orders = _orders(list(cases))
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(warm_up):
        for case in cases.values():
            case()
    with quiet_collector():
        for number in range(rounds):
            for name in orders[number % len(orders)]:
                seconds[name].append(cases[name]())
            if number % _COLLECT_EVERY == _COLLECT_EVERY - 1:
                gc.collect()
    return Samples(seconds)


def _orders(names: list[str]) -> list[list[str]]:
    """Return orders in which each name follows each other one equally often within a round (E. J. Williams, 1949).

    A call leaves the processor's caches full of its own. Were an order only reversed every other round, the first and
    the last of several would come after themselves half of the time, and the others never. From one round to the next
    none of more than two comes after itself; of two, each does so as often as it comes after the other.
    """
    count = len(names)
    steps = [(at + 1) // 2 if at % 2 else -(at // 2) for at in range(count)]
    square = [[names[(step + shift) % count] for step in steps] for shift in range(count)]
    if count % 2 == 0:
        return square
    # Begun with the first and then from the end: in the square's own way, of three two would come after themselves.
    return square + [order[::-1] for order in (square[0], *square[:0:-1])]


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Keep the garbage collector out of the samples: freeze what is alive, and switch it off."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def estimate(values: Sequence[float]) -> Estimate:
    """Return the median of `values` and its confidence interval, without assuming any distribution.

    The ranks are those of the sign test, by the normal approximation; with fewer than 6 values the
    interval is the whole range, which then holds the median with less than 95%.
    """
    ordered = sorted(values)
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    low = max(0, math.floor((n - 1) / 2 - reach))
    high = min(n - 1, math.ceil((n - 1) / 2 + reach))
    return Estimate(statistics.median(ordered), ordered[low], ordered[high])


def exactly(value: float) -> Estimate:
    """Return a number that was counted, not sampled."""
    return Estimate(value, value, value)


def machine() -> dict[str, str]:
    """Return what absolute figures depend on; no host name and no user."""
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "load": f"{os.getloadavg()[0]:.1f}",
        **{name: _version_of(name) for name in ("openai", "anthropic", "httpx2", "diskcache", "ipython")},
    }


def _cpu() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 - one file of the kernel
            return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or platform.machine()


def _version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
