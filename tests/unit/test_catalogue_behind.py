"""What an invalidation does at once, and what it leaves to be done behind."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.entries.rows import Gone, View


@pytest.fixture
def cache(isolated):
    cache = create_cache()
    yield cache
    cache.close()


def steps(cache, ask):
    """Return how many hundred instructions of SQLite a question takes."""
    taken = []

    def count(db):
        db.set_progress_handler(lambda: taken.append(1), 100)

    cache.catalogue.rows.state.read(count)
    ask()
    cache.catalogue.rows.state.read(lambda db: db.set_progress_handler(None, 0))
    return len(taken)


def test_counting_everything_looks_at_few_rows(cache):
    """How many entries there are is told in as many steps whether there are a hundred or two thousand."""
    questions, view = cache.catalogue._questions, cache.catalogue._view()
    cache.mset({f"a{number}": number for number in range(100)})
    few = steps(cache, lambda: questions.count(view))
    cache.mset({f"b{number}": number for number in range(2000)})
    assert steps(cache, lambda: questions.count(view)) <= few + 1
    assert steps(cache, lambda: questions.dead(view, 100)) <= few + 10
    assert questions.count(view) == 2100


def test_what_is_below_a_floor_is_counted_out_whatever_its_model(cache, monkeypatch):
    """Rows of every label are compared with the floor."""
    monkeypatch.setattr(cache.catalogue.sweeper, "start", lambda: None)
    cache.mset({"a": 1, "b": 2})
    generations = cache._entries.generations.change(lambda g: g.invalidating_tags([b"t" * 16]))
    cache.set("c", 3)
    view = View(replace(generations, floor=generations.ver), cache._entries.now_ms())
    assert cache.catalogue._questions.count(view) == 1
    assert len(cache.catalogue._questions.dead(view, 10)) == 2


@pytest.mark.parametrize("what", ["clear", "invalidate_tag"])
def test_what_is_invalidated_is_published_whatever_is_being_removed(cache, what):
    """Publishing waits for nothing that goes on behind, and nobody is served what is still to be removed."""
    cache.set("a", 1, tags=("t",))
    cache.stats()
    published = threading.Event()
    change = cache._entries.change

    def told(*args):
        changed = change(*args)
        published.set()
        return changed

    cache._entries.change = told
    ask = threading.Thread(target=getattr(cache, what), args=("t",) if what == "invalidate_tag" else ())
    with cache.catalogue.sweeper.pause:  # as while it removes
        ask.start()
        assert published.wait(30)
        assert cache.get("a") is None
    ask.join()
    assert cache.stats().entries == 0


def test_nothing_is_swept_by_what_is_being_counted(cache):
    """While somebody counts what an invalidation concerns, no row of that goes; afterwards it does."""
    cache.set("a", 1, tags=("t",))
    sweeper, rows = cache.catalogue.sweeper, cache.catalogue.rows
    with sweeper.held_off():
        cache._entries.generations.change(lambda g: g.cleared(b"r" * 16))
        assert not sweeper._doom()
        assert rows.find(cache._value_id("a")).gone is Gone.HERE
    sweeper.start()
    sweeper.wait()
    assert rows.find(cache._value_id("a")).gone is Gone.INVALIDATED


def test_a_sweep_that_was_killed_is_gone_on_with_by_who_asks_next(cache):
    """What was marked and not removed takes no room until something is invalidated again."""
    cache.mset({"a": 1, "b": 2})
    cache.catalogue.settle()
    catalogue = cache.catalogue
    catalogue.sweeper.wait()
    cache._entries.generations.change(lambda g: g.cleared(b"r" * 16))
    while not catalogue.sweeper._doom():  # it is killed after this
        pass
    assert len(list(cache._entries.store.scan())) == 2
    assert cache.stats().entries == 0
    catalogue.sweeper.wait()
    assert list(cache._entries.store.scan()) == []


class InterruptedAfter:
    """A lock whose holder is interrupted each time that it was let go."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        raise KeyboardInterrupt


def test_an_interrupt_while_it_is_counted_holds_nothing_off(cache, monkeypatch):
    """Who is interrupted when beginning to count, or at its end, leaves the sweeper to go on."""
    cache.set("a", 1, tags=("t",))
    sweeper, rows = cache.catalogue.sweeper, cache.catalogue.rows
    with monkeypatch.context() as interrupted:
        interrupted.setattr(sweeper, "_lock", InterruptedAfter())
        for _ in range(2):
            with suppress(KeyboardInterrupt), sweeper.held_off():
                raise KeyboardInterrupt
    cache._entries.generations.change(lambda g: g.cleared(b"r" * 16))
    sweeper._doom()
    assert rows.find(cache._value_id("a")).gone is Gone.DOOMED
