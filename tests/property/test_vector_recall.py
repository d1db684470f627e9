"""Long vectors are found as comparing with all finds them, however many subjects there are and whatever has gone."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genai_cache_magic import create_vector_cache

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection, index  # noqa: E402 - need numpy

DIMENSION = 768
ASKED = 200
RECALL = 0.99


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Graphs begin with few vectors, so that a test need not make thousands."""
    monkeypatch.setattr(collection, "FEW", 100)


@pytest.fixture
def searches(monkeypatch):
    """Of each search of the graph, whether it was a wide one."""
    made = []
    original = index.Signs._by_signs

    def noted(self, asked, count, expansion):
        made.append(expansion == index._SIGNS_EXPANSION)
        return original(self, asked, count, expansion)

    monkeypatch.setattr(index.Signs, "_by_signs", noted)
    return made


def texts_of_subjects(seed, subjects, own):
    """Return a function that makes so many unit vectors of a few subjects, each with something of its own."""
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((subjects, DIMENSION), dtype=np.float32)

    def made(count):
        found = rng.standard_normal((count, subjects), dtype=np.float32) @ directions
        found += own * rng.standard_normal((count, DIMENSION), dtype=np.float32)
        return unit(found)

    return made


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def recall(cache, rows, live, asked, least):
    """Return of how many the nearest of all that are live is found, or rightly nothing."""
    products = asked @ rows[live].T
    best = products.max(axis=1)
    right = 0
    for query, highest, place in zip(asked, best, products.argmax(axis=1), strict=True):
        found = cache.nearest(query, similarity=least)
        if found:
            right += found[0].value == live[place] or found[0].similarity >= highest - 1e-6
            assert found[0].value in live
        else:
            right += highest < least + 1e-6
    return right / len(asked)


@dataclass(frozen=True)
class World:
    """What is there and what is asked: `own` and `moved` say how far a text lies from its subjects, and from another.

    The first `copies` are all the same text's, and every `step` th goes.
    """

    seed: int
    count: int
    subjects: int
    own: float
    moved: float
    copies: int
    step: int


WORLDS = st.builds(
    World,
    seed=st.integers(0, 1_000),
    count=st.integers(300, 1_000),
    subjects=st.integers(8, 64),
    own=st.floats(0.5, 4.0),
    moved=st.floats(0.01, 0.06),
    copies=st.integers(0, 60),
    step=st.integers(2, 9),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=WORLDS, least=st.sampled_from([-1.0, 0.5, 0.8, 0.95]))
def test_recall(isolated, world, least):
    """Texts much like those that are there, new ones, many of the same, and some that are gone: 99 of 100 are found."""
    made = texts_of_subjects(world.seed, world.subjects, world.own)
    rows = made(world.count)
    rows[: world.copies] = rows[0]
    rng = np.random.default_rng(world.seed)
    asked = rows[rng.integers(0, world.count, ASKED)]
    asked = unit(asked + np.float32(world.moved) * rng.standard_normal(asked.shape, dtype=np.float32))
    asked[: ASKED // 4] = made(ASKED // 4)
    stays = [n for n in range(world.count) if n % world.step]
    goes = [n for n in range(world.count) if not n % world.step]
    with create_vector_cache("memory", dimension=DIMENSION, prefix=repr(world)) as cache:
        cache.add_many([(str(n), n) for n in stays], vectors=rows[stays])
        cache.add_many([(str(n), n) for n in goes], vectors=rows[goes], tags=["going"])
        assert recall(cache, rows, stays + goes, asked, least) >= RECALL
        cache.invalidate_tag("going")
        assert recall(cache, rows, stays, asked, least) >= RECALL


def test_what_stands_out_is_found_by_a_narrow_search(isolated, searches):
    """Of another wording of a text that is there the wide search is not asked, nor of what is like nothing at all."""
    rows = texts_of_subjects(1, 64, 4.0)(600)
    asked = unit(rows + 0.01 * np.random.default_rng(2).standard_normal(rows.shape, dtype=np.float32))
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add_many([(str(n), n) for n in range(600)], vectors=rows)
        assert [cache.nearest(one, similarity=0.5)[0].value for one in asked] == list(range(600))
        assert cache.nearest(-asked[0] - asked[1], similarity=0.95) == []
        assert len(searches) == 601
        assert not any(searches)


def test_what_stands_out_by_its_signs_alone_is_not_taken_for_the_nearest(isolated, searches, monkeypatch):
    """Few numbers decide how alike two vectors are, and many, each hardly anything, which signs they share."""
    monkeypatch.setattr(collection, "FEW", 40)  # so few that a wide search compares them all
    monkeypatch.setattr(index.Turn, "__call__", lambda _, vectors: vectors)  # which would mix the few and the many
    rng = np.random.default_rng(5)
    few, many = slice(0, 8), slice(8, DIMENSION)

    def parts(large, small):
        made = np.empty(DIMENSION, np.float32)
        made[few] = large / np.linalg.norm(large) * 0.7**0.5
        made[many] = small / np.linalg.norm(small) * 0.3**0.5
        return made

    def any_of(count):
        return rng.standard_normal(count)

    large, small = any_of(8), any_of(DIMENSION - 8)
    others = [parts(any_of(8), any_of(DIMENSION - 8)) for _ in range(58)]
    across = any_of(8)
    across -= large * (across @ large) / (large @ large)
    turned = 0.3 * large / np.linalg.norm(large) + across / np.linalg.norm(across)
    rows = np.stack([parts(large, any_of(DIMENSION - 8)), parts(turned, small), *others])
    asked = parts(large, small)
    assert np.argmax(rows @ asked) == 0  # it shares half of the signs, and the next nearly all
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add_many([(str(n), n) for n in range(len(rows))], vectors=rows)
        assert cache.nearest(asked, similarity=0.4)[0].value == 0
        assert any(searches)


@pytest.mark.parametrize("hindrance", ["refused", "deleted", "invalidated"])
def test_whatever_hinders_the_first_takes_a_wide_search(isolated, monkeypatch, hindrance):
    """The first of a narrow search is gone, or is not wanted: the nearest of all others is found, not its second."""
    rows = texts_of_subjects(3, 64, 4.0)(300)
    order = [int(n) for n in np.argsort(-(rows @ rows[0]), kind="stable")]
    first_and_last = index.First(np.array([order[0], order[-1]]), np.array([1.0, 1.0]), is_clear=True)
    monkeypatch.setattr(index.Signs, "search_one", lambda *_: first_and_last)
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add_many([(str(n), n) for n in range(300)], vectors=rows)
        assert cache.nearest(rows[0], similarity=-1.0)[0].value == order[0]
        if hindrance == "refused":
            (found,) = cache.nearest(rows[0], similarity=-1.0, where=lambda one: one.value != order[0])
            assert found.value == order[1]
            return
        if hindrance == "deleted":
            cache.delete(str(order[0]))
        else:
            cache.add(str(order[0]), order[0], vector=rows[0], tags=["going"])
            cache.invalidate_tag("going")
        for _ in range(2):  # the second time it is known to be gone
            assert cache.nearest(rows[0], similarity=-1.0)[0].value == order[1]


def test_few_numbers_that_decide_do_not_hide_the_nearest(isolated):
    """Vectors of many subjects whose first numbers are the largest, as of models whose vectors may be cut short."""
    rng = np.random.default_rng(9)
    falling = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -0.8
    subjects = rng.standard_normal((12, DIMENSION), dtype=np.float32) * falling
    of = rng.integers(0, 12, 1_700)
    rows = unit(subjects[of] + 0.8 * falling * rng.standard_normal((1_700, DIMENSION), dtype=np.float32))
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add_many([(str(n), n) for n in range(1_500)], vectors=rows[:1_500])
        assert recall(cache, rows, list(range(1_500)), rows[1_500:], -1.0) >= RECALL


def test_where_nothing_stands_out_one_search_is_made_until_something_does(isolated, searches):
    """After some in a row of which a narrow search says too little it is left out; what stands out brings it back."""
    made = texts_of_subjects(4, 64, 4.0)
    rows, others = made(600), made(12)
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add_many([(str(n), n) for n in range(600)], vectors=rows)
        for one in others:
            cache.nearest(one, similarity=0.0)
        assert searches[:6] == [False, True] * 3
        assert all(searches[6:12])
        searches.clear()
        for n in (0, 1):
            assert cache.nearest(rows[n], similarity=0.5)[0].value == n
        assert searches == [True, False]


def test_of_many_that_are_as_near_those_that_may_win_are_read_together(isolated):
    """Copies with hardly a difference: the nearest is found, and entries are read several at once."""
    rng = np.random.default_rng(6)
    first = rng.standard_normal(DIMENSION, dtype=np.float32)
    near = unit(first + 0.001 * rng.standard_normal((24, DIMENSION), dtype=np.float32))
    far = unit(rng.standard_normal((200, DIMENSION), dtype=np.float32))
    rows = np.concatenate([near, far])
    asked = unit(near[:1] + 0.0002 * rng.standard_normal((1, DIMENSION), dtype=np.float32))[0]
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        cache.add_many([(str(n), n) for n in range(len(rows))], vectors=rows)
        cache.build()
        looks, original = [], cache._entries.look
        cache._entries.look = lambda ids: looks.append(list(ids)) or original(looks[-1])
        assert cache.nearest(asked)[0].value == int(np.argmax(rows @ asked))
    assert sum(map(len, looks)) >= 24
    assert len(looks) <= 6
