"""How long what is here counts without a word of the team, and what is given up when the team has forgotten.

A record that one entry is invalid is dropped from the team's document after a day (`Generations.pruned`). A copy of
that entry that lies here must not count as valid then: so before a document is believed, what the one before it made
invalid, and it no longer does, is removed; and where it has forgotten what this machine never saw, everything is.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.state import StateFile

_MARK: Final = "confirmed_ms"
_NOTED_EVERY_S: Final = 600.0
_AGAIN_S: Final = 10.0


class Trust:
    """Trust of one machine in its own copies of a team's entries. Safe to share between threads.

    Parameters
    ----------
    state
        Where it is noted when the team last confirmed what is here.
    generations
        Reads documents.
    longest_s
        How long entries count after that, or after they were fetched [s].
    clock
        The team's time [s since the epoch].
    monotonic
        Seconds that never run backwards.
    """

    def __init__(
        self,
        state: StateFile,
        generations: LiveGenerations,
        *,
        longest_s: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._generations = generations
        self._longest_s = longest_s
        self._clock = clock
        self._monotonic = monotonic
        self._own: Entries | None = None
        self._note_at = float("-inf")
        # When it was confirmed: by the team's clock [s], and [s, monotonic]. Replaced as a whole, so needs no lock.
        self._confirmed = (self._known_s(), monotonic())

    def guards(self, own: Entries) -> None:
        """Let `own` be the entries that are given up."""
        self._own = own

    def trusts(self, created_ms: int) -> bool:
        """Return whether an entry that was fetched then may be served though nobody else can be asked."""
        at_s, at = self._confirmed
        now_s = self._clock()
        since_confirmed_s = max(now_s - at_s, self._monotonic() - at)
        return min(since_confirmed_s, now_s - created_ms / 1000) <= self._longest_s

    def sees(self, before: bytes | None, found: bytes | None) -> None:
        """Take note that the team's document is `found` now; until this returns it is `before` that counts.

        Raises
        ------
        StoreUnavailable
            What no longer counts can't be removed: `found` must not be believed yet.
        """
        if before != found and self._own is not None:
            self._give_up(self._own, before, found)
        now = self._monotonic()
        self._confirmed = (self._clock(), now)
        if now >= self._note_at:
            self._note_at = now + _AGAIN_S  # what can't be noted is tried again before long
            with suppress(StoreUnavailable):
                self._state.set_mark(_MARK, int(self._clock() * 1000).to_bytes(8))
                self._note_at = now + _NOTED_EVERY_S

    def _give_up(self, own: Entries, before: bytes | None, found: bytes | None) -> None:
        later, earlier = self._generations.authentic(found), self._generations.authentic(before)
        if later is None:
            return
        if later.has_forgotten(earlier):
            own.forget_all()
        elif earlier is not None and (dropped := later.dropped_since(earlier)):
            own.forget(dropped)

    def _known_s(self) -> float:
        with suppress(StoreUnavailable):
            noted = self._state.mark(_MARK)
            if noted is not None:
                return int.from_bytes(noted[:8]) / 1000
        return self._clock()
