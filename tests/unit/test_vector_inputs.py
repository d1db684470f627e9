"""What a vector cache can't take is refused in words or made anew, and costs nothing that was stored."""

from __future__ import annotations

import pytest

from genai_cache_magic import create_vector_cache
from genai_cache_magic.errors import ConfigurationError

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection, index, saved  # noqa: E402 - needs numpy

DIMENSION = 16
COUNT = 30
LARGE = 8 << 20


def vector(number):
    return np.random.default_rng(number).standard_normal(DIMENSION).astype(np.float32)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Graphs begin with few vectors, so that a test need not make thousands."""
    monkeypatch.setattr(collection, "FEW", 20)


def filled(**options):
    """Keep an index of some vectors, and return where it lies."""
    with create_vector_cache("disk", dimension=DIMENSION, **options) as cache:
        cache.add_many([(f"text {n}", n) for n in range(COUNT)], vectors=map(vector, range(COUNT)))
        assert cache.build() == COUNT


def kept_in(directory):
    (path,) = [path for path in directory.rglob("vectors-*") if path.suffix != ".lock"]
    return path


def read_anew(**options):
    """Open what is stored, check that nothing is lost, and return what was said."""
    events = []
    with create_vector_cache("disk", dimension=DIMENSION, on_event=events.append, **options) as cache:
        assert cache.build() == COUNT
        found = cache.nearest_many([vector(n) for n in range(COUNT)])
        assert [[one.value for one in each] for each in found] == [[n] for n in range(COUNT)]
    return [f"{event.error}: {event.message}" for event in events]


def test_a_text_of_eight_megabytes(isolated):
    """It is stored, found by itself and by its vector, guarded too, and comes back with its value as it was."""
    text, other = "a word " * (LARGE // 7), "a word " * (LARGE // 7) + "more"
    value = {"large": "v" * LARGE}
    asked = []

    def embed(texts):
        asked.extend(map(len, texts))
        return [vector(1) for _ in texts]

    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as cache:
        cache.add(text, value)
        (found,) = cache.nearest(text)
        assert (found.text == text, found.value == value, found.similarity) == (True, True, 1.0)
        (found,) = cache.nearest(vector(1))
        assert found.text == text
        (found,) = cache.nearest(other)
        assert found.text == text
        assert cache.nearest(other, guarded=True) == []
        assert cache.delete(text)
        assert cache.nearest(vector(1)) == []
    assert asked == [len(text), len(other), len(other)]


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_who_asks_for_none_gets_none(isolated, kind):
    """Nothing is embedded, read or compared for it; what is wrong beside it is still said."""

    def embed(_):
        raise AssertionError("nothing is to be embedded")

    with create_vector_cache(kind, dimension=DIMENSION, embed=embed) as cache:
        cache.add("a", 1, vector=vector(1))
        assert cache.nearest("b", max=0) == cache.nearest("a", max=0) == cache.nearest(vector(1), max=0) == []
        assert cache.nearest_many(["a", "b"], max=0) == [[], []]
        assert cache.nearest_many([]) == []
        with pytest.raises(ConfigurationError, match="similarity="):
            cache.nearest("a", max=0, similarity=2)


@pytest.mark.parametrize(
    ("measure", "wrong", "right"),
    [
        ("cosine", (-1.0001, 1.0001), (-1, 1)),
        ("euclidean", (-0.0001, 1.0001, -1), (0, 1)),
        ("dot", (), (-1e300, 1e300, float("inf"), float("-inf"))),
    ],
)
def test_a_similarity_out_of_range_names_the_range(isolated, measure, wrong, right):
    """Each measure has a range of its own, the ends of which belong to it; NaN is in none."""
    with create_vector_cache("memory", dimension=DIMENSION, similarity=measure) as cache:
        cache.add("a", 1, vector=vector(1))
        for similarity in (*wrong, float("nan")):
            with pytest.raises(ConfigurationError, match=rf"similarity=.*of {measure} it is a number from .* to"):
                cache.nearest(vector(1), similarity=similarity)
        for similarity in right:
            cache.nearest(vector(1), similarity=similarity)


@pytest.mark.parametrize("measure", ["cosine", "dot", "euclidean"])
def test_zeros_are_compared_where_they_can_be(isolated, measure):
    """Zeros have no angle, which is said; by product and by distance they are a vector like any other."""
    with create_vector_cache("memory", dimension=DIMENSION, similarity=measure) as cache:
        cache.add("a", 1, vector=vector(1))
        if measure == "cosine":
            for work in (lambda: cache.add("b", 2, vector=[0.0] * DIMENSION), lambda: cache.nearest([0.0] * DIMENSION)):
                with pytest.raises(ConfigurationError, match="zeros alone"):
                    work()
            assert len(cache) == 1
        else:
            cache.add("b", 2, vector=[0.0] * DIMENSION)
            assert [one.value for one in cache.nearest([0.0] * DIMENSION, similarity=0.0, max=2)][:1] == [2] or (
                measure == "dot"
            )
            assert len(cache.nearest([0.0] * DIMENSION, similarity=0.0, max=2)) == 2


def test_a_vector_of_another_length_names_both_and_the_model(isolated):
    """Of what model the vectors are, how long this one is and how long they are; none of a batch is stored."""
    with create_vector_cache("memory", dimension=DIMENSION, model="model-a") as cache:
        says = rf"3 dimensions, and this vector cache {DIMENSION} \(model 'model-a'\)"
        with pytest.raises(ConfigurationError, match=says):
            cache.add_many([("a", 1), ("b", 2)], vectors=[vector(1), [1.0, 2.0, 3.0]])
        with pytest.raises(ConfigurationError, match=says):
            cache.nearest([1.0, 2.0, 3.0])
        assert len(cache) == 0


def test_an_index_that_fits_is_used_without_a_word(isolated):
    """Nothing is said where nothing is wrong."""
    filled()
    assert read_anew() == []


@pytest.mark.parametrize("part", [0, 1, 4, 5, 8, 9, 12, 13, 40, 0.3, 0.6, 0.9, -16, -1])
def test_an_index_that_is_cut_short_is_made_anew_and_said_so(isolated, part):
    """Wherever it ends: all is read again, nothing is lost, and the next process finds a whole one."""
    filled()
    path = kept_in(isolated)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content)) if isinstance(part, float) else part])
    (said,) = read_anew()
    assert "made anew" in said
    assert read_anew() == []


@pytest.mark.parametrize("place", [0, 3, 4, 6, 11, 14, 30, 0.2, 0.5, 0.8, -17, -1])
def test_an_index_in_which_a_bit_was_changed_is_made_anew_and_said_so(isolated, place):
    """Wherever that is."""
    filled()
    path = kept_in(isolated)
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    (said,) = read_anew()
    assert "made anew" in said


def test_an_index_of_another_key_is_made_anew_and_said_so(isolated, monkeypatch):
    """A file that another team's key has sealed answers nothing."""
    filled()
    content = kept_in(isolated).read_bytes()
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(isolated / "other.key"))
    filled(dir=isolated / "other")
    kept_in(isolated / "other").write_bytes(content)
    (said,) = read_anew(dir=isolated / "other")
    assert said.startswith("DecryptionError: ")


def test_an_index_of_another_vector_cache_is_made_anew_and_said_so(isolated):
    """A file of another prefix, put in the place of this one's, is not taken for it."""
    filled()
    filled(prefix="other:", dir=isolated / "other")
    kept_in(isolated / "cache").write_bytes(kept_in(isolated / "other").read_bytes())
    (said,) = read_anew()
    assert "made anew" in said


def test_an_index_of_another_version_is_made_anew_and_said_so(isolated, monkeypatch):
    """What a later release has written is left to it."""
    with monkeypatch.context() as patch:
        patch.setattr(saved, "_MAJOR", saved._MAJOR + 1)
        filled()
    (said,) = read_anew()
    assert said.startswith("EntryUndecodable: ")
    assert "version" in said
    assert read_anew() == []


def test_an_index_whose_graph_is_of_other_entries_is_made_anew_and_said_so(isolated, monkeypatch):
    """Sealed by us, and yet with a graph of another number of vectors than it has slots."""
    filled()
    with monkeypatch.context() as patch:
        patch.setattr(collection, "made", lambda measure, dimension, kept=None: index.Graph(measure, dimension))
        (said,) = read_anew()
    assert "other entries" in said
