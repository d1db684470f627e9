"""Many vectors are read behind, with a bar for who waits; what ``embed`` asks a model for is cached as all calls."""

from __future__ import annotations

import threading

import openai
import pytest

from genai_cache_magic import create_vector_cache, llm_cache
from genai_cache_magic.api import vector_index
from genai_cache_magic.errors import StoreUnavailable

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection  # noqa: E402 - needs numpy

DIMENSION = 8
COUNT = 40


def vectors():
    return np.random.default_rng(1).standard_normal((COUNT, DIMENSION)).astype(np.float32)


@pytest.fixture
def stored(isolated, monkeypatch):
    """More than is read at once."""
    with create_vector_cache("disk", dimension=DIMENSION) as cache:
        cache.add_many([(f"text {n}", n) for n in range(COUNT)], vectors=vectors())
    monkeypatch.setattr(vector_index, "_MANY", COUNT // 2)


def behind():
    """Wait for what is read behind; return whether anything was."""
    threads = [thread for thread in threading.enumerate() if thread.name == "genai-cache-vectors"]
    for thread in threads:
        thread.join()
    return bool(threads)


def test_many_are_read_before_anybody_asks(stored, monkeypatch):
    """As the cache is opened a thread begins, and the first look-up finds all of them there."""
    began = []
    original = vector_index._begun
    monkeypatch.setattr(vector_index, "_begun", lambda work: began.append(original(work)) or began[-1])
    with create_vector_cache("disk", dimension=DIMENSION) as cache:
        (thread,) = began
        thread.join()
        assert cache._index._collection.done == COUNT
        assert [one.value for one in cache.nearest(vectors()[7])] == [7]
    assert len(began) == 1


def test_who_waits_sees_how_far_it_is(stored, monkeypatch):
    """A bar of all there are moves on while they are read, and is taken away at the end."""
    seen = []
    moved = threading.Event()

    class Bar:
        def __init__(self, total, done, wanted, *, name):
            seen.append((name, total, done))

        def __enter__(self):
            return self

        def __exit__(self, *_):
            seen.append("over")

        def show(self, done):
            seen.append(done)
            moved.set()

    original = collection.Collection.settle

    def settle(self):
        assert threading.current_thread() is threading.main_thread() or moved.wait(60)
        original(self)

    monkeypatch.setattr(vector_index.VectorIndex, "begin_behind", lambda _: None)
    monkeypatch.setattr(vector_index, "bar_of", Bar)
    monkeypatch.setattr(collection.Collection, "settle", settle)
    with create_vector_cache("disk", dimension=DIMENSION) as cache:
        assert cache.build() == COUNT
        assert cache.build() == COUNT
    assert seen[0] == ("vectors", COUNT, 0)
    assert seen[-1] == "over"
    shown = seen[1:-1]
    assert shown == sorted(shown)
    assert shown[-1] <= COUNT


def test_what_fails_behind_is_told_who_asks(stored, monkeypatch):
    """Trouble while vectors are read breaks nothing: a look-up finds nothing, and says why."""
    events = []

    def fails(*_, **__):
        raise StoreUnavailable("the disk is gone")

    with create_vector_cache("disk", dimension=DIMENSION, on_event=events.append) as cache:
        behind()
        monkeypatch.setattr(cache.cache.catalogue, "carrying", fails)
        cache._index._collection._begin_anew()
        cache._index.begin_behind()
        behind()
        assert cache.nearest(vectors()[7]) == []
    assert "the disk is gone" in events[-1].message


def test_what_embed_asks_a_model_for_is_cached(isolated, server):
    """Texts that were embedded once, for whatever vector cache, are not embedded again."""
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:

        def embed(texts):
            found = client.embeddings.create(model="text-embedding-3-small", input=texts, dimensions=DIMENSION)
            return [one.embedding for one in found.data]

        with llm_cache() as cell:
            for prefix in ("a:", "b:"):
                with create_vector_cache("memory", dimension=DIMENSION, prefix=prefix, embed=embed) as cache:
                    cache.add_many({"one": 1, "two": 2})
                    assert cache.nearest("three", similarity=-1)[0].value in {1, 2}
    assert len(server.requests) == 2
    assert (cell.misses, cell.hits) == (2, 2)
