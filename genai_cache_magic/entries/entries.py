"""The entries of one namespace: found, opened and judged in one step, or stored in one."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.model import Entry, EntryId, Header, Metadata, Response, Stamp
from genai_cache_magic.core.policy import Fetch, Filled, Serve, Why, decide
from genai_cache_magic.core.validity import Change
from genai_cache_magic.entries.behind import Behind, Brought
from genai_cache_magic.entries.filling import ANY, Wanted
from genai_cache_magic.entries.judging import Judge
from genai_cache_magic.entries.overwriting import Overwriting
from genai_cache_magic.entries.placing import Placed, Places
from genai_cache_magic.entries.reasons import absence, reason
from genai_cache_magic.entries.recent import Recent
from genai_cache_magic.entries.rows import Gone, View
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.events import Event, Tier, trouble
from genai_cache_magic.stores.base import SupportsDeleteMany, SupportsErase, SupportsGetMany

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.codec import Codec, Sealed
    from genai_cache_magic.entries.filling import Shares
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.entries.rows import Rows
    from genai_cache_magic.stores.base import Store

_EXPLAINED = (Why.ABSENT, Why.EXPIRED, Why.INVALIDATED)


@dataclass(slots=True)
class Found:
    """A stored answer that may be served; and what is told of each hit on it, once that was put together."""

    sealed: Sealed
    response: Response
    tier: Tier
    told: Any = field(default=None, init=False, repr=False, compare=False)


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
        trusts: Callable[[int], bool] | None = None,
    ) -> None:
        self.store = store
        self.generations = generations
        self._codec = codec
        self._rows = rows
        self._team = team
        self._recent: Recent[Found] = Recent(recent_bytes)
        self.judge = Judge(generations, clock, trusts)
        self.places = Places(store, codec, self.judge, rows=rows, forget=self._recent.forget)
        self._behind = Behind(self.places.place_brought, self._discard)
        self._overwriting = Overwriting(self, team)

    def now_ms(self) -> int:
        """Return the wall clock [ms since the epoch]."""
        return self.judge.now_ms()

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
            return self._judged(entry_id, self.store.get(entry_id), ttl_s, scope_tags, tell)
        except StoreUnavailable as exc:
            tell(trouble("L1", exc))
            return Fetch(Why.ABSENT)

    def life_s(self, entry_id: EntryId, envelope: bytes | None = None) -> int:
        """Return the time to live of `envelope`, or of what is stored, if it could be served now; else 0 [s]."""
        with suppress(StoreUnavailable, DecryptionError, EntryUndecodable):
            blob = envelope or self.store.get(entry_id)
            header = None if blob is None else self._codec.open(entry_id, blob).header
            if header is not None and isinstance(self.judge.decide(entry_id, header), Serve):
                return header.ttl_s
        return 0

    def find_many(
        self,
        entry_ids: Iterable[EntryId],
        *,
        ttl_s: int | None = None,
        scope_tags: Collection[bytes] = (),
        tell: Callable[[Event], None],
    ) -> dict[EntryId, Found | Fetch]:
        """Look many up, as `find` does, by one read of the store."""
        ids = list(dict.fromkeys(entry_ids))
        if len(ids) == 1 or not isinstance(self.store, SupportsGetMany):
            return {one: self.find(one, ttl_s=ttl_s, scope_tags=scope_tags, tell=tell) for one in ids}
        try:
            blobs = self.store.get_many(ids)
            return {one: self._judged(one, blobs.get(one), ttl_s, scope_tags, tell) for one in ids}
        except StoreUnavailable as exc:
            tell(trouble("L1", exc))
            return dict.fromkeys(ids, Fetch(Why.ABSENT))

    def _judged(
        self,
        entry_id: EntryId,
        blob: bytes | None,
        ttl_s: int | None,
        scope_tags: Iterable[bytes],
        tell: Callable[[Event], None],
    ) -> Found | Fetch:
        """Open and judge what the store holds; raises ``StoreUnavailable`` if nothing can be known to be valid."""
        if blob is None:
            return Fetch(Why.ABSENT)
        try:
            sealed = self._codec.open(entry_id, blob)
            decision = self.judge.decide(entry_id, sealed.header, ttl_s=ttl_s, scope_tags=scope_tags)
            return Found(sealed, sealed.response(), Tier.L1) if isinstance(decision, Serve) else decision
        except DecryptionError as exc:
            # Left where it is, as evidence; the next fill takes its place.
            tell(trouble("L1", exc))
        except EntryUndecodable as exc:
            tell(trouble("L1", exc))
            self._discard([entry_id])
        return Fetch(Why.DAMAGED)

    def find_call(
        self,
        entry_id: EntryId,
        *,
        ttl_s: int | None,
        scope_tags: Iterable[bytes] = (),
        tell: Callable[[Event], None],
        is_last: bool = True,
    ) -> Found | Fetch:
        """As `find`, from this process's memory if the answer was opened a moment ago.

        If a team is asked next (not `is_last`), a miss says less of why.
        Only for model calls: their every overwriting is published, that of a plain value is not.
        """
        if (known := self.known(entry_id, ttl_s, scope_tags)) is not None:
            return known
        found = self.find(entry_id, ttl_s=ttl_s, scope_tags=scope_tags, tell=tell)
        if isinstance(found, Found):
            self._recent.keep(entry_id, found)
            return found
        return self._in_words(entry_id, found, ttl_s, scope_tags) if is_last else found

    def known(self, entry_id: EntryId, ttl_s: int | None, scope_tags: Iterable[bytes]) -> Found | None:
        """Return what this process's memory has, if it may be served; else it is forgotten."""
        known = self._recent.get(entry_id)
        if known is not None:
            try:  # not `suppress`, which takes as long as all the rest of this
                if isinstance(self.judge.decide(entry_id, known.sealed.header, ttl_s, scope_tags), Serve):
                    return known
            except StoreUnavailable:
                pass  # looked for in the store, which says what is wrong
            self._recent.forget(entry_id)
        return None

    def _in_words(self, entry_id: EntryId, found: Fetch, ttl_s: int | None, scope_tags: Iterable[bytes]) -> Fetch:
        """Return `found` with what the catalogue knows of it: that an entry which is gone had expired, or by what."""
        if self._rows is None or found.why not in _EXPLAINED:
            return found
        with suppress(StoreUnavailable):
            row = self._rows.find(entry_id)
            if row is not None:
                view = View(self.generations.current(), self.now_ms())
                known = reason(row, view, ttl_s=ttl_s, scope_tags=scope_tags, name=self._rows.name)
                return known or (absence(row, now_ms=view.now_ms) if found.why is Why.ABSENT else found)
        return found

    def _discard(self, entry_ids: Iterable[EntryId]) -> None:
        with suppress(StoreUnavailable):
            for entry_id in entry_ids:
                self.store.delete(entry_id)
                self.places.mark_gone([entry_id], Gone.VANISHED)

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
        return self.fill_many({entry_id: entry}, wanted)[entry_id]

    def fill_many(self, entries: Mapping[EntryId, Entry], wanted: Wanted = ANY) -> dict[EntryId, Filled]:
        """Store many at once, each as `fill` does; nothing is stored if one of them would not come back."""
        placed = self.placed(entries)
        filled = self.places.place(placed, wanted)
        stored = {entry_id: placed[entry_id].envelope for entry_id, what in filled.items() if what is Filled.STORED}
        if stored and self._team is not None:
            self._team.keep(stored)
        return filled

    def placed(self, entries: Mapping[EntryId, Entry]) -> dict[EntryId, Placed]:
        """Return entries as they are stored; raises ``EntryUndecodable`` if one of them would not come back."""
        return {one: Placed(self.encoded(one, entry), entry.header, entry.metadata) for one, entry in entries.items()}

    def fill_envelopes(
        self, envelopes: Mapping[EntryId, bytes], *, longest_ms: int, look: Callable[[], object]
    ) -> dict[EntryId, Filled]:
        """Store what was stored in another tier, as `fill`; most are taken to be new here.

        `look` sees what is valid now, where what is there leaves that in doubt. What is older than `longest_ms` [ms],
        or can't be opened, is left out. Raises ``StoreUnavailable``.
        """
        placed = {}
        for entry_id, envelope in envelopes.items():
            with suppress(DecryptionError, EntryUndecodable):
                one = Placed.brought(Brought(self._codec.open(entry_id, envelope), envelope))
                if self.now_ms() - one.header.created_ms <= longest_ms:
                    placed[entry_id] = one
        return self.places.place(placed, ANY, are_new=True, look=look) if placed else {}

    def take_in(  # noqa: PLR0913 - as `find_call`, by name
        self,
        entry_id: EntryId,
        envelope: bytes,
        *,
        ttl_s: int | None,
        scope_tags: Iterable[bytes] = (),
        tell: Callable[[Event], None],
        is_call: bool = True,
    ) -> Found | Fetch:
        """Judge what a look-up in L2 brought, and store it here, soon, if it may be served. Never raises for it.

        A model call's (`is_call`) is in this process's memory then, as for `find_call`.
        """
        if (known := self.known(entry_id, ttl_s, scope_tags)) is not None:
            return known  # opened by another who asks the same
        try:
            sealed = self._codec.open(entry_id, envelope)
            decision = self.judge.decide(entry_id, sealed.header, ttl_s=ttl_s, scope_tags=scope_tags)
            if not isinstance(decision, Serve):
                return decision
            sealed.metadata()  # what a newer version describes otherwise it may mean otherwise
            found = Found(sealed, sealed.response(), Tier.L2)
        except StoreUnavailable as exc:
            tell(trouble("L1", exc))
            return Fetch(Why.ABSENT)
        except (DecryptionError, EntryUndecodable) as exc:
            # Left where it is: a newer version of ours may have written it, and others can read it.
            tell(trouble("L2", exc))
            return Fetch(Why.DAMAGED)
        self._behind.add({entry_id: Brought(sealed, envelope)}, tell)
        if is_call:
            self._recent.keep(entry_id, replace(found, tier=Tier.L1))
        return found

    def overwrite(self, entries: Mapping[EntryId, Entry], *, removed: Collection[EntryId] = ()) -> int:
        """Store `entries` in place of whatever is there, and remove others; see `Overwriting`."""
        return self._overwriting.overwrite(entries, removed)

    def publish(self, entry_ids: Iterable[EntryId]) -> Stamp:
        """Publish that these entries are invalid, and return the birth stamp for what takes their place.

        Raises
        ------
        StoreUnavailable
            It could not be published; they are as valid as before.
        """
        ids, now_ms = list(entry_ids), self.now_ms()

        def how(generations: Generations) -> Generations:
            # What is left elsewhere in a team is not known here.
            outlived = self.places.outlived(generations, now_ms) if self._team is None else set()
            return generations.invalidating_entries(ids, now_ms=now_ms, outlived=outlived)

        return self.change(how, Change(now_ms, entry_ids=frozenset(ids))).stamp

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

    def encoded(self, entry_id: EntryId, entry: Entry) -> bytes:
        """Return the bytes to store, after proving that they come back as they went in."""
        blob = self._codec.encode(entry_id, entry)
        again = self._codec.open(entry_id, blob)
        if again.response() != entry.response or again.header != entry.header:
            raise EntryUndecodable("the answer does not survive being stored")
        again.metadata()  # raises for what is too long to be read again, such as a model's name
        return blob

    def settle(self) -> None:
        """Store what look-ups have brought and is still to be stored here."""
        self._behind.finish()

    def forget(self, entry_ids: Iterable[EntryId]) -> None:
        """Remove those of `entry_ids` that can't be served now; raises ``StoreUnavailable``."""
        self._behind.drop()
        self._recent.clear()
        self.places.remove_dead(entry_ids)

    def forget_all(self) -> None:
        """Remove everything that is here; raises ``StoreUnavailable``."""
        self._behind.drop()
        self._recent.clear()
        if isinstance(self.store, SupportsErase):
            self.store.erase()
        else:
            for key in list(self.store.scan()):
                self.store.delete(key)

    def close(self) -> None:
        """Give up the store's connections and what is in memory; may be called twice."""
        self.settle()
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
        return self.drop(ids)

    def drop(self, ids: Collection[EntryId]) -> int:
        """Remove what was published as invalid; return how many were there."""
        if not ids:
            return 0
        if isinstance(self.store, SupportsDeleteMany):
            count = len(self.store.delete_many(ids))
        else:
            count = sum(map(self.store.delete, ids))
        self.places.mark_gone(ids, Gone.INVALIDATED)
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
