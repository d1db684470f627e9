"""What is in the cache: names, counts, invalidation by pattern or age.

Everything here reads the metadata of entries, never their bodies.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from genai_cache_magic.core.model import GIVEN_ID
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.stores.base import CheckReport, SupportsCheck, SupportsSize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.model import EntryId, Header, Metadata
    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.entries import Entries, Keys

_MIN_PREFIX = 6


@dataclass(frozen=True, slots=True)
class Listed:
    """One entry as a listing shows it."""

    entry_id: EntryId
    header: Header
    metadata: Metadata

    @property
    def name(self) -> str:
        """The key it was set under, else the model and the start of its id."""
        return self.metadata.key or f"{self.metadata.model}:{self.entry_id[:12]}"


@dataclass(frozen=True, slots=True)
class Stats:
    """What a namespace holds. `size_bytes` is the room taken on disk or in memory [bytes]."""

    entries: int
    size_bytes: int
    by_model: Mapping[str, int]
    oldest: datetime | None
    newest: datetime | None
    directory: str = ""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What an invalidation concerned: `count` of `known` entries, and how far the word has spread.

    `published` is ``local`` as long as there is no team tier.
    """

    count: int
    known: int
    published: str = "local"
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed: entries, and files that belonged to none."""

    entries: int
    orphan_files: int


class Catalogue:
    """Listings and bulk invalidation over the entries of one namespace."""

    def __init__(self, entries: Entries, keys: Keys, *, random_bytes: Callable[[int], bytes]) -> None:
        self._entries = entries
        self._keys = keys
        self._random_bytes = random_bytes

    def items(self) -> Iterator[Listed]:
        """Yield every valid entry, in no order."""
        for entry_id, header, metadata in self._entries.scan():
            if metadata.surface != GIVEN_ID:
                yield Listed(entry_id, header, metadata)

    def stats(self, directory: str) -> Stats:
        """Count what is there; reads the metadata of every entry."""
        listed = list(self.items())
        created = [datetime.fromtimestamp(item.header.created_ms / 1000, UTC) for item in listed]
        return Stats(
            entries=len(listed),
            size_bytes=_size_bytes(self._entries.store),
            by_model=dict(Counter(item.metadata.model or item.metadata.surface for item in listed).most_common()),
            oldest=min(created, default=None),
            newest=max(created, default=None),
            directory=directory,
        )

    def invalidate_tag(self, kind: TagKind, name: str, *, dry_run: bool) -> Invalidation:
        """Invalidate all entries that carry a tag, those on their way included: one small write."""
        tag = self._keys.tag(kind, name)
        return self._bulk(
            lambda item: tag in item.header.tags,
            lambda generations, _: generations.invalidating_tags([tag]),
            dry_run=dry_run,
        )

    def invalidate_matching(self, is_meant: Callable[[Listed], bool], *, dry_run: bool) -> Invalidation:
        """Invalidate the entries that `is_meant` picks, as one batch."""
        now_ms = self._entries.now_ms()
        return self._bulk(
            is_meant,
            lambda generations, ids: generations.invalidating_entries(ids, now_ms=now_ms) if ids else generations,
            dry_run=dry_run,
        )

    def invalidate_pattern(self, pattern: str, *, dry_run: bool) -> Invalidation:
        """Invalidate the entries whose name matches a shell pattern (``*``, ``?``, ``[...]``)."""
        return self.invalidate_matching(lambda item: fnmatchcase(item.name, pattern), dry_run=dry_run)

    def invalidate_entry(self, prefix: str, *, dry_run: bool) -> Invalidation:
        """Invalidate one entry, named by the start of its id.

        Raises
        ------
        ConfigurationError
            The prefix is too short, or fits several entries.
        """
        if len(prefix) < _MIN_PREFIX or prefix.strip("0123456789abcdef"):
            raise ConfigurationError(f"--entry {prefix}: give at least {_MIN_PREFIX} hex digits of the entry id")
        found = [item.entry_id for item in self.items() if item.entry_id.startswith(prefix)]
        if len(found) > 1:
            raise ConfigurationError(f"--entry {prefix} fits {len(found)} entries: give more digits")
        return self.invalidate_matching(lambda item: item.entry_id in found, dry_run=dry_run)

    def invalidate_older_than(self, age_s: float, *, dry_run: bool) -> Invalidation:
        """Invalidate the entries that were fetched more than `age_s` [s] ago."""
        limit_ms = self._entries.now_ms() - age_s * 1000
        return self.invalidate_matching(lambda item: item.header.created_ms < limit_ms, dry_run=dry_run)

    def clear(self, *, dry_run: bool) -> Invalidation:
        """Invalidate everything by a new root."""
        root = self._random_bytes(16)
        return self._bulk(lambda _: True, lambda generations, _: generations.cleared(root), dry_run=dry_run)

    def collect(self) -> Collected:
        """Remove what can't be served any more: expired, invalid, damaged, or left by killed writers."""
        store = self._entries.store
        keys = list(store.scan())  # first, so that what is stored meanwhile is not among them
        useful = {entry_id for entry_id, _, _ in self._entries.scan()}
        removed = sum(store.delete(key) for key in keys if key not in useful)
        report = _check(store)
        return Collected(removed + report.removed_rows, report.removed_files)

    def _bulk(
        self,
        is_meant: Callable[[Listed], bool],
        change: Callable[[Generations, list[EntryId]], Generations],
        *,
        dry_run: bool,
    ) -> Invalidation:
        known = 0
        ids = []
        for item in self.items():
            known += 1
            if is_meant(item):
                ids.append(item.entry_id)
        if not dry_run:
            self._entries.generations.change(lambda generations: change(generations, ids))
            # They are invalid already; removing them gives the room back.
            for entry_id in ids:
                self._entries.store.delete(entry_id)
        return Invalidation(len(ids), known, dry_run=dry_run)


def _check(store: object) -> CheckReport:
    nothing = CheckReport(removed_rows=0, removed_files=0, is_rebuilt=False)
    return store.check() if isinstance(store, SupportsCheck) else nothing


def _size_bytes(store: object) -> int:
    return store.size_bytes() if isinstance(store, SupportsSize) else 0
