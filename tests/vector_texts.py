"""Texts that a vector cache holds: each with a vector of its own, and those near to it."""

from __future__ import annotations

import hashlib

import pytest

from genai_cache_magic import create_vector_cache

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection, index  # noqa: E402 - needs numpy

DIMENSION = 16


def embed(texts: list[str]) -> list[list[float]]:
    """Vectors of texts, each its own."""
    return [vector(text).tolist() for text in texts]


def vector(text: str):
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


def near(text: str, amount: float = 0.05):
    """A vector that is near to that of `text`."""
    return vector(text) + amount * vector(f"beside {text}")


@pytest.fixture(name="events")
def noted_events():
    return []


@pytest.fixture(name="cache")
def vector_cache(isolated, events):
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed, on_event=events.append) as cache:
        yield cache
    assert not events


@pytest.fixture(name="few", params=["Graph", "Signs"])
def few_are_a_graph(request, monkeypatch):
    """Graphs begin with few vectors, and those of signs with short ones, so that a test need not make thousands."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    monkeypatch.setattr(collection, "FEW", 20)
    if request.param == "Signs":
        monkeypatch.setattr(index, "_LONG", 1)
    return request.param


def texts_of(found):
    return [one.text for one in found]
