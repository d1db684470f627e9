"""Which vectors are nearest: by comparing with all of them while they are few, by a graph when they are many.

Slots are numbers from 0 on, in the order of adding. A slot is never given away again; who removes one leaves it out of
what was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genai_cache_magic.vectors.measures import Measure

FEW = 5_000
"""Up to so many vectors, comparing with all takes less than a millisecond."""
_EXPANSION = 128
"""How many nodes a search keeps in sight; with fewer, what lies alone is missed."""


class Index(Protocol):
    """Finds the nearest of the vectors that were added."""

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add prepared vectors, shape (n, dimension), under the next slots."""

    def search(self, query: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return about `count` of the slots nearest to a prepared query, the nearest first, and how near at most."""

    def __len__(self) -> int:
        """Return how many slots there are."""


class Flat:
    """All vectors in one array."""

    def __init__(self, measure: Measure, dimension: int) -> None:
        self._measure = measure
        self._rows = np.empty((64, dimension), np.float32)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def vectors(self) -> NDArray[np.float32]:
        """All that was added, shape (n, dimension)."""
        return self._rows[: self._count]

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add prepared vectors, shape (n, dimension)."""
        wanted = self._count + len(vectors)
        if wanted > len(self._rows):
            grown = np.empty((max(wanted, 2 * len(self._rows)), self._rows.shape[1]), np.float32)
            grown[: self._count] = self._rows[: self._count]
            self._rows = grown
        self._rows[self._count : wanted] = vectors
        self._count = wanted

    def search(self, query: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the `count` nearest slots, the nearest first, and how near they are at most."""
        found = self._measure.at_most(self.vectors, query)
        count = min(count, self._count)
        nearest = np.argpartition(-found, count - 1)[:count] if 0 < count < self._count else np.arange(self._count)
        order = nearest[np.argsort(-found[nearest], kind="stable")]
        return order.astype(np.int64), found[order]


class Graph:
    """A hierarchical navigable small world (Malkov and Yashunin, arXiv:1603.09320) of usearch.

    It finds nearly always what is nearest, and says only nearly how near: who asks compares again.
    """

    def __init__(self, measure: Measure, dimension: int, saved: bytes | None = None) -> None:
        from usearch.index import Index as USearchIndex

        self._measure = measure
        self._index: Any = USearchIndex(
            ndim=dimension, metric=measure.metric, dtype=measure.kept_as, expansion_search=_EXPANSION
        )
        if saved is not None:
            self._load(saved, dimension)

    def _load(self, saved: bytes, dimension: int) -> None:
        try:
            self._index.load(saved)
        except Exception as exc:  # usearch raises what its C++ part says, of any type
            raise EntryUndecodable("the graph can't be loaded by this version of usearch") from exc
        if self._index.ndim != dimension:
            raise EntryUndecodable("the graph has other dimensions")

    def __len__(self) -> int:
        return len(self._index)

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add prepared vectors, shape (n, dimension)."""
        start = len(self)
        # By one thread: what several add at once is now and then linked by nobody, and then never found.
        self._index.add(np.arange(start, start + len(vectors)), vectors, threads=1)

    def search(self, query: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return about `count` of the nearest slots, and how near they are at most."""
        if not len(self):
            return np.empty(0, np.int64), np.empty(0, np.float64)
        found = self._index.search(query, min(count, len(self)), threads=1)
        return found.keys.astype(np.int64), self._measure.at_most_of(found.distances)

    def save(self) -> bytes:
        """Return it as bytes, which this version of usearch and later ones read."""
        return bytes(self._index.save())
