"""What is nearest is found whatever the size of the numbers, by comparing with all and by a graph."""

from __future__ import annotations

import tracemalloc

import pytest

from genai_cache_magic import create_vector_cache
from genai_cache_magic.errors import EntryUndecodable
from genai_cache_magic.vectors.measures import measure_of

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection, index  # noqa: E402 - need numpy

DIMENSION = 16
SCALES = (1e-8, 1.0, 1e3, 1e5, 1e18)


@pytest.fixture
def few(monkeypatch):
    """Graphs begin with few vectors, so that a test need not make thousands."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    monkeypatch.setattr(collection, "FEW", 20)


def vectors(count: int, scale: float = 1.0):
    return (np.random.default_rng(7).standard_normal((count, DIMENSION)) * scale).astype(np.float32)


@pytest.mark.parametrize("measure", ["cosine", "euclidean"])
def test_the_same_vector_is_as_alike_as_can_be(isolated, measure):
    """Whoever asks for nothing but the same, by 1.0, finds every vector by itself, and nothing else."""
    added = vectors(200)
    with create_vector_cache("memory", dimension=DIMENSION, similarity=measure) as cache:
        cache.add_many([(str(n), n) for n in range(200)], vectors=added)
        found = cache.nearest_many(added, similarity=1.0, max=2)
    assert [[(one.value, one.similarity) for one in ones] for ones in found] == [[(n, 1.0)] for n in range(200)]


@pytest.mark.parametrize("scale", SCALES)
def test_large_and_small_numbers_are_compared_by_distance(isolated, few, scale):
    """A graph finds what is nearest by distance, and few entries are read for it."""
    added = vectors(400, scale)
    with create_vector_cache("memory", dimension=DIMENSION, similarity="euclidean") as cache:
        cache.add_many([(str(n), n) for n in range(400)], vectors=added)
        cache.build()
        read = []
        reads = cache._entries.read
        cache._entries.read = lambda ids: read.extend(ids) or reads(ids)
        for n in range(0, 400, 40):
            (found,) = cache.nearest(added[n] * np.float32(1.001), similarity=0.0)
            assert found.value == n
    assert len(read) < 100


@pytest.mark.parametrize("scale", SCALES[1:])
def test_large_products_are_compared(isolated, few, scale):
    """A graph finds the largest product, of numbers that float16 can't hold too."""
    added = vectors(400, scale)
    wide = added.astype(np.float64)
    with create_vector_cache("memory", dimension=DIMENSION, similarity="dot") as cache:
        cache.add_many([(str(n), n) for n in range(400)], vectors=added)
        for n in range(0, 400, 40):
            (found,) = cache.nearest(added[n], similarity=0.0)
            assert found.value == int(np.argmax(wide @ wide[n]))
            assert found.similarity == pytest.approx(float((wide @ wide[n]).max()))


@pytest.mark.parametrize("measure", ["dot", "euclidean"])
def test_what_float32_can_not_add_up_is_compared_all_the_same(isolated, measure):
    """Squares and products beyond float32 neither warn nor become infinite, and the nearest comes first."""
    added = [[1e25] * 4, [2e25] * 4, [-1e25, 1e25, 0, 0], [3e38] * 4]
    with create_vector_cache("memory", dimension=4, similarity=measure) as cache:
        cache.add_many([(str(n), n) for n in range(4)], vectors=added)
        found = cache.nearest([1.1e25] * 4, similarity=0.0, max=4)
    order = [3, 1, 0, 2] if measure == "dot" else [0, 1, 2, 3]
    assert [one.value for one in found] == order
    assert all(np.isfinite(one.similarity) for one in found)


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e4])
def test_no_index_takes_anything_for_farther_than_it_is(measure, scale):
    """What an index says at most is never less than what comparing the vectors themselves finds."""
    one = measure_of(measure)
    added, asked = vectors(500, scale), vectors(501, scale)[-1]
    rows = one.prepared(np.vstack([asked, added]))
    assert (one.at_most(rows[1:], rows[0]) >= one.similarities(added, asked)).all()


@pytest.mark.parametrize("dimension", [768, 770, 1536])
def test_signs_find_what_comparing_with_all_finds(dimension):
    """Long vectors of many subjects: of new ones too the nearest is found, and taken for no farther than it is."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    rng = np.random.default_rng(16)
    directions = rng.standard_normal((20, dimension))
    measure = measure_of("cosine")
    made = rng.standard_normal((2_100, 20)) @ directions + rng.standard_normal((2_100, dimension))
    rows = measure.prepared(made.astype(np.float32))
    added, asked = rows[:2_000], rows[2_000:]
    found = index.made(measure, dimension)
    found.add(added[:7])
    found.add(added[7:])
    again = index.made(measure, dimension, found.save())
    again.add(added[:3])
    assert isinstance(again, index.Signs)
    assert len(again) == 2_003
    best = np.argmax(asked @ added.T, axis=1)
    hits = 0
    for query, nearest in zip(asked, best, strict=True):
        places, at_most = found.search(query, 8)
        assert (at_most >= measure.similarities(added[places], query)).all()
        assert list(at_most) == sorted(at_most, reverse=True)
        assert list(again.search(query, 8)[0] % 2_000)[:1] == list(places)[:1]
        hits += int(nearest in places)
    assert hits >= 99


@pytest.mark.parametrize("first", [0, 1, 500, 1_000])
def test_signs_find_what_lies_all_in_one_direction(first):
    """Without a negative number, all much alike: each is found, also after a load."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    rng = np.random.default_rng(3)
    measure = measure_of("cosine")
    made = np.abs(rng.standard_normal((1_000, 20)) @ rng.standard_normal((20, 768))) + 0.1
    rows = measure.prepared(made.astype(np.float32))
    found = index.made(measure, 768)
    found.add(rows[:first])
    found.add(rows[first:])
    again = index.made(measure, 768, found.save())
    assert [n for n, row in enumerate(rows) if not n == found.search(row, 4)[0][0] == again.search(row, 4)[0][0]] == []


def test_signs_need_no_memory_for_all_that_is_asked_for():
    """A condition that nothing meets ends in a search for everything: it takes a fraction of what the numbers would."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    measure = measure_of("cosine")
    rows = measure.prepared(np.random.default_rng(1).standard_normal((3_000, 768)).astype(np.float32))
    found = index.made(measure, 768)
    found.add(rows)
    tracemalloc.start()
    try:
        places, at_most = found.search(rows[7], len(rows))
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(set(places.tolist())) > 0.99 * len(rows)
    assert (at_most >= measure.similarities(rows[places], rows[7])).all()
    assert peak_bytes < rows.nbytes * 0.7


def test_signs_keep_no_bytes_that_the_graph_has_copied():
    """Loaded, the graph is in memory once: the bytes that it was read from may go."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    measure = measure_of("cosine")
    signs = index.made(measure, 768)
    signs.add(measure.prepared(np.random.default_rng(1).standard_normal((30, 768)).astype(np.float32)))
    graph, *numbers = signs.save()
    read_from = bytearray(graph)
    again = index.made(measure, 768, [memoryview(read_from), *numbers])
    read_from.clear()  # which is refused while somebody has a view of it
    assert len(again) == 30


def test_signs_of_another_number_of_vectors_are_refused():
    """A graph whose vectors are missing in part, or that is none, is never searched."""
    pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")
    measure = measure_of("cosine")
    signs = index.made(measure, 768)
    assert [len(found) for found in signs.search(vectors(1)[0].repeat(768 // DIMENSION), 3)] == [0, 0]
    signs.add(measure.prepared(np.random.default_rng(1).standard_normal((30, 768)).astype(np.float32)))
    saved = signs.save()
    graph, *numbers = saved
    cut = [[*saved[:place], bytes(part)[:-1], *saved[place + 1 :]] for place, part in enumerate(saved)]
    for damaged in (*cut, saved[:-1], [*saved, b"\0"], [], [bytes(len(graph)), *numbers]):
        with pytest.raises(EntryUndecodable):
            index.made(measure, 768, damaged)
    with pytest.raises(EntryUndecodable):
        index.made(measure, 1536, saved)


@pytest.mark.parametrize("dimension", [768, 769, 1000, 1536, 1607])
def test_a_turn_keeps_angles_and_mixes_all_numbers(dimension):
    """Products are what they were, and one number of a vector moves all signs but the few that are left over."""
    turn = index.Turn(dimension)
    rows = np.random.default_rng(2).standard_normal((20, dimension)).astype(np.float32)
    turned = turn(rows)
    assert np.allclose(turned @ turned.T, rows @ rows.T, atol=1e-2)
    assert np.allclose(turn(rows[3]), turned[3], atol=1e-4)
    one = np.zeros(dimension, np.float32)
    one[5] = 1
    assert np.count_nonzero(np.abs(turn(one)) > 1e-6) > 0.9 * dimension
    assert np.abs(turn(one)).max() < 0.2
