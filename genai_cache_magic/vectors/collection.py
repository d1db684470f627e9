"""The vectors of one vector cache, kept in step with its entries: what is new is added, what is gone is not found.

Entries are the truth, and the catalogue's rows say which there are. An index only proposes: who finds something reads
the entry, and that is judged as every entry is. So nothing is ever found that expired or was invalidated.
"""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import compress
from operator import eq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from genai_cache_magic import host
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, StoreUnavailable
from genai_cache_magic.vectors.index import FEW, Flat, Kept, Signs, made
from genai_cache_magic.vectors.nodes import Nodes
from genai_cache_magic.vectors.saved import DIGEST_BYTES, Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from genai_cache_magic.vectors.measures import Measure
    from genai_cache_magic.vectors.saved import IndexFile

_BATCH = 500
_SHORTLY_S, _LATER_S, _GIVEN_UP_S = 5.0, 10.0, 600.0
"""A row is written before its entry: what can't be read is tried at each look-up first, then now and then [s]."""
_JUMP_S = 5.0
"""By so much the time of day went another way than the time that passed: a clock was set [s]."""
_SAVE_AFTER, _SAVE_SHARE = 2_000, 4
"""After how many new vectors, or one in how many of all, the file is written again, beside when the cache is closed.

It is written as a whole: after each two thousand, a million would be written five hundred times.
"""


class Member(NamedTuple):
    """An entry of the vector cache, as the catalogue knows it: its row's number, which no two rows ever share."""

    n: int
    entry_id: EntryId


class Members(NamedTuple):
    """All entries of the vector cache by column, in the order of their rows' numbers; ids as 32 bytes."""

    rows: list[int]
    ids: list[bytes]


class Seen(NamedTuple):
    """What is another one once there may be other members; `file` alone once their rows may be numbered anew."""

    file: object
    written: object


class Proposed(NamedTuple):
    """An entry that may be near, and how near at most, as far as the index knows; `n` is of the row it was read by."""

    entry_id: EntryId
    at_most: float
    n: int


class Proposals(NamedTuple):
    """The nearest entries, the nearest first.

    `are_all` says that there are no others; `is_clear` that the first is nearer than whatever else there is, or that
    nothing is as near as was asked for. `is_cut` says that more have the vector of the last one; what is less near is
    left out then.
    """

    found: list[Proposed]
    are_all: bool
    is_clear: bool = False
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Live:
    """What is there of some nodes; whether of one all is gone, and whether it ends within one."""

    found: list[Proposed] = field(repr=False)
    are_some_gone: bool
    is_cut: bool


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
    everything
        Returns all that are live.
    stamp
        Returns what was seen of them, in less time than they take to be asked for.
    vectors
        Returns what is stored of entries, float32 and little-endian; leaves out what can't be served.
    has_graphs
        Whether many vectors can be searched by a graph: its library is there.
    file
        Where a graph is kept for the next process; None where nothing is.
    on_unfit
        Told why what was kept is not used, and all is read anew.
    """

    def __init__(  # noqa: PLR0913 - its parts, by name
        self,
        measure: Measure,
        dimension: int,
        *,
        members: Callable[[int], list[Member]],
        everything: Callable[[], Members],
        stamp: Callable[[], Seen],
        vectors: Callable[[Iterable[EntryId]], Mapping[EntryId, bytes]],
        has_graphs: bool,
        file: IndexFile | None,
        on_unfit: Callable[[Exception], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.done = 0
        """How many vectors are in; grows while `settle` runs."""
        self.total = 0
        self._measure = measure
        self._dimension = dimension
        self._members = members
        self._everything = everything
        self._stamp = stamp
        self._vectors = vectors
        self._has_graphs = has_graphs
        self._file = file
        self._on_unfit = on_unfit
        self._clock = clock
        self._wall = wall
        self._drift_s = wall() - clock()
        self._lock = host.process_lock()
        self._file_seen: object = None
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._index: Flat | Kept = Flat(self._measure, self._dimension)
        self._slots = Slots()
        self._nodes = Nodes()  # of the index, which holds each vector once
        self._slot_of: dict[bytes, int] = {}
        self._forgotten: dict[bytes, int] = {}  # no more of them than slots
        self._awaited: dict[EntryId, _Awaited] = {}
        self._after = 0
        self._unsaved = 0
        self._settled_at: object = None
        self._is_begun = self._is_settled = False

    @property
    def is_settled(self) -> bool:
        """Whether what was stored when it was begun is in."""
        return self._is_settled

    def settle(self) -> None:
        """Add what is new since the last time; raises ``StoreUnavailable``."""
        with self._lock:
            stamp = self._stamp()  # before they are asked for: what comes meanwhile is asked for again
            if stamp.file != self._file_seen:
                self._file_seen, self._after = stamp.file, 0
            self._recall()
            if self._is_mostly_gone():
                self._begin_anew()
            if not self._is_begun:
                self._begin()
            if stamp != self._settled_at:
                while members := self._members(self._after):
                    self._note(members)
                self._settled_at = stamp
            self._look_again()
            self._is_settled = True

    def _recall(self) -> None:
        """Propose again what was forgotten, once a clock was set: what had expired may be valid."""
        drift_s = self._wall() - self._clock()
        if abs(drift_s - self._drift_s) > _JUMP_S:
            self._drift_s = drift_s
            self._slot_of = self._forgotten | self._slot_of
            self._forgotten = {}

    def _is_mostly_gone(self) -> bool:
        """Tell whether more than half of what is searched is no longer there."""
        return len(self._slots) > max(FEW, 2 * len(self._slot_of))

    def _begin(self) -> None:
        """Take the saved graph if it fits what is there, and find out how much is to be read."""
        there = self._everything()
        self.total = len(there.rows)
        self._is_begun = True
        if self.total <= FEW or not self._has_graphs:
            return
        loaded = self._loaded()
        if loaded is None:
            self._index = made(self._measure, self._dimension)
            return
        self._slots, self._nodes, self._index = loaded
        row_of = dict(zip(there.ids, there.rows, strict=True))
        are_live = map(eq, self._slots.rows, map(row_of.get, self._slots.ids))
        self._slot_of = dict(compress(zip(self._slots.ids, range(len(self._slots)), strict=True), are_live))
        if self._is_mostly_gone():  # what was kept is: all is read, and what is gone is left behind
            self._begin_anew()
            self._is_begun = True
            self._index = made(self._measure, self._dimension)
            return
        self.done = len(self._slot_of)
        # What was noted before the file was written is in it; whatever is not, is read now.
        unknown = sorted(row_of.keys() - self._slot_of.keys(), key=row_of.__getitem__)
        missing = [Member(row_of[raw], EntryId(raw.hex())) for raw in unknown]
        for start in range(0, len(missing), _BATCH):
            self._note(missing[start : start + _BATCH])
        self._after = max(there.rows, default=0)

    def _loaded(self) -> tuple[Slots, Nodes, Kept] | None:
        try:
            found = None if self._file is None else self._file.load()
            if found is None:
                return None
            graph = made(self._measure, self._dimension, found[1])
        except (EntryUndecodable, DecryptionError, StoreUnavailable) as exc:
            self._on_unfit(exc)
            return None
        nodes = Nodes(found[0].digests)
        if len(graph) != len(nodes):
            self._on_unfit(EntryUndecodable("its graph is one of other entries"))
            return None
        return found[0], nodes, graph

    def _note(self, members: Sequence[Member]) -> None:
        """Add the vectors of these entries, unless they are in; the caller holds the lock."""
        unknown = [member for member in members if not self._has(bytes.fromhex(member.entry_id), member.n)]
        found = self._vectors(member.entry_id for member in unknown) if unknown else {}
        new: dict[EntryId, tuple[int, bytes]] = {}
        for member in unknown:
            vector = found.get(member.entry_id)
            if vector is None or len(vector) != 4 * self._dimension:
                now = self._clock()
                self._awaited.setdefault(member.entry_id, _Awaited(member, now, now))
                continue
            self._awaited.pop(member.entry_id, None)
            place = self._slot_of.get(bytes.fromhex(member.entry_id))
            if place is not None and self._slots.digests[place] == _digest(vector):
                self._slots.rows[place] = member.n  # stored again, or brought from the team
            else:
                new[member.entry_id] = member.n, vector
        if new:
            self._add(new)
        self._after = max(self._after, *(member.n for member in members))
        if self._unsaved >= max(_SAVE_AFTER, len(self._slots) // _SAVE_SHARE):
            self.save()

    def _has(self, raw: bytes, n: int) -> bool:
        """Tell whether an entry is in as its row with this number said."""
        place = self._slot_of.get(raw)
        return place is not None and self._slots.rows[place] == n

    def _look_again(self) -> None:
        """Read what could not be read when its row was seen; the caller holds the lock."""
        if not self._awaited:
            return
        now = self._clock()
        again = [one for one in self._awaited.values() if one.due <= now][:_BATCH]
        for one in again:
            age_s = now - one.since
            self._awaited[one.member.entry_id] = one._replace(due=now if age_s < _SHORTLY_S else now + _LATER_S)
        if again:
            self._note([one.member for one in again])
        for one in again:  # after the last attempt: whatever is noted there without a vector is awaited
            if now - one.since > _GIVEN_UP_S:
                self._awaited.pop(one.member.entry_id, None)

    def _add(self, new: Mapping[EntryId, tuple[int, bytes]]) -> None:
        digests = {entry_id: _digest(vector) for entry_id, (_, vector) in new.items()}
        fresh = {digests[entry_id]: vector for entry_id, (_, vector) in new.items()}
        vectors = [vector for digest, vector in fresh.items() if digest not in self._nodes]
        if vectors:
            self._add_vectors(vectors)
        for entry_id, (n, _) in new.items():
            raw = bytes.fromhex(entry_id)
            self._slot_of[raw] = len(self._slots)
            self._slots.add(n, raw, digests[entry_id])
            self._nodes.add(digests[entry_id])
        self._unsaved += len(new)
        self.done = len(self._slot_of)
        self.total = max(self.total, self.done)

    def _add_vectors(self, vectors: Sequence[bytes]) -> None:
        rows = np.frombuffer(b"".join(vectors), "<f4").astype(np.float32, copy=False)
        rows = rows.reshape(len(vectors), self._dimension)
        if isinstance(self._index, Flat) and self._has_graphs and len(self._index) + len(vectors) > FEW:
            graph = made(self._measure, self._dimension)
            graph.add(self._index.vectors)
            self._index = graph
        self._index.add(self._measure.prepared(rows))

    def propose(self, vector: bytes, count: int) -> Proposals:
        """Return about `count` of the nearest entries."""
        with self._lock:
            query = self._query(vector)
            gone = len(self._slots) - len(self._slot_of)
            # Those that are gone take up places of what was found; how many, nobody knows before.
            asked = min(len(self._nodes), count + min(gone, count))
            live = self._live(*self._index.search(query, asked), count)
            is_end = asked >= len(self._nodes) and not live.is_cut
            return Proposals(live.found, are_all=is_end, is_cut=live.is_cut)

    def propose_one(self, vector: bytes, count: int, least: float) -> Proposals | None:
        """Return what comes into question for the nearest entry that is `least` alike, if that is clear.

        If not, about `count` of the nearest. None if there is no telling: `propose` does.
        """
        with self._lock:
            index = self._index
            gone = len(self._slots) - len(self._slot_of)
            asked = count + min(gone, count)
            first = index.search_one(self._query(vector), least, asked) if isinstance(index, Signs) else None
            if first is None:
                return None
            live = self._live(first.slots, first.at_most, count)
            if first.is_clear and live.are_some_gone:
                return None  # and it says nothing of what comes after them
            return Proposals(live.found, are_all=False, is_clear=first.is_clear, is_cut=live.is_cut)

    def _query(self, vector: bytes) -> NDArray[np.float32]:
        """Return a vector as the index compares it, shape (dimension,)."""
        return self._measure.prepared(np.frombuffer(vector, "<f4").astype(np.float32, copy=False))

    def _live(self, nodes: NDArray[np.int64], at_most: NDArray[np.float64], most: int) -> _Live:
        """Return what is in the slots of these nodes, unless it is gone; of the first with more than `most` so many."""
        found: list[Proposed] = []
        are_some_gone = False
        ids, rows, first_slots, others = self._slots.ids, self._slots.rows, self._nodes.first_slots, self._nodes.others
        for node, highest in zip(nodes.tolist(), at_most.tolist(), strict=True):
            slots = [first_slots[node], *others[node]] if node in others else (first_slots[node],)
            live = [slot for slot in slots if self._slot_of.get(ids[slot]) == slot]
            found += [Proposed(EntryId(ids[slot].hex()), highest, rows[slot]) for slot in live[:most]]
            are_some_gone |= not live
            if len(live) > most:
                return _Live(found, are_some_gone, is_cut=True)
        return _Live(found, are_some_gone, is_cut=False)

    def forget(self, gone: Iterable[Proposed]) -> None:
        """Leave out from now on what turned out to be gone, unless it was stored again meanwhile."""
        with self._lock:
            for one in gone:
                raw = bytes.fromhex(one.entry_id)
                if self._has(raw, one.n):
                    self._forgotten[raw] = self._slot_of.pop(raw)

    def save(self) -> None:
        """Write the graph for the next process, if there is one and it has grown; trouble with that is left alone."""
        with self._lock:
            if self._file is None or not self._unsaved or isinstance(self._index, Flat):
                return
            self._unsaved = 0
            with suppress(StoreUnavailable):
                self._file.write(self._slots, self._index.save())


def _digest(vector: bytes) -> bytes:
    return hashlib.blake2b(vector, digest_size=DIGEST_BYTES).digest()
