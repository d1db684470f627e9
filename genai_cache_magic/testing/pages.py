"""Pages in this process's memory: for tests, and the pattern for a service of one's own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.stores.base import Page
from genai_cache_magic.stores.keys import check_key, check_page

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence


class MemoryPages:
    """Pages in memory. A ``Pages``; safe to share between threads.

    Attributes
    ----------
    groups
        The pages by group and name, each with the time at which it ends [s].
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = host.process_lock()
        self._changes = 0  # guarded by _lock, like the next
        self.groups: dict[str, dict[str, tuple[Page, float]]] = {}

    def put(self, group: str, pages: Mapping[str, bytes], *, ttl_s: float) -> dict[str, str]:
        """Set pages of a group."""
        check_key(group)
        for name, blob in pages.items():
            check_page(name, blob)
        with self._lock:
            self._changes += 1
            revision = str(self._changes)
            known = self.groups.setdefault(group, {})
            known |= {name: (Page(blob, revision), self._clock() + ttl_s) for name, blob in pages.items()}
        return dict.fromkeys(pages, revision)

    def revisions(self, groups: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return what there is of each group."""
        return {group: {name: page.revision for name, page in self._there(group).items()} for group in groups}

    def read(self, group: str, names: Collection[str]) -> dict[str, Page]:
        """Return those of the pages that are there."""
        for name in names:
            check_key(name)
        there = self._there(group)
        return {name: there[name] for name in names if name in there}

    def remove(self, group: str, names: Collection[str]) -> None:
        """Remove pages."""
        check_key(group)
        for name in names:
            check_key(name)
        with self._lock:
            known = self.groups.get(group, {})
            for name in names:
                known.pop(name, None)

    def prune(self) -> int:
        """Remove what has expired."""
        with self._lock:
            before = sum(map(len, self.groups.values()))
            now = self._clock()
            for known in self.groups.values():
                for name in [name for name, (_, until) in known.items() if until <= now]:
                    del known[name]
            return before - sum(map(len, self.groups.values()))

    def _there(self, group: str) -> dict[str, Page]:
        check_key(group)
        with self._lock:
            now = self._clock()
            return {name: page for name, (page, until) in self.groups.get(group, {}).items() if until > now}
