"""A pipeline: in order, all at once, and wrong before anything is carried out."""

from __future__ import annotations

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest


@pytest.fixture(params=["disk", "memory"])
def cache(request, isolated):
    with create_cache(request.param, namespace="tests") as cache:
        yield cache


def test_each_step_sees_what_those_before_it_did(cache):
    """As if they were carried out one after the other."""
    cache.mset({"old": [1], "other": "x"}, tags=("t",))
    batch = cache.pipeline().get("old").set("old", [2]).get("old").delete("old").get("old", 7).delete("old")
    batch.expire("old", 60).set("old", [3]).expire("old", 60).get("other").delete("nothing").get("new")
    assert batch.execute() == [[1], None, [2], True, 7, False, False, None, True, "x", False, None]
    assert cache.mget(["old", "other"]) == [[3], "x"]


def test_what_it_reads_is_a_copy(cache):
    """Results share nothing with each other nor with what is kept."""
    value = {"a": [1]}
    first, again = cache.pipeline().set("k", value).get("k").get("k").execute()[1:]
    first["a"].append(2)
    value["a"].append(3)
    assert again == cache.get("k") == {"a": [1]}


def test_a_new_time_to_live_keeps_value_and_tags(cache, monkeypatch):
    """Only the time changes."""
    cache.set("k", b"v", ttl=10, tags=("t",))
    cache.pipeline().expire("k", 1000).execute()
    now = cache._entries.judge.clock()
    monkeypatch.setattr(cache._entries.judge, "clock", lambda: now + 100)
    assert cache.get("k") == b"v"
    assert cache.invalidate_tag("t").count == 1
    assert cache.get("k") is None


def test_what_is_wrong_is_an_error_where_it_is_queued(cache):
    """And what was queued before it is still there to be carried out."""
    batch = cache.pipeline().set("k", 1)
    for wrong in (
        lambda: batch.set("x", object()),
        lambda: batch.set("x", 1, ttl="soon"),
        lambda: batch.set("x", 1, tags="text"),
        lambda: batch.expire("x", 0),
        lambda: batch.get(3),
        lambda: batch.delete(None),
    ):
        with pytest.raises((ConfigurationError, UncacheableRequest)):
            wrong()
    assert batch.execute() == [None]
    assert cache.keys() == ["k"]


def transactions(cache):
    """Note the transactions that write the store of `cache` from now on."""
    noted = []
    cache._entries.store._cache._con.set_trace_callback(
        lambda statement: noted.append(statement) if statement == "BEGIN IMMEDIATE" else None
    )
    return noted


@pytest.fixture
def on_disk(isolated):
    with create_cache("disk", namespace="tests") as cache:
        cache.set("first", 1)
        yield cache


def test_many_values_are_one_transaction(on_disk):
    """`mset`, and a pipeline of whatever there is, however many."""
    noted = transactions(on_disk)
    on_disk.mset({f"k{number}": [number] * 10 for number in range(300)})
    assert len(noted) == 1
    noted.clear()
    assert on_disk.mget([f"k{number}" for number in range(300)]) == [[number] * 10 for number in range(300)]
    assert noted == []
    batch = on_disk.pipeline()
    for number in range(100):
        batch.set(f"new {number}", number).delete(f"k{number}").get(f"k{number + 100}")
    batch.execute()
    assert len(noted) == 2  # what goes, and what comes
    noted.clear()
    on_disk.mset({f"k{number}": 0 for number in range(100, 300)})
    assert len(noted) == 2
    assert len(on_disk.keys()) == 301


def test_reading_writes_nothing(on_disk):
    """A pipeline that only reads leaves everything as it is, and an empty one does nothing."""
    noted = transactions(on_disk)
    before = on_disk._entries.stamp()
    assert on_disk.pipeline().get("first").get("absent").execute() == [1, None]
    assert on_disk.pipeline().execute() == []
    assert (noted, on_disk._entries.stamp()) == ([], before)


def test_one_invalidation_for_all_that_changes(on_disk):
    """What is replaced and what is removed are published together."""
    on_disk.mset({"a": 1, "b": 2})
    before = on_disk._entries.stamp().ver
    on_disk.pipeline().set("a", 3).delete("b").set("c", 4).execute()
    assert on_disk._entries.stamp().ver == before + 1
    assert on_disk.mget(["a", "b", "c"]) == [3, None, 4]
