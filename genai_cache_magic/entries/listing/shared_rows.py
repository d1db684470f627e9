"""Rows of what the team has stored and this machine has no copy of: listings and counts see it, no call waits for it.

What is new in the tier since the last time is opened and noted: no more of it is read than what listings show. What is
gone from there is taken off. What was noted is not read again. What could not be, since it is invalid or not ours to
open, may have been replaced: some of that is read again each time. Who asks waits for a moment only: a first time among
very many goes on behind, until the cache is closed.
"""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from genai_cache_magic.entries.heads import Heads
from genai_cache_magic.entries.link import within
from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.entries.codec import Codec
    from genai_cache_magic.entries.rows import Rows, View
    from genai_cache_magic.stores.base import Store

_EVERY_S = 10.0
_WAITED_S = 1.5
_LONGEST_S = 60.0
_BATCH = 100
_AGAIN = 200


class SharedRows:
    """Notes in the catalogue what the shared tier holds. Safe to share between threads.

    Parameters
    ----------
    store
        The tier's, behind its breaker.
    view
        Sees what is valid now; may raise ``StoreUnavailable``.
    clock
        Seconds that never run backwards.
    """

    def __init__(
        self,
        store: Store,
        codec: Codec,
        rows: Rows,
        *,
        view: Callable[[], View],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.synced: datetime | None = None
        """When all that the tier held was noted; None if that never came to its end."""
        self._store = store
        self._heads = Heads(store, codec)
        self._rows = rows
        self._clock = clock
        self._view = view
        self._next_at = 0.0
        self._stopping = threading.Event()
        self._unnoted: dict[str, None] = {}  # keys, those that were read longest ago first; replaced as a whole

    def sync(self) -> None:
        """Note what is new and what is gone, unless that was done a moment ago; a tier in trouble is left for later."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + _EVERY_S
        with suppress(StoreUnavailable):
            within(_WAITED_S, self._sync, overdue=lambda: "the team's entries are still being listed")

    def close(self) -> None:
        """Note nothing more: what is on its way ends with the batch that it is at; may be called twice."""
        self._stopping.set()

    def _sync(self) -> None:
        give_up_at = self._clock() + _LONGEST_S
        known = self._rows.known()  # before the list: what another process notes meanwhile is not missing from that
        listed = set(itertools.takewhile(lambda _: not self._stopping.is_set(), self._store.scan()))
        if self._stopping.is_set():
            return
        view = self._view()
        unnoted = {key: None for key in self._unnoted if key in listed}
        wanted = [key for key in sorted(listed) if bytes.fromhex(key) not in known and key not in unnoted]
        wanted += itertools.islice(unnoted, _AGAIN)
        for start in range(0, len(wanted), _BATCH):
            if self._stopping.is_set() or self._clock() > give_up_at:
                return
            batch = wanted[start : start + _BATCH]
            opened = self._heads.opened(batch, stops=self._stopping.is_set)
            noted = [(entry_id, *head) for entry_id, head in opened.items() if view.is_live(entry_id, head[0])]
            self._rows.record(noted, judged=view.generations.published, gone=Gone.ELSEWHERE)
            ids = {entry_id for entry_id, _, _ in noted}
            for key in batch:
                unnoted.pop(key, None)  # what was read now comes last
                if key not in ids:
                    unnoted[key] = None
            self._unnoted = dict(unnoted)
        vanished = [n for raw, (n, gone) in known.items() if gone is Gone.ELSEWHERE and raw.hex() not in listed]
        self._rows.mark_gone(vanished, Gone.VANISHED)
        self.synced = datetime.now(UTC)
