"""The catalogue: it says what the store holds, whatever was evicted, removed, swept or damaged."""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listed_entries import agrees, asking_cell, listed_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.core import validity
from genai_cache_magic.entries.listing.results import Invalidation
from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.testing.contracts.store import FakeClock


def test_rows_say_what_entries_do(ask):
    """Listings from rows are the same, to the last field, as what opening the entries would show."""
    ask("a", tags=("x", "y"), run="sweep")
    ask("b")
    ask.cache().set("key", {"v": 1}, tags=("z",))
    ask.cache().set("key", {"v": 2})
    assert agrees(ask.cache())
    assert len(list(ask.cache().catalogue.items())) == 3


MOVES = {
    "set": lambda cache, n: cache.set(f"k{n}", n, tags=(f"t{n % 2}",)),
    "set short": lambda cache, n: cache.set(f"s{n}", n, ttl=60),
    "overwrite": lambda cache, n: cache.mset({"k0": n, "k1": n}),
    "delete": lambda cache, n: cache.delete(f"k{n}"),
    "tag": lambda cache, n: cache.invalidate_tag(f"t{n % 2}"),
    "pattern": lambda cache, n: cache.invalidate(f"k{n}"),
    "clear": lambda cache, _: cache.clear(),
    "wait": lambda cache, n: cache.clock.advance(61 * 10**n),
    "evict": lambda cache, n: [cache._entries.store.delete(key) for key in list(cache._entries.store.scan())[:n]],
    "sweep": lambda cache, _: (cache.catalogue.sweeper.start(), cache.catalogue.sweeper.wait()),
    "collect": lambda cache, _: cache.collect(),
    "look": lambda cache, _: cache.stats(),
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(sorted(MOVES)), st.integers(0, 3)), max_size=14))
def test_the_catalogue_agrees_with_the_entries(moves):
    """After any moves, rows and entries say the same, and counting agrees with listing."""
    cache = create_cache("memory")
    cache.clock = cache._entries.judge.clock = cache._entries.store._clock = FakeClock()
    for move, n in moves:
        MOVES[move](cache, n)
        assert agrees(cache)
    keys = cache.keys()
    assert [cache.exists(f"k{n}") for n in range(4)] == [f"k{n}" in keys for n in range(4)]
    cache.close()


def test_a_state_file_that_is_gone_is_made_anew(ask, isolated):
    """Removed under a running process or between two: rows come back from the entries, and that is said."""
    ask("a", tags=("t",))
    ask("b")
    directory = isolated / "cache" / "v1" / "default"
    (directory / "state.db").unlink()
    assert ask.cache().stats().entries == 2
    assert agrees(ask.cache())
    current_session().close()
    (directory / "state.db").unlink()
    told = []
    with create_cache(on_event=told.append) as cache:
        assert cache.invalidate_tag("t", dry_run=True).count == 1
        assert agrees(cache)
    assert [(event.error, "2 answers" in event.message) for event in told] == [("CatalogueRebuilt", True)]


def test_new_answers_beside_an_old_cache_are_not_taken_for_all(cache, isolated):
    """Entries that were there before the catalogue are counted too, however many rows there are by now."""
    cache.mset({"a": 1, "b": 2})
    cache.close()
    (isolated / "cache" / "v1" / "default" / "state.db").unlink()
    with create_cache() as again:
        again.mset({"c": 3, "d": 4})
        again._entries.store.delete(again._value_id("c"))
        assert again.keys() == ["a", "b", "d"]
        assert again.stats().entries == 3


def test_an_answer_is_stored_though_its_row_can_not_be_written(cache, monkeypatch):
    """Trouble with the state file costs no answer; the row is made up for when somebody asks."""

    def fail(*_, **__):
        raise StoreUnavailable("no room")

    with monkeypatch.context() as patch:
        patch.setattr(cache.catalogue.rows, "record", fail)
        cache.set("a", 1)
    assert cache.get("a") == 1
    assert cache.keys() == ["a"]


def test_evicted_entries_are_not_listed(isolated):
    """What made room for others is not counted any more."""
    cache = create_cache(size_limit=1 << 20)
    for number in range(40):
        cache.set(f"k{number:02}", os.urandom(60_000))
    assert 0 < len(cache.keys()) < 40
    assert cache.keys()[-1] == "k39"
    assert agrees(cache)
    cache.close()


def test_invalid_entries_give_their_room_back_behind(cache):
    """Once the sweeper is through, nothing of what was cleared is left, and what came after stays."""
    cache.mset({f"k{number}": number for number in range(20)}, tags=("t",))
    cache.set("other", 1)
    cache.catalogue.sweeper.wait()
    assert cache.invalidate_tag("t").count == 20
    cache.set("k3", "new")
    cache.catalogue.sweeper.wait()
    assert cache._entries.store.count() == 2
    assert cache.keys() == ["k3", "other"]
    assert cache.clear().count == 2
    cache.catalogue.sweeper.wait()
    assert cache._entries.store.count() == 0
    assert cache.catalogue.rows.present() == 0


def test_the_sweeper_leaves_what_was_stored_in_the_same_place(cache):
    """A row that was replaced since it was judged is not swept, nor its entry."""
    cache.set("a", 1)
    entry_id = cache._value_id("a")
    old = cache.catalogue.rows.find(entry_id)
    cache.set("a", 2)
    cache.catalogue.rows.mark_gone([old.n], Gone.DOOMED)
    cache.catalogue.sweeper._remove([old])
    assert cache.get("a") == 2
    assert cache.keys() == ["a"]


def test_an_invalidation_is_published_before_anything_is_read(cache, monkeypatch):
    """Counting may fail or take its time: by then nobody is served what was invalidated."""
    cache.set("a", 1, tags=("t",))

    def fail(*_, **__):
        raise StoreUnavailable("counting failed")

    by_cell = functools.partial(cache.catalogue.invalidate_cell, "c", [], dry_run=False)
    monkeypatch.setattr(cache.catalogue, "_settle", fail)
    for invalidate in (functools.partial(cache.invalidate_tag, "t"), cache.clear, by_cell):
        before = cache._entries.stamp()
        with pytest.raises(StoreUnavailable):
            invalidate()
        assert cache._entries.stamp() != before
    assert cache.get("a") is None


def test_rows_do_not_say_what_was_asked(ask, isolated):
    """No model, tag, run, person, key or prompt stands in the state file in a readable form."""
    ask("a secret question", tags=("secret-tag",), run="secret-run")
    ask.cache().set("secret-key", 1)
    ask.cache().invalidate_tag("secret-other")
    current_session().close()
    found = b"".join(path.read_bytes() for path in (isolated / "cache" / "v1" / "default").glob("state.db*"))
    assert len(found) > 4096
    for word in (b"secret", b"gpt-4", b"tester", b"openai", b"temperature"):
        assert word not in found


def test_damaged_columns_are_left_out(ask, isolated):
    """A row whose sealed column was changed is not shown, and breaks nothing."""
    ask("a")
    ask("b")
    with sqlite3.connect(isolated / "cache" / "v1" / "default" / "state.db") as database:
        database.execute("UPDATE detail SET sealed = zeroblob(length(sealed)) WHERE n = 1")
        database.execute("UPDATE name SET sealed = zeroblob(length(sealed))")
    database.close()
    assert len(list(ask.cache().catalogue.items())) == 1
    assert ask.cache().stats().by_model == {"?": 2}
    assert ask("c").misses == 1


def test_an_invalidation_that_reaches_further_is_counted_so(cache, monkeypatch):
    """Where single records would be too many, everything older is invalid, and is counted as that beforehand too."""
    monkeypatch.setattr("genai_cache_magic.core.validity.MAX_ENTRY_RECORDS", 3)
    cache.mset({f"k{number}": number for number in range(5)})
    cache.set("other", 1)
    assert cache.invalidate("k[01]", dry_run=True).count == 2
    assert cache.invalidate("k*", dry_run=True).count == 6
    assert cache.invalidate("k*").count == 6
    assert cache.get("other") is None


def test_a_directory_that_is_removed_has_a_catalogue_again(cache, isolated):
    """With the directory the rows are gone; what is stored from then on is listed."""
    cache.mset({"a": 1, "b": 2})
    shutil.rmtree(isolated / "cache")
    cache._entries.store._look_at = 0.0
    cache.set("c", 3)
    assert cache.keys() == ["c"]
    assert agrees(cache)
    assert (isolated / "cache" / "v1" / "default" / "state.db").stat().st_mode & 0o077 == 0


def test_names_and_the_newest(ask):
    """Names come without opening anything; the newest are listed first."""
    ask("a")
    ask.cache().mset({"key 1": 1, "key 2": 2})
    count, listed = ask.cache().catalogue.newest("*", 2)
    assert (count, [item.name for item in listed]) == (3, ["key 2", "key 1"])
    count, (item,) = ask.cache().catalogue.newest("gpt-*", 5)
    assert (count, item.name.partition(":")[0], item.metadata.run) == (1, "gpt-4.1-mini", "")
    assert ask.cache().keys("*1") == ["key 1"]


def test_a_row_number_is_never_used_twice(cache):
    """Whoever holds the number of a row that was replaced means no other one by it."""
    numbers = set()
    for turn in range(3):
        cache.set("a", turn)
        numbers.add(cache.catalogue.rows.find(cache._value_id("a")).n)
        cache.delete("a")
        cache.set("a", turn)
        numbers.add(cache.catalogue.rows.find(cache._value_id("a")).n)
    assert len(numbers) == 6


def test_what_is_born_while_the_sweeper_looks_is_not_swept(cache):
    """Rows are judged by a document that is younger than they are."""
    cache.set("old", 1)
    dead = cache.catalogue._questions.dead

    def born_meanwhile(view, limit):
        cache.catalogue._questions.dead = dead
        cache._entries.generations.change(lambda g: g.cleared(os.urandom(16)))
        cache.set("new", 2)
        return dead(view, limit)

    cache.catalogue._questions.dead = born_meanwhile
    cache.catalogue.sweeper.start()
    cache.catalogue.sweeper.wait()
    assert cache.catalogue.rows.find(cache._value_id("old")).gone is Gone.INVALIDATED
    assert cache.catalogue.rows.find(cache._value_id("new")).gone is Gone.HERE
    assert cache.keys() == ["new"]


def test_expired_entries_are_removed_from_disk_too(isolated):
    """What the store does not list any more, but still holds, goes with its row."""
    cache = create_cache()
    clock = cache._entries.judge.clock = cache._entries.store._clock = FakeClock()
    cache.mset({"a": 1, "b": 2}, ttl=60)
    cache.set("c", 3)
    cache.stats()
    clock.advance(61)
    cache.catalogue.sweeper.start()
    cache.catalogue.sweeper.wait()
    assert cache._entries.store.count() == cache.catalogue.rows.present() == 1
    assert cache.keys() == ["c"]
    cache.close()


@pytest.fixture
def of_an_older_release(ask, monkeypatch):
    """A cache that holds two values as release 0.1 has set them, without a tag for what they are counted under."""
    cache = ask.cache()
    made = cache._value_entry

    def untagged(key, value, birth):
        entry_id, entry = made(key, value, birth)
        return entry_id, replace(entry, header=replace(entry.header, tags=()))

    with monkeypatch.context() as older:
        older.setattr(cache, "_value_entry", untagged)
        cache.mset({"old": 1, "older": 2})
    return cache


@pytest.mark.parametrize("is_dry", [True, False])
def test_values_of_an_older_release_are_invalidated_by_what_they_are_counted_under(of_an_older_release, is_dry):
    """Beside those that say so themselves, each once."""
    cache = of_an_older_release
    cache.set("new", 3)
    for still in (3, 3 if is_dry else 0):
        assert cache.invalidate_tag("value", kind="model", dry_run=is_dry) == Invalidation(still, still, dry_run=is_dry)
    assert [cache.exists(key) for key in ("old", "older", "new")] == [is_dry] * 3
    cache.set("old", "again")
    assert cache.get("old") == "again"


def test_values_of_an_older_release_that_take_all_with_them_are_counted_so(ask, of_an_older_release, monkeypatch):
    """As with a pattern: of more than there are records for, whatever is older is invalid too."""
    ask("a model's answer")
    monkeypatch.setattr(validity, "MAX_ENTRY_RECORDS", 1)
    for is_dry in (True, False):
        assert of_an_older_release.invalidate_tag("value", kind="model", dry_run=is_dry).count == 3
    assert of_an_older_release.stats().entries == 0


def test_what_is_not_swept_yet_is_in_no_answer(cache, monkeypatch):
    """Before anything is removed, counts, listings, tags and ages leave out what was invalidated, each entry once."""
    monkeypatch.setattr(cache.catalogue.sweeper, "start", lambda: None)
    cache.mset({"a": 1, "b": 2}, tags=("one", "two"))
    cache.mset({"c": 3}, tags=("two", "all"))
    cache.mset({"d": 4}, tags=("all",))
    assert cache.invalidate_tag("one").count == 2
    assert cache.invalidate_tag("two").count == 1
    assert cache.keys() == ["d"]
    assert cache.stats().entries == 1
    assert cache.stats().by_model == {"value": 1}
    assert cache.catalogue.tags()["user"] == {"all": 1}
    assert cache.invalidate_tag("all", dry_run=True) == Invalidation(1, 1, dry_run=True)
    assert cache.catalogue.invalidate_older_than(-60, dry_run=True).count == 1
    cache.delete("d")
    assert cache.stats().entries == 0
