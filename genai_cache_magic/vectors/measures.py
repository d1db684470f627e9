"""How alike two vectors are, and over which range a threshold makes sense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Similarity = Literal["cosine", "dot", "euclidean"]

ROUNDING = 1e-6
"""By how much float32 may be off in a product of unit vectors."""
_AT_LEAST = 0.999
"""Of a distance that was added up in float32, so much is true at least."""
_GRAPH_MARGIN = 0.02
"""By how much a graph may be off in an angle or a product: it compares int8, or takes a product from 1."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to compare: similarities grow with likeness, from `lowest` to `highest`.

    ``metric`` and ``kept_as`` are usearch's names of the distance and of the numbers that a graph is built from:
    int8 says enough of a direction, not of a length, and float16 knows no number beyond 65,504.

    What an index says of likeness is about right, so it is said how much it is at most: that decides what is compared
    exactly, never what is returned.
    """

    name: Similarity
    lowest: float
    highest: float
    metric: str
    kept_as: str

    @property
    def needs_direction(self) -> bool:
        """Whether a vector of zeros can't be compared."""
        return self.name == "cosine"

    def check(self, similarity: Any) -> float:
        """Return a threshold if it lies in the range; raises ``ConfigurationError``."""
        is_number = isinstance(similarity, Real) and not isinstance(similarity, bool)  # numpy's too
        if not is_number or not self.lowest <= similarity <= self.highest:
            bounds = f"{self.lowest:g} to {self.highest:g}"
            raise ConfigurationError(f"similarity={similarity!r}: of {self.name} it is a number from {bounds}")
        return float(similarity)

    def prepared(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, shape (n, dimension), so that an index need not measure them each time."""
        import numpy as np

        if self.name != "cosine":
            return vectors
        wide = vectors.astype(np.float64)
        lengths = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
        return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def at_most(self, vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how alike each prepared vector, shape (n, dimension), is to the prepared query at most; shape (n,)."""
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):
            if self.name == "euclidean":
                squared = np.square(vectors - query).sum(axis=1, dtype=np.float64)
                if not np.isfinite(squared).all():  # more than float32 can hold
                    squared = np.square(vectors.astype(np.float64) - query).sum(axis=1)
                return _near(np.sqrt(squared) * _AT_LEAST)
            found: NDArray[np.float64] = (vectors @ query).astype(np.float64)
        if self.name == "cosine":
            return np.clip(found, -1.0, 1.0) + ROUNDING
        largest = float(np.abs(vectors).max(initial=0)) * math.sqrt(len(query))
        found += ROUNDING * max(1.0, largest * float(np.linalg.norm(query.astype(np.float64))))
        return np.where(np.isfinite(found), found, np.inf)

    def at_most_of(self, distances: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the similarities that the graph's distances stand for at most."""
        import numpy as np

        wide = distances.astype(np.float64)
        if self.name == "euclidean":
            return _near(np.sqrt(np.maximum(wide, 0)) * _AT_LEAST)
        wide = 1 - wide
        return np.where(np.isfinite(wide), wide + _GRAPH_MARGIN * np.maximum(1.0, np.abs(wide)), np.inf)

    def similarities(self, vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how alike each vector, shape (n, dimension), is to the query, all as they were given; shape (n,).

        The same vector is as alike as can be: 1.0 by angle and by distance, to the last digit.
        """
        import numpy as np

        wide, asked = vectors.astype(np.float64), query.astype(np.float64)
        if self.name == "euclidean":
            return _near(np.sqrt(np.square(wide - asked).sum(axis=1)))
        # Added up in one way: so the product of a vector with itself is the square of its length, bit by bit.
        products: NDArray[np.float64] = (wide * asked).sum(axis=1)
        if self.name == "dot":
            return products
        lengths = np.sqrt((wide * wide).sum(axis=1) * (asked * asked)[np.newaxis].sum(axis=1))
        # Not by `clip`, which takes as long as all the rest of so few.
        return np.minimum(np.maximum(products / np.where(lengths > 0, lengths, 1), -1.0), 1.0)


def _near(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    near: NDArray[np.float64] = 1 / (1 + distances)
    return near


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("cosine", -1.0, 1.0, "cos", "i8"),
        Measure("dot", -math.inf, math.inf, "ip", "f32"),
        Measure("euclidean", 0.0, 1.0, "l2sq", "f32"),
    )
}


def measure_of(name: str) -> Measure:
    """Return a measure by its name; raises ``ConfigurationError``."""
    if name not in MEASURES:
        raise ConfigurationError(f"similarity={name!r}: there is no such measure; use {', '.join(MEASURES)}")
    return MEASURES[name]
