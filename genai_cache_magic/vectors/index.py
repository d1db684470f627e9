"""Which vectors are nearest: by comparing with all of them while they are few, by a graph when they are many.

A graph of long vectors is one of their signs alone: see `Signs`.

Slots are numbers from 0 on, in the order of adding. A slot is never given away again; who removes one leaves it out of
what was found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from genai_cache_magic.errors import EntryUndecodable
from genai_cache_magic.vectors.measures import ROUNDING

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from genai_cache_magic.vectors.measures import Measure

    Buffer: TypeAlias = bytes | memoryview

FEW = 5_000
"""Up to so many vectors, comparing with all takes less than a millisecond."""
_EXPANSION = 128
"""How many nodes a search keeps in sight; with fewer, what lies alone is missed."""
_LONG = 768
"""From so many numbers on, signs alone tell what lies near."""
_LINKS, _SIGNS_EXPANSION = 32, 128
"""Signs are compared so fast that more links and a wider search cost little, and make up for what they don't tell."""
_SIFTED = 64
"""Of so many that the signs propose, or four times what is asked for, the int8 say which are nearest."""
_AT_ONCE = 1_024
"""So many are compared at once: who asks for all of a large collection needs no memory for it."""
_STEPS = 127
_COUNT_BYTES = 8


class Index(Protocol):
    """Finds the nearest of the vectors that were added."""

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add prepared vectors, shape (n, dimension), under the next slots."""

    def search(self, query: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return about `count` of the slots nearest to a prepared query, the nearest first, and how near at most."""

    def __len__(self) -> int:
        """Return how many slots there are."""


class Kept(Index, Protocol):
    """An index that takes long to build, and so is kept for the next process."""

    def save(self) -> Buffer:
        """Return it as bytes."""


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
            self._rows = _grown(self._rows, self._count, wanted)
        self._rows[self._count : wanted] = vectors
        self._count = wanted

    def search(self, query: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the `count` nearest slots, the nearest first, and how near they are at most."""
        found = self._measure.at_most(self.vectors, query)
        count = min(count, self._count)
        nearest = np.argpartition(-found, count - 1)[:count] if 0 < count < self._count else np.arange(self._count)
        order = nearest[np.argsort(-found[nearest], kind="stable")]
        return order.astype(np.int64), found[order]


def _load_graph(graph: Any, saved: Buffer, dimension: int) -> None:
    try:
        graph.load(saved)
    except Exception as exc:  # usearch raises what its C++ part says, of any type
        raise EntryUndecodable("the graph can't be loaded by this version of usearch") from exc
    if graph.ndim != dimension:
        raise EntryUndecodable("the graph has other dimensions")


class Graph:
    """A hierarchical navigable small world (Malkov and Yashunin, arXiv:1603.09320) of usearch.

    It finds nearly always what is nearest, and says only nearly how near: who asks compares again.
    """

    def __init__(self, measure: Measure, dimension: int, saved: Buffer | None = None) -> None:
        from usearch.index import Index as USearchIndex

        self._measure = measure
        self._index: Any = USearchIndex(
            ndim=dimension, metric=measure.metric, dtype=measure.kept_as, expansion_search=_EXPANSION
        )
        if saved is not None:
            _load_graph(self._index, saved, dimension)

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


class Signs:
    """A graph of the signs of directions, a bit for each number, and their int8, to choose among what it finds.

    Two directions differ in the more signs the wider the angle between them is (Charikar, STOC 2002,
    doi:10.1145/509907.509965). They are seen from the mean of those that were added first: seen from zero, vectors
    that all point much the same way, such as those without a negative number, have the same signs.

    With 1,536 numbers that tells enough to find a few dozen among which the nearest is, and takes a fifth of the time
    of comparing int8: a search reads 192 bytes of each node, which mostly are in the processor's cache.

    As bytes it is the length of the graph (8 bytes, big-endian), the graph, the mean (float32), then of all slots the
    size of a step and the length of what rounding left (2 x float32), then their int8.
    """

    def __init__(self, dimension: int, saved: Buffer | None = None) -> None:
        from usearch.index import Index as USearchIndex

        self._graph: Any = USearchIndex(
            ndim=dimension,
            metric="hamming",
            dtype="b1",
            connectivity=_LINKS,
            expansion_search=_SIGNS_EXPANSION,
        )
        self._centre = np.zeros(dimension, np.float32)
        self._rows = np.empty((0, dimension), np.int8)
        self._rounding = np.empty((0, 2), np.float32)
        self._count = 0
        if saved is not None:
            self._load(memoryview(saved))

    def _load(self, saved: memoryview) -> None:
        dimension = self._rows.shape[1]
        graph_end = _COUNT_BYTES + int.from_bytes(saved[:_COUNT_BYTES])
        _load_graph(self._graph, saved[_COUNT_BYTES:graph_end], dimension)
        count = len(self._graph)
        rounding_at = graph_end + 4 * dimension
        rows_at = rounding_at + 2 * 4 * count
        if len(saved) != rows_at + count * dimension:
            raise EntryUndecodable("the graph and its vectors are not of one number")
        self._centre = np.frombuffer(saved[graph_end:rounding_at], "<f4")
        self._rounding = np.frombuffer(saved[rounding_at:rows_at], "<f4").reshape(count, 2)
        self._rows = np.frombuffer(saved[rows_at:], np.int8).reshape(count, dimension)
        self._count = count

    def __len__(self) -> int:
        return self._count

    def add(self, vectors: NDArray[np.float32]) -> None:
        """Add prepared vectors, shape (n, dimension)."""
        if not len(vectors):
            return
        end = self._count + len(vectors)
        if not self._count:
            self._centre = vectors.mean(axis=0)
        if end > len(self._rows):
            self._rows = _grown(self._rows, self._count, end)
            self._rounding = _grown(self._rounding, self._count, end)
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        steps = np.where(largest > 0, largest / np.float32(_STEPS), np.float32(1))
        rounded = np.rint(vectors / steps)
        left = np.linalg.norm(vectors - rounded * steps, axis=1)
        self._rows[self._count : end] = rounded
        self._rounding[self._count : end] = np.column_stack((steps[:, 0], left))
        self._graph.add(np.arange(self._count, end), self._signs(vectors), threads=1)  # by one thread, as `Graph`
        self._count = end

    def search(self, query: NDArray[np.float32], count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return about `count` of the nearest slots, the nearest first, and how near they are at most."""
        sifted = min(max(_SIFTED, 4 * count), self._count)
        if not sifted:
            return np.empty(0, np.int64), np.empty(0, np.float64)
        slots = self._graph.search(self._signs(query), sifted, threads=1).keys.astype(np.int64)
        rounding = self._rounding[slots]
        # What rounding left of a vector adds no more to a product than its own length, since the query's is 1.
        products = np.empty(len(slots), np.float32)
        for start in range(0, len(slots), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            # Not by ``@``: of so few, BLAS would wait for a second thread longer than it takes.
            products[some] = np.einsum("ij,j->i", self._rows[slots[some]].astype(np.float32), query)
        found = products * rounding[:, 0] + rounding[:, 1] + ROUNDING
        order = np.argsort(-found, kind="stable")[:count]
        return slots[order], found[order].astype(np.float64)

    def save(self) -> Buffer:
        """Return it as bytes, which this version of usearch and later ones read."""
        graph = bytes(self._graph.save())
        rounding, rows = self._rounding[: self._count], self._rows[: self._count]
        head = len(graph).to_bytes(_COUNT_BYTES)
        numbers = (array.astype("<f4", copy=False).data for array in (self._centre, rounding))
        return b"".join((head, graph, *numbers, rows.data))

    def _signs(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.packbits(vectors > self._centre, axis=-1)


def _grown(array: NDArray[Any], count: int, wanted: int) -> NDArray[Any]:
    """Return an array with room for more, which holds the first `count` rows of `array`."""
    grown = np.empty((max(wanted, 2 * len(array)), array.shape[1]), array.dtype)
    grown[:count] = array[:count]
    return grown


def made(measure: Measure, dimension: int, saved: Buffer | None = None) -> Kept:
    """Return an index for many vectors, empty or as it was saved; raises ``EntryUndecodable``."""
    return Signs(dimension, saved) if _is_by_signs(measure, dimension) else Graph(measure, dimension, saved)


def kept_as(measure: Measure, dimension: int) -> str:
    """Return of what such an index is made: one that was saved is none of another kind's."""
    return "signs from the mean and i8" if _is_by_signs(measure, dimension) else measure.kept_as


def _is_by_signs(measure: Measure, dimension: int) -> bool:
    # Only a direction is known by its signs; and usearch compares them byte by byte.
    return measure.needs_direction and dimension >= _LONG
