"""This package: a vector cache on disk, guarded or not."""

from __future__ import annotations

import os

from alike import DIMENSION, serve, vector_of

from genai_cache_magic import create_vector_cache

cache = create_vector_cache("disk", dimension=DIMENSION, embed=lambda texts: [vector_of(text) for text in texts])
is_guarded = bool(os.environ.get("BENCH_GUARDED"))


def add(text: str) -> None:
    """Keep a text under itself."""
    cache.add(text, text)


def find(text: str, bar: float | None) -> str | None:
    """Return what is found."""
    found = cache.nearest(text, guarded=is_guarded, **({} if bar is None else {"similarity": bar}))
    return str(found[0].value) if found else None


with cache:
    serve(add, find, "genai-cache-magic", "numpy")
