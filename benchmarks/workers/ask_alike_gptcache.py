"""GPTCache with SQLite and faiss, and its evaluation by distance."""

from __future__ import annotations

from alike import DIMENSION, serve, vector_of
from gptcache import Cache, Config
from gptcache.adapter.api import get, put
from gptcache.manager import CacheBase, VectorBase, get_data_manager
from gptcache.processor.pre import get_prompt
from gptcache.similarity_evaluation.distance import SearchDistanceEvaluation

cache = Cache()
cache.init(
    pre_embedding_func=get_prompt,
    embedding_func=lambda text, **_: vector_of(text),
    data_manager=get_data_manager(
        CacheBase("sqlite", sql_url="sqlite:///gptcache.db"),
        VectorBase("faiss", dimension=DIMENSION, index_path="gptcache.index"),
    ),
    similarity_evaluation=SearchDistanceEvaluation(),
    config=Config(),
)
_DEFAULT = cache.config.similarity_threshold


def add(text: str) -> None:
    """Keep a text under itself."""
    put(text, text, cache_obj=cache)


def find(text: str, bar: float | None) -> str | None:
    """Return what is found.

    Its measure is what is left of 4 less the squared distance, as a share of 4: of vectors of length 1 the square is
    twice what the cosine lacks of 1.
    """
    cache.config.similarity_threshold = _DEFAULT if bar is None else (1 + bar) / 2
    found = get(text, cache_obj=cache)
    return None if found is None else str(found)


serve(add, find, "gptcache", "faiss-cpu")
