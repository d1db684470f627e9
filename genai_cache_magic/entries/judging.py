"""What may be served now: the generation document, the time to live, and the clock that both go by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from genai_cache_magic.core.policy import Decision, Fetch, Serve, Why, decide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.core.model import EntryId, Header
    from genai_cache_magic.entries.generations import LiveGenerations


class Judge:
    """Judges the entries of one namespace by what is valid at this moment. Safe to share between threads.

    `trusts` says of the time at which an entry was fetched [ms since the epoch] whether it counts without a team; None
    where there is none.
    """

    def __init__(
        self,
        generations: LiveGenerations,
        clock: Callable[[], float] = time.time,
        trusts: Callable[[int], bool] | None = None,
    ) -> None:
        self.generations = generations
        self.clock = clock
        self._trusts = trusts

    def now_ms(self) -> int:
        """Return the wall clock [ms since the epoch]."""
        return int(self.clock() * 1000)

    def decide(
        self, entry_id: EntryId, header: Header, ttl_s: int | None = None, scope_tags: Iterable[bytes] = ()
    ) -> Decision:
        """Return whether an entry may be served to whom; raises ``StoreUnavailable`` if that can't be known."""
        valid = self.generations.current().is_valid(entry_id, header, scope_tags)
        decision = decide(header, is_valid=valid, now_ms=int(self.clock() * 1000), ttl_s=ttl_s)
        if self._trusts is not None and isinstance(decision, Serve) and not self._trusts(header.created_ms):
            return Fetch(Why.UNCONFIRMED)
        return decision

    def remaining_s(self, header: Header) -> float:
        """Return how long an entry may still live [s]: all its time if a clock says that it is not born yet."""
        return min(header.ttl_s, header.ttl_s - (self.now_ms() - header.created_ms) / 1000)
