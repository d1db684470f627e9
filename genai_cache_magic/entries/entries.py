"""The entries of one namespace: found, opened and judged in one step, or stored in one."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genai_cache_magic.core.key import keyed_tag
from genai_cache_magic.core.model import Entry, EntryId, Header, Metadata, Response, Stamp
from genai_cache_magic.core.policy import Decision, Fetch, Serve, Why, decide
from genai_cache_magic.entries.recent import Recent
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.events import Event, Tier, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.entries.codec import Codec, Sealed
    from genai_cache_magic.entries.generations import LiveGenerations
    from genai_cache_magic.stores.base import Store


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


class Entries:
    """Entries of one namespace over one store. Safe to share between threads."""

    def __init__(
        self,
        store: Store,
        codec: Codec,
        generations: LiveGenerations,
        *,
        recent_bytes: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.generations = generations
        self._codec = codec
        self._clock = clock
        self._recent: Recent[Found] = Recent(recent_bytes)

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

    def _judge(self, entry_id: EntryId, header: Header, ttl_s: int | None, scope_tags: Iterable[bytes]) -> Decision:
        valid = self.generations.current().is_valid(entry_id, header, scope_tags)
        return decide(header, is_valid=valid, now_ms=self.now_ms(), ttl_s=ttl_s)

    def _discard(self, entry_id: EntryId) -> None:
        with suppress(StoreUnavailable):
            self.store.delete(entry_id)

    def stamp(self) -> Stamp:
        """Return the birth stamp for an answer that is asked for now; raises ``StoreUnavailable``."""
        return self.generations.current().stamp

    def put(self, entry_id: EntryId, entry: Entry) -> None:
        """Store `entry` after proving that it comes back as it went in.

        Raises
        ------
        EntryUndecodable
            It doesn't; nothing is stored.
        StoreUnavailable
            The store can't take it; nothing half-written will be served.
        """
        blob = self._codec.encode(entry_id, entry)
        again = self._codec.open(entry_id, blob)
        if again.response() != entry.response or again.header != entry.header:
            raise EntryUndecodable("the answer does not survive being stored")
        self._recent.forget(entry_id)
        self.store.put(entry_id, blob, ttl_s=entry.header.ttl_s)

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
            self.generations.change(lambda g: g.invalidating_entries(ids, now_ms=self.now_ms()))
        return sum(self.store.delete(entry_id) for entry_id in ids)

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
