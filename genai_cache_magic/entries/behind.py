"""What look-ups in L2 brought is stored here behind those who asked: they have their answers already.

What is waiting when a process ends is lost, and is looked up again by the next one.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.codec import Sealed
    from genai_cache_magic.events import Event

    Tell = Callable[[Event], None]

_AT_ONCE = 250
"""How many are stored in one transaction: short enough for whoever has an answer to store meanwhile."""
_PAUSE_S = 0.02
"""How long those who asked go first, and who else came is waited for [s]."""
_LONGEST_PAUSE_S = 0.5
"""How long that goes on, where again and again others come [s]."""
_MOST = 10_000
"""How many may wait; what comes beyond that is not stored here."""


@dataclass(frozen=True, slots=True)
class Brought:
    """An entry of the team's, opened, and as it came."""

    sealed: Sealed = field(repr=False)
    envelope: bytes = field(repr=False)


class Behind:
    """Stores entries in the background, those that come together at once. Safe to share between threads and forks.

    Parameters
    ----------
    place
        Stores entries; may raise ``StoreUnavailable``, which those who brought them are told.
    remove
        Removes entries; raises nothing.
    """

    def __init__(
        self, place: Callable[[Mapping[EntryId, Brought]], object], remove: Callable[[Iterable[EntryId]], None]
    ) -> None:
        self._place = place
        self._remove = remove
        self._thread: threading.Thread | None = None  # guarded by _lock; one that could not be started is none
        self._begin_anew()

    def add(self, brought: Mapping[EntryId, Brought], tell: Tell) -> None:
        """Let what was `brought` be stored soon; `tell` hears of trouble."""
        if self._pid != os.getpid():
            self._begin_anew()  # threads and locks are the parent's
        with self._lock:
            for entry_id, one in itertools.islice(brought.items(), max(0, _MOST - len(self._waiting))):
                self._waiting[entry_id] = one, tell
            self._count += 1
            if self._waiting and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name="genai-cache-behind", daemon=True)
                with suppress(RuntimeError):  # there may be too many: whoever comes next tries again
                    Context().run(self._thread.start)  # it belongs to no cell

    def drop(self) -> None:
        """Let nothing that was brought until now be stored, and what is being stored be removed again.

        Waits for nobody: the caller may hold what they need who store.
        """
        if self._pid == os.getpid():
            with self._lock:
                self._waiting.clear()
                self._drops += 1

    def finish(self) -> None:
        """Store all that waits, in this thread."""
        if self._pid == os.getpid():
            while self._store_some():
                pass

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        # Re-entrant: the garbage collector may end a call in any line.
        self._lock = threading.RLock()
        self._placing = threading.RLock()
        self._waiting: dict[EntryId, tuple[Brought, Tell]] = {}  # guarded by _lock, like the next
        self._drops = 0
        self._count = 0  # how often something was brought
        self._thread = None

    def _run(self) -> None:
        pause = threading.Event()
        while self._thread is threading.current_thread():
            give_up_at = time.monotonic() + _LONGEST_PAUSE_S
            count = -1
            while count != self._count and time.monotonic() < give_up_at:
                count = self._count
                pause.wait(_PAUSE_S)
            if not self._store_some():
                with self._lock:
                    if not self._waiting:
                        self._thread = None
                        return

    def _store_some(self) -> bool:
        with self._placing:  # who waits for the end of it, waits for what is under way too
            with self._lock:
                some = dict(itertools.islice(self._waiting.items(), _AT_ONCE))
                for entry_id in some:
                    del self._waiting[entry_id]
                drops = self._drops
            if some:
                try:
                    self._place({entry_id: brought for entry_id, (brought, _) in some.items()})
                except StoreUnavailable as error:
                    for tell in dict.fromkeys(tell for _, tell in some.values()):
                        tell(Trouble("L1", type(error).__name__, str(error)))
                if drops != self._drops:
                    self._remove(some)
        return bool(some)
