"""A machine that works alone, since its team could not be asked, tries again in the background until it has joined."""

from __future__ import annotations

import os
import threading
from contextvars import Context
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.api.team.line import apart
from genai_cache_magic.errors import GenaiCacheError, StoreDenied, StoreUnavailable, WriteRefused
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.breaker import Breaker

_SHORTEST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
"""While a tier that may only be read from here is empty, it is looked at ever more rarely, down to this [s]."""
COUNTED_HERE = (
    "counts that were made with hincrby while the team could not be asked: {count}; they stay on this machine, and "
    "the team's do not hold them"
)
JOINED = "the team's tier answers: answers are shared from now on; what was asked before stays on this machine"


class Joining:
    """Tries to join a team again and again, with the rhythm of its breaker. A forked child goes on by itself.

    Parameters
    ----------
    breaker
        Says when the team may be asked again.
    join
        Gives the cache its team and returns whether it did; raises ``StoreUnavailable`` while that can't be asked.
    tell
        Hears that it has joined, or why it never will.
    leave
        Gives up the way to the team, when it is not joined.
    left
        Returns how many counts were made here and not told to the team.
    """

    def __init__(
        self,
        breaker: Breaker,
        join: Callable[[], bool],
        tell: Callable[[Event], None],
        *,
        leave: Callable[[], None] = lambda: None,
        left: Callable[[], int] = lambda: 0,
    ) -> None:
        self._breaker = breaker
        self._join = join
        self._tell = tell
        self._leave = leave
        self._left = left
        self._lock = host.process_lock()
        self._is_over = False
        self._pid = 0  # written under _lock, like the next
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin; returns at once."""
        with self._lock:
            self._start()

    def go_on(self) -> None:
        """Begin anew in a forked child, if it has not come to its end: the thread was the parent's."""
        if self._is_over or self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._stopping = threading.Event()  # that of a parent may be locked for ever
        thread = threading.Thread(target=self._run, name="genai-cache-joining", daemon=True)
        Context().run(thread.start)  # it belongs to no cell

    def stop(self) -> None:
        """Try no more; may be called twice."""
        self._stopping.set()
        count, self._left = self._left(), lambda: 0
        if count:
            self._tell(Trouble("L2", "CountedHere", COUNTED_HERE.format(count=count)))
        if not self._is_over:
            self._is_over = True
            self._leave()

    def _run(self) -> None:
        try:
            has_joined = self._tries()
        finally:
            self._is_over = True
        if not has_joined:
            self._leave()

    def _tries(self) -> bool:
        """Try until it has joined or there is no more sense in it; return whether it has."""
        pause_s = _SHORTEST_PAUSE_S
        while not self._stopping.wait(max(self._breaker.wait_s, pause_s)):
            try:
                is_joined = self._join()
            except WriteRefused:
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            except StoreDenied as error:
                return self._give_up(error)
            except StoreUnavailable:
                continue
            except GenaiCacheError as error:
                return self._give_up(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, this machine goes on alone, and says so
                return self._give_up(StoreUnavailable(f"joining the team failed ({type(error).__name__})"))
            if is_joined:
                self._tell(Trouble("L2", "Joined", JOINED))
            return is_joined
        return False

    def _give_up(self, error: GenaiCacheError) -> bool:
        self._tell(Trouble("L2", type(error).__name__, apart(error)))
        return False
