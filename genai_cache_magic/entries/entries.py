"""The entries of one namespace: found, opened and judged in one step, or stored in one."""

from __future__ import annotations

import itertools
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from genai_cache_magic.core.key import keyed_owner, keyed_place, keyed_tag
from genai_cache_magic.core.model import Entry, EntryId, Header, Metadata, Response, Stamp
from genai_cache_magic.core.policy import Decision, Fetch, Filled, Serve, Why, decide, gives_way
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.filling import ANY, LookThenPut, Wanted
from genai_cache_magic.entries.reasons import reason
from genai_cache_magic.entries.recent import Recent
from genai_cache_magic.entries.rows import Gone, View
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.events import Event, Tier, Trouble
from genai_cache_magic.stores.base import Held, SupportsFill, SupportsSize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.validity import EntryRecord, Generations
    from genai_cache_magic.entries.codec import Codec, Sealed
    from genai_cache_magic.entries.filling import Shares
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.rows import Rows
    from genai_cache_magic.stores.base import Store

_ATTEMPTS = 20
"""How often a fill looks again after another process was faster."""

_LOOKED_AT = 200
"""How many records that have lived their time are looked at in one publication."""

_EXPLAINED = (Why.ABSENT, Why.EXPIRED, Why.INVALIDATED)


@dataclass(frozen=True, slots=True)
class Found:
    """A stored answer that may be served."""

    sealed: Sealed
    response: Response
    tier: Tier


@dataclass(frozen=True, slots=True)
class Keys:
    """What the ids and tags of a namespace are made with: its name, and two secrets of 32 bytes each."""

    namespace: str
    id_key: bytes
    mac_key: bytes

    def __repr__(self) -> str:
        """Show no secret."""
        return f"<Keys of {self.namespace!r}>"

    def tag(self, kind: TagKind, name: str) -> bytes:
        """Return the keyed tag for a `kind` (``user``, ``run``, ``cell``, ``model``, ``person``)."""
        return keyed_tag(kind, name, self.mac_key)

    def fingerprint(self, place: str) -> str:
        """Return 16 hex digits by which this namespace, in the store at `place`, is known; they tell of neither."""
        return keyed_place(self.namespace, place, self.mac_key).hex()

    def owner(self, digest: bytes) -> bytes:
        """Return what stands in the ledger for the names of a digest: bytes, shape (16,)."""
        return keyed_owner(digest, self.mac_key)


class Entries:
    """Entries of one namespace over one store. Safe to share between threads."""

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        store: Store,
        codec: Codec,
        generations: LiveGenerations,
        *,
        rows: Rows | None = None,
        recent_bytes: int = 0,
        clock: Callable[[], float] = time.time,
        team: Shares | None = None,
    ) -> None:
        self.store = store
        self.generations = generations
        self.has_unrecorded = False
        self._has_begun = False
        self._codec = codec
        self._rows = rows
        self._clock = clock
        self._team = team
        self._recent: Recent[Found] = Recent(recent_bytes)

    @property
    def _fills(self) -> SupportsFill:
        return self.store if isinstance(self.store, SupportsFill) else LookThenPut(self.store)

    def now_ms(self) -> int:
        """Return the wall clock [ms since the epoch]."""
        return int(self._clock() * 1000)

    def find(
        self,
        entry_id: EntryId,
        *,
        ttl_s: int | None,
        scope_tags: Iterable[bytes] = (),
        tell: Callable[[Event], None],
    ) -> Found | Fetch:
        """Look `entry_id` up and judge it. Never raises for what it finds: trouble is told, and is a miss."""
        try:
            blob = self.store.get(entry_id)
            if blob is None:
                return Fetch(Why.ABSENT)
            sealed = self._codec.open(entry_id, blob)
            decision = self._judge(entry_id, sealed.header, ttl_s, scope_tags)
            if isinstance(decision, Serve):
                return Found(sealed, sealed.response(), Tier.L1)
        except StoreUnavailable as exc:
            tell(trouble("L1", exc))
            return Fetch(Why.ABSENT)
        except DecryptionError as exc:
            # Left where it is, as evidence; the next fill takes its place.
            tell(trouble("L1", exc))
            return Fetch(Why.DAMAGED)
        except EntryUndecodable as exc:
            tell(trouble("L1", exc))
            self._discard(entry_id)
            return Fetch(Why.DAMAGED)
        return decision

    def find_call(
        self,
        entry_id: EntryId,
        *,
        ttl_s: int | None,
        scope_tags: Iterable[bytes] = (),
        tell: Callable[[Event], None],
    ) -> Found | Fetch:
        """As `find`, from this process's memory if the answer was opened a moment ago.

        Only for model calls: their every overwriting is published, that of a plain value is not.
        """
        known = self._recent.get(entry_id)
        if known is not None:
            with suppress(StoreUnavailable):
                if isinstance(self._judge(entry_id, known.sealed.header, ttl_s, scope_tags), Serve):
                    return known
            self._recent.forget(entry_id)
        found = self.find(entry_id, ttl_s=ttl_s, scope_tags=scope_tags, tell=tell)
        if isinstance(found, Found):
            self._recent.keep(entry_id, found)
            return found
        return self._in_words(entry_id, found, ttl_s, scope_tags)

    def _in_words(self, entry_id: EntryId, found: Fetch, ttl_s: int | None, scope_tags: Iterable[bytes]) -> Fetch:
        """Return `found` with what the catalogue knows of it: that an entry which is gone had expired, or by what."""
        if self._rows is None or found.why not in _EXPLAINED:
            return found
        with suppress(StoreUnavailable):
            row = self._rows.find(entry_id)
            if row is not None:
                view = View(self.generations.current(), self.now_ms())
                known = reason(row, view, ttl_s=ttl_s, scope_tags=scope_tags, name=self._rows.name)
                return known or found
        return found

    def _judge(self, entry_id: EntryId, header: Header, ttl_s: int | None, scope_tags: Iterable[bytes]) -> Decision:
        valid = self.generations.current().is_valid(entry_id, header, scope_tags)
        return decide(header, is_valid=valid, now_ms=self.now_ms(), ttl_s=ttl_s)

    def _discard(self, entry_id: EntryId) -> None:
        with suppress(StoreUnavailable):
            self.store.delete(entry_id)
            self._mark_gone([entry_id], Gone.VANISHED)

    def stamp(self) -> Stamp:
        """Return the birth stamp for an answer that is asked for now; raises ``StoreUnavailable``."""
        return self.generations.published().stamp

    def fill(self, entry_id: EntryId, entry: Entry, wanted: Wanted = ANY) -> Filled:
        """Store `entry` unless it is outdated, or one is there that its caller could be served.

        What is there is judged and replaced in one step, for all who share the store.

        Raises
        ------
        EntryUndecodable
            It would not come back as it went in; nothing is stored.
        StoreUnavailable
            The store can't take it; nothing half-written will be served.
        """
        blob = self._encoded(entry_id, entry)
        filled = self._place(entry_id, blob, entry, wanted)
        if filled is Filled.STORED and self._team is not None:
            self._team.keep(entry_id, blob)
        return filled

    def fill_envelope(self, entry_id: EntryId, envelope: bytes, *, longest_ms: int) -> Filled:
        """Store what was stored in another tier, as `fill`; what is older than `longest_ms` [ms] is outdated.

        Raises
        ------
        EntryUndecodable, StoreUnavailable
            As `fill`.
        """
        try:
            sealed = self._codec.open(entry_id, envelope)
            if self.now_ms() - sealed.header.created_ms > longest_ms:
                return Filled.OUTDATED
            return self._place(entry_id, envelope, sealed, ANY)
        except DecryptionError as exc:
            raise EntryUndecodable("it was sealed by another key") from exc

    def take_in(
        self,
        entry_id: EntryId,
        envelope: bytes,
        *,
        ttl_s: int | None,
        scope_tags: Iterable[bytes] = (),
        tell: Callable[[Event], None],
    ) -> Found | Fetch:
        """Judge what a look-up in L2 brought, and store it here too if it may be served. Never raises for it."""
        try:
            sealed = self._codec.open(entry_id, envelope)
            decision = self._judge(entry_id, sealed.header, ttl_s, scope_tags)
            if not isinstance(decision, Serve):
                return decision
            found = Found(sealed, sealed.response(), Tier.L2)
        except StoreUnavailable as exc:
            tell(trouble("L1", exc))
            return Fetch(Why.ABSENT)
        except (DecryptionError, EntryUndecodable) as exc:
            # Left where it is: a newer version of ours may have written it, and others can read it.
            tell(trouble("L2", exc))
            return Fetch(Why.DAMAGED)
        try:
            self._place(entry_id, envelope, sealed, ANY)
        except StoreUnavailable as exc:
            tell(trouble("L1", exc))
        return found

    def _place(self, entry_id: EntryId, blob: bytes, placed: Entry | Sealed, wanted: Wanted) -> Filled:
        header = placed.header
        for attempt in range(_ATTEMPTS):
            if not self.generations.current().is_valid(entry_id, header):
                return Filled.OUTDATED
            held = self._fills.held(entry_id)
            if held is not None and not self._gives_way(entry_id, held, header, wanted):
                if attempt:
                    self.record_again(entry_id)  # the row that was written for ours
                return Filled.KEPT
            self._recent.forget(entry_id)
            if self._is_noted(entry_id):
                # What gives way goes before its row does: a kill in between would leave it under the row of another.
                if not self._remove(entry_id, held):
                    continue
                held = None
            # Before the entry: a kill in between leaves a row too many, which is found by counting.
            self._record(entry_id, header, placed.metadata if isinstance(placed, Entry) else placed.metadata())
            if self._fills.put_if(entry_id, blob, ttl_s=self._remaining_s(header), held=held):
                return Filled.STORED
        return Filled.KEPT

    def _is_noted(self, entry_id: EntryId) -> bool:
        """Return whether the catalogue says that there is something, be it expired or damaged."""
        with suppress(StoreUnavailable):
            row = None if self._rows is None else self._rows.find(entry_id)
            return row is not None and row.gone <= Gone.HERE
        return False

    def _remaining_s(self, header: Header) -> float:
        """Return how long an entry may still live [s]: all its time if a clock says that it is not born yet."""
        return min(header.ttl_s, header.ttl_s - (self.now_ms() - header.created_ms) / 1000)

    def _record(self, entry_id: EntryId, header: Header, metadata: Metadata) -> None:
        if self._rows is not None:
            try:
                if not self._has_begun:
                    self._has_begun = True
                    self._begin_rows(self._rows)
                self._rows.record(entry_id, header, metadata)
            except StoreUnavailable:
                self.has_unrecorded = True  # the entry counts for more than its row, which is made up for later

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
            self._record(entry_id, sealed.header, sealed.metadata())
            return isinstance(self._judge(entry_id, sealed.header, None, ()), Serve)
        except (DecryptionError, EntryUndecodable):
            return False

    def remove_dead(self, entry_ids: Iterable[EntryId]) -> None:
        """Remove those of `entry_ids` that can't be served; what was stored meanwhile in their place stays."""
        for entry_id in entry_ids:
            held = self._fills.held(entry_id)
            with suppress(DecryptionError, EntryUndecodable):
                header = None if held is None else self._codec.open(entry_id, held.blob).header
                if header is None or not isinstance(self._judge(entry_id, header, None, ()), Serve):
                    self._remove(entry_id, held)

    def _remove(self, entry_id: EntryId, held: Held | None) -> bool:
        """Remove what was judged, or what has expired, unless something else has taken its place."""
        return self._fills.put_if(entry_id, b"", ttl_s=0, held=held)  # no time to live: nothing is left

    def _mark_gone(self, entry_ids: Iterable[EntryId], why: Gone) -> None:
        if self._rows is not None:
            with suppress(StoreUnavailable):
                rows = [row.n for entry_id in entry_ids if (row := self._rows.find(entry_id)) is not None]
                self._rows.mark_gone(rows, why)

    def overwrite(self, entries: Mapping[EntryId, Entry]) -> None:
        """Store `entries` in place of whatever is there; what that was is published as invalid, all at once.

        Their births are set here. Of two that overwrite the same entry, the one that published last stays.
        Raises as `fill`.
        """
        pending = dict(entries)
        for _ in range(_ATTEMPTS):
            there = [entry_id for entry_id in pending if self._fills.held(entry_id) is not None]
            for entry_id in there:
                self._encoded(entry_id, pending[entry_id])  # raises before anything is lost
            birth = self.publish(there) if there else self.stamp()
            for entry_id, entry in list(pending.items()):
                born = replace(entry, header=replace(entry.header, birth=birth))
                if self.fill(entry_id, born) is not Filled.KEPT:
                    del pending[entry_id]
            if not pending:
                return
        raise StoreUnavailable("an entry changes faster than it can be written: try again")

    def publish(self, entry_ids: Iterable[EntryId]) -> Stamp:
        """Publish that these entries are invalid, and return the birth stamp for what takes their place.

        Raises
        ------
        StoreUnavailable
            It could not be published; they are as valid as before.
        """
        ids, now_ms = list(entry_ids), self.now_ms()
        return self.change(
            lambda g: g.invalidating_entries(ids, now_ms=now_ms, outlived=self._outlived(g, now_ms)),
            Change(now_ms, entry_ids=frozenset(ids)),
        ).stamp

    def change(self, how: Callable[[Generations], Generations], change: Change) -> Generations:
        """Publish `how`, or queue it as `change` where a team can't be reached; return what is published then.

        Raises
        ------
        StoreUnavailable
            It could be neither.
        """
        if self._team is None:
            return self.generations.change(how)
        return self._team.invalidate(how, change) or self.generations.published()

    @property
    def reach(self) -> str:
        """How far an invalidation of this moment has spread: ``local``, ``queued`` or ``published``."""
        if self._team is None:
            return "local"
        return "queued" if self._team.is_behind else "published"

    def _encoded(self, entry_id: EntryId, entry: Entry) -> bytes:
        """Return the bytes to store, after proving that they come back as they went in."""
        blob = self._codec.encode(entry_id, entry)
        again = self._codec.open(entry_id, blob)
        if again.response() != entry.response or again.header != entry.header:
            raise EntryUndecodable("the answer does not survive being stored")
        return blob

    def _gives_way(self, entry_id: EntryId, held: Held, new: Header, wanted: Wanted) -> bool:
        try:
            sealed = self._codec.open(entry_id, held.blob)
            response = sealed.response()
        except (DecryptionError, EntryUndecodable):
            return True
        decision = self._judge(entry_id, sealed.header, wanted.ttl_s, wanted.scope_tags)
        is_served = isinstance(decision, Serve) and not wanted.is_unsuited(response)
        return gives_way(sealed.header, new, is_served=is_served)

    def _outlived(self, generations: Generations, now_ms: int) -> set[EntryId]:
        """Return the entries whose record is of no use any more; what was left of them is removed."""
        if self._team is not None:
            return set()  # what is left elsewhere is not known here
        due = itertools.islice(generations.due(now_ms=now_ms).items(), _LOOKED_AT)
        return {entry_id for entry_id, record in due if self._is_outlived(entry_id, record, generations)}

    def _is_outlived(self, entry_id: EntryId, record: EntryRecord, generations: Generations) -> bool:
        try:
            held = self._fills.held(entry_id)
            if held is not None:
                birth = self._codec.open(entry_id, held.blob).header.birth
                if birth.root == generations.root and birth.ver >= record.ver:
                    return True
            if not self._remove(entry_id, held):
                return False
            self._mark_gone([entry_id], Gone.INVALIDATED)
        except (DecryptionError, EntryUndecodable, StoreUnavailable):
            return False  # it is there and nothing can be said of it, so the record stays
        return True

    def close(self) -> None:
        """Give up the store's connections and what is in memory; may be called twice."""
        self._recent.clear()
        self.store.close()

    def header(self, birth: Stamp, *, ttl_s: int, tags: Iterable[bytes]) -> Header:
        """Return the header of an entry that is complete now."""
        return Header(birth, self.now_ms(), ttl_s, tuple(sorted(set(tags))))

    def delete(self, entry_ids: Iterable[EntryId]) -> int:
        """Publish that these entries are invalid, then remove them; return how many were there."""
        ids = list(entry_ids)
        if ids:
            self.publish(ids)
        count = sum(self.store.delete(entry_id) for entry_id in ids)
        self._mark_gone(ids, Gone.INVALIDATED)
        return count

    def scan(self) -> Iterator[tuple[EntryId, Header, Metadata]]:
        """Yield what listings show of every valid entry; what can't be opened is left out."""
        generations = self.generations.current()
        now_ms = self.now_ms()
        for key in self.store.scan():
            entry_id = EntryId(key)
            blob = self.store.get(key)
            if blob is None:
                continue
            try:
                sealed = self._codec.open(entry_id, blob)
                valid = generations.is_valid(entry_id, sealed.header)
                if isinstance(decide(sealed.header, is_valid=valid, now_ms=now_ms, ttl_s=None), Serve):
                    yield entry_id, sealed.header, sealed.metadata()
            except (DecryptionError, EntryUndecodable):
                continue


def trouble(where: str, error: Exception) -> Trouble:
    """Return the event that says what failed on our side."""
    return Trouble(where, type(error).__name__, str(error))
