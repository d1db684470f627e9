"""The catalogue after a kill, or beside a process that writes, compares or sweeps: rows agree with entries again."""

from __future__ import annotations

import threading

import pytest
from listed_entries import DAY_S, agrees, later, listed_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.entries import placing


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
    made_room = cache._entries.places._made_room

    def swept_before(*given):
        other.invalidate_tag("a")
        other.catalogue.sweeper.wait()
        return made_room(*given)

    with create_cache() as other:
        cache.set("stays", 1, tags=("b",))
        with monkeypatch.context() as patch:
            patch.setattr(cache._entries.places, "_made_room", swept_before)
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
