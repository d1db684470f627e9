"""Compares the catalogue's rows with the entries that they stand for, and puts the rows right.

Numbers alone are compared as long as they tell enough. A writer notes a row before its entry and removes it after, so
whatever is killed in between leaves a row too many, never one too few, and equal numbers are equal sets. Only who
compares while an entry is on its way takes its row for one of a killed writer; the writer notes it again, unless it is
killed first. So for a while after rows were found without entries, numbers are not believed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.base import SupportsSize

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.rows import Rows

_BATCH = 200
_ON_ITS_WAY_MS: Final = 60_000
"""No entry comes later after its row [ms]: both wait for a database, neither for anything else."""
_DOUBT = "rows without entries"
"""The mark of when such were last found [ms since the epoch]."""


class Comparison:
    """Sees to it that there is a row for every entry, and none for what is not there.

    Parameters
    ----------
    start_sweeper
        Called when there are rows of what expired: the store may hold it yet.
    """

    def __init__(self, entries: Entries, rows: Rows, *, start_sweeper: Callable[[], None]) -> None:
        self._entries = entries
        self._rows = rows
        self._start_sweeper = start_sweeper
        self._surplus = 0  # rows less entries when they were last compared

    def settle(self) -> int:
        """Compare where that may be needed; return how many rows were made where there had never been all of them."""
        is_complete = self._rows.is_complete() and not self._entries.places.has_unrecorded
        # What remains of a comparison, such as what can't be opened, is as good as equal until it changes.
        if is_complete and not self._is_doubtful() and self._difference() == self._surplus:
            return 0
        added = self.compare()
        # More rows than entries is on its way to be made good: here just now, or by another process.
        self._surplus = min(0, self._difference() or 0)
        return 0 if is_complete else added

    def compare(self) -> int:
        """Compare rows and entries by their ids; return how many rows were added."""
        self._entries.places.has_unrecorded = False
        now_ms = self._entries.now_ms()
        rows = self._rows.present_ids()
        missing = [key for key in self._entries.store.scan() if rows.pop(bytes.fromhex(key), None) is None]
        expired = [n for n, expires_ms in rows.values() if expires_ms <= now_ms]
        added = 0
        with suppress(StoreUnavailable):  # a file that can only be read says what it said
            # What expired is not listed by the store, but may be there yet: the sweeper makes sure.
            self._rows.mark_gone(expired, Gone.DOOMED)
            self._mark_vanished([n for n, expires_ms in rows.values() if expires_ms > now_ms], now_ms)
            for start in range(0, len(missing), _BATCH):
                batch = missing[start : start + _BATCH]
                # One transaction for many, and short enough for whoever has an answer to store meanwhile.
                added += self._rows.state.write(lambda _: sum(map(self._entries.places.record_again, batch)))  # noqa: B023 - run at once
            self._rows.set_complete()
        if expired:
            self._start_sweeper()
        return added

    def _difference(self) -> int | None:
        """Return how many more rows than entries there are; None where the store does not count them."""
        store = self._entries.store
        return self._rows.present() - store.count() if isinstance(store, SupportsSize) else None

    def _is_doubtful(self) -> bool:
        return self._rows.state.mark(_DOUBT) is not None

    def _mark_vanished(self, numbers: list[int], now_ms: int) -> None:
        """Note that there are no entries of these rows, as far as can be seen; without any, end a doubt that is old."""
        if numbers:

            def work(_: object) -> None:
                self._rows.mark_gone(numbers, Gone.VANISHED)
                self._rows.state.set_mark(_DOUBT, now_ms.to_bytes(8))

            self._rows.state.write(work)
            return
        noted = self._rows.state.mark(_DOUBT)
        if noted is not None and not 0 <= now_ms - int.from_bytes(noted) < _ON_ITS_WAY_MS:
            self._rows.state.remove_mark(_DOUBT)
