"""redisvl's EmbeddingsCache: vectors by their text, of equal texts alone."""

from __future__ import annotations

from alike import serve, vector_of
from redis_clock import URL, clock
from redisvl.extensions.cache.embeddings import EmbeddingsCache

_MODEL = "all-MiniLM-L6-v2"
cache = EmbeddingsCache(name="bench", redis_url=URL)


def add(text: str) -> None:
    """Keep the vector of a text."""
    cache.set(content=text, model_name=_MODEL, embedding=vector_of(text).tolist())


def find(text: str, _bar: float | None) -> str | None:
    """Return the text whose vector is found."""
    found = cache.get(content=text, model_name=_MODEL)
    return str(found["content"]) if found else None


serve(add, find, "redisvl", "redis", clock=clock)
