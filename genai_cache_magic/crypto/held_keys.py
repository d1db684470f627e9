"""Secrets that a service has unwrapped for this process: in memory alone, for a bounded time, asked for once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic import host

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_AGE_S: Final = 12 * 3600.0
"""After so long a service is asked again, so that who lost a right loses the key too [s]; sleep counts."""


@dataclass(slots=True)
class _Held:
    """One secret; `lock` is held by the one who asks for it."""

    lock: Any = field(default_factory=host.process_lock, repr=False)
    secret: bytes | None = field(default=None, repr=False)
    since_s: float = 0.0


class HeldKeys:
    """What was unwrapped, by what it was unwrapped from. Safe to share between threads.

    Parameters
    ----------
    max_age_s
        How long a secret is held [s].
    clock
        Seconds that never run backwards, and go on while the machine sleeps.
    """

    def __init__(
        self, *, max_age_s: float = MAX_AGE_S, clock: Callable[[], float] = host.seconds_awake_or_asleep
    ) -> None:
        self._max_age_s = max_age_s
        self._clock = clock
        self._lock = host.process_lock()
        self._held: dict[bytes, _Held] = {}  # guarded by _lock

    def get(self, name: bytes, unwrap: Callable[[], bytes]) -> bytes:
        """Return the secret called `name`: one caller gets it by `unwrap`, the others wait for that.

        What `unwrap` raises is its caller's alone; the next one tries again.
        """
        with self._lock:
            held = self._held.setdefault(name, _Held())
        with held.lock:
            if held.secret is None or self._clock() - held.since_s > self._max_age_s:
                held.secret = None  # whatever comes of asking, it is too old
                held.secret = unwrap()
                held.since_s = self._clock()
            return held.secret

    def __repr__(self) -> str:
        return "HeldKeys()"
