"""What teammates stored is listed, counted and invalidated too, without a copy of it here."""

from __future__ import annotations

import pytest
from machines import MODEL
from team_in_memory import machine_a, machine_b, numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic.entries.listing import shared_rows
from genai_cache_magic.events import Outcome


def listed_anew(machine):
    """Let what is known of the team's entries be older than it may be."""
    machine.cache.catalogue._shared._next_at = 0.0


def agrees(machine):
    """Return the names that are listed, after comparing all that counts."""
    names = [item.name for item in machine.cache.catalogue.items()]
    assert machine.cache.stats().entries == len(names) == machine.cache.clear(dry_run=True).count
    assert machine.cache.catalogue.newest("*", 100)[0] == len(names)
    return sorted(names)


@pytest.fixture
def stored(a, origin):
    """What another machine has stored and told: two calls and two values."""
    a.ask(origin, "one", tags=["t"])
    a.ask(origin, "two")
    a.cache.mset({"key 1": 1, "key 2": 2}, tags=["t"])
    a.told()


def test_listings_and_counts_cover_what_teammates_stored(a, b, stored):
    """Names, counts by model and tag, keys and previews, the same as where it was stored."""
    assert agrees(b) == agrees(a)
    assert b.cache.keys("key *") == ["key 1", "key 2"]
    assert b.cache.stats().by_model == a.cache.stats().by_model == {MODEL: 2, "value": 2}
    assert b.cache.stats().synced is not None
    for kind, name, count in (("user", "t", 3), ("model", MODEL, 2), ("model", "value", 2)):
        assert b.cache.invalidate_tag(name, kind=kind, dry_run=True).count == count
    assert b.cache.invalidate(f"{MODEL}:*", dry_run=True).count == 2
    assert b.cache.catalogue.invalidate_older_than(-1, dry_run=True).count == 4
    assert {item.metadata.preview for item in b.cache.catalogue.items()} >= {"one", "two"}


@pytest.mark.parametrize("how", ["pattern", "age", "entry", "tag", "clear"])
def test_what_is_only_with_the_team_can_be_invalidated(a, b, origin, stored, how):
    """By whatever it is named, and its owner asks anew."""
    (one,) = [item.entry_id for item in b.cache.catalogue.items() if item.metadata.preview == "one"]
    done = {
        "pattern": lambda: b.cache.invalidate(f"{MODEL}:*"),
        "age": lambda: b.cache.catalogue.invalidate_older_than(-1, dry_run=False),
        "entry": lambda: b.cache.invalidate_entry(one[:12]),
        "tag": lambda: b.cache.invalidate_tag("t"),
        "clear": b.cache.clear,
    }[how]()
    count = {"pattern": 2, "age": 4, "entry": 1, "tag": 3, "clear": 4}[how]
    assert (done.count, done.published) == (count, "published")
    a.goes_stale()
    assert a.ask(origin, "one")[1].outcome is Outcome.STALE
    assert len(agrees(b)) == 4 - count
    b.cache.catalogue.sweeper.wait(30)
    assert len(agrees(b)) == 4 - count
    a.told()
    listed_anew(b)
    assert len(agrees(b)) == 5 - count


def test_a_copy_here_is_counted_once(a, b, origin, stored):
    """Also after the copy is gone again."""
    before = agrees(b)
    assert b.ask(origin, "one")[1].outcome is Outcome.HIT
    listed_anew(b)
    assert agrees(b) == before
    for key in list(b.cache._entries.store.scan()):
        b.cache._entries.store.delete(key)
    listed_anew(b)
    agrees(b)
    listed_anew(b)
    assert agrees(b) == before


def test_what_left_the_tier_leaves_the_list(team, a, b, stored):
    """Expired, evicted or flushed there, it is listed no more."""
    assert len(agrees(b)) == 4
    for key in list(team.server.store.scan())[:3]:
        team.server.store.delete(key)
    listed_anew(b)
    assert len(agrees(b)) == 1


@pytest.mark.usefixtures("stored")
def test_what_another_process_has_just_noted_is_not_taken_for_gone(team, a, b, origin, monkeypatch):
    """What came into the tier after one process had listed it, and was noted by another, stays listed."""
    another = team.machine("b")
    scan = b.cache.catalogue._shared._store.scan

    def late():
        keys = list(scan())
        a.ask(origin, "three")
        a.told()
        listed_anew(another)
        assert len(list(another.cache.catalogue.items())) == 5
        return iter(keys)

    monkeypatch.setattr(b.cache.catalogue._shared._store, "scan", late)
    assert len(list(b.cache.catalogue.items())) == 5


def test_only_what_is_new_is_read(a, b, origin, stored, monkeypatch):
    """A second listing reads no entry again, and one that follows at once does not ask at all."""
    read = []
    get_heads = type(b.tier.store).get_heads

    def noted(self, keys, *, size_bytes):
        read.extend(keys)
        return get_heads(self, keys, size_bytes=size_bytes)

    monkeypatch.setattr(type(b.tier.store), "get_heads", noted)
    agrees(b)
    assert len(read) == 4
    calls = b.tier.calls
    agrees(b)
    assert b.tier.calls == calls
    a.ask(origin, "three")
    a.told()
    listed_anew(b)
    assert len(agrees(b)) == 5
    assert len(read) == 5


def test_what_can_not_be_noted_is_looked_at_again_some_at_a_time(team, a, b, stored, monkeypatch):
    """A stranger's entry is no row; it may be replaced, so a bounded number is read again each time, in turn."""
    monkeypatch.setattr(shared_rows, "_AGAIN", 2)
    strangers = [f"{number:064x}" for number in range(5)]
    for key in strangers:
        team.server.store.put(key, b"rubbish", ttl_s=60)
    assert len(agrees(b)) == 4
    read = []
    original = b.cache.catalogue._shared._heads._read
    monkeypatch.setattr(
        b.cache.catalogue._shared._heads, "_read", lambda keys, size: original(read.extend(keys) or keys, size)
    )
    for _ in range(5):
        listed_anew(b)
        agrees(b)
    assert sorted(read) == sorted(strangers * 2)


def test_without_the_tier_a_listing_says_what_it_knew(a, b, stored):
    """A tier that is away is asked for nothing, and what was seen is listed with its time."""
    assert len(agrees(b)) == 4
    synced = b.cache.stats().synced
    b.tier.is_away = True
    listed_anew(b)
    assert len(agrees(b)) == 4
    assert b.cache.stats().synced == synced


def test_an_invalidation_does_not_wait_for_a_listing(a, b, stored, monkeypatch):
    """A tag and a clearing are published at once, and counted by what is known."""
    monkeypatch.setattr(shared_rows.SharedRows, "sync", lambda _: pytest.fail("the team's entries were listed"))
    assert b.cache.invalidate_tag("t").published == "published"
    assert b.cache.clear().published == "published"
