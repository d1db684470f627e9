"""A circuit breaker: a backend that is in trouble is left alone, and asked by one caller when it may be well again.

States and their names are those of M. Nygard, *Release It!* (2nd ed., 2018), chapter 5. Time is monotonic, so a clock
that is set changes nothing.
"""

from __future__ import annotations

import enum
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.errors import StoreDenied, StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.rights import Rights

if TYPE_CHECKING:
    from collections.abc import Callable


_LONGEST_PROBE_S = 60.0
"""A probe that has not ended by then never will [s]: whoever had it was interrupted before it began, or forked."""


class Circuit(enum.Enum):
    """Whether calls pass: all of them, none, or a single probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class BreakerConfig:
    """When a breaker opens, and for how long.

    Parameters
    ----------
    failures
        It opens after so many in a row.
    slow_failure_s
        It opens at once after a failure that took as long [s]: waiting is what users notice.
    first_pause_s, longest_pause_s
        How long it stays open, the first time, and at most after doubling with each failed probe [s].
    """

    failures: int = 3
    slow_failure_s: float = 0.25
    first_pause_s: float = 5.0
    longest_pause_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to call once; `started` is when it was given [s]."""

    started: float
    is_probe: bool


class Breaker:
    """Decides for one backend whether it is called. Safe to share between threads.

    Parameters
    ----------
    name
        The backend, as shown in messages.
    config
        When it opens.
    rights
        What the backend lets us do: a write that it refuses is no trouble with it.
    on_change
        Hears of each new state and the reason, in words; called without a lock held.
    clock
        Seconds that never run backwards.
    jitter
        A number between 0 and 1 that spreads the probes of many machines.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        name: str,
        config: BreakerConfig | None = None,
        *,
        rights: Rights | None = None,
        on_change: Callable[[Circuit, str], None] = lambda _, __: None,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = host.chance.random,
    ) -> None:
        self._name = name
        self.rights = rights or Rights(name)
        self._config = config or BreakerConfig()
        self._on_change = on_change
        self._clock = clock
        self._jitter = jitter
        self._lock = host.process_lock()
        self._state = Circuit.CLOSED  # this and the following guarded by _lock
        self._failures = 0
        self._pause_s = 0.0
        self._opens_until = 0.0
        self._reason = ""
        self._is_denied = False
        self._is_probing = False
        self._probed_at = 0.0

    @property
    def state(self) -> Circuit:
        """The state now."""
        with self._lock:
            return self._state

    @property
    def reason(self) -> str:
        """Why it is not closed, in words; empty if it is."""
        with self._lock:
            return self._reason

    @property
    def wait_s(self) -> float:
        """How long the backend is left alone from now on [s]; 0 if it may be asked. Denied ones are not asked again."""
        now = self._clock()
        with self._lock:
            return 0.0 if self._state is Circuit.CLOSED else max(0.0, self._opens_until - now)

    def enter(self) -> Pass:
        """Return leave to call; whoever has it calls `succeeded` or `failed` once.

        Raises
        ------
        StoreUnavailable
            The backend is left alone for now. Costs microseconds.
        """
        now = self._clock()
        with self._lock:
            if self._state is Circuit.CLOSED:
                return Pass(now, is_probe=False)
            is_probing = self._is_probing and now - self._probed_at < _LONGEST_PROBE_S
            if self._is_denied or is_probing or now < self._opens_until:
                kind = StoreDenied if self._is_denied else StoreUnavailable
                raise kind(f"{self._reason} (not asked again yet)")
            self._is_probing, self._probed_at = True, now
            self._state = Circuit.HALF_OPEN
        self._on_change(Circuit.HALF_OPEN, self._reason)
        return Pass(now, is_probe=True)

    def succeeded(self, leave: Pass) -> None:
        """Take note that the call that `leave` was given for came to its end."""
        with self._lock:
            self._failures = 0
            if self._state is Circuit.CLOSED or not leave.is_probe:
                return
            self._state, self._pause_s, self._reason, self._is_probing = Circuit.CLOSED, 0.0, "", False
        self._on_change(Circuit.CLOSED, f"{self._name} answers again")

    def failed(self, leave: Pass, error: StoreUnavailable) -> None:
        """Take note that the call that `leave` was given for failed with `error`."""
        now = self._clock()
        with self._lock:
            self._failures += 1
            if self._state is not Circuit.CLOSED and not leave.is_probe:
                return  # a straggler of before it opened
            if not (leave.is_probe or self._is_enough(error, now - leave.started)):
                return
            self._open(now, error)
        self._on_change(Circuit.OPEN, str(error))

    def trip(self, error: StoreUnavailable) -> None:
        """Open it at once: somebody has seen that the backend takes longer than anyone should wait."""
        now = self._clock()
        with self._lock:
            if self._state is Circuit.OPEN:
                return
            self._open(now, error)
        self._on_change(Circuit.OPEN, str(error))

    def gave_up(self, leave: Pass) -> None:
        """Take note that the call was interrupted from outside, which says nothing of the backend."""
        with self._lock:
            if leave.is_probe and self._is_probing:
                self._is_probing = False
                self._state = Circuit.OPEN

    def reset(self) -> None:
        """Close it, as for a backend never asked before: its credentials or address have changed."""
        with self._lock:
            was = self._state
            self._state, self._failures, self._pause_s, self._reason = Circuit.CLOSED, 0, 0.0, ""
            self._is_denied = self._is_probing = False
        if was is not Circuit.CLOSED:
            self._on_change(Circuit.CLOSED, f"{self._name} is asked anew")

    def _is_enough(self, error: StoreUnavailable, took_s: float) -> bool:
        if isinstance(error, StoreDenied | StoreThrottled):
            return True
        return took_s >= self._config.slow_failure_s or self._failures >= self._config.failures

    def _open(self, now: float, error: StoreUnavailable) -> None:
        """Open; the caller holds the lock."""
        config = self._config
        self._state, self._reason, self._is_probing = Circuit.OPEN, str(error), False
        self._is_denied = isinstance(error, StoreDenied)
        self._pause_s = min(config.longest_pause_s, self._pause_s * 2 or config.first_pause_s)
        asked_s = error.retry_after_s if isinstance(error, StoreThrottled) else None
        # Up to a quarter earlier or later, or all machines of a team would probe in one moment.
        pause_s = self._pause_s * (0.75 + self._jitter() / 2)
        self._opens_until = now + max(pause_s, asked_s or 0.0)
