"""What is in the cache: names, counts, invalidation by tag, pattern or age.

All of it is read from the catalogue's rows, never from entries. Rows are made anew from the entries where there are
none: a cache of an earlier version, a state file that was removed.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from genai_cache_magic.core.policy import Fetch, Why
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.listing.comparing import Comparison
from genai_cache_magic.entries.listing.holdings import Holding, Stock, holdings, stock
from genai_cache_magic.entries.listing.names import fits
from genai_cache_magic.entries.listing.questions import Questions
from genai_cache_magic.entries.listing.results import Collected, Invalidation, Listed, Listing, Stats
from genai_cache_magic.entries.listing.sweeper import Sweeper
from genai_cache_magic.entries.reasons import absence, reason
from genai_cache_magic.entries.rows import Gone, View
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.base import (
    CheckReport,
    SupportsCheck,
    SupportsErase,
    SupportsLog,
    SupportsSize,
    SupportsSizes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.model import EntryId, Metadata
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.entries.listing.shared_rows import SharedRows
    from genai_cache_magic.entries.rows import Rows
    from genai_cache_magic.events import Event

_MIN_PREFIX = 6
_LISTED = (Gone.HERE, Gone.ELSEWHERE)


class Catalogue:
    """Listings and bulk invalidation over the entries of one namespace.

    What is invalidated is published first and counted after; the room that it takes is given back behind.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        entries: Entries,
        rows: Rows,
        keys: Keys,
        *,
        random_bytes: Callable[[int], bytes],
        tell: Callable[[Event], None] = lambda _: None,
        shared: SharedRows | None = None,
    ) -> None:
        self.rows = rows
        self._shared = shared
        self._entries = entries
        self._questions = Questions(rows, tag=keys.tag)
        self._keys = keys
        self._random_bytes = random_bytes
        self._tell = tell
        self.sweeper = Sweeper(entries, rows, self._questions)
        self._comparison = Comparison(entries, rows, start_sweeper=self.sweeper.start)

    # Listing

    def items(self) -> Iterator[Listed]:
        """Yield every valid entry, in the order in which they were stored."""
        self._settle()
        for row, metadata in self._questions.live(self._view()):
            yield Listed(row.entry_id, row.header, metadata)

    def stats(self, directory: str) -> Stats:
        """Count what is there."""
        self._settle()
        labels = self._questions.by_label(self._view())
        labels.sort(key=lambda label: -label[1])
        return Stats(
            entries=sum(count for _, count, _, _ in labels),
            size_bytes=_size_bytes(self._entries.store),
            by_model={label: count for label, count, _, _ in labels},
            oldest=min((_time(first) for _, _, first, _ in labels), default=None),
            newest=max((_time(last) for _, _, _, last in labels), default=None),
            directory=directory,
            synced=None if self._shared is None else self._shared.synced,
            log_bytes=_log_bytes(self._entries.store),
        )

    def sizes(self) -> dict[str, int]:
        """Return the room that entries take here, by id [bytes]; nothing where the store doesn't tell."""
        store = self._entries.store
        return store.sizes() if isinstance(store, SupportsSizes) else {}

    def holdings(self) -> tuple[Holding, ...]:
        """Return how many entries there are of each model, tag and run, and the room that they take, largest first."""
        self._settle()
        return holdings(self.rows, *self._questions.holdings(self._view()), self.sizes())

    def stock(self, sizes: Mapping[str, int], limits: Mapping[tuple[str, str], int]) -> Stock:
        """Return what is known of entries that take `sizes` [bytes] in some tier, and of what has limits."""
        self._settle()
        view = self._view()
        return stock(self.rows, *self._questions.holdings(view), sizes, limits, now_ms=view.now_ms)

    def keys(self, pattern: str) -> list[str]:
        """Return the keys of values that match a shell pattern, sorted."""
        self._settle()
        return sorted(key for _, key in self._questions.names(self._view(), only_keys=True) if fits(key, pattern))

    def settle(self) -> None:
        """See to it that rows are there for all entries, those of the team included; raises ``StoreUnavailable``."""
        self._settle()

    def carrying(self, kind: TagKind, name: str, *, after: int = 0, limit: int = 1_000) -> list[tuple[int, EntryId]]:
        """Return entries with a tag whose rows have a number above `after`, in its order, as rows say just now.

        A number is never given twice: who remembers the last one sees what came since. To be judged when it is read.
        """
        return self._questions.carrying(self._view(), self._keys.tag(kind, name), after=after, limit=limit)

    def all_carrying(self, kind: TagKind, name: str) -> tuple[list[int], list[bytes]]:
        """Return what `carrying` does of all entries: the numbers of their rows, and their ids, 32 bytes each."""
        return self._questions.all_carrying(self._view(), self._keys.tag(kind, name))

    def count(self, kind: TagKind, name: str) -> int:
        """Return how many valid entries carry a tag."""
        self._settle()
        return self._questions.count_carrying(self._view(), self._keys.tag(kind, name))[0]

    def newest(self, pattern: str, limit: int) -> tuple[int, list[Listed]]:
        """Return how many entries have a name that matches a shell pattern, and the newest `limit` of them."""
        self._settle()
        found = [entry_id for entry_id, name in self._questions.names(self._view()) if fits(name, pattern)]
        return len(found), self._listed(found[:limit])

    def page(self, listing: Listing, *, offset: int, limit: int) -> tuple[int, list[Listed]]:
        """Return how many entries are of `listing`, and those of one page of them, the newest first."""
        self._settle()
        view = self._view()
        text = listing.text.casefold()
        carrying = [self._questions.ids(view, tags=[self._keys.tag(kind, name)]) for kind, name in listing.tags]
        found = [
            entry_id
            for entry_id, name in self._questions.names(view)
            if text in name.casefold() and all(entry_id in ids for ids in carrying)
        ]
        return len(found), self._listed(found[offset : offset + limit])

    def _listed(self, entry_ids: Iterable[EntryId]) -> list[Listed]:
        """Return what is listed of entries, without those that went meanwhile."""
        return [listed for entry_id in entry_ids if (listed := self.listed(entry_id)) is not None]

    def listed(self, entry_id: EntryId) -> Listed | None:
        """Return what is listed of one entry, None if it is not there."""
        row, metadata = self.rows.find(entry_id), self.rows.metadata(entry_id)
        if row is None or metadata is None:
            return None
        return Listed(entry_id, row.header, metadata, is_here=row.gone is not Gone.ELSEWHERE)

    def resolved(self, prefixes: Collection[str]) -> dict[str, EntryId]:
        """Return the valid entries whose ids start so; prefixes of none, or of several, are left out.

        Raises
        ------
        ConfigurationError
            A prefix is too short, or no start of an id.
        """
        for prefix in prefixes:
            _check_prefix(prefix)
        self._settle()
        view = self._view()
        found = {prefix: self._questions.starting_with(view, prefix[:64]) for prefix in prefixes}
        return {prefix: ids[0] for prefix, ids in found.items() if len(ids) == 1}

    def tags(self) -> dict[TagKind, dict[str, int]]:
        """Return of each tag, run, cell, person and model how many valid entries carry it, the most frequent first."""
        self._settle()
        counts: dict[TagKind, dict[str, int]] = {}
        for tag, count in sorted(self._questions.by_tag(self._view()), key=lambda found: -found[1]):
            name = self.rows.name(tag)
            if name is not None:
                counts.setdefault(name.kind, {})[name.name] = count
        return counts

    def known(self, entry_id: EntryId) -> Metadata | None:
        """Return what is known of an entry, without opening it."""
        return self.rows.metadata(entry_id)

    def nearest(self, own: Metadata, *, beside: EntryId | None = None) -> Metadata | None:
        """Return what is known of the valid entry whose request is nearest to `own`, other than `beside`."""
        found = self._questions.nearest(self._view(), own, beside=beside)
        return None if found is None else found[1]

    def nearest_entry(self, own: Metadata, *, beside: EntryId) -> Listed | None:
        """Return, as `nearest`, the entry itself, of those that were there before `beside`."""
        row = self.rows.find(beside)
        found = self._questions.nearest(self._view(), own, beside=beside, before=None if row is None else row.n)
        return None if found is None else Listed(found[0].entry_id, found[0].header, found[1])

    def traces(self, prefix: str) -> list[EntryId]:
        """Return the entries whose ids start so, those too that are not there any more; raises as `resolved`."""
        _check_prefix(prefix)
        self._settle()
        return self._questions.traces(prefix[:64])

    def why_gone(self, entry_id: EntryId) -> Fetch | None:
        """Return why an entry can't be served to who asks for nothing special; None if it can."""
        row = self.rows.find(entry_id)
        if row is None:
            return Fetch(Why.ABSENT)
        view = self._view()
        known = reason(row, view, ttl_s=None, scope_tags=(), name=self.rows.name)
        if known is not None or row.gone is Gone.ELSEWHERE:
            return known
        is_there = row.gone <= Gone.HERE and self._entries.store.get(entry_id) is not None
        return None if is_there else absence(row, now_ms=view.now_ms)

    # Invalidating

    def invalidate_tag(self, kind: TagKind, name: str, *, dry_run: bool) -> Invalidation:
        """Invalidate all entries that carry a tag, those on their way included: one small write.

        What is counted under a model is invalidated with its tag, whether it carries that or not.
        """
        tag = self._keys.tag(kind, name)
        with self.sweeper.held_off():
            view = self._view()
            if not dry_run:
                self._publish(Change(self._entries.now_ms(), tags=frozenset({tag})))
                with suppress(StoreUnavailable):
                    self.rows.remember_name(kind, name)
            self._settle(is_question=dry_run)
            carrying, alive = self._questions.count_carrying(view, tag)
            untagged = self._questions.untagged(view, tag) if kind == "model" else set()
            if untagged and not dry_run:
                self._entries.publish(untagged)
        count = alive if self._is_all(untagged, view) else carrying + len(untagged)
        return self._done(Invalidation(count, alive, dry_run=dry_run))

    def invalidate_cell(self, cell: str, used: Collection[EntryId], *, dry_run: bool) -> Invalidation:
        """Invalidate what a cell stored or has on its way, and the entries that it `used`, whoever stored them."""
        tag = self._keys.tag("cell", cell)
        with self.sweeper.held_off():
            view = self._view()
            if not dry_run:
                self._publish(Change(self._entries.now_ms(), frozenset({tag}), frozenset(used)))
            self._settle(is_question=dry_run)
            concerned = self._questions.ids(view, tags=[tag])
            rows = filter(None, map(self.rows.find, used))
            concerned.update(r.entry_id for r in rows if r.gone in _LISTED and view.is_live(r.entry_id, r.header))
            alive = self._questions.count(view)
        return self._done(Invalidation(len(concerned), alive, dry_run=dry_run))

    def invalidate_pattern(self, pattern: str, *, dry_run: bool) -> Invalidation:
        """Invalidate the entries whose name matches a shell pattern (``*``, ``?``, ``[...]``)."""
        self._settle()
        view = self._view()
        found = {entry_id for entry_id, name in self._questions.names(view) if fits(name, pattern)}
        return self._invalidate_entries(found, view, dry_run=dry_run)

    def invalidate_entry(self, prefix: str, *, dry_run: bool) -> Invalidation:
        """Invalidate one entry, named by the start of its id.

        Raises
        ------
        ConfigurationError
            The prefix is too short, or fits several entries.
        """
        _check_prefix(prefix)
        self._settle()
        view = self._view()
        found = self._questions.starting_with(view, prefix[:64])
        if len(found) > 1:
            raise ConfigurationError(f"--entry {prefix} fits {len(found)} entries: give more digits")
        return self._invalidate_entries(set(found), view, dry_run=dry_run)

    def invalidate_ids(self, found: Collection[EntryId], *, dry_run: bool) -> Invalidation:
        """Invalidate the given entries."""
        self._settle()
        return self._invalidate_entries(set(found), self._view(), dry_run=dry_run)

    def invalidate_older_than(self, age_s: float, *, dry_run: bool) -> Invalidation:
        """Invalidate the entries that were fetched more than `age_s` [s] ago."""
        self._settle()
        view = self._view()
        found = self._questions.ids(view, before_ms=int(view.now_ms - age_s * 1000))
        return self._invalidate_entries(found, view, dry_run=dry_run)

    def clear(self, *, dry_run: bool) -> Invalidation:
        """Invalidate everything by a new root."""
        root = self._random_bytes(16)
        with self.sweeper.held_off():
            view = self._view()
            if not dry_run:
                self._publish_clear(Change(self._entries.now_ms(), new_root=root))
            self._settle(is_question=dry_run)
            count = self._questions.count(view)
        return self._done(Invalidation(count, count, dry_run=dry_run))

    def _invalidate_entries(self, found: set[EntryId], view: View, *, dry_run: bool) -> Invalidation:
        with self.sweeper.held_off():
            if found and not dry_run:
                self._entries.publish(found)
            alive = self._questions.count(view)
        count = alive if self._is_all(found, view) else len(found)
        return self._done(Invalidation(count, alive, dry_run=dry_run))

    @staticmethod
    def _is_all(found: set[EntryId], view: View) -> bool:
        """Tell whether everything older becomes invalid with these: beyond a number of records (`core/validity.py`)."""
        return view.generations.invalidating_entries(found, now_ms=view.now_ms).floor > view.generations.floor

    def _publish_clear(self, change: Change) -> None:
        try:
            self._publish(change)
        except StoreUnavailable:
            store = self._entries.store
            if not isinstance(store, SupportsErase):
                raise
            # All of it is to go: on a full disk that alone makes the room to say so.
            store.erase()
            self._publish(change)

    def _publish(self, change: Change) -> None:
        self._entries.change(change.apply, change)

    def _done(self, done: Invalidation) -> Invalidation:
        if done.dry_run:
            return done
        self.sweeper.start()
        return replace(done, published=self._entries.reach)

    # Keeping

    def collect(self) -> Collected:
        """Remove what can't be served any more: expired, invalid, damaged, or left by killed writers."""
        store = self._entries.store
        keys = list(store.scan())  # first, so that what is stored meanwhile is not among them
        useful = {entry_id: header.birth.ver for entry_id, header, _ in self._entries.scan()}
        removed = sum(store.delete(key) for key in keys if key not in useful)
        report = _check(store)
        with suppress(StoreUnavailable), self.sweeper.pause:
            self._comparison.compare()
            self.rows.forget_long_gone()
        lowest = min(useful.values(), default=None)
        return Collected(removed + report.removed_rows, report.removed_files, lowest)

    def close(self) -> None:
        """Stop giving room back; what is left of it is done by whoever invalidates or collects next."""
        self.sweeper.stop()
        if self._shared is not None:
            self._shared.close()

    def _view(self) -> View:
        return View(self._entries.generations.current(), self._entries.now_ms())

    def _settle(self, *, is_question: bool = True) -> None:
        """See to it that the rows say what the store holds, and that what is left of an earlier invalidation goes.

        Where it is a question, and nothing is invalidated, what the team has is looked for as well; who invalidates
        has the room given back when he has counted, not while he counts.
        """
        if is_question and self._shared is not None:
            self._shared.sync()
        self._entries.settle()
        if is_question and self.sweeper.is_due():
            self.sweeper.start()
        with self.sweeper.pause:
            added = self._comparison.settle()
        if added:
            answers = "1 answer" if added == 1 else f"{added:,} answers"
            self._tell(Trouble("catalogue", "CatalogueRebuilt", f"the catalogue was made anew from {answers}"))


def _check_prefix(prefix: str) -> None:
    if len(prefix) < _MIN_PREFIX or prefix.strip("0123456789abcdef"):
        raise ConfigurationError(f"--entry {prefix}: give at least {_MIN_PREFIX} hex digits of the entry id")


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _check(store: object) -> CheckReport:
    return store.check() if isinstance(store, SupportsCheck) else CheckReport(0, 0, is_rebuilt=False)


def _size_bytes(store: object) -> int:
    return store.size_bytes() if isinstance(store, SupportsSize) else 0


def _log_bytes(store: object) -> int:
    return store.log_bytes() if isinstance(store, SupportsLog) else 0
