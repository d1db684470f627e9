"""Gives back the room of what is invalid or expired, behind whoever made it so."""

from __future__ import annotations

import contextvars
import os
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from genai_cache_magic.entries.rows import Gone, View
from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.listing.questions import Questions
    from genai_cache_magic.entries.rows import Row, Rows

_PAUSE_S = 0.001
_MARKED_AT_ONCE = 100
_REMOVED_AT_ONCE = 10


class Sweeper:
    """Removes entries that nobody can be served any more, in a thread of its own that ends with its work.

    Nothing depends on it: what it has not reached is invalid all the same, and is left to the next one if the
    process ends. Who holds `pause` sees what was there before it goes on; who counts what an invalidation concerns
    has `held_off` begin before that is published, and then waits for nothing but what is being removed right now.
    """

    def __init__(self, entries: Entries, rows: Rows, questions: Questions) -> None:
        self._entries = entries
        self._rows = rows
        self._questions = questions
        self._lock = threading.RLock()
        self.pause = threading.RLock()
        self._stopping = threading.Event()
        self._counting: set[object] = set()  # one for each who counts what was there; each operation on it is atomic
        self._thread: threading.Thread | None = None  # guarded by _lock, like the next two
        self._is_asked = False
        self._pid = os.getpid()

    def start(self) -> None:
        """Begin, or go over everything once more if it has begun."""
        if self._pid != os.getpid():  # a child has no thread of its parent's
            self._pid, self._lock, self._thread = os.getpid(), threading.RLock(), None
            self.pause, self._counting = threading.RLock(), set()
        with self._lock:
            self._is_asked = True
            is_there = self._thread is not None and self._thread.is_alive()
            if not is_there and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._work, name="genai-cache sweeper", daemon=True)
                # Started outside of any cell's scope, which it would keep alive and count for.
                with suppress(RuntimeError):  # there may be too many: whoever comes next tries again
                    contextvars.Context().run(self._thread.start)

    def is_due(self) -> bool:
        """Tell whether rows are to be judged, or entries to be removed that were marked before a process ended."""
        is_judged = self._rows.swept() == self._entries.stamp() or not self._rows.has_any()
        return not is_judged or bool(self._rows.doomed(1))

    @contextmanager
    def held_off(self) -> Iterator[None]:
        """Run a block while nothing is judged by a document that was published since it began; waits for nothing."""
        counting, mine = self._counting, object()
        try:  # before it is noted: an interrupt right after would let nothing be swept ever after
            counting.add(mine)
            yield
        finally:
            counting.discard(mine)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything is done, or for `timeout_s` [s]."""
        thread = self._thread
        if thread is not None and thread.is_alive() and self._pid == os.getpid():
            thread.join(timeout_s)

    def stop(self) -> None:
        """End after what is being removed right now; may be called twice."""
        self._stopping.set()
        self.wait()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._is_asked or self._stopping.is_set():
                    self._thread = None
                    return
                self._is_asked = False
            with suppress(StoreUnavailable):  # the next invalidation or collection goes on
                self._sweep()

    def _sweep(self) -> None:
        # First what is quick: once the rows say it, nobody has to find out anew for each question who is dead.
        while not self._stopping.is_set() and not self._doom():
            time.sleep(_PAUSE_S)
        while not self._stopping.is_set() and (doomed := self._rows.doomed(_REMOVED_AT_ONCE)):
            with self.pause:  # between an entry and its row nobody compares the two
                self._remove(doomed)
            time.sleep(_PAUSE_S)  # whoever has a call to answer goes first
        self._rows.forget_long_gone()

    def _doom(self) -> bool:
        """Mark some rows of what is dead, and return whether there are no more."""
        with self.pause:
            view = self._view()
            if self._counting:  # asked after the document was read: nothing newer is judged by while somebody counts
                return False
            dead = self._questions.dead(view, _MARKED_AT_ONCE)
            if self._entries.generations.current() != view.generations:
                return False  # what was born since is not to be judged by an older document
            if dead:
                self._rows.mark_gone(dead, Gone.DOOMED)
            elif view.generations == self._entries.generations.published():
                self._rows.set_swept(view.generations)  # what is still to be published has no counter yet
            return not dead

    def _view(self) -> View:
        return View(self._entries.generations.current(), self._entries.now_ms())

    def _remove(self, rows: list[Row]) -> None:
        self._entries.places.remove_dead([row.entry_id for row in rows])
        view = self._view()
        expired = {row.n for row in rows if view.generations.is_valid(row.entry_id, row.header)}
        self._rows.mark_gone(expired, Gone.EXPIRED)
        self._rows.mark_gone([row.n for row in rows if row.n not in expired], Gone.INVALIDATED)
