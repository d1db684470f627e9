"""Generation tokens tell whether a stored answer is still valid (normative text: `spec/frame.md` §5).

A namespace has one *generation document*: a random `root`, a counter `ver`, and the `ver` at which a
tag or an entry was last invalidated. An entry carries the stamp ``(root, ver)`` that was current
*before* its origin was called. It is valid iff its root is the document's and its birth is not below
any invalidation that concerns it. So clearing (a new root) and invalidating are O(1), and an answer
that was on its way when it was invalidated is born invalid. No clock takes part.

Document, all integers unsigned and big-endian::

    0       4      magic "GCGD"
    4       1      major version, 1
    5       16     root
    21      8      ver
    29      8      floor: entries born below it are invalid
    37      4      number of tag records, n
    41      24 n   keyed tag (16 bytes), ver (8 bytes)
    ...     4      number of entry records, m
    ...     48 m   entry id (32 bytes), ver (8 bytes), time [ms since the epoch] (8 bytes)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from genai_cache_magic.core.model import EntryId, Header, Stamp
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

MAJOR = 1
UNPUBLISHED_VER = 1 << 62
"""The counter of what counts here before it is published: above all births."""
MAX_TAG_RECORDS = 1_000
MAX_ENTRY_RECORDS = 10_000
ENTRY_RECORD_LIFE_MS = 24 * 3600 * 1000
PRUNED = EntryId("f" * 64)
"""No entry's id: its record says up to which `ver` records of entries were dropped, and when that was last done."""

_MAGIC = b"GCGD"
_HEAD = struct.Struct(">4sB16sQQ")
_TAG = struct.Struct(">16sQ")
_ENTRY = struct.Struct(">32sQQ")


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """That one entry was invalidated: at which `ver`, and when [ms since the epoch]."""

    ver: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Generations:
    """A generation document. Methods return changed copies; the caller publishes them."""

    root: bytes
    ver: int = 0
    floor: int = 0
    tags: Mapping[bytes, int] = field(default_factory=dict)
    entries: Mapping[EntryId, EntryRecord] = field(default_factory=dict)

    @property
    def stamp(self) -> Stamp:
        """The birth stamp for an answer that is asked for now."""
        return Stamp(self.root, self.ver)

    @property
    def published(self) -> Stamp | None:
        """Which state of the document this is; None with what is still to be published, which has no number."""
        return None if self.ver >= UNPUBLISHED_VER else self.stamp

    def is_valid(self, entry_id: EntryId, header: Header, scope_tags: Iterable[bytes] = ()) -> bool:
        """Return whether an entry may be served to a caller whose scope names `scope_tags`."""
        birth = header.birth
        if birth.root != self.root or birth.ver < self.floor:
            return False
        record = self.entries.get(entry_id)
        if record is not None and birth.ver < record.ver:
            return False
        if not self.tags:
            return True
        return all(birth.ver >= self.tags.get(tag, 0) for tag in (*header.tags, *scope_tags))

    def invalidating_tags(self, tags: Iterable[bytes]) -> Generations:
        """Return the document in which all entries with any of `tags` are invalid."""
        ver = self.ver + 1
        records = {**self.tags, **dict.fromkeys(tags, ver)}
        floor = self.floor
        if len(records) > MAX_TAG_RECORDS:
            # At the cap everything older becomes invalid: more misses, never a stale hit.
            records, floor = {}, ver
        return replace(self, ver=ver, floor=floor, tags=records)

    def due(self, *, now_ms: int) -> dict[EntryId, EntryRecord]:
        """Return the records of entries that have lived their time."""
        return {i: r for i, r in self.entries.items() if r.at_ms <= now_ms - ENTRY_RECORD_LIFE_MS and i != PRUNED}

    def invalidating_entries(
        self, entry_ids: Iterable[EntryId], *, now_ms: int, outlived: Collection[EntryId] = ()
    ) -> Generations:
        """Return the document in which these entries are invalid until they are fetched again.

        `outlived` are those of `due` that nothing depends on any more: what they made invalid is gone. Only
        these records are dropped, or an answer that was refreshed away would be valid again; that of `PRUNED` says so,
        to whoever puts back what was copied before.
        """
        ver = self.ver + 1
        dropped = {i: r for i, r in self.due(now_ms=now_ms).items() if i in outlived}
        records = {**self._without(dropped, now_ms), **dict.fromkeys(entry_ids, EntryRecord(ver, now_ms))}
        floor = self.floor
        if len(records) > MAX_ENTRY_RECORDS:
            records, floor = {}, ver
        return replace(self, ver=ver, floor=floor, entries=records)

    def pruned(self, *, lowest: int, outlived: Mapping[EntryId, EntryRecord], now_ms: int) -> Generations:
        """Return the document without records that nothing depends on; itself if there are none.

        Parameters
        ----------
        lowest
            No valid entry is born below it. The floor rises to the highest record that is not above it, and all
            those at or below the floor go: whoever is born above it is born above them.
        outlived
            Records of `due` whose entries are gone from the shared tier. What other machines have of those is given
            up by them when they see that the record is gone; who never saw it learns that from the one of `PRUNED`.
        """
        recorded = [*self.tags.values(), *(record.ver for i, record in self.entries.items() if i != PRUNED)]
        floor = max((ver for ver in recorded if ver <= lowest), default=self.floor)
        floor = max(floor, self.floor)
        dropped = {i: r for i, r in outlived.items() if self.entries.get(i) == r and r.ver > floor and i != PRUNED}
        entries = {i: r for i, r in self.entries.items() if r.ver > floor and i not in dropped}
        tags = {tag: ver for tag, ver in self.tags.items() if ver > floor}
        if len(entries) + len(tags) == len(self.entries) + len(self.tags):
            return self
        if dropped:
            entries[PRUNED] = self._without(dropped, now_ms)[PRUNED]
        return replace(self, ver=self.ver + 1, floor=floor, tags=tags, entries=entries)

    def _without(self, dropped: Mapping[EntryId, EntryRecord], now_ms: int) -> dict[EntryId, EntryRecord]:
        """Return the records but for `dropped`, of which that of `PRUNED` tells."""
        kept = {i: r for i, r in self.entries.items() if i not in dropped}
        if dropped:
            before = kept.get(PRUNED)
            highest = max([*(record.ver for record in dropped.values()), before.ver if before else 0])
            kept[PRUNED] = EntryRecord(highest, now_ms)
        return kept

    def has_forgotten(self, earlier: Generations | None) -> bool:
        """Return whether records were dropped that who has seen `earlier` (None: nothing) last can't have seen."""
        pruned = self.entries.get(PRUNED)
        if pruned is None or (earlier is not None and earlier.root != self.root):
            return False  # under another root nothing is valid anyway
        return earlier is None or earlier.ver < pruned.ver

    @property
    def forgotten(self) -> int:
        """Up to which `ver` records of entries were dropped.

        Of a copy that nobody has watched since, and that was born below it, nobody can say whether it is valid.
        """
        pruned = self.entries.get(PRUNED)
        return 0 if pruned is None else pruned.ver

    def dropped_since(self, earlier: Generations) -> list[EntryId]:
        """Return the entries that `earlier` made invalid one by one and this one no longer does."""
        if earlier.root != self.root:
            return []
        return [i for i, r in earlier.entries.items() if i not in self.entries and r.ver > self.floor]

    def cleared(self, new_root: bytes) -> Generations:
        """Return a document in which nothing stored so far is valid; `ver` goes on rising.

        The floor rises too: a root that comes back, with a queue that was restored, revives nothing.
        """
        return Generations(new_root, self.ver + 1, self.ver + 1)

    def keeps(self, earlier: Generations) -> bool:
        """Return whether all that `earlier` made invalid is so here too, as in every document that grew out of it.

        If not, an older one was put back, and may have grown since beyond the counter of `earlier`.
        """
        if self.root != earlier.root:
            return self.floor >= earlier.ver  # who makes a root raises the floor with it
        # Who drops a record that has lived its time adds one of that moment.
        now_ms = max((record.at_ms for record in self.entries.values()), default=0)
        kept = {i: r.ver for i, r in self.entries.items()}
        return (
            self.floor >= earlier.floor
            and all(ver <= self.floor or ver <= self.tags.get(tag, 0) for tag, ver in earlier.tags.items())
            and all(
                record.ver <= self.floor
                or record.ver <= kept.get(entry_id, 0)
                or record.at_ms <= now_ms - ENTRY_RECORD_LIFE_MS
                for entry_id, record in earlier.entries.items()
            )
        )

    def encode(self) -> bytes:
        """Return the document as bytes; the caller adds a MAC."""
        parts = [_HEAD.pack(_MAGIC, MAJOR, self.root, self.ver, self.floor), len(self.tags).to_bytes(4)]
        parts += (_TAG.pack(tag, ver) for tag, ver in sorted(self.tags.items()))
        parts.append(len(self.entries).to_bytes(4))
        parts += (_ENTRY.pack(bytes.fromhex(i), r.ver, r.at_ms) for i, r in sorted(self.entries.items()))
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Change:
    """An invalidation that is still to be published: what it names, and when it was asked for [ms since the epoch]."""

    at_ms: int
    tags: frozenset[bytes] = field(default=frozenset(), repr=False)
    entry_ids: frozenset[EntryId] = field(default=frozenset(), repr=False)
    new_root: bytes = field(default=b"", repr=False)
    """Not empty: everything is invalid."""

    def apply(self, generations: Generations) -> Generations:
        """Return `generations` with this published.

        What was published may be so again, by who was killed before it could note that it was: a clearing that rules
        already changes nothing, and keeps what was invalidated since.
        """
        if self.new_root == generations.root:
            return generations
        if self.new_root:
            return generations.cleared(self.new_root)
        if self.tags:
            generations = generations.invalidating_tags(self.tags)
        if self.entry_ids:
            generations = generations.invalidating_entries(self.entry_ids, now_ms=self.at_ms)
        return generations

    def encode(self) -> bytes:
        """Return it as bytes: a document that holds it alone."""
        records = dict.fromkeys(self.entry_ids, EntryRecord(0, self.at_ms))
        return Generations(self.new_root or bytes(16), self.at_ms, 0, dict.fromkeys(self.tags, 0), records).encode()


def decode_change(blob: bytes) -> Change:
    """Read what `Change.encode` returned; raises ``EntryUndecodable``."""
    found = decode_generations(blob)
    root = found.root if any(found.root) else b""
    return Change(found.ver, frozenset(found.tags), frozenset(found.entries), root)


def decode_generations(blob: bytes) -> Generations:
    """Read a generation document whose MAC was verified.

    Raises
    ------
    EntryUndecodable
        It is not a document of this version.
    """
    try:
        magic, major, root, ver, floor = _HEAD.unpack_from(blob)
        at = _HEAD.size
        tags_end = at + 4 + _TAG.size * int.from_bytes(blob[at : at + 4])
        tags = dict(_TAG.iter_unpack(blob[at + 4 : tags_end]))
        entries_end = tags_end + 4 + _ENTRY.size * int.from_bytes(blob[tags_end : tags_end + 4])
        records = _ENTRY.iter_unpack(blob[tags_end + 4 : entries_end])
        entries = {EntryId(i.hex()): EntryRecord(v, at_ms) for i, v, at_ms in records}
    except struct.error as exc:
        raise EntryUndecodable("generation document is cut short") from exc
    if magic != _MAGIC or major != MAJOR or len(blob) != entries_end:
        raise EntryUndecodable("not a generation document of version 1")
    return Generations(root, ver, floor, tags, entries)
