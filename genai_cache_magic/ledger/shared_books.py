"""The books of this machine as a part of its team's."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, Protocol

from genai_cache_magic.entries.link import within
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.ledger.sharer import Sharer
from genai_cache_magic.ledger.sharing import Source
from genai_cache_magic.ledger.team_runs import RunSource, TeamRuns
from genai_cache_magic.ledger.team_usage import TeamUsage, UsageSource

if TYPE_CHECKING:
    from genai_cache_magic.entries.team.drain import Retries
    from genai_cache_magic.ledger.accounts import Accounts
    from genai_cache_magic.ledger.sharing import Sharing
    from genai_cache_magic.stores.disk.locks import FileLock


_OTHERS_S: Final = 0.05
"""How long to leave it to another process or thread that tells [s]."""


class Pins(Source, Protocol):
    """Pinned runs, which are told by themselves."""

    def tell(self) -> None:
        """Tell what was pinned or unpinned; raises ``StoreUnavailable``."""


class SharedBooks:
    """Tells the team what is counted here, and knows what the others have counted.

    Parameters
    ----------
    accounts
        The ledger, through a connection of its own: whoever counts a call does not wait for who reads all of them.
    lock
        Held by the process of this machine that tells.
    """

    def __init__(self, sharing: Sharing, accounts: Accounts, *, lock: FileLock, retries: Retries | None = None) -> None:
        self.sharing = sharing
        self.usage = TeamUsage(sharing)
        self._accounts = accounts
        self.runs = TeamRuns(sharing)
        self._sources: tuple[Source, ...] = (
            UsageSource(accounts, sharing.seal, sharing),
            RunSource(accounts, sharing),
        )
        self._pins: Pins | None = None
        self._pause = threading.Event()
        self._has_lost = False
        self._sharer = Sharer(self._tell, lock=lock, retries=retries)
        sharing.lost = self.lost
        self._sharer.poke()  # what a killed process has left untold

    def poke(self) -> None:
        """Say that something was counted; returns at once."""
        self._sharer.poke()

    def lost(self) -> None:
        """Say that the tier has lost something: all that this machine has to tell is told anew; returns at once."""
        self._has_lost = True
        self._sharer.poke()

    def add(self, pins: Pins) -> None:
        """Tell the team of pinned runs, too."""
        self._pins = pins
        self._sources = (*self._sources, pins)

    def tell_now(self, *, within_s: float) -> None:
        """Tell what is new, for at most so long [s]; what could not be told is told in the background."""
        ends_at = time.monotonic() + within_s

        def tell() -> None:
            while self._sharer.once():
                if time.monotonic() >= ends_at:  # whoever asked has gone on
                    raise StoreUnavailable("another process is telling the team")
                self._pause.wait(_OTHERS_S)

        try:
            within(within_s, tell, overdue=lambda: "the team does not answer in time")
        except StoreUnavailable:
            self._sharer.poke()

    def prune(self) -> None:
        """Remove from the tier what has expired there; raises ``StoreUnavailable``."""
        self.sharing.prune()

    def close(self) -> None:
        """Tell what is new, for about 2 s at most; may be called twice."""
        with ExitStack() as each:
            each.callback(self.sharing.known.close)
            each.callback(self._accounts.file.close)
            each.callback(self._sharer.close)

    def _tell(self) -> None:
        if self._has_lost:
            self._has_lost = False
            try:
                self.sharing.forget(self._sources)
            except StoreUnavailable:
                self._has_lost = True
                raise
        self.sharing.tell(self._sources)
        if self._pins is not None:
            self._pins.tell()
