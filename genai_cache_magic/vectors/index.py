"""Which vectors are nearest: by comparing with all of them while they are few, by a graph when they are many.

A graph of long vectors is one of their signs alone: see `Signs`.

Slots are numbers from 0 on, in the order of adding. A slot is never given away again; who removes one leaves it out of
what was found.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from genai_cache_magic.errors import EntryUndecodable
from genai_cache_magic.vectors.measures import ROUNDING

if TYPE_CHECKING:
    from collections.abc import Sequence
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
_CROWD, _STANDS_OUT = 48, 0.08
"""How many a narrow search keeps in sight; and by what share of all signs the first must lie before half of them.

Measured where signs tell least (dimensions of unlike spread, paraphrases): of what stands out so, one in a thousand
was found by the wide search alone.
"""
_TOLD = 0.8
"""Less alike than that, signs don't tell who is first: what stands out by them may be less alike than another.

Measured as above: of 400 that were less alike up to nine were found by the wide search alone; of 4,800 that were
more alike, or asked for more, none.
"""
_FAR = 0.2
"""By so much less alike than what is asked for, what was found is the crowd, before which that would stand out."""
_MOSTLY = 3
"""After so many in a row of which a narrow search said too little, the wide one is made at once, until it need not."""
_AT_ONCE = 1_024
"""So many are compared at once: who asks for all of a large collection needs no memory for it."""
_STEPS = 127


class First(NamedTuple):
    """Slots, the nearest first, how near they are at most, and whether the nearest of all is among them for sure."""

    slots: NDArray[np.int64]
    at_most: NDArray[np.float64]
    is_clear: bool


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

    def save(self) -> list[Buffer]:
        """Return it as bytes, in parts that are read one by one."""


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


def _parts(saved: Sequence[Buffer], count: int) -> Sequence[Buffer]:
    if len(saved) != count:
        raise EntryUndecodable("the graph is of another number of parts")
    return saved


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

    def __init__(self, measure: Measure, dimension: int, saved: Sequence[Buffer] | None = None) -> None:
        from usearch.index import Index as USearchIndex

        self._measure = measure
        self._index: Any = USearchIndex(
            ndim=dimension, metric=measure.metric, dtype=measure.kept_as, expansion_search=_EXPANSION
        )
        if saved is not None:
            (graph,) = _parts(saved, 1)
            _load_graph(self._index, graph, dimension)

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

    def save(self) -> list[Buffer]:
        """Return it as bytes, which this version of usearch and later ones read."""
        return [bytes(self._index.save())]


class Signs:
    """A graph of the signs of directions, a bit for each number, and their int8, to choose among what it finds.

    Two directions differ in the more signs the wider the angle between them is (Charikar, STOC 2002,
    doi:10.1145/509907.509965). They are seen from the mean of those that were added first: seen from zero, vectors
    that all point much the same way, such as those without a negative number, have the same signs.

    They are those of directions that are turned: see `Turn`.

    With 1,536 numbers that tells enough to find a few dozen among which the nearest is, and takes a fifth of the time
    of comparing int8: a search reads 192 bytes of each node, which mostly are in the processor's cache.

    As bytes it is the graph; the mean (float32); of all slots the size of a step and the length of what rounding left
    (2 x float32); and their int8. The graph copies its part, the others stay as they are.
    """

    def __init__(self, dimension: int, saved: Sequence[Buffer] | None = None) -> None:
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
        self._turn = Turn(dimension)
        self._unclear = 0
        self._stands_out = _STANDS_OUT * dimension
        if saved is not None:
            self._load(saved, dimension)

    def _load(self, saved: Sequence[Buffer], dimension: int) -> None:
        graph, centre, rounding, rows = _parts(saved, 4)
        _load_graph(self._graph, graph, dimension)
        count = len(self._graph)
        if [memoryview(part).nbytes for part in (centre, rounding, rows)] != [
            4 * dimension,
            2 * 4 * count,
            dimension * count,
        ]:
            raise EntryUndecodable("the graph and its vectors are not of one number")
        self._centre = np.frombuffer(centre, "<f4")
        self._rounding = np.frombuffer(rounding, "<f4").reshape(count, 2)
        self._rows = np.frombuffer(rows, np.int8).reshape(count, dimension)
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
        slots, found = self._sifted(query, self._by_signs(self._signs(query), sifted, _SIGNS_EXPANSION)[0])
        return slots[:count], found[:count]

    def search_one(self, query: NDArray[np.float32], least: float, count: int) -> First | None:
        """Return the slots among which the nearest is, if a narrow search makes that clear; else what `search` does.

        If that is clear, what is left out is less alike than the first of them, or than `least`: nothing at all if all
        are. A narrow search reads less than half of what a wide one does. What stands out and is much alike it finds as
        surely; of many that are all about as near, or of what is hardly alike, it would miss the nearest. None if there
        are too few to tell. It counts what was not clear, so not two threads at once.
        """
        if self._count <= _CROWD:
            return None
        asked = self._signs(query)
        first = None
        if self._unclear < _MOSTLY:
            slots, signs = self._by_signs(asked, _CROWD, _CROWD)
            if len(slots) == _CROWD:
                first = self._first(query, least, slots[signs <= signs[0] + self._stands_out], signs)
        if first is None or not first.is_clear:
            slots, signs = self._by_signs(asked, min(max(_SIFTED, 4 * count), self._count), _SIGNS_EXPANSION)
            if len(slots) < _CROWD:
                return None
            first = self._first(query, least, slots, signs)
            if not first.is_clear:
                first = First(first.slots[:count], first.at_most[:count], is_clear=False)
        self._unclear = 0 if first.is_clear else self._unclear + 1
        return first

    def _first(
        self, query: NDArray[np.float32], least: float, slots: NDArray[np.int64], signs: NDArray[np.float32]
    ) -> First:
        """Return `slots` by likeness, and whether those that differ in so many `signs` make it clear who is first."""
        slots, found = self._sifted(query, slots)
        if found[0] < least - _FAR:
            return First(slots[:0], found[:0], is_clear=True)
        stands_out = signs[_CROWD // 2] > signs[0] + self._stands_out and max(found[0], least) >= _TOLD
        return First(slots, found, is_clear=bool(stands_out))

    def _by_signs(
        self, asked: NDArray[np.uint8], count: int, expansion: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the slots that differ from the signs `asked` for in the fewest, and in how many."""
        self._graph.expansion_search = expansion
        found = self._graph.search(asked, count, threads=1)
        return found.keys.astype(np.int64), found.distances

    def _sifted(
        self, query: NDArray[np.float32], slots: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return slots, the nearest first by int8, and how near they are at most."""
        rounding = self._rounding[slots]
        # What rounding left of a vector adds no more to a product than its own length, since the query's is 1.
        products = np.empty(len(slots), np.float32)
        for start in range(0, len(slots), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            products[some] = _products(self._rows[slots[some]].astype(np.float32), query)
        found = products * rounding[:, 0] + rounding[:, 1] + ROUNDING
        order = np.argsort(-found, kind="stable")
        return slots[order], found[order].astype(np.float64)

    def save(self) -> list[Buffer]:
        """Return it as bytes, which this version of usearch and later ones read."""
        numbers = [array.astype("<f4", copy=False).data for array in (self._centre, self._rounding[: self._count])]
        return [bytes(self._graph.save()), *numbers, self._rows[: self._count].data]

    def _signs(self, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.packbits(self._turn(vectors - self._centre) > 0, axis=-1)


class Turn:
    """Turns directions so that each number of the result tells of all numbers: angles stay as they are.

    Where few numbers of a vector decide, as in those that may be cut short, most signs would tell next to nothing.
    Numbers are negated by chance, the same for all, and each row and column of them, laid out as a rectangle, becomes
    its cosine transform: a few thousand products, where a turn by chance takes millions. What the rectangle leaves
    over stays as it is.
    """

    def __init__(self, dimension: int) -> None:
        root = math.isqrt(dimension)
        rows = min(range(root, root // 2, -1), key=lambda divisor: dimension % divisor)
        self._shape = rows, dimension // rows
        chance = hashlib.shake_256(b"genai-cache signs 1").digest(-(-dimension // 8))
        flips = np.unpackbits(np.frombuffer(chance, np.uint8))[:dimension]
        self._flips = 1 - 2 * flips.astype(np.float32)
        self._by_row, self._by_column = (_cosines(size) for size in self._shape)

    def __call__(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, shape (..., dimension), turned."""
        turned: NDArray[np.float32] = vectors * self._flips
        within = turned[..., : self._shape[0] * self._shape[1]]
        laid_out = within.reshape(*turned.shape[:-1], *self._shape)
        within[...] = (self._by_row @ laid_out @ self._by_column.T).reshape(within.shape)
        return turned


def _cosines(size: int) -> NDArray[np.float32]:
    """Return the cosine transform of so many numbers as a matrix, whose rows are orthogonal and of length 1."""
    at = np.arange(size)
    found = np.cos(np.pi / size * np.outer(at, at + 0.5)) * math.sqrt(2 / size)
    found[0] *= math.sqrt(0.5)
    return found.astype(np.float32)


def _products(rows: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the product of each row with a vector, shape (n,)."""
    # Not by ``@``: of so few, BLAS would wait for a second thread longer than it takes.
    has_vecdot = hasattr(np, "vecdot")  # of numpy 2: half the time
    found: NDArray[np.float32] = np.vecdot(rows, query) if has_vecdot else np.einsum("ij,j->i", rows, query)
    return found


def _grown(array: NDArray[Any], count: int, wanted: int) -> NDArray[Any]:
    """Return an array with room for more, which holds the first `count` rows of `array`."""
    grown = np.empty((max(wanted, 2 * len(array)), array.shape[1]), array.dtype)
    grown[:count] = array[:count]
    return grown


def made(measure: Measure, dimension: int, saved: Sequence[Buffer] | None = None) -> Kept:
    """Return an index for many vectors, empty or as it was saved; raises ``EntryUndecodable``."""
    return Signs(dimension, saved) if _is_by_signs(measure, dimension) else Graph(measure, dimension, saved)


def kept_as(measure: Measure, dimension: int) -> str:
    """Return of what such an index is made: one that was saved is none of another kind's."""
    return "turned signs from the mean and i8" if _is_by_signs(measure, dimension) else measure.kept_as


def _is_by_signs(measure: Measure, dimension: int) -> bool:
    # Only a direction is known by its signs; and usearch compares them byte by byte.
    return measure.needs_direction and dimension >= _LONG
