"""Which entries of a vector cache are nearest: proposed by an index, compared and judged as they are stored."""

from __future__ import annotations

import importlib.util
import threading
import time
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from genai_cache_magic.api.progress import bar_of
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.events import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from collections.abc import Collection as AnyCollection

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.listing.catalogue import Catalogue
    from genai_cache_magic.events import Event
    from genai_cache_magic.vectors.collection import Collection, Proposed, Seen
    from genai_cache_magic.vectors.measures import Measure
    from genai_cache_magic.vectors.record import Record

EXTRA = "pip install 'genai-cache-magic[vector]'"
_MANY = 5_000
"""From so many on, reading them takes longer than somebody would like to wait: it begins as the cache is made."""
_SETTLE_EVERY_S = 10.0
_SHOW_EVERY_S = 0.2
_LEAST, _AT_ONCE = 8, 8
"""How many are asked for at least, and how many entries are read by one look-up."""
_UNFIT = "the index of vectors that was kept is not used, and made anew from what is stored"


class Alike(NamedTuple):
    """An entry as it is stored, and how alike its vector is."""

    entry_id: EntryId
    record: Record
    similarity: float


class Holds(Protocol):
    """What vectors are kept in."""

    @property
    def catalogue(self) -> Catalogue:
        """What entries there are."""

    @property
    def parts(self) -> Any:
        """What it is made of now."""


class Holding(Protocol):
    """The entries of one collection of vectors."""

    @property
    def name(self) -> str:
        """The tag of kind ``vectors`` that they carry."""

    @property
    def dimension(self) -> int:
        """How many numbers each vector has."""

    @property
    def cache(self) -> Holds:
        """What they are kept in."""

    def read(self, ids: Iterable[EntryId]) -> dict[EntryId, Record]:
        """Return those that may be served now; never raises for what it finds."""

    def look(self, ids: Iterable[EntryId]) -> tuple[dict[EntryId, Record], set[EntryId]]:
        """Return what `read` does, and those that may be served again although they can't be now."""


class VectorIndex:
    """The index of one collection, for whichever parts its cache has now. Safe to share between threads.

    `shows` says whether a bar is shown while much is read; `on_event` hears that an index which was kept does not fit.
    """

    def __init__(
        self,
        entries: Holding,
        measure: Measure,
        *,
        shows: bool = True,
        on_event: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._entries = entries
        self._on_event = on_event
        self._shows = shows
        self._measure = measure
        self._collection: Collection | None = None
        self._parts: object = None
        self._next_settled_at = 0.0  # [s, monotonic]

    def begin_behind(self) -> None:
        """Begin to read what is stored, if that is much and can be compared here."""
        if not _has("numpy"):
            return
        collection = self._opened()
        if self._entries.cache.catalogue.count("vectors", self._entries.name) > _MANY:
            _begun(collection.settle)

    def settle(self) -> int:
        """Bring the index up to what is stored, with a bar while that is much; return how many vectors there are.

        Raises ``StoreUnavailable``.
        """
        collection = self._opened()
        catalogue = self._entries.cache.catalogue
        now = time.monotonic()
        if now >= self._next_settled_at:
            self._next_settled_at = now + _SETTLE_EVERY_S
            catalogue.settle()
        if (
            not self._shows
            or collection.is_settled
            or (total := catalogue.count("vectors", self._entries.name)) <= _MANY
        ):
            collection.settle()
            return collection.done
        with bar_of(total, 0, None, name="vectors") as bar:
            reading = _begun(collection.settle)
            while reading.is_alive():
                reading.join(_SHOW_EVERY_S)
                bar.show(min(collection.done, total))
        collection.settle()  # raises what the thread did not
        return collection.done

    def search(
        self,
        vector: bytes,
        *,
        least: float,
        count: int,
        beside: AnyCollection[EntryId] = (),
        accepts: Callable[[Alike], bool] = lambda _: True,
    ) -> list[Alike]:
        """Return the entries nearest to a vector, `count` at most, the nearest first.

        Parameters
        ----------
        vector
            As it would be stored: bytes, float32.
        least
            The least similarity.
        beside
            Entries to leave out.
        accepts
            Says of each that is near enough whether it counts.

        Raises
        ------
        ConfigurationError
            Vectors can't be compared here.
        StoreUnavailable
            It can't be known which entries there are.
        """
        self.settle()
        collection = self._opened()
        seen = set(beside)
        found: list[Alike] = []
        wanted = max(_LEAST, 2 * count)
        # Who wants one is served by a narrow search where that says enough.
        proposals = collection.propose_one(vector, wanted, least) if count == 1 and not seen else None
        while True:
            proposals = proposals or collection.propose(vector, wanted)
            if proposals.is_clear and not proposals.found:
                return []
            left = [one for one in proposals.found if one.entry_id not in seen]
            size = count
            while left:
                bar = found[count - 1].similarity if len(found) >= count else least
                batch = [one for one in left[:size] if one.at_most >= bar]
                if not batch:
                    return found[:count]
                # The first are mostly all that is read; of what may still win then, many are read at once.
                left, size = left[len(batch) :], max(size, _AT_ONCE)
                seen.update(one.entry_id for one in batch)
                found += [one for one in self._compared(batch, vector) if one.similarity >= least and accepts(one)]
                found.sort(key=lambda one: -one.similarity)
                if proposals.is_clear and not found:
                    break  # its first does not count, and it says nothing of who comes next
            if proposals.is_cut and len(found) >= count:
                return found[:count]  # what is left is as near as those that were read
            if proposals.are_all or (proposals.is_clear and found):
                return found[:count]
            wanted *= 1 if proposals.is_clear else 4
            proposals = None

    def save(self) -> None:
        """Keep the index for the next process."""
        if self._collection is not None:
            self._collection.save()

    def _compared(self, proposed: list[Proposed], vector: bytes) -> list[Alike]:
        """Return how alike these entries are, by the vectors that are stored; leave out what can't be served."""
        import numpy as np

        records, resting = self._entries.look([one.entry_id for one in proposed])
        self._opened().forget(one for one in proposed if one.entry_id not in records and one.entry_id not in resting)
        joined = b"".join([vector, *(record.vector for record in records.values())])
        rows = np.frombuffer(joined, "<f4").astype(np.float32, copy=False).reshape(-1, self._entries.dimension)
        similarities = self._measure.similarities(rows[1:], rows[0]).tolist()
        return [Alike(*one, alike) for one, alike in zip(records.items(), similarities, strict=True)]

    def _opened(self) -> Collection:
        """Return the vectors of the parts that are in use now."""
        parts = self._entries.cache.parts
        if self._collection is None or self._parts is not parts:
            self._collection, self._parts = self._made(parts), parts
        return self._collection

    def _made(self, parts: Any) -> Collection:
        if not _has("numpy"):
            raise ConfigurationError(f"comparing vectors needs numpy: {EXTRA}")
        from genai_cache_magic.vectors.collection import Collection, Member, Members
        from genai_cache_magic.vectors.index import kept_as
        from genai_cache_magic.vectors.saved import IndexFile

        name, dimension = self._entries.name, self._entries.dimension
        tag = parts.keys.tag("vectors", name)
        about = {"dimension": dimension, "kept_as": kept_as(self._measure, dimension), "metric": self._measure.metric}
        file = None
        if parts.file is not None:
            document = parts.file(f"vectors-{self._measure.name}-{tag.hex()}")
            file = IndexFile(document, ColumnSeal(parts.keys.mac_key), about=about, place=tag)
        return Collection(
            self._measure,
            dimension,
            members=lambda after: [Member(*one) for one in parts.catalogue.carrying("vectors", name, after=after)],
            stamp=lambda: _seen(parts),
            everything=lambda: Members(*parts.catalogue.all_carrying("vectors", name)),
            vectors=lambda ids: {found: record.vector for found, record in self._entries.read(ids).items()},
            has_graphs=_has("usearch"),
            file=file,
            on_unfit=lambda exc: self._on_event(Trouble("L1", type(exc).__name__, f"{_UNFIT}: {exc}")),
        )


def _seen(parts: Any) -> Seen:
    """Return what is another one once the catalogue may name other entries: rows were written, or others count."""
    from genai_cache_magic.vectors.collection import Seen

    generations = parts.entries.generations.current()
    file, *written = parts.catalogue.rows.state.stamp()
    return Seen(file, (generations.root, generations.floor, *written))


def _has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _begun(work: Callable[[], None]) -> threading.Thread:
    """Return a thread that does `work`, and belongs to no cell, whose scope it would keep alive."""
    thread = threading.Thread(target=_try, args=(work,), name="genai-cache-vectors", daemon=True)
    Context().run(thread.start)
    return thread


def _try(work: Callable[[], None]) -> None:
    try:
        work()
    except StoreUnavailable:
        return  # whoever looks something up hears of it
