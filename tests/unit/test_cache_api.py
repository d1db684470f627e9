"""The generic programming interface, over disk and memory."""

from __future__ import annotations

import threading
from collections import deque

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest


@pytest.fixture(params=["disk", "memory"])
def cache(request, tmp_path):
    settings = {"dir": tmp_path / "cache", "key_file": tmp_path / "keys" / "key", "namespace": "tests"}
    with create_cache(request.param, **settings) as cache:
        yield cache


@pytest.mark.parametrize(
    "value",
    [b"\0\xff", "text \ud800 é", "", None, True, 1, 1.0, 2**70, [1, [2.5, None]], {"b": 1, "a": {"z": []}}],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(cache, value):
    """Bytes, text and JSON keep their type, their order and their exact numbers."""
    cache.set("k", value)
    found = cache.get("k")
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, dict):
        assert list(found) == list(value)


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.set("half \ud800", 1),
        lambda cache: cache.get("half \ud800"),
        lambda cache: cache.mset({"k": 1, "half \ud800": 1}),
        lambda cache: cache.pipeline().set("half \ud800", 1).execute(),
        lambda cache: cache.set("k", 1, tags=["half \ud800"]),
    ],
    ids=["set", "get", "mset", "pipeline", "tag"],
)
def test_half_a_surrogate_pair_names_nothing(cache, call):
    """A name of a file that is no UTF-8 comes as such a text: it is refused as what it is, and nothing is stored."""
    with pytest.raises(ConfigurationError, match="half a surrogate pair"):
        call(cache)
    assert list(cache.keys()) == []


def test_what_is_refused_is_not_shown_whole(cache):
    """A key, or what was taken for a tag, may well be a prompt."""
    long = "who are you " * 99
    for call in (
        lambda: cache.get(f"{long}\ud800"),
        lambda: cache.set("k", 1, tags=[long]),
        lambda: cache.set("k", 1, tags=long),
    ):
        with pytest.raises(ConfigurationError) as caught:
            call()
        assert len(str(caught.value)) < 120


def test_what_is_read_may_be_changed(cache):
    """A caller that changes what it got changes nothing in the cache."""
    cache.set("k", {"a": [1]})
    cache.get("k")["a"].append(2)
    assert cache.get("k") == {"a": [1]}


def test_absent_keys_are_none_or_the_default(cache):
    """Missing is not an error."""
    assert cache.get("nope") is None
    assert cache.get("nope", 7) == 7
    assert not cache.exists("nope")
    assert cache.delete("nope") is False


def test_delete_and_exists(cache):
    """What was deleted is gone, and can be set again."""
    cache.set("k", 1)
    assert cache.exists("k")
    assert cache.delete("k") is True
    assert not cache.exists("k")
    cache.set("k", 2)
    assert cache.get("k") == 2


def test_many_at_once(cache):
    """A batch answers in the order asked, mset sets all."""
    cache.mset({"a": 1, "b": [2]}, ttl="1h", tags=("t",))
    assert cache.mget(["b", "x", "a"]) == [[2], None, 1]


def test_pipeline_runs_in_order_and_once(cache):
    """A pipeline does nothing until it is executed, and is empty afterwards."""
    batch = cache.pipeline().set("a", 1).expire("a", 3600).get("a").delete("a").get("a")
    assert cache.get("a") is None
    assert batch.execute() == [None, True, 1, True, None]
    assert batch.execute() == []
    assert cache.pipeline().expire("nope", 10).execute() == [False]


def test_keys_by_pattern(cache):
    """Keys match shell patterns; they are sealed at rest and listed all the same."""
    cache.mset({"user:1": 1, "user:2": 2, "other": 3})
    assert cache.keys("user:*") == ["user:1", "user:2"]
    assert cache.keys() == ["other", "user:1", "user:2"]


def test_invalidation_by_tag_pattern_and_age(cache):
    """A dry run counts and changes nothing; the real run makes misses."""
    cache.set("a", 1, tags=("x",))
    cache.set("b", 2, tags=("x", "y"))
    cache.set("c", 3)
    counted = cache.invalidate_tag("x", dry_run=True)
    assert (counted.count, counted.known, counted.dry_run) == (2, 3, True)
    assert cache.get("a") == 1
    assert cache.invalidate_tag("y").count == 1
    assert cache.mget(["a", "b", "c"]) == [1, None, 3]
    assert cache.invalidate("[c-z]*").count == 1
    assert cache.keys() == ["a"]
    assert cache.invalidate_older_than("1h").count == 0


def test_clear_empties_this_namespace_only(tmp_path):
    """Two namespaces of one directory share nothing."""
    settings = {"dir": tmp_path / "cache", "key_file": tmp_path / "keys" / "key"}
    with create_cache(namespace="one", **settings) as one, create_cache(namespace="two", **settings) as two:
        one.set("k", 1)
        two.set("k", 2)
        assert two.keys() == ["k"]
        assert one.clear().count == 1
        assert one.get("k") is None
        assert two.get("k") == 2
        one.set("k", 3)
        assert one.get("k") == 3


def test_a_second_handle_sees_sets_and_invalidations_at_once(tmp_path):
    """Caches of one directory, as of two processes, agree."""
    settings = {"dir": tmp_path / "cache", "key_file": tmp_path / "keys" / "key"}
    with create_cache(**settings) as one, create_cache(**settings) as two:
        one.set("k", 1, tags=("t",))
        assert two.get("k") == 1
        two.invalidate_tag("t")
        assert one.get("k") is None
        one.set("k", 2, tags=("t",))
        assert two.get("k") == 2


def test_map_computes_each_different_item_once(cache):
    """A repeated item and a second run cost nothing."""
    calls = []

    def double(item):
        calls.append(item)
        return item * 2

    assert cache.map(double, [1, 2, 1], tags=("m",)) == [2, 4, 2]
    assert cache.map(double, [2, 3], max_workers=2) == [4, 6]
    assert sorted(calls) == [1, 2, 3]


def test_key_for_is_typed_and_order_free(cache):
    """A request's key depends on its JSON value alone: types count, key order does not."""
    assert cache.key_for({"a": 1, "b": 2}) == cache.key_for({"b": 2, "a": 1})
    distinct = [1, 1.0, "1", True, None, [1], {"1": 1}, 2**64, float(2**64)]
    assert len({cache.key_for(value) for value in distinct}) == len(distinct)


def test_foreign_types_are_refused_by_name(cache):
    """What is not JSON is never keyed or stored by its repr."""
    for bad in (object(), {1: 2}, float("nan"), {"a": {1, 2}}):
        with pytest.raises(UncacheableRequest):
            cache.key_for(bad)
        with pytest.raises(
            UncacheableRequest, match=r"^the value can't be kept: value.*; pass bytes, text or plain JSON"
        ):
            cache.set("k", bad)
    with pytest.raises(ConfigurationError):
        cache.get(3)


def test_one_text_is_not_taken_for_many(cache):
    """A list or a table that was forgotten is an error that says how to write it, and sets and finds nothing."""
    cache.set("a", 1)
    for wrong in ("a", b"a", 5, None):
        with pytest.raises(ConfigurationError, match=r"write mget\(\[\.\.\.\]\), or get"):
            cache.mget(wrong)
    for wrong in ("ab", ["ab"], [("a", 2, 3)], 5, None, [5], [{"a", "b"}], [{"a": 1, "b": 2}], [b"ab"]):
        with pytest.raises(ConfigurationError, match="mset takes a dict, or pairs"):
            cache.mset(wrong)
    with pytest.raises(ConfigurationError, match="a key is text, not list"):
        cache.mset([("b", 1), (["b"], 2)])
    assert cache.keys() == ["a"]
    assert cache.get("a") == 1
    cache.mset([("a", 2), ["b", 3], deque(["c", 4]), iter(["d", 5])])  # rows of arrays are no sequences either
    assert cache.mget(iter("abcd")) == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "given",
    [
        {"ttl": "soon"},
        {"ttl": 0},
        {"ttl": -1},
        {"tags": "one text"},
        {"tags": [f"t{n}" for n in range(17)]},
        {"tags": [""]},
        {"tags": [7]},
        {"tags": [["a"]]},
        {"tags": 7},
    ],
    ids=repr,
)
def test_wrong_options_are_refused_and_nothing_is_set(cache, given):
    """A wrong time to live or tag is an error, not a silent default."""
    with pytest.raises(ConfigurationError):
        cache.set("k", 1, **given)
    pipeline = cache.pipeline().set("k", 1)
    with pytest.raises(ConfigurationError):
        pipeline.set("l", 1, **given)
    assert cache.get("k") is None


def test_a_wrong_time_to_live_is_wrong_where_nothing_is(cache):
    """An absent key hides no mistake, neither at once nor in a pipeline."""
    for of in (cache, cache.pipeline()):
        with pytest.raises(ConfigurationError):
            of.expire("absent", "7")


@pytest.mark.parametrize("tag", ["", ["a"], 7], ids=repr)
def test_a_tag_that_is_none_invalidates_nothing(cache, tag):
    """It is an error, not a count of zero or a trace of ours."""
    with pytest.raises(ConfigurationError):
        cache.invalidate_tag(tag)


@pytest.mark.parametrize("kind", ["redis", "azure_redis", "azure_storage", "azure_cdn", "disc"])
def test_kinds_that_are_not_there_are_refused(kind):
    """A tier that this version lacks is refused by name, never replaced by another."""
    with pytest.raises(ConfigurationError):
        create_cache(kind)


def test_expiry_by_the_entries_own_time_to_live(cache, monkeypatch):
    """A value is not served once its time to live is over."""
    cache.set("short", 1, ttl=10)
    cache.set("long", 2, ttl="1d")
    entries = cache._entries
    now = entries.judge.clock()
    monkeypatch.setattr(entries.judge, "clock", lambda: now + 11)
    assert cache.mget(["short", "long"]) == [None, 2]


def test_threads_share_one_cache(cache):
    """Many threads set and get at once without loss."""
    failures = []

    def work(n):
        for i in range(20):
            cache.set(f"{n}:{i}", [n, i])
        failures.extend(i for i in range(20) if cache.get(f"{n}:{i}") != [n, i])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(cache.keys()) == 160


def test_collect_removes_what_can_not_be_served_and_nothing_else(cache, monkeypatch):
    """Expired and invalid entries give their room back; the others stay."""
    cache.set("old", 1, ttl=10)
    cache.set("kept", 2)
    cache._entries.generations.change(lambda g: g.invalidating_tags([cache._keys.tag("user", "t")]))
    now = cache._entries.judge.clock()
    monkeypatch.setattr(cache._entries.judge, "clock", lambda: now + 11)
    assert cache.collect().entries == 1
    assert cache.keys() == ["kept"]
    assert len(list(cache._entries.store.scan())) == 1


@pytest.mark.parametrize("encryption", ["local", "off"])
def test_a_fingerprint_is_of_one_namespace_in_one_store(tmp_path, encryption):
    """Two handles on one store agree; another namespace, another directory, another key and memory do not."""

    def fingerprint(directory="cache", **more):
        with create_cache(
            dir=tmp_path / directory, key_file=tmp_path / "keys" / "key", encryption=encryption, **more
        ) as c:
            return c.fingerprint

    own = fingerprint()
    assert own == fingerprint()
    assert len(own) == 16
    assert set(own) <= set("0123456789abcdef")
    assert own not in {fingerprint(namespace="other"), fingerprint("elsewhere")}
    with create_cache("memory") as cache:
        assert cache.fingerprint == ""
