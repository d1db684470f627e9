"""A vector cache says what comparing with everything that is valid says, whatever was done to it."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from genai_cache_magic import VectorCache, create_vector_cache
from genai_cache_magic.api import vector_index
from genai_cache_magic.vectors.measures import measure_of

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection, index  # noqa: E402 - need numpy

DIMENSION = 6
TEXTS = st.sampled_from([f"text {n}" for n in range(30)])
SEEDS = st.integers(0, 10)
TTLS = st.sampled_from([60, 600])
TAGS = st.sampled_from(["a", "b", None])


def vector(seed: int):
    """Few different ones, so that equal and opposite vectors meet."""
    return np.random.default_rng(seed).standard_normal(DIMENSION).astype(np.float32)


class VectorCacheMachine(RuleBasedStateMachine):
    """A vector cache on disk beside a dictionary; graphs begin with four vectors, signs at `long` numbers."""

    long = 768

    def __init__(self) -> None:
        super().__init__()
        self.undo = ExitStack()
        patch = self.undo.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(collection, "FEW", 4)
        patch.setattr(vector_index, "_LEAST", 1)
        patch.setattr(index, "_LONG", self.long)
        self.home = tempfile.mkdtemp()
        self.undo.callback(shutil.rmtree, self.home)
        patch.setenv("GENAI_CACHE_DIR", f"{self.home}/cache")
        patch.setenv("GENAI_CACHE_KEY_FILE", f"{self.home}/key")
        self.now = 1_700_000_000.0
        self.known: dict[str, tuple[int, int, str | None, float]] = {}
        self.values = self.steps = 0
        self.cache = create_vector_cache("disk", dimension=DIMENSION)
        self.cache.cache._entries.judge.clock = lambda: self.now

    def teardown(self) -> None:
        self.cache.close()
        self.undo.close()

    @rule(
        texts=st.lists(TEXTS, min_size=1, max_size=12, unique=True),
        seed=SEEDS,
        tag=TAGS,
        ttl=TTLS,
    )
    def add(self, texts, seed, tag, ttl):
        self.values += 1
        seeds = [(seed + n) % 11 for n, _ in enumerate(texts)]
        items = [(text, self.values) for text in texts]
        self.cache.add_many(items, vectors=map(vector, seeds), ttl=ttl, tags=[tag] if tag else [])
        for text, one in zip(texts, seeds, strict=True):
            self.known[text] = (one, self.values, tag, self.now + ttl)

    @rule(text=TEXTS)
    def delete(self, text):
        assert self.cache.delete(text) == (text in self.valid())
        self.known.pop(text, None)

    @rule(tag=st.sampled_from(["a", "b"]))
    def invalidate(self, tag):
        self.cache.invalidate_tag(tag)
        self.known = {text: one for text, one in self.known.items() if one[2] != tag}

    @rule()
    def clear(self):
        self.cache.clear()
        self.known.clear()

    @rule(seconds=st.sampled_from([1, 30, 61]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def begin_anew(self):
        """As the next process does, with the graph that this one has kept."""
        self.cache._index.save()
        self.cache = VectorCache(
            self.cache.cache, measure_of("cosine"), dimension=DIMENSION, prefix="embedding:", model="", embed=None
        )

    @rule(seed=SEEDS, count=st.integers(1, 6), least=st.sampled_from([-1.0, 0.0, 0.5, 0.999]))
    def nearest(self, seed, count, least):
        self.nearest_to(seed, count, least)

    def nearest_to(self, seed: int, count: int, least: float) -> None:
        asked = vector(seed)
        found = self.cache.nearest(asked, similarity=least, max=count)
        expected = sorted((similarity(vector(one[0]), asked) for one in self.valid().values()), reverse=True)
        expected = [one for one in expected if one >= least - 1e-6][:count]
        assert [one.similarity for one in found] == pytest.approx(expected, abs=1e-5)
        for one in found:
            assert one.value == self.valid()[one.text][1]
            assert one.similarity == pytest.approx(similarity(vector(self.valid()[one.text][0]), asked), abs=1e-5)
        assert len({one.text for one in found}) == len(found)

    @invariant()
    def is_right(self):
        assert len(self.cache) == len(self.valid())
        self.steps += 1
        self.nearest_to(self.steps % 11, 2, 0.5)

    def valid(self):
        return {text: one for text, one in self.known.items() if one[3] > self.now}


def similarity(a, b) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


class SignsMachine(VectorCacheMachine):
    """The same with graphs of signs, which say next to nothing of six numbers: what int8 say of them counts."""

    long = 1


TestVectorCacheMachine = VectorCacheMachine.TestCase
TestSignsMachine = SignsMachine.TestCase
TestSignsMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestVectorCacheMachine.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
