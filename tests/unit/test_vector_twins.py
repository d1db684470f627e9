"""Texts that have one vector between them: each is found, and none is in the way of another."""

from __future__ import annotations

import pytest

from genai_cache_magic import create_vector_cache

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection  # noqa: E402 - needs numpy

SAME, OTHERS = 600, 60


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Graphs begin with few vectors, so that a test need not make thousands."""
    monkeypatch.setattr(collection, "FEW", 40)


def vectors(dimension):
    """Return one vector, and others, shape (OTHERS, dimension)."""
    made = np.random.default_rng(1).standard_normal((OTHERS + 1, dimension)).astype(np.float32)
    return made[0], made[1:]


def texts_of(found):
    return {near.text for near in found}


@pytest.mark.parametrize(("dimension", "measure"), [(32, "cosine"), (768, "cosine"), (32, "euclidean")])
def test_many_of_one_vector_hide_no_other(isolated, dimension, measure):
    """Of many texts one vector, as of those that differ after what a model reads: all are found, here and kept."""
    one, others = vectors(dimension)
    same = {f"same {number}" for number in range(SAME)}
    options = {"dimension": dimension, "similarity": measure}
    with create_vector_cache("disk", **options) as cache:
        cache.add_many([(text, 1) for text in sorted(same)], vectors=[one] * SAME)
        cache.build()
        cache.add_many([(f"other {number}", number) for number in range(OTHERS)], vectors=others)
        assert cache.build() == SAME + OTHERS
    events = []
    with create_vector_cache("disk", **options, on_event=events.append) as cache:
        assert cache.build() == SAME + OTHERS
        assert [[near.value for near in found] for found in cache.nearest_many(list(others))] == [
            [number] for number in range(OTHERS)
        ]
        assert texts_of(cache.nearest(one, max=SAME + 5)) == same
        assert texts_of(cache.nearest(one, where=lambda near: near.text == "same 7")) == {"same 7"}
        cache.delete("same 7")
        assert texts_of(cache.nearest(one, max=SAME + 5)) == same - {"same 7"}
        lowest = {"cosine": -1.0, "euclidean": 0.0}[measure]
        assert len(cache.nearest(one, similarity=lowest, max=1_000)) == OTHERS + SAME - 1
    assert events == []


def test_who_wants_one_of_many_reads_few(isolated, monkeypatch):
    """As near as can be are all of them: the first that counts is enough."""
    one, _ = vectors(32)
    with create_vector_cache("disk", dimension=32) as cache:
        cache.add_many([(f"same {number}", 1) for number in range(SAME)], vectors=[one] * SAME)
        cache.build()
        read = []
        look = cache._entries.look
        monkeypatch.setattr(cache._entries, "look", lambda ids: read.extend(ids) or look(ids))
        assert len(cache.nearest(one)) == 1
        assert len(read) <= 20
        assert len(cache.nearest(one, max=3)) == 3
        assert len(read) <= 50


def test_a_vector_that_comes_back_is_found(isolated):
    """Of a text whose vector was changed and changed back, and of another that has what it had."""
    one, others = vectors(32)
    with create_vector_cache("disk", dimension=32) as cache:
        cache.add_many([(f"other {number}", number) for number in range(OTHERS)], vectors=others)
        cache.build()
        for vector in (one, others[0], one, others[1]):
            cache.add("text", 7, vector=vector)
            assert "text" in texts_of(cache.nearest(vector, max=2))
        assert cache.nearest(one) == []
        cache.add("its twin", 8, vector=one)
        assert texts_of(cache.nearest(one, max=2)) == {"its twin"}
