"""A machine that works alone, since its team could not be asked, tries again in the background until it has joined."""

from __future__ import annotations

import threading
from contextvars import Context
from typing import TYPE_CHECKING

from genai_cache_magic.api.team_line import apart
from genai_cache_magic.errors import GenaiCacheError, StoreDenied, StoreUnavailable
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.events import Event
    from genai_cache_magic.stores.breaker import Breaker

_SHORTEST_PAUSE_S = 0.5
JOINED = "the team's tier answers: answers are shared from now on; what was asked before stays on this machine"


class Joining:
    """Tries to join a team again and again, with the rhythm of its breaker.

    Parameters
    ----------
    breaker
        Says when the team may be asked again.
    join
        Gives the cache its team and returns whether it did; raises ``StoreUnavailable`` while that can't be asked.
    tell
        Hears that it has joined, or why it never will.
    """

    def __init__(self, breaker: Breaker, join: Callable[[], bool], tell: Callable[[Event], None]) -> None:
        self._breaker = breaker
        self._join = join
        self._tell = tell
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin; returns at once."""
        thread = threading.Thread(target=self._run, name="genai-cache-joining", daemon=True)
        Context().run(thread.start)  # it belongs to no cell

    def stop(self) -> None:
        """Try no more; may be called twice."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.wait(max(self._breaker.wait_s, _SHORTEST_PAUSE_S)):
            try:
                is_joined = self._join()
            except StoreDenied as error:
                self._give_up(error)
                return
            except StoreUnavailable:
                continue
            except GenaiCacheError as error:
                self._give_up(error)
                return
            except Exception as error:  # noqa: BLE001 - whatever it is, this machine goes on alone, and says so
                self._give_up(StoreUnavailable(f"joining the team failed ({type(error).__name__})"))
                return
            if is_joined:
                self._tell(Trouble("L2", "Joined", JOINED))
            return

    def _give_up(self, error: GenaiCacheError) -> None:
        self._tell(Trouble("L2", type(error).__name__, apart(error)))
