"""Invalidations of this machine that the team has not heard of: they hold here already."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from genai_cache_magic.core.validity import Change
    from genai_cache_magic.entries.team.outbox import Outbox


class Pending:
    """The queued invalidations, as this process last read them: they hold here before they are published.

    What another process of this machine publishes leaves the queue, and holds here until the document that says so is
    seen: so a change is forgotten only after a look that began when it waited no more, or after a publication.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._lock = host.process_lock()
        self._waiting: dict[int, Change] = {}  # replaced as a whole, under _lock
        self.read()

    def __call__(self) -> Sequence[Change]:
        """Return them."""
        return tuple(self._waiting.values())

    def read(self) -> None:
        """Read them anew, after a publication of all that waited; what can't be read stays as it was."""
        with self._lock, suppress(StoreUnavailable):
            self._waiting = dict(self._outbox.changes())

    def read_more(self) -> None:
        """Read what waits beside those that are known, other processes' included."""
        with self._lock, suppress(StoreUnavailable):
            self._waiting = self._waiting | dict(self._outbox.changes())

    def published(self) -> Collection[int]:
        """Return the numbers of those that wait no more, since another process has published them."""
        if self._waiting:
            with suppress(StoreUnavailable):
                return self._waiting.keys() - dict(self._outbox.changes()).keys()
        return ()

    def forget(self, numbers: Collection[int]) -> None:
        """Forget changes: what they made invalid is known from the document."""
        if numbers:
            with self._lock:
                self._waiting = {number: one for number, one in self._waiting.items() if number not in numbers}
