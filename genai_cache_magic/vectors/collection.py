"""The vectors of one vector cache, kept in step with its entries: what is new is added, what is gone is not found.

Entries are the truth, and the catalogue's rows say which there are. An index only proposes: who finds something reads
the entry, and that is judged as every entry is. So nothing is ever found that expired or was invalidated.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genai_cache_magic import host
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.vectors.index import FEW, Flat, Kept, made
from genai_cache_magic.vectors.saved import Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.vectors.measures import Measure
    from genai_cache_magic.vectors.saved import IndexFile

_BATCH = 500
_SHORTLY_S, _LATER_S, _GIVEN_UP_S = 5.0, 10.0, 600.0
"""A row is written before its entry: what can't be read is tried at each look-up first, then now and then [s]."""
_SAVE_AFTER = 2_000
"""After how many new vectors the file is written again, beside when the cache is closed."""


class Member(NamedTuple):
    """An entry of the vector cache, as the catalogue knows it: its row's number, which no two rows ever share."""

    n: int
    entry_id: EntryId


class Proposed(NamedTuple):
    """An entry that may be near, and how near at most, as far as the index knows."""

    entry_id: EntryId
    at_most: float


class _Awaited(NamedTuple):
    """A member whose entry could not be read: when it was seen first, and when to try again [s, monotonic]."""

    member: Member
    since: float
    due: float


class Collection:
    """The vectors of one vector cache in this process. Safe to share between threads.

    Parameters
    ----------
    members
        Returns the live entries whose rows have a number above the given one, in the order of these numbers.
    vectors
        Returns what is stored of entries, float32 and little-endian; leaves out what can't be served.
    has_graphs
        Whether many vectors can be searched by a graph: its library is there.
    file
        Where a graph is kept for the next process; None where nothing is.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        measure: Measure,
        dimension: int,
        *,
        members: Callable[[int], list[Member]],
        vectors: Callable[[Iterable[EntryId]], Mapping[EntryId, bytes]],
        has_graphs: bool,
        file: IndexFile | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.done = 0
        """How many vectors are in; grows while `settle` runs."""
        self.total = 0
        self._measure = measure
        self._dimension = dimension
        self._members = members
        self._vectors = vectors
        self._has_graphs = has_graphs
        self._file = file
        self._clock = clock
        self._lock = host.process_lock()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._index: Flat | Kept = Flat(self._measure, self._dimension)
        self._slots: list[Slot] = []
        self._slot_of: dict[EntryId, int] = {}
        self._awaited: dict[EntryId, _Awaited] = {}
        self._after = 0
        self._unsaved = 0
        self._is_begun = self._is_settled = False

    @property
    def is_settled(self) -> bool:
        """Whether what was stored when it was begun is in."""
        return self._is_settled

    def settle(self) -> None:
        """Add what is new since the last time; raises ``StoreUnavailable``."""
        with self._lock:
            if len(self._slots) > FEW and len(self._slots) > 2 * len(self._slot_of):
                self._begin_anew()  # more than half of what is searched is gone
            if not self._is_begun:
                self._begin()
            while members := self._members(self._after):
                self._note(members)
            self._look_again()
            self._is_settled = True

    def _begin(self) -> None:
        """Take the saved graph if it fits what is there, and find out how much is to be read."""
        there = self._all_members()
        self.total = len(there)
        self._is_begun = True
        if len(there) <= FEW or not self._has_graphs:
            return
        loaded = self._loaded()
        if loaded is None:
            self._index = made(self._measure, self._dimension)
            return
        slots, self._index = loaded
        live = dict(there)
        self._slots = slots
        self._slot_of = {slot.entry_id: place for place, slot in enumerate(slots) if live.get(slot.n) == slot.entry_id}
        self.done = len(self._slot_of)
        known = {slot.n for slot in slots}
        # What was noted before the file was written is in it; whatever is not, is read now.
        missing = [member for member in there if member.n not in known]
        for start in range(0, len(missing), _BATCH):
            self._note(missing[start : start + _BATCH])
        self._after = max((member.n for member in there), default=0)

    def _all_members(self) -> list[Member]:
        found: list[Member] = []
        while page := self._members(found[-1].n if found else 0):
            found += page
        return found

    def _loaded(self) -> tuple[list[Slot], Kept] | None:
        with suppress(EntryUndecodable, DecryptionError, StoreUnavailable):
            found = None if self._file is None else self._file.load()
            if found is not None:
                graph = made(self._measure, self._dimension, found[1])
                if len(graph) == len(found[0]):
                    return found[0], graph
        return None

    def _note(self, members: Sequence[Member]) -> None:
        """Add the vectors of these entries, unless they are in; the caller holds the lock."""
        found = self._vectors(member.entry_id for member in members)
        new: dict[EntryId, tuple[Slot, bytes]] = {}
        for member in members:
            vector = found.get(member.entry_id)
            if vector is None or len(vector) != 4 * self._dimension:
                now = self._clock()
                self._awaited.setdefault(member.entry_id, _Awaited(member, now, now))
                continue
            self._awaited.pop(member.entry_id, None)
            slot = Slot(member.n, member.entry_id, hashlib.blake2b(vector, digest_size=8).digest())
            place = self._slot_of.get(member.entry_id)
            if place is not None and self._slots[place].digest == slot.digest:
                self._slots[place] = self._slots[place]._replace(n=member.n)  # stored again, or brought from the team
            else:
                new[member.entry_id] = slot, vector
        if new:
            self._add(new)
        self._after = max(self._after, *(member.n for member in members))
        if self._unsaved >= _SAVE_AFTER:
            self.save()

    def _look_again(self) -> None:
        """Read what could not be read when its row was seen; the caller holds the lock."""
        if not self._awaited:
            return
        now = self._clock()
        again = [one for one in self._awaited.values() if one.due <= now][:_BATCH]
        for one in again:
            age_s = now - one.since
            if age_s > _GIVEN_UP_S:
                del self._awaited[one.member.entry_id]
            else:
                self._awaited[one.member.entry_id] = one._replace(due=now if age_s < _SHORTLY_S else now + _LATER_S)
        if again:
            self._note([one.member for one in again])

    def _add(self, new: Mapping[EntryId, tuple[Slot, bytes]]) -> None:
        joined = b"".join(vector for _, vector in new.values())
        rows = np.frombuffer(joined, "<f4").astype(np.float32, copy=False).reshape(len(new), self._dimension)
        if isinstance(self._index, Flat) and self._has_graphs and len(self._index) + len(new) > FEW:
            graph = made(self._measure, self._dimension)
            graph.add(self._index.vectors)
            self._index = graph
        self._index.add(self._measure.prepared(rows))
        for slot, _ in new.values():
            self._slot_of[slot.entry_id] = len(self._slots)
            self._slots.append(slot)
        self._unsaved += len(new)
        self.done = len(self._slot_of)
        self.total = max(self.total, self.done)

    def propose(self, vector: bytes, count: int) -> tuple[list[Proposed], bool]:
        """Return about `count` of the nearest entries, the nearest first, and whether these are all there are."""
        with self._lock:
            (query,) = self._measure.prepared(np.frombuffer(vector, "<f4").astype(np.float32).reshape(1, -1))
            gone = len(self._slots) - len(self._slot_of)
            # Those that are gone take up places of what was found; how many, nobody knows before.
            asked = min(len(self._slots), count + min(gone, count))
            places, at_most = self._index.search(query, asked)
            found = []
            for place, highest in zip(places.tolist(), at_most.tolist(), strict=True):
                entry_id = self._slots[place].entry_id
                if self._slot_of.get(entry_id) == place:
                    found.append(Proposed(entry_id, highest))
            return found, asked >= len(self._slots)

    def forget(self, entry_ids: Iterable[EntryId]) -> None:
        """Leave entries out from now on that turned out to be gone."""
        with self._lock:
            for entry_id in entry_ids:
                self._slot_of.pop(entry_id, None)

    def save(self) -> None:
        """Write the graph for the next process, if there is one and it has grown; trouble with that is left alone."""
        with self._lock:
            if self._file is None or not self._unsaved or isinstance(self._index, Flat):
                return
            self._unsaved = 0
            with suppress(StoreUnavailable):
                self._file.write(self._slots, self._index.save())
