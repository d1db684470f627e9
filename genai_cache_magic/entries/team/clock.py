"""The time of a shared tier, by which all that share it tell ages."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from genai_cache_magic import host

if TYPE_CHECKING:
    from collections.abc import Callable

_SAME_TIME_S = 2.0
"""Clocks that differ by less are taken to agree: an answer takes its time."""


class TeamClock:
    """The time by the shared tier's clock, as far as it was heard; else this machine's [s since the epoch]."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        *,
        monotonic: Callable[[], float] = host.seconds_awake_or_asleep,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._heard: tuple[float, float] | None = None  # the tier's time, and when that was [s, monotonic]
        self._shift_s = 0.0  # how far the tier's clock is ahead; replaced as a whole, so needs no lock

    def __call__(self) -> float:
        """Return the time now."""
        shift_s = self._shift_s
        return self._clock() + shift_s if shift_s and abs(shift_s) >= _SAME_TIME_S else self._clock()

    def count(self) -> int:
        """Return the tier's time, as precisely as it was heard [µs since the epoch]."""
        return int((self._clock() + self._shift_s) * 1e6)

    def hear(self, now_s: float) -> None:
        """Take note that the tier's clock shows `now_s`."""
        self._shift_s = now_s - self._clock()
        self._heard = now_s, self._monotonic()

    def earliest_ms(self) -> int:
        """Return a time that the tier's clock has certainly come to [ms since the epoch]; 0 if it was never heard.

        However a machine's clock is set meanwhile, and however long it sleeps: it goes by one that only counts.
        """
        heard = self._heard
        return 0 if heard is None else int((heard[0] + self._monotonic() - heard[1]) * 1000)
