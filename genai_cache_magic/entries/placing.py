"""Where entries go into a store: in place of what is absent or of no use, never of what is valid, and with their rows.

Many go together: one look at what is there, one transaction of rows, one of values, however many they are.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.core.model import Entry, EntryId, Header, Metadata, Stamp
from genai_cache_magic.core.policy import Filled, Serve, gives_way
from genai_cache_magic.entries.filling import ANY, LookThenPut, Wanted, held_many, put_many
from genai_cache_magic.entries.heads import Heads
from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.stores.base import Held, Put, SupportsFill, SupportsHeads, SupportsSize

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from genai_cache_magic.core.validity import EntryRecord, Generations
    from genai_cache_magic.entries.behind import Brought
    from genai_cache_magic.entries.codec import Codec
    from genai_cache_magic.entries.judging import Judge
    from genai_cache_magic.entries.rows import Rows
    from genai_cache_magic.stores.base import Store

_ATTEMPTS = 20
"""How often a fill looks again after another process was faster."""

_LOOKED_AT = 200
"""How many records that have lived their time are looked at in one publication."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An entry as it is stored, and what its row in the catalogue is made of."""

    envelope: bytes = field(repr=False)
    header: Header
    metadata: Metadata = field(repr=False)

    @classmethod
    def brought(cls, one: Brought) -> Placed:
        """Return what is stored of an entry that came from another tier, as it came; raises ``EntryUndecodable``."""
        return cls(one.envelope, one.sealed.header, one.sealed.metadata())


@dataclass(frozen=True, slots=True)
class Audit:
    """What a look at stored entries found: the lowest birth of a valid one, how many were removed, and what stays.

    `unread` are those of which nothing can be said: not ours, of a newer version, or just replaced.
    """

    lowest: int | None
    removed: int
    unread: frozenset[EntryId] = field(default=frozenset(), repr=False)


class Places:
    """Puts the entries of one namespace into one store. Safe to share between threads.

    Parameters
    ----------
    rows
        The catalogue's, None where there is none.
    forget
        Called with the id of each entry that is about to be replaced.
    """

    def __init__(
        self, store: Store, codec: Codec, judge: Judge, *, rows: Rows | None, forget: Callable[[EntryId], None]
    ) -> None:
        self.has_unrecorded = False
        self.store = store
        # Once: to ask a class whether it has all that a protocol names takes longer than most of what it does then.
        self.fills: SupportsFill = store if isinstance(store, SupportsFill) else LookThenPut(store)
        """The store, as one that compares before it puts."""
        self._codec = codec
        self._judge = judge
        self._rows = rows
        self._forget = forget
        self._has_begun = False

    def opened(self, entry_id: EntryId, envelope: bytes) -> Placed:
        """Open an envelope from elsewhere; raises ``DecryptionError`` or ``EntryUndecodable`` if it is none of ours."""
        sealed = self._codec.open(entry_id, envelope)
        return Placed(envelope, sealed.header, sealed.metadata())

    def header(self, entry_id: EntryId, envelope: bytes) -> Header:
        """As `opened`, for when its header is all that counts: a newer version may describe it otherwise."""
        return self._codec.open(entry_id, envelope).header

    def headers(self, entry_ids: Collection[EntryId]) -> dict[EntryId, Header]:
        """Return the headers of what is there, as far as how it begins tells them; none where a store can't say that.

        Raises ``StoreUnavailable``.
        """
        heads = Heads(self.store, self._codec).opened(entry_ids) if isinstance(self.store, SupportsHeads) else {}
        return {one: header for one, (header, _) in heads.items()}

    def reborn(self, entry_id: EntryId, envelope: bytes, birth: Stamp) -> Placed:
        """Return what an envelope of ours holds as an entry that was born at `birth`; raises as `opened`.

        A clock may have been ahead when it was made: it is not younger than now.
        """
        sealed = self._codec.open(entry_id, envelope)
        created_ms = min(sealed.header.created_ms, self._judge.now_ms())
        entry = Entry(sealed.header, sealed.metadata(), sealed.response()).born(birth, now_ms=created_ms)
        return Placed(self._codec.encode(entry_id, entry), entry.header, entry.metadata)

    def missing_of_head(self, entry_id: EntryId, head: bytes) -> bool:
        """Open how an envelope begins, and return whether that takes more of it; raises as `opened`."""
        return isinstance(self._codec.open_head(entry_id, head), int)

    def place(
        self,
        entries: Mapping[EntryId, Placed],
        wanted: Wanted,
        *,
        are_new: bool = False,
        look: Callable[[], object] | None = None,
    ) -> dict[EntryId, Filled]:
        """Store each of `entries` unless it is outdated, or one is there that its caller could be served.

        `are_new` says that most are not there yet, as `wanted` may too: the first attempt does without a look. `look`
        sees what is valid now: it is called where something is there that may be valid by a later document than the
        one known here. Raises ``StoreUnavailable``; what was stored until then is whole.
        """
        filled = dict.fromkeys(entries, Filled.KEPT)
        pending = dict(entries)
        recorded: set[EntryId] = set()
        for attempt in range(_ATTEMPTS):
            held = {} if (are_new or wanted.is_new) and not attempt else held_many(self.fills, pending)
            if look is not None and self._is_any_beyond(held):
                look()
            generations = self._judge.generations.current()
            for entry_id, placed in list(pending.items()):
                if not generations.is_valid(entry_id, placed.header):
                    filled[entry_id] = Filled.OUTDATED
                    del pending[entry_id]
                elif entry_id in held and not self._gives_way(entry_id, held[entry_id], placed, wanted):
                    if entry_id in recorded:
                        self.record_again(entry_id)  # the row that was written for ours
                    del pending[entry_id]
            ready = self._made_room(pending, held, generations.published)
            recorded.update(ready if self._rows is not None else ())
            for entry_id in self._put(ready, held, generations.published):
                filled[entry_id] = Filled.STORED
                del pending[entry_id]
            if not pending:
                break
        return filled

    def place_brought(self, brought: Mapping[EntryId, Brought]) -> None:
        """Store what came from another tier, as `place`; of what can't be listed there is no copy."""
        placed = {}
        for entry_id, one in brought.items():
            with suppress(EntryUndecodable):
                placed[entry_id] = Placed.brought(one)
        self.place(placed, ANY)

    def not_invalid(self, entry_ids: Collection[EntryId]) -> list[EntryId]:
        """Return those under which something is that nobody has made invalid; raises ``StoreUnavailable``.

        What can't be opened is among them: a newer version of ours may have written it.
        """
        held = held_many(self.fills, entry_ids)
        generations = self._judge.generations.current()
        there = [EntryId(key) for key in held]
        if not (generations.floor or generations.tags or generations.entries):
            return there
        return [one for one in there if not self._is_invalid(one, held[one].blob, generations)]

    def _is_invalid(self, entry_id: EntryId, envelope: bytes, generations: Generations) -> bool:
        try:
            return not generations.is_valid(entry_id, self._codec.open(entry_id, envelope).header)
        except (DecryptionError, EntryUndecodable):
            return False

    def _is_any_beyond(self, held: Mapping[str, Held]) -> bool:
        """Return whether anything held was born above the document that is known here, under another root.

        Somebody may have cleared since. Under the same root what was born later stays in any case.
        """
        known = self._judge.generations.published() if held else None
        for key, one in held.items():
            with suppress(DecryptionError, EntryUndecodable):
                birth = self._codec.open(EntryId(key), one.blob).header.birth
                if known is not None and birth.root != known.root and birth.ver > known.ver:
                    return True
        return False

    def _made_room(
        self, pending: Mapping[EntryId, Placed], held: dict[str, Held], judged: Stamp | None
    ) -> dict[EntryId, Placed]:
        """Return what of `pending`, `judged` to be valid, can be put: it has its rows now, if there are rows.

        What has to give way, or has a row, be it expired or damaged, is removed first. It goes before its row does, and
        out of `held`: a kill in between would leave it under the row of another.
        """
        if self._rows is None:
            return dict(pending)
        giving_way: dict[EntryId, Held | None] = {one: held.pop(one) for one in pending if one in held}
        # Before the entries: a kill in between leaves rows too many, which are found by counting.
        noted = self._record({one: pending[one] for one in pending if one not in giving_way}, judged, are_new=True)
        giving_way.update(dict.fromkeys(noted))
        if not giving_way:
            return dict(pending)
        is_removed = dict(zip(giving_way, self.remove(giving_way), strict=True))
        self._record({one: pending[one] for one in giving_way if is_removed[one]}, judged)
        return {one: placed for one, placed in pending.items() if is_removed.get(one, True)}

    def _put(self, pending: Mapping[EntryId, Placed], held: Mapping[str, Held], judged: Stamp | None) -> list[EntryId]:
        """Put what is `pending`, and `judged` to be valid, in place of what is `held`; return what was put."""
        for entry_id in pending:
            self._forget(entry_id)
        puts = [
            Put(entry_id, placed.envelope, self._judge.remaining_s(placed.header), held.get(entry_id))
            for entry_id, placed in pending.items()
        ]
        put = [entry_id for entry_id, is_put in zip(pending, put_many(self.fills, puts), strict=True) if is_put]
        # While an entry was not there yet, another process may have taken its row for that of a killed writer.
        recorded = set(self._noted(put))
        self._record({one: pending[one] for one in put if one not in recorded}, judged)
        return put

    def _noted(self, entry_ids: Iterable[EntryId]) -> list[EntryId]:
        """Return those of which the catalogue says that there is something."""
        with suppress(StoreUnavailable):
            return [] if self._rows is None else self._rows.noted(entry_ids)
        return []

    def is_current(self, entry_id: EntryId, copy: bytes) -> bool:
        """Return whether a copy of unknown age may be served as if it came from the store itself.

        One that was born before records of invalidations were dropped may not: its own may have been among them.

        Raises
        ------
        DecryptionError, EntryUndecodable
            Nobody of this name space has made it for `entry_id`.
        StoreUnavailable
            Nothing can be known to be valid.
        """
        header = self._codec.open(entry_id, copy).header
        if header.birth.ver < self._judge.generations.current().forgotten:
            return False
        return isinstance(self._judge.decide(entry_id, header), Serve)

    def audit(self, entry_ids: Collection[EntryId]) -> Audit:
        """Look at what is stored under `entry_ids`; remove what is invalid, unless something took its place.

        What is valid by how it begins is not read any further.
        """
        headers = self.headers(entry_ids)
        generations = self._judge.generations.published()
        valid = {one: header for one, header in headers.items() if generations.is_valid(one, header)}
        births = [header.birth.ver for header in valid.values()]
        held = held_many(self.fills, [entry_id for entry_id in entry_ids if entry_id not in valid])
        unread, invalid = set(), {}
        for key, one in held.items():
            entry_id = EntryId(key)
            try:
                header = self._codec.open(entry_id, one.blob).header
            except (DecryptionError, EntryUndecodable):
                unread.add(entry_id)
                continue
            if generations.is_valid(entry_id, header):
                births.append(header.birth.ver)
            else:
                invalid[entry_id] = one
        are_removed = self.remove(invalid)
        unread |= {entry_id for entry_id, is_removed in zip(invalid, are_removed, strict=True) if not is_removed}
        return Audit(min(births, default=None), sum(are_removed), frozenset(unread))

    def remove_dead(self, entry_ids: Iterable[EntryId]) -> None:
        """Remove those of `entry_ids` that can't be served; what was stored meanwhile in their place stays."""
        ids = list(entry_ids)
        held = held_many(self.fills, ids)
        self.remove({entry_id: held.get(entry_id) for entry_id in ids if self._is_dead(entry_id, held.get(entry_id))})

    def _is_dead(self, entry_id: EntryId, held: Held | None) -> bool:
        try:
            header = None if held is None else self._codec.open(entry_id, held.blob).header
            return header is None or not isinstance(self._judge.decide(entry_id, header), Serve)
        except (DecryptionError, EntryUndecodable):
            return False

    def remove(self, judged: Mapping[EntryId, Held | None]) -> list[bool]:
        """Remove what was judged, or what has expired, unless something else has taken its place."""
        # With no time to live nothing is left.
        return put_many(self.fills, [Put(entry_id, b"", 0, held) for entry_id, held in judged.items()])

    def mark_gone(self, entry_ids: Iterable[EntryId], why: Gone) -> None:
        """Note in the catalogue that entries are not in the store any more."""
        if self._rows is not None:
            with suppress(StoreUnavailable):
                rows = [row.n for entry_id in entry_ids if (row := self._rows.find(entry_id)) is not None]
                self._rows.mark_gone(rows, why)

    def outlived(self, generations: Generations, now_ms: int) -> set[EntryId]:
        """Return the entries whose record is of no use any more; what was left of them is removed."""
        due = itertools.islice(generations.due(now_ms=now_ms).items(), _LOOKED_AT)
        return {entry_id for entry_id, record in due if self._is_outlived(entry_id, record, generations)}

    def _is_outlived(self, entry_id: EntryId, record: EntryRecord, generations: Generations) -> bool:
        try:
            held = self.fills.held(entry_id)
            if held is not None:
                birth = self._codec.open(entry_id, held.blob).header.birth
                if birth.root == generations.root and birth.ver >= record.ver:
                    return True
            if not all(self.remove({entry_id: held})):
                return False
            self.mark_gone([entry_id], Gone.INVALIDATED)
        except (DecryptionError, EntryUndecodable, StoreUnavailable):
            return False  # it is there and nothing can be said of it, so the record stays
        return True

    def _gives_way(self, entry_id: EntryId, held: Held, new: Placed, wanted: Wanted) -> bool:
        if held.blob == new.envelope:
            return False
        try:
            sealed = self._codec.open(entry_id, held.blob)
            response = sealed.response()
        except (DecryptionError, EntryUndecodable):
            return True
        decision = self._judge.decide(entry_id, sealed.header, ttl_s=wanted.ttl_s, scope_tags=wanted.scope_tags)
        is_served = isinstance(decision, Serve) and not wanted.is_unsuited(response)
        return gives_way(sealed.header, new.header, is_served=is_served)

    def _record(
        self, placed: Mapping[EntryId, Placed], judged: Stamp | None, *, are_new: bool = False
    ) -> Collection[EntryId]:
        """Note what is `placed`, and return what has a row already and keeps it, if the others `are_new`."""
        if self._rows is not None and placed:
            try:
                if not self._has_begun:
                    self._has_begun = True
                    self._begin_rows(self._rows)
                noted = [(entry_id, one.header, one.metadata) for entry_id, one in placed.items()]
                return self._rows.record(noted, judged=judged, are_new=are_new)
            except StoreUnavailable:
                self.has_unrecorded = True  # an entry counts for more than its row, which is made up for later
        return ()

    def _begin_rows(self, rows: Rows) -> None:
        """Beside an empty store the catalogue is complete from its first row on."""
        if isinstance(self.store, SupportsSize) and not rows.is_complete() and self.store.count() == 0:
            rows.set_complete()

    def record_again(self, key: str) -> bool:
        """Note in the catalogue what is stored under `key`, and return whether there is anything valid."""
        entry_id = EntryId(key)
        blob = self.store.get(key)
        try:
            sealed = None if blob is None else self._codec.open(entry_id, blob)
            if sealed is None:
                return False
            generations = self._judge.generations.current()
            is_valid = generations.is_valid(entry_id, sealed.header)
            placed = Placed(blob or b"", sealed.header, sealed.metadata())
            self._record({entry_id: placed}, generations.published if is_valid else None)
            return isinstance(self._judge.decide(entry_id, sealed.header), Serve)
        except (DecryptionError, EntryUndecodable):
            return False
