"""The catalogue: it says what the store holds, whatever was killed, evicted or removed, and why what is gone is so."""

from __future__ import annotations

import functools
import os
import shutil
import sqlite3
import threading
from datetime import UTC, datetime

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.session import current_session
from genai_cache_magic.core.model import Entry, EntryId, Metadata, Response
from genai_cache_magic.entries import placing
from genai_cache_magic.entries.catalogue import Invalidation
from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.errors import ReplayMiss, StoreUnavailable
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.contracts.store import FakeClock

DAY_S = 86_400


@pytest.fixture
def ask(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:

        def ask(text="hello", temperature=0.5, **options):
            with llm_cache(**options) as cell:
                client.chat.completions.create(
                    model="gpt-4.1-mini", temperature=temperature, messages=[{"role": "user", "content": text}]
                )
            return cell

        ask.cache = lambda: current_session().cache("default")
        yield ask


@pytest.fixture
def cache(isolated):
    events = []
    cache = create_cache(on_event=events.append)
    cache.events = events
    yield cache
    cache.close()


def later(cache, monkeypatch, seconds):
    clock = cache._entries.judge.clock
    monkeypatch.setattr(cache._entries.judge, "clock", lambda: clock() + seconds)


def agrees(cache):
    """Return whether the catalogue lists exactly what opening every entry finds."""
    opened = {entry_id: (header, metadata) for entry_id, header, metadata in cache._entries.scan()}
    listed = {item.entry_id: (item.header, item.metadata) for item in cache.catalogue.items()}
    assert cache.stats().entries == len(listed)
    assert cache.clear(dry_run=True).known == len(listed)
    return opened == listed


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


class Killed(BaseException):
    """The process ends here."""


def killed(*_, **__):
    raise SystemExit


@pytest.mark.parametrize("moment", ["before the entry", "before the row is gone"])
def test_a_kill_between_row_and_entry_is_made_up_for(cache, monkeypatch, moment):
    """A row without its entry is not listed or counted."""
    cache.set("kept", 1)
    with monkeypatch.context() as patch:
        if moment == "before the entry":
            patch.setattr(type(cache._entries.store), "put_if", killed)
            with pytest.raises(SystemExit):
                cache.set("lost", 2)
        else:
            cache.set("lost", 2)
            patch.setattr(cache._entries.places, "mark_gone", killed)
            with pytest.raises(SystemExit):
                cache.delete("lost")
    with create_cache() as other:
        assert other.keys() == ["kept"]
        assert agrees(other)


def test_a_row_that_another_process_gives_up_too_soon_is_written_again(cache, monkeypatch):
    """Who compares rows and entries while an entry is on its way can't tell its row from that of a killed writer."""
    put_many = placing.put_many

    def compared_before(*given):
        other.catalogue._comparison.compare()
        return put_many(*given)

    with create_cache() as other, monkeypatch.context() as patch:
        patch.setattr(placing, "put_many", compared_before)
        cache.mset({"a": 1, "b": 2})
    assert cache.catalogue.rows.present() == 2  # before anybody compares again
    assert cache.keys() == ["a", "b"]


def test_killed_before_it_is_written_again(cache, monkeypatch):
    """An entry whose row was given up too soon, beside a row whose entry never came: their numbers are equal."""
    put_many = placing.put_many

    def compared_before(store, puts):
        other.catalogue._comparison.compare()
        put = put_many(store, puts)
        if puts:
            raise Killed
        return put

    def killed_before(_, puts):
        if puts:
            raise Killed
        return []

    with create_cache() as other:
        for key, killer in (("stored", compared_before), ("lost", killed_before)):
            with monkeypatch.context() as patch:
                patch.setattr(placing, "put_many", killer)
                with pytest.raises(Killed):
                    cache.set(key, 1)
        assert cache.catalogue.rows.present() == cache._entries.store.count() == 1
        assert other.keys() == cache.keys() == ["stored"]
        assert agrees(cache)


def test_numbers_are_believed_again(cache, monkeypatch):
    """Once nothing that was on its way then can be on its way still."""
    cache.set("kept", 1)
    cache.set("evicted", 1)
    cache._entries.store.delete(cache._value_id("evicted"))
    assert cache.keys() == ["kept"]
    compare = cache.catalogue._comparison.compare
    compared = []
    monkeypatch.setattr(cache.catalogue._comparison, "compare", lambda: compared.append(1) or compare())
    cache.keys()
    assert compared == [1]
    later(cache, monkeypatch, 61)
    cache.keys()
    cache.keys()
    assert compared == [1, 1]


def test_invalidated_and_swept_before_there_is_a_row(cache, monkeypatch):
    """An answer that was found valid a moment before is not listed for ever: it is swept when somebody looks again."""
    put = cache._entries.places._put

    def swept_before(*given):
        other.invalidate_tag("a")
        other.catalogue.sweeper.wait()
        return put(*given)

    with create_cache() as other:
        cache.set("stays", 1, tags=("b",))
        with monkeypatch.context() as patch:
            patch.setattr(cache._entries.places, "_put", swept_before)
            cache.set("invalid", 1, tags=("a",))
        assert cache.get("invalid") is None
        assert other.keys() == cache.keys() == ["stays"]
        assert agrees(cache)


def test_a_row_of_what_is_invalid_is_made_again(cache):
    """Whatever was swept before: an entry that nobody removed is not listed as a valid one."""
    cache.set("stays", 1)
    entry_id = cache._value_id("invalid")
    cache.set("invalid", 1, tags=("a",))
    blob = cache._entries.store.get(entry_id)
    cache.invalidate_tag("a")
    cache.catalogue.sweeper.wait()
    assert cache.keys() == ["stays"]
    cache._entries.store.put(entry_id, blob, ttl_s=60)
    assert cache.keys() == ["stays"]
    assert agrees(cache)


def test_an_answer_is_stored_though_its_row_can_not_be_written(cache, monkeypatch):
    """Trouble with the state file costs no answer; the row is made up for when somebody asks."""

    def fail(*_, **__):
        raise StoreUnavailable("no room")

    with monkeypatch.context() as patch:
        patch.setattr(cache.catalogue.rows, "record", fail)
        cache.set("a", 1)
    assert cache.get("a") == 1
    assert cache.keys() == ["a"]


def test_two_processes_write_at_once(isolated):
    """Rows of several writers, each with a connection of its own, are all there."""
    caches = [create_cache() for _ in range(3)]

    def work(cache, number):
        for turn in range(15):
            cache.set(f"{number}:{turn}", turn)
            cache.set("shared", [number, turn])

    threads = [threading.Thread(target=work, args=(cache, number)) for number, cache in enumerate(caches)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agrees(caches[0])
    assert len(caches[1].keys()) == 46
    for cache in caches:
        cache.close()


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


def test_an_expired_answer_is_called_so(ask, monkeypatch):
    """Its outcome is stale, with the day on which it expired, whether the entry is still at rest or not."""
    ask("a", ttl="1d")
    expires = datetime.fromtimestamp(ask.cache()._entries.now_ms() / 1000 + DAY_S, UTC)
    later(ask.cache(), monkeypatch, DAY_S + 1)
    told = f"expired on {expires:%Y-%m-%d}"
    with pytest.raises(ReplayMiss, match=told) as caught:
        ask("a", mode="replay")
    assert "differs" not in str(caught.value)
    ask.cache()._entries.store.delete(next(iter(ask.cache()._entries.store.scan())))
    cell = ask("a")
    assert [(call.outcome, call.reason) for call in cell.calls] == [(Outcome.STALE, told)]
    (explained,) = ask.cache().explain(cell)
    assert (explained.reason, explained.differs) == (told, ())


def test_too_old_for_this_caller_is_expired_on_its_own_day(ask, monkeypatch):
    """A shorter life that the caller asks for has its own end."""
    ask("a")
    fetched = datetime.fromtimestamp(ask.cache()._entries.now_ms() / 1000, UTC)
    later(ask.cache(), monkeypatch, 3 * DAY_S)
    (call,) = ask("a", ttl="1h").calls
    assert call.reason == f"expired on {datetime.fromtimestamp(fetched.timestamp() + 3600, UTC):%Y-%m-%d}"


@pytest.mark.parametrize(
    ("invalidate", "words"),
    [
        (lambda cache: cache.invalidate_tag("t"), "invalidated by tag t"),
        (lambda cache: cache.invalidate_tag("sweep", kind="run"), "invalidated by run sweep"),
        (lambda cache: cache.invalidate_tag("gpt-4.1-mini", kind="model"), "invalidated by model gpt-4.1-mini"),
        (lambda cache: cache.invalidate_tag("tester", kind="person"), "invalidated by person"),
        (lambda cache: cache.invalidate("gpt-*"), "invalidated by itself, or refreshed away"),
        (lambda cache: cache.clear(), "cleared"),
    ],
)
@pytest.mark.parametrize("is_swept", [True, False])
def test_an_invalidated_answer_is_called_so(ask, invalidate, words, is_swept):
    """Its outcome is stale and names what invalidated it, in the cell, in `ReplayMiss` and in `explain`."""
    ask("another", temperature=0.9)
    ask("a", tags=("t",), run="sweep")
    if not is_swept:
        ask.cache().catalogue.sweeper._stopping.set()
    invalidate(ask.cache())
    ask.cache().catalogue.sweeper.wait()
    with pytest.raises(ReplayMiss) as caught:
        ask("a", mode="replay", tags=("t",), run="sweep")
    assert f": {words}. Mode replay" in str(caught.value)
    cell = ask("a", tags=("t",), run="sweep")
    assert [(call.outcome, call.reason, call.stored) for call in cell.calls] == [(Outcome.STALE, words, True)]
    (explained,) = ask.cache().explain(cell)
    assert (explained.reason, explained.differs) == (words, ())


def test_a_tag_that_only_the_caller_names_is_named(ask):
    """An entry without the tag is out of date for a scope that names it."""
    ask("a")
    ask.cache().invalidate_tag("mine")
    assert ask("a").hits == 1
    (call,) = ask("a", tags=("mine",)).calls
    assert (call.outcome, call.reason) == (Outcome.STALE, "invalidated by tag mine")


def test_stale_is_said_where_nothing_may_be_stored(ask, monkeypatch):
    """What had expired is stale in mode `read` too."""
    ask("a", ttl="1d")
    later(ask.cache(), monkeypatch, DAY_S + 1)
    (call,) = ask("a", mode="read").calls
    assert call.outcome is Outcome.STALE
    assert call.reason.startswith("expired on ")


def test_what_made_room_is_called_so(ask):
    """An evicted answer is a miss that says why."""
    ask("a")
    ask.cache()._entries.store.delete(next(iter(ask.cache()._entries.store.scan())))
    (call,) = ask("a").calls
    assert (call.outcome, call.reason) == (Outcome.MISS, "evicted to make room (size_limit says how much there is)")


def test_nearest_prefers_the_cell_and_finds_the_rare(cache):
    """Among hundreds that share only what all share, the one that shares a rare part is found, however old it is."""
    keys = cache._keys

    def metadata(question, temperature, cell=""):
        parts = {
            "surface": "s",
            "body.messages": question,
            "body.messages[0]": question,
            "body.temperature": temperature,
        }
        digests = {name: f"{hash((name, part)) & (2**64 - 1):016x}" for name, part in parts.items()}
        return Metadata(surface="s", model="m", cell=cell, components=digests)

    def store(number, own):
        tags = [keys.tag("cell", own.cell)] if own.cell else []
        header = cache._entries.header(cache._entries.stamp(), ttl_s=DAY_S, tags=tags)
        cache._entries.fill(EntryId(f"{number:064x}"), Entry(header, own, Response(200, (), b"")))

    store(1, metadata("rare", 1))
    for number in range(2, 600):
        store(number, metadata(f"q{number}", 0))
    own = metadata("rare", 0)
    assert cache.catalogue.nearest(own) == metadata("rare", 1)
    store(700, metadata("elsewhere", 5, cell="c"))
    assert cache.catalogue.nearest(metadata("rare", 0, cell="c")) == metadata("elsewhere", 5, cell="c")
    assert cache.catalogue.nearest(metadata("rare", 0, cell="c"), beside=EntryId(f"{700:064x}")) == metadata("rare", 1)
    cache._entries.delete([EntryId(f"{1:064x}")])
    assert cache.catalogue.nearest(own) != metadata("rare", 1)
    assert cache.catalogue.nearest(Metadata()) is None


def test_long_gone_rows_are_forgotten(cache, monkeypatch):
    """Of what is gone, only so much is remembered as explains anything."""
    monkeypatch.setattr("genai_cache_magic.entries.rows._KEPT_GONE", 3)
    for number in range(6):
        cache.set(f"k{number}", number)
    cache.clear()
    cache.catalogue.sweeper.wait()
    kept = [cache.catalogue.rows.find(cache._value_id(f"k{number}")) for number in range(6)]
    assert [row and row.gone for row in kept] == [None, None, None, *[Gone.INVALIDATED] * 3]


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


@pytest.mark.parametrize("was", ["invalidated", "expired", "damaged", "there"])
def test_killed_between_a_row_and_the_entry_that_takes_anothers_place(cache, monkeypatch, was):
    """The old entry is not listed under the row of the new one, which was never stored."""
    cache.set("a", 1, ttl=60)
    cache.set("b", 1)
    entry_id = cache._value_id("a")
    if was == "invalidated":
        cache._entries.publish([entry_id])
    if was == "expired":
        later(cache, monkeypatch, 61)
        monkeypatch.setattr(cache._entries.store._cache, "_clock", cache._entries.judge.clock)
    if was == "damaged":
        cache._entries.store.put(entry_id, b"rubbish", ttl_s=60)
    record = cache.catalogue.rows.record

    def killed(*args, **judged):
        record(*args, **judged)
        raise Killed

    monkeypatch.setattr(cache.catalogue.rows, "record", killed)
    with pytest.raises(Killed):
        cache.set("a", 2, ttl=DAY_S)
    monkeypatch.setattr(cache.catalogue.rows, "record", record)
    assert cache.keys() == ["b"]
    assert agrees(cache)


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
