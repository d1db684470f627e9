"""Vectors: the nearest of 100,000, and an index that is loaded again; beside the comparison with each of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from harness import BenchmarkError, Finding, Row, take_turns, timed

from genai_cache_magic import create_vector_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Effort

_DIMENSION = 1_536
_DIRECTIONS = 64
"""Vectors of texts lie in few directions, and not anywhere; a graph is as good as its data."""
_ASKED = 200
_ADDED = 10_000
_NEAREST_MS = 1.0
_LOADED_MS = 1_000.0
_RECALL = 0.99


def run_vectors(effort: Effort) -> Iterator[Finding]:
    """Compare `nearest` among many vectors with a product of all of them, and load the index again."""
    try:
        import numpy as np
        import usearch  # noqa: F401 - without it no graph is made
    except ModuleNotFoundError as exc:
        raise BenchmarkError(f"{exc}: pip install 'genai-cache-magic[vector]'") from exc

    count = effort.pick(100_000, 20_000, 1_000)
    rng = np.random.default_rng(16)
    directions = rng.standard_normal((_DIRECTIONS, _DIMENSION), dtype=np.float32)
    weights = rng.standard_normal((count, _DIRECTIONS), dtype=np.float32)
    rows = weights @ directions + 4 * rng.standard_normal((count, _DIMENSION), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    queries = rows[:: max(1, count // _ASKED)][:_ASKED]
    queries = queries + 0.01 * rng.standard_normal(queries.shape, dtype=np.float32)
    best = [int(place) for place in np.argmax(queries @ rows.T, axis=1)]

    settings = {"dimension": _DIMENSION, "dir": "vectors", "size_limit": "20GiB", "memory": "256MiB"}
    with create_vector_cache("disk", **settings) as cache:
        for start in range(0, count, _ADDED):
            end = min(start + _ADDED, count)
            cache.add_many([(f"text {n}", n) for n in range(start, end)], vectors=rows[start:end])
        cache.build()
        found = [cache.nearest(query, similarity=0.5)[0].value for query in queries]
        following = itertools.cycle(queries)
        cases = {
            "nearest": timed(lambda: cache.nearest(next(following), similarity=0.5), calls=10),
            "numpy": timed(lambda: int(np.argmax(rows @ next(following))), calls=10),
        }
        samples = take_turns(cases, rounds=effort.pick(100, 20))
    recall = sum(one == other for one, other in zip(found, best, strict=True)) / len(best)

    def load() -> None:
        with create_vector_cache("disk", **settings) as again:
            if again.build() != count:
                raise BenchmarkError("the index lost vectors")

    loads = take_turns({"load": timed(load, calls=1)}, rounds=effort.pick(10, 3))
    what = f"among {count:,} vectors"
    yield Finding(f"nearest {what}", samples.absolute("nearest").scaled(1e3), "ms", _NEAREST_MS)
    yield Finding(f"nearest {what}, by numpy", samples.ratio("nearest", "numpy"), medians=samples.medians)
    yield Finding(f"index of {count:,} loaded", loads.absolute("load").scaled(1e3), "ms", _LOADED_MS)
    if recall < _RECALL:
        raise BenchmarkError(f"recall at 1 is {recall:.3f}, and {_RECALL} is promised")


ROW = Row("vectors", "nearest of 100,000 x 1,536 / a product of all", run_vectors)
