"""However much is added, a vector cache reads, writes and remembers no more than what there is."""

from __future__ import annotations

import itertools

import pytest

from genai_cache_magic import create_vector_cache
from genai_cache_magic.api import vector_entries
from genai_cache_magic.core import validity
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.listing.sweeper import Sweeper
from genai_cache_magic.entries.placing import Places

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytest.importorskip("usearch", reason="pip install 'genai-cache-magic[vector]'")

from genai_cache_magic.vectors import collection  # noqa: E402 - needs numpy
from genai_cache_magic.vectors.measures import measure_of  # noqa: E402
from genai_cache_magic.vectors.saved import IndexFile  # noqa: E402

DIMENSION = 8
FEW, SAVE_AFTER = 20, 10


def vectors(first, count):
    return np.random.default_rng(first).standard_normal((count, DIMENSION)).astype(np.float32)


@pytest.fixture
def cache(isolated, monkeypatch):
    monkeypatch.setattr(collection, "FEW", FEW)
    monkeypatch.setattr(collection, "_SAVE_AFTER", SAVE_AFTER)
    with create_vector_cache("disk", dimension=DIMENSION) as cache:
        yield cache


@pytest.fixture
def read(cache, monkeypatch):
    """How many entries each reading was of."""
    counts = []
    original = cache._entries.read

    def counted(ids):
        wanted = list(ids)
        counts.append(len(wanted))
        return original(wanted)

    monkeypatch.setattr(cache._entries, "read", counted)
    return counts


def add(cache, first, count):
    texts = [(f"text {n}", n) for n in range(first, first + count)]
    cache.add_many(texts, vectors=vectors(first, count), tags=["t"])


def database(cache):
    """Do something with the database of the catalogue."""
    return cache.cache.catalogue._questions._rows.state.read


def rows(cache):
    """How many rows the catalogue has of entries, and of their tags."""
    read = database(cache)
    return tuple(read(lambda db, t=t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0]) for t in ("entry", "tag"))


def test_each_vector_is_read_once(cache, read):
    """A look-up reads what came since the last one, and what it returns, however much is there."""
    asked = vectors(1, 1)[0]
    for batch in range(40):
        add(cache, 25 * batch, 25)
        before = len(read)
        cache.nearest(asked, similarity=-1)
        assert sum(read[before:]) == 25
        before = len(read)
        cache.nearest(asked, similarity=-1)
        assert sum(read[before:]) == 0


def test_rows_are_asked_for_only_once_something_was_written(cache, monkeypatch):
    """A look-up that follows another asks for no rows; after a writing, here or by another, it finds what is new."""
    questions = cache.cache.catalogue._questions
    asked = []
    original = questions.carrying
    monkeypatch.setattr(questions, "carrying", lambda *a, **more: asked.append(1) or original(*a, **more))
    add(cache, 0, 50)
    cache.nearest(vectors(1, 1)[0], similarity=-1)
    asked.clear()
    for _ in range(9):
        cache.nearest(vectors(1, 1)[0], similarity=-1)
    assert len(asked) <= 1  # what is done behind an addition is a writing too
    cache.add("one more", 1, vector=vectors(7_000, 1)[0])
    assert cache.nearest(vectors(7_000, 1)[0], similarity=0.999)[0].text == "one more"
    with create_vector_cache("disk", dimension=DIMENSION) as other:
        other.add("another's", 2, vector=vectors(8_000, 1)[0])
        assert cache.nearest(vectors(8_000, 1)[0], similarity=0.999)[0].text == "another's"
        other.clear()
        other.add("after all went", 3, vector=vectors(9_000, 1)[0])
        assert [one.text for one in cache.nearest(vectors(9_000, 1)[0], similarity=-1, max=9)] == ["after all went"]
    assert asked


@pytest.mark.parametrize("count", [10, 50])
def test_what_is_added_after_the_catalogue_was_lost_is_found(cache, isolated, read, count):
    """Rows are numbered anew where their file was removed: what is new has a number that was there before."""
    add(cache, 0, count)
    assert cache.nearest(vectors(0, count)[3], similarity=0.999)[0].text == "text 3"
    for path in isolated.rglob("state.db*"):
        path.unlink()
    for n in range(7_000, 7_005):
        cache.add(f"text {n}", n, vector=vectors(n, 1)[0])
        assert cache.nearest(vectors(n, 1)[0], similarity=0.999)[0].text == f"text {n}"
    assert cache.nearest(vectors(0, count)[3], similarity=0.999)[0].text == "text 3"


def test_a_file_that_was_opened_again_is_no_other(cache, read):
    """After an interrupt, say: rows are asked for once more, and no entry is read again."""
    add(cache, 0, 50)
    assert cache.build() == 50
    cache.cache.catalogue._questions._rows.state._drop()
    read.clear()
    cache.add("new", 1, vector=vectors(7_000, 1)[0])
    assert cache.nearest(vectors(7_000, 1)[0], similarity=0.999)[0].text == "new"
    assert sum(read) <= 2  # the new one, and whether there was one


@pytest.mark.parametrize("again", [7_000, 8_000])
def test_what_is_stored_again_while_it_is_found_to_be_gone_stays(cache, monkeypatch, again):
    """With the same vector or another one: what one thread saw of the old entry says nothing of the new one."""
    add(cache, 0, 50)
    cache.add("changing", 1, vector=vectors(7_000, 1)[0])
    assert cache.nearest(vectors(7_000, 1)[0], similarity=0.999)[0].value == 1
    cache.delete("changing")
    look = cache._entries.look

    def stored_meanwhile(ids):
        found = look(ids)
        monkeypatch.setattr(cache._entries, "look", look)
        cache.add("changing", 2, vector=vectors(again, 1)[0])
        cache.build()
        return found

    monkeypatch.setattr(cache._entries, "look", stored_meanwhile)
    cache.nearest(vectors(7_000, 1)[0], similarity=0.999)
    assert cache.nearest(vectors(again, 1)[0], similarity=0.999)[0].value == 2


def test_a_file_is_written_as_often_as_its_size_has_grown(cache, monkeypatch):
    """It is written as a whole: all writing together comes to a few times what it holds in the end."""
    written = []
    original = IndexFile.write
    monkeypatch.setattr(
        IndexFile, "write", lambda self, slots, graph: written.append(len(slots)) or original(self, slots, graph)
    )
    for batch in range(200):
        add(cache, 10 * batch, 10)
        cache.nearest(vectors(1, 1)[0], similarity=-1)
    assert written
    assert (
        written[-1] >= 2_000 * (1 - 1 / collection._SAVE_SHARE) - 10
    )  # the rest a process that is killed has not kept
    assert sum(written) <= (collection._SAVE_SHARE + 2) * 2_000


def test_what_is_replaced_takes_no_room(cache, isolated):
    """The same texts with other vectors, over and over: neither slots, nor rows, nor the file grow with that."""
    live = 50
    sizes = []
    for turn in range(40):
        texts = [(f"text {n}", turn) for n in range(live)]
        cache.add_many(texts, vectors=vectors(turn, live), tags=["t"])
        found = cache.nearest(vectors(turn, live)[7], similarity=0.999)
        assert [(one.text, one.value) for one in found] == [("text 7", turn)]
        assert len(cache._index._collection._slots) <= 3 * live
        cache._index.save()
        sizes.append(sum(path.stat().st_size for path in isolated.rglob("vectors-*")))
        assert len(cache) == live
    assert max(sizes[20:]) <= max(sizes[:20])
    assert cache.build() == live
    entries, tags = rows(cache)
    assert entries <= 2 * live
    assert tags <= 2 * 3 * live


def test_who_replaces_more_than_a_day_has_room_for_is_told(isolated, monkeypatch):
    """What is older than all that was replaced is out of date then, and that is said, once for each time."""
    for module in (validity, vector_entries):
        monkeypatch.setattr(module, "MAX_ENTRY_RECORDS", 25)
    events = []
    with create_vector_cache("memory", dimension=DIMENSION, on_event=events.append) as cache:
        cache.add("older", 1, vector=vectors(1, 1)[0])
        for turn in range(2):  # the first time all are new
            for first in (0, 10, 20):
                assert events == []
                add(cache, first, 10)
            assert len(cache) == (31 if turn == 0 else 10)
        (event,) = events
        assert "clear()" in event.message
        cache.clear()
        for first in (0, 10, 20, 30, 40):
            add(cache, first, 10)
        assert len(cache) == 50
        assert events == [event]


@pytest.mark.parametrize("how", ["clear", "invalidate"])
def test_what_is_invalid_already_is_not_replaced(isolated, monkeypatch, how):
    """What was cleared is added anew without a record, though all of it still lies there."""
    for module in (validity, vector_entries):
        monkeypatch.setattr(module, "MAX_ENTRY_RECORDS", 25)
    monkeypatch.setattr(Places, "remove_dead", lambda self, ids: None)  # it comes later
    with create_vector_cache("memory", dimension=DIMENSION) as cache:
        for _ in range(3):
            for first in (0, 10, 20):
                add(cache, first, 10)
            assert len(cache) == 30
            assert not cache.cache.parts.entries.generations.current().entries
            cache.clear() if how == "clear" else cache.invalidate_tag("t")


def test_a_corpus_that_was_cleared_is_added_anew_at_once(isolated, monkeypatch):
    """Before anything is swept, and beyond what a day has room for: nothing of it counts as replaced, and all stays."""
    for module in (validity, vector_entries):
        monkeypatch.setattr(module, "MAX_ENTRY_RECORDS", 25)
    monkeypatch.setattr(Sweeper, "start", lambda *_, **__: None)
    events = []
    with create_vector_cache("memory", dimension=DIMENSION, on_event=events.append) as cache:
        for turn in range(3):
            for first in (0, 10, 20, 30, 40):
                cache.add_many([(f"text {n}", turn) for n in range(first, first + 10)], vectors=vectors(first, 10))
            assert len(cache) == 50
            assert [near.value for (near,) in cache.nearest_many([f"text {n}" for n in range(50)])] == [turn] * 50
            cache.clear()
            assert len(cache) == 0
    assert events == []


def test_what_is_gone_takes_no_room(cache):
    """Added, looked for and deleted, over and over: nothing of it is remembered."""
    add(cache, 0, FEW + 5)
    for n in range(100, 300):
        cache.add(f"text {n}", n, vector=vectors(n, 1)[0])
        assert cache.nearest(vectors(n, 1)[0], similarity=0.999)[0].value == n
        cache.delete(f"text {n}")
        assert cache.nearest(vectors(n, 1)[0], similarity=0.999) == []
    assert len(cache) == FEW + 5
    assert len(cache._index._collection._slots) <= 3 * (FEW + 5)
    assert len(cache._index._collection._awaited) <= FEW


def test_a_step_takes_no_more_of_many(cache):
    """The database does as much for an addition and a look-up among two thousand as among two hundred."""
    asked = vectors(1, 1)[0]
    fresh = itertools.count(10_000)
    done = itertools.count()
    read = database(cache)

    def instructions():
        """Return how many the database carries out, the least of several times."""
        read(lambda db: db.set_progress_handler(lambda: next(done) and 0, 1))
        counts = []
        for _ in range(5):
            before = next(done)
            add(cache, next(fresh), 1)
            cache.nearest(asked, similarity=-1)
            counts.append(next(done) - before)
        read(lambda db: db.set_progress_handler(None, 1))
        return min(counts)

    add(cache, 0, 200)
    cache.nearest(asked, similarity=-1)
    few = instructions()
    add(cache, 200, 1_800)
    cache.nearest(asked, similarity=-1)
    assert 100 < instructions() <= 1.5 * few


def test_what_can_not_be_read_is_given_up():
    """Ten minutes after its row was seen: it is asked for at no look-up any more."""
    now, asked = [0.0], []
    lost = EntryId(bytes(32).hex())
    held = collection.Collection(
        measure_of("cosine"),
        DIMENSION,
        members=lambda after: [collection.Member(1, lost)] if after < 1 else [],
        everything=lambda: collection.Members([1], [bytes(32)]),
        stamp=lambda: collection.Seen(None, object()),
        vectors=lambda ids: asked.extend(ids) or {},
        has_graphs=False,
        file=None,
        clock=lambda: now[0],
    )
    for now[0] in (0.0, 1.0, 100.0, 601.0):
        held.settle()
    assert asked
    asked.clear()
    for now[0] in (601.0, 602.0, 700.0):
        held.settle()
    assert asked == []
