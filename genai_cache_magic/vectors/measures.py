"""How alike two vectors are, and over which range a threshold makes sense."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Similarity = Literal["cosine", "dot", "euclidean"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One way to compare: similarities grow with likeness, from `lowest` to `highest`.

    ``metric`` and ``kept_as`` are usearch's names of the distance and of the numbers that a graph is built from:
    int8 says enough of a direction, not of a length. `margin` is by how much a similarity from the graph may be off;
    it decides what is compared exactly, never what is returned.
    """

    name: Similarity
    lowest: float
    highest: float
    metric: str
    kept_as: str
    margin: float

    @property
    def needs_direction(self) -> bool:
        """Whether a vector of zeros can't be compared."""
        return self.name == "cosine"

    def check(self, similarity: float) -> float:
        """Return a threshold if it lies in the range; raises ``ConfigurationError``."""
        if type(similarity) not in {int, float} or not self.lowest <= similarity <= self.highest:
            bounds = f"{self.lowest:g} to {self.highest:g}"
            raise ConfigurationError(f"similarity={similarity!r}: of {self.name} it is a number from {bounds}")
        return float(similarity)

    def prepared(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return vectors, shape (n, dimension), so that `similarities` need not measure them each time."""
        import numpy as np

        if self.name != "cosine":
            return vectors
        wide = vectors.astype(np.float64)
        lengths = np.sqrt((wide * wide).sum(axis=-1, keepdims=True))
        return (wide / np.where(lengths > 0, lengths, 1)).astype(np.float32)

    def similarities(self, vectors: NDArray[np.float32], query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how alike each of the prepared vectors, shape (n, dimension), is to the prepared query; shape (n,)."""
        import numpy as np

        if self.name == "euclidean":
            squared = np.square(vectors - query).sum(axis=1, dtype=np.float64)
            return self._of_squares(squared)
        found: NDArray[np.float64] = (vectors @ query).astype(np.float64)
        if self.name == "cosine":
            np.clip(found, -1.0, 1.0, out=found)
        return found

    def of_distances(self, distances: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the similarities that the graph's distances stand for."""
        import numpy as np

        wide = distances.astype(np.float64)
        if self.name == "euclidean":
            return self._of_squares(wide)
        return 1 - wide

    @staticmethod
    def _of_squares(squared: NDArray[np.float64]) -> NDArray[np.float64]:
        import numpy as np

        near: NDArray[np.float64] = 1 / (1 + np.sqrt(np.maximum(squared, 0)))
        return near


MEASURES: dict[str, Measure] = {
    measure.name: measure
    for measure in (
        Measure("cosine", -1.0, 1.0, "cos", "i8", 0.02),
        Measure("dot", -math.inf, math.inf, "ip", "f16", 0.02),
        Measure("euclidean", 0.0, 1.0, "l2sq", "f16", 0.02),
    )
}


def measure_of(name: str) -> Measure:
    """Return a measure by its name; raises ``ConfigurationError``."""
    if name not in MEASURES:
        raise ConfigurationError(f"similarity={name!r}: there is no such measure; use {', '.join(MEASURES)}")
    return MEASURES[name]
