"""A vector cache finds what is nearest among what is stored, and nothing that is not valid any more."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from vector_texts import DIMENSION, embed, few_are_a_graph, near, noted_events, np, texts_of, vector, vector_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_vector_cache
from genai_cache_magic.core.policy import Fetch, Why
from genai_cache_magic.errors import EntryUndecodable, StoreUnavailable
from genai_cache_magic.vectors import INSTALL_LOCAL, index
from genai_cache_magic.vectors.measures import measure_of
from genai_cache_magic.vectors.record import Record, read_record


def test_what_was_added_is_found_by_its_text(cache):
    """The same text is found without a comparison, with its value as it was given, and is as alike as can be."""
    cache.add("What is a cache?", {"answer": ["a", 1]})
    (found,) = cache.nearest("What is a cache?")
    assert (found.text, found.value, found.similarity) == ("What is a cache?", {"answer": ["a", 1]}, 1.0)


@pytest.mark.parametrize("value", [b"\x00bytes", "text", {"a": [1, 2.5, None]}, 2**70, "", b""])
def test_values_come_back_as_they_were(cache, value):
    """Bytes, text and JSON come back as they went in."""
    cache.add("a text", value)
    (found,) = cache.nearest(near("a text"), similarity=0.9)
    assert found.value == value
    assert type(found.value) is type(value)


def test_what_is_near_is_found_by_its_vector(cache):
    """A vector finds the nearest ones first, no more than asked for, and none below the threshold."""
    cache.add_many({f"text {n}": n for n in range(30)})
    found = cache.nearest(near("text 7"), similarity=0.9, max=5)
    assert texts_of(found) == ["text 7"]
    ranked = cache.nearest(near("text 7"), similarity=-1, max=30)
    assert len(ranked) == 30
    assert [one.similarity for one in ranked] == sorted((one.similarity for one in ranked), reverse=True)
    assert texts_of(ranked)[0] == "text 7"


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("cosine", lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)),
        ("dot", lambda a, b: a @ b),
        ("euclidean", lambda a, b: 1 / (1 + np.linalg.norm(a - b))),
    ],
)
@pytest.mark.parametrize("count", [10, 60])
def test_similarity_is_what_its_name_says(isolated, few, measure, expected, count):
    """Each measure is computed from the vectors as they were given, whichever way they were found."""
    with create_vector_cache("memory", dimension=DIMENSION, similarity=measure, embed=embed) as cache:
        cache.add_many({f"text {n}": n for n in range(count)})
        asked = near("text 3", 0.3)
        least = 0.0 if measure == "euclidean" else -1000.0 if measure == "dot" else -1.0
        found = cache.nearest(asked, similarity=least, max=count)
        assert len(found) == count
        for one in found:
            exact = expected(vector(one.text).astype(np.float64), asked.astype(np.float64))
            assert one.similarity == pytest.approx(exact, abs=1e-4)


def test_many_are_found_as_few_are(isolated, few):
    """With a graph the nearest is the one that comparing with all of them finds."""
    with create_vector_cache("memory", dimension=DIMENSION, embed=embed) as cache:
        cache.add_many({f"text {n}": n for n in range(300)})
        for n in range(0, 300, 7):
            assert texts_of(cache.nearest(near(f"text {n}"), similarity=0.5)) == [f"text {n}"]
        assert type(cache._index._collection._index).__name__ == few


@pytest.mark.parametrize("dimension", [384, 768])
def test_a_graph_reaches_all_that_was_added(few, dimension):
    """No vector of a large addition is left without a link: each is found by itself."""
    added = np.random.default_rng(1).standard_normal((3_000, dimension)).astype(np.float32)
    measure = measure_of("cosine")
    graph = index.made(measure, dimension)
    graph.add(measure.prepared(added))
    assert [n for n, one in enumerate(measure.prepared(added)) if n not in graph.search(one, 4)[0]] == []


def test_what_is_new_is_found_at_once(cache, few):
    """What another object of the same namespace adds, replaces or removes is seen by the next look-up."""
    cache.add_many({f"text {n}": n for n in range(50)})
    assert texts_of(cache.nearest(near("text 3"))) == ["text 3"]
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed) as other:
        other.add("new", 1)
        other.add("text 3", "replaced", vector=vector("elsewhere"))
        other.delete("text 5")
        other.add("text 4", "another value")
    assert texts_of(cache.nearest(near("new"))) == ["new"]
    assert cache.nearest(near("text 3")) == []
    assert [one.value for one in cache.nearest(near("elsewhere"))] == ["replaced"]
    assert cache.nearest(near("text 5")) == []
    assert [one.value for one in cache.nearest(near("text 4"))] == ["another value"]


@pytest.mark.parametrize("many", [5, 50])
def test_what_is_invalid_is_never_found(cache, few, many):
    """Invalidated by tag, cleared, deleted: gone for every way to find it, and the next nearest takes its place."""
    cache.add_many({f"text {n}": n for n in range(many)})
    cache.add("tagged", 1, tags=["t"])
    assert texts_of(cache.nearest(near("tagged"), similarity=-1)) == ["tagged"]
    assert cache.invalidate_tag("t").count == 1
    assert cache.nearest("tagged", similarity=0.99) == []
    assert len(cache.nearest(near("tagged"), similarity=-1, max=many + 1)) == many
    assert len(cache) == many
    assert cache.clear().count == many
    assert cache.nearest(near("text 1"), similarity=-1) == []
    assert len(cache) == 0
    cache.add("text 1", "anew")
    assert [one.value for one in cache.nearest(near("text 1"))] == ["anew"]


def test_texts_of_no_named_model_are_invalidated_by_what_they_are_counted_under(cache):
    """Statistics name them `vectors`; a model that is named is counted and invalidated by its own name."""
    cache.add_many({"one": 1, "two": 2})
    with create_vector_cache("disk", dimension=DIMENSION, embed=embed, model="embedder") as other:
        other.add("three", 3)
        assert other.cache.stats().by_model == {"vectors": 2, "embedder": 1}
    assert cache.cache.invalidate_tag("vectors", kind="model").count == 2
    assert cache.nearest(near("one"), similarity=-1) == []
    assert cache.cache.stats().by_model == {"embedder": 1}


def test_what_expired_is_never_found(isolated):
    """After its time to live an entry is found neither by its text nor by its vector."""
    now = [1_700_000_000.0]
    with create_vector_cache("memory", dimension=DIMENSION, embed=embed) as cache:
        cache.cache._entries.judge.clock = lambda: now[0]
        cache.add("short", 1, ttl="1h")
        assert texts_of(cache.nearest(near("short"))) == ["short"]
        now[0] += 3601
        assert cache.nearest("short", similarity=0.9) == []
        assert cache.nearest(near("short")) == []


def test_what_a_wrong_clock_hides_is_found_once_it_is_right(isolated, monkeypatch):
    """Looked for while the clock of the machine is a day ahead, and again once it was set."""
    now = [1_700_000_000.0]
    with create_vector_cache("memory", dimension=DIMENSION, embed=embed) as cache:
        cache.cache._entries.judge.clock = lambda: now[0]
        monkeypatch.setattr(cache._index._opened(), "_wall", lambda: now[0])
        cache.add("short", 1, ttl="1h")
        cache.add("deleted", 2)
        assert texts_of(cache.nearest(near("short"))) == ["short"]
        cache.delete("deleted")
        now[0] += 86_400
        assert cache.nearest(near("short")) == []
        now[0] -= 86_400
        assert texts_of(cache.nearest(near("short"))) == ["short"]
        assert cache.nearest(near("deleted")) == []


def test_what_rests_is_found_afterwards(cache, monkeypatch):
    """What the team could not confirm for a while is found as soon as it can."""
    cache.add("a", 1)
    assert texts_of(cache.nearest(near("a"), similarity=0.5)) == ["a"]
    with monkeypatch.context() as patch:
        patch.setattr(cache.cache, "find", lambda ids: dict.fromkeys(ids, Fetch(Why.UNCONFIRMED)))
        assert cache.nearest(near("a"), similarity=0.5) == []
    assert texts_of(cache.nearest(near("a"), similarity=0.5)) == ["a"]


def test_a_text_that_is_none_is_no_record():
    """An entry whose text ends within a character counts as damaged."""
    whole = Record("\u00e9", "json", b"1", bytes(4)).response()
    headers = tuple((name, "1" if name == "text-bytes" else value) for name, value in whole.headers)
    with pytest.raises(EntryUndecodable):
        read_record(replace(whole, headers=headers))


def test_values_can_be_chosen(cache):
    """`where` is asked of each that is near enough, and goes on to the next until there are enough."""
    cache.add_many({f"text {n}": n for n in range(40)})
    found = cache.nearest(near("text 3"), similarity=-1, max=4, where=lambda one: one.value % 2 == 0)
    assert len(found) == 4
    assert all(one.value % 2 == 0 for one in found)
    assert cache.nearest("text 3", similarity=-1, max=1, where=lambda one: one.value == 8)[0].value == 8


def test_many_questions_are_embedded_at_once(isolated):
    """Texts without an entry of their own are given to ``embed`` in one call, each once."""
    asked = []

    def counting(texts):
        asked.append(list(texts))
        return embed(texts)

    with create_vector_cache("memory", dimension=DIMENSION, embed=counting) as cache:
        cache.add_many([("a", 1), ("b", 2)])
        found = cache.nearest_many(["a", "x", "b", "x", near("a")], similarity=0.9)
    assert [texts_of(one) for one in found] == [["a"], [], ["b"], [], ["a"]]
    assert asked == [["a", "b"], ["x"]]


def test_what_is_there_just_so_is_not_written_again(cache, monkeypatch):
    """Adding the same again changes nothing: a notebook that runs again publishes nothing."""
    cache.add_many({"a": 1, "b": 2})
    before = cache.cache._entries.stamp()
    cache.add_many({"a": 1, "b": 2})
    assert cache.cache._entries.stamp() == before
    cache.add("a", 3)
    assert cache.nearest("a")[0].value == 3


@pytest.mark.parametrize("other", [{"model": "another"}, {"prefix": "another:"}, {"dimension": DIMENSION + 1}])
def test_other_vectors_never_meet(cache, other):
    """What differs in prefix, model or dimension is another vector cache, whatever the texts are."""
    cache.add("a", 1)
    given = {"dimension": DIMENSION, "embed": embed, **other}
    with create_vector_cache("disk", **given) as another:
        assert len(another) == 0
        assert another.nearest([1.0] * given["dimension"], similarity=-1) == []
        another.clear()
    assert texts_of(cache.nearest("a")) == ["a"]


def test_many_threads_find_and_add_at_once(cache, few):
    """Each thread finds what it added, while the others add."""
    lost = []

    def work(number: int) -> None:
        for n in range(15):
            cache.add(f"{number}-{n}", n)
            if texts_of(cache.nearest(near(f"{number}-{n}"))) != [f"{number}-{n}"]:
                lost.append((number, n))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []
    assert len(cache) == 60


def test_trouble_is_told_and_finds_nothing(isolated, monkeypatch):
    """Where it can't be known what is stored, a look-up finds nothing and says why; nothing is raised."""
    events = []
    with create_vector_cache("memory", dimension=DIMENSION, embed=embed, on_event=events.append) as cache:
        cache.add("a", 1)

        def fails(*_, **__):
            raise StoreUnavailable("the disk is gone")

        monkeypatch.setattr(cache.cache.catalogue, "carrying", fails)
        assert cache.nearest(near("a")) == []
    assert "the disk is gone" in events[0].message


def test_a_model_of_this_machine_knows_what_texts_mean(isolated):
    """Its vectors are those of the model's own library: these two similarities were measured with it."""
    pytest.importorskip("all_minilm_l6_v2", reason=INSTALL_LOCAL)
    pytest.importorskip("tokenizers", reason=INSTALL_LOCAL)
    with create_vector_cache("memory", embed="local") as cache:
        cache.add("Is aspirin safe with ibuprofen?", 1)
        cache.add("What is 17 plus 25?", 2)
        (found,) = cache.nearest("Is aspirin not safe with ibuprofen?")
        assert (found.value, round(found.similarity, 3)) == (1, 0.994)
        (found,) = cache.nearest("What is 17 plus 26?", similarity=0.8)
        assert (found.value, round(found.similarity, 3)) == (2, 0.896)
        cache.nearest_many(["", "x" * 1_000_000, "\ud800"])


def test_what_only_looks_alike_is_left_out_if_asked(isolated):
    """Guarded, a text in which a number was changed is no answer, however near; another that is meant is found."""
    texts = ["What is 17 plus 25?", "Could you tell me: what is 17 plus 26?"]

    def alike(given):
        return [vector("one place") + 0.01 * vector(text) for text in given]

    with create_vector_cache("memory", dimension=DIMENSION, embed=alike) as cache:
        cache.add(texts[0], 42)
        assert texts_of(cache.nearest("What is 17 plus 26?")) == [texts[0]]
        assert cache.nearest("What is 17 plus 26?", guarded=True) == []
        cache.add(texts[1], 43)
        assert [one.value for one in cache.nearest("What is 17 plus 26?", guarded=True)] == [43]
        assert cache.nearest("What is 17 plus 26?", guarded=True, where=lambda one: one.value != 43) == []
        assert len(cache.nearest(vector("one place"), guarded=True, max=2)) == 2


def test_a_text_that_is_not_read_to_its_end_is_left_out_if_asked(isolated):
    """Guarded, a text of whose end its vector says nothing is alike to none but itself."""

    class ReadsTheStart:
        def __call__(self, given):
            return [vector(text[:10]) for text in given]

        def reads_whole(self, text):
            return len(text) <= 40

    start = "describe how plants grow "
    long, other, short = (
        f"{start}{'when left alone ' * 4}",
        f"{start}{'while birds sing nearby ' * 4}",
        f"{start}indoors",
    )
    with create_vector_cache("memory", dimension=DIMENSION, embed=ReadsTheStart()) as cache:
        cache.add(long, 1)
        assert texts_of(cache.nearest(other)) == [long]
        assert cache.nearest(other, guarded=True) == []
        assert cache.nearest(short, guarded=True) == []
        assert texts_of(cache.nearest(long, guarded=True)) == [long]
