"""redisvl's SemanticCache, which needs a Redis with the query engine."""

from __future__ import annotations

from alike import DIMENSION, serve, vector_of
from redis_clock import URL, clock
from redisvl.extensions.cache.llm import SemanticCache
from redisvl.utils.vectorize import CustomVectorizer

_made: list[SemanticCache] = []


def _cache() -> SemanticCache:
    """Return the cache; made when it is asked first, so that a server without the engine is told as an error."""
    if not _made:
        vectorizer = CustomVectorizer(embed=lambda text, **_: _listed(text))
        _made.append(SemanticCache(name="bench", vectorizer=vectorizer, redis_url=URL, overwrite=True))
    return _made[0]


def _listed(text: str) -> list[float]:
    # It tries its vectorizer with a text of its own.
    try:
        return [float(number) for number in vector_of(text)]
    except KeyError:
        return [0.0] * (DIMENSION - 1) + [1.0]


def add(text: str) -> None:
    """Keep a text under itself."""
    _cache().store(prompt=text, response=text, vector=_listed(text))


def find(text: str, bar: float | None) -> str | None:
    """Return what is found: its bar is a distance, 1 less the cosine."""
    within = None if bar is None else 1 - bar
    found = _cache().check(vector=_listed(text), num_results=1, distance_threshold=within)
    return str(found[0]["response"]) if found else None


serve(add, find, "redisvl", "redis", clock=clock)
