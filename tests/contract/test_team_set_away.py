"""A value that is set while the team is away holds on its machine, and reaches the team unless that has ruled since."""

from __future__ import annotations

import itertools

import pytest
from away_teams import (  # noqa: F401 - fixtures
    away,
    everywhere,
    lost_at_once,
    machine_a,
    machine_b,
    not_kept,
    team_that_can_be_cut,
    way_to_a_tier,
)

from genai_cache_magic import cached, llm_cache
from genai_cache_magic.entries.team import drain
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.settling import Settling


def test_it_holds_here_at_once(team, a):
    """For this process, another one of the machine, and one that begins later; and over what was there."""
    a.cache.set("known", "old")
    a.told()
    other = team.machine("a")
    assert other.cache.get("known") == "old"
    with away(a, other):
        a.cache.set("known", "new")
        a.cache.mset({"another": 1, "more": [2]}, tags=["t"])
        a.cache.pipeline().set("piped", 3).set("known too", 4).delete("known too").expire("piped", "1d").execute()
        for process in (a, other):
            assert process.cache.mget(["known", "another", "more", "piped"]) == ["new", 1, [2], 3]
            assert process.cache.exists("known")
        third = team.machine("a", is_away=True)
        assert third.cache.mget(["known", "another", "more", "piped"]) == ["new", 1, [2], 3]
        assert third.cache.get("known too") is None
        a.cache.set("known", "newer")
        assert other.cache.get("known") == "newer"
        assert not lost_at_once(a)
    third.tier.is_away = False
    a.told()
    for process in (a, other, third):
        assert process.cache.get("known") == "newer"
        assert not not_kept(process)


def test_it_reaches_a_team_that_has_changed_nothing(a, b, monkeypatch):
    """In place of what was there before, and where nothing was; more than are told in one go."""
    a.cache.set("known", "old")
    a.told()
    assert everywhere([b], "known") == ["old"]
    monkeypatch.setattr(drain, "_VALUES", 10)
    values = {f"key {number}": number for number in range(25)}
    with away(b):
        b.cache.set("known", "new")
        b.cache.mset(values)
    b.told()
    assert everywhere([a, b], "known") == ["new", "new"]
    for machine in (a, b):
        assert machine.cache.mget(values) == list(values.values())
        assert not not_kept(machine)
    a.cache.set("known", "newest")
    a.told()
    assert everywhere([a, b], "known") == ["newest", "newest"]


def test_what_the_team_has_set_meanwhile_counts(a, b):
    """Its value stays, also here, and it is said how many of one's own are not kept."""
    for key in ("one", "two"):
        a.cache.set(key, "old")
    a.told()
    with away(b):
        b.cache.mset({"one": "mine", "two": "mine", "three": "mine"})
        a.cache.mset({"one": "team's", "two": "team's"})
        a.told()
        assert b.cache.get("one") == "mine"
    b.told()
    assert everywhere([a, b], "one") == ["team's", "team's"]
    assert everywhere([a, b], "two") == ["team's", "team's"]
    assert everywhere([a, b], "three") == ["mine", "mine"]
    (said,) = not_kept(b)
    assert "not kept: 2;" in said


@pytest.mark.parametrize(
    "how",
    [
        lambda cache: cache.delete("key"),
        lambda cache: cache.invalidate("key"),
        lambda cache: cache.invalidate_tag("t"),
        lambda cache: cache.clear(),
    ],
    ids=["delete", "pattern", "tag", "clear"],
)
def test_what_the_team_has_invalidated_meanwhile_is_not_kept(a, b, how):
    """Nobody gets it afterwards, nor what it was to replace, and that is said."""
    a.cache.set("key", "old", tags=["t"])
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b):
        b.cache.set("key", "mine", tags=["t"])
        how(a.cache)
        a.told()
        assert b.cache.get("key") == "mine"
    b.sees()
    assert b.cache.get("key") is None  # also before the team was told
    b.told()
    assert everywhere([a, b], "key") == [None, None]
    (said,) = not_kept(b)
    assert "not kept: 1;" in said


@pytest.mark.parametrize("there", [None, "old"])
def test_of_two_machines_that_were_away_the_first_to_tell_counts(a, b, there):
    """The other one is told that its value is not kept."""
    if there:
        a.cache.set("key", there)
        a.told()
    assert everywhere([a, b], "key") == [there, there]
    with away(a, b):
        a.cache.set("key", "a's")
        b.cache.set("key", "b's")
        assert [machine.cache.get("key") for machine in (a, b)] == ["a's", "b's"]
    b.told()
    a.told()
    assert everywhere([a, b], "key") == ["b's", "b's"]
    assert [len(not_kept(machine)) for machine in (a, b)] == [1, 0]


def test_what_is_invalidated_here_afterwards_is_no_news(a, b):
    """It is gone at once, never comes back, and nobody is told of what he did himself."""
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b):
        b.cache.mset({"key": "mine", "tagged": "mine"}, tags=["t"])
        b.cache.delete("key")
        b.cache.invalidate_tag("t")
        assert b.cache.mget(["key", "tagged"]) == [None, None]
    b.told()
    assert everywhere([a, b], "key") == [None, None]
    assert everywhere([a, b], "tagged") == [None, None]
    assert not not_kept(b)


@pytest.mark.parametrize("how", ["delete", "invalidate_tag", "clear"])
def test_what_is_invalidated_with_the_team_before_it_was_told_is_no_news(a, b, monkeypatch, how):
    """The team can be asked again, and has not been told yet: he who deletes what he has set knows that it is gone."""
    monkeypatch.setattr(Drain, "poke", lambda _: None)  # nor is it being told, behind his back
    with away(b):
        b.cache.mset({"key": "mine"}, tags=["t"])
        b.cache.set("other", "mine")
    b.sees()
    getattr(b.cache, how)(*{"delete": ["key"], "invalidate_tag": ["t"], "clear": []}[how])
    b.told()
    assert everywhere([a, b], "key") == [None, None]
    assert everywhere([a, b], "other") == ([None, None] if how == "clear" else ["mine", "mine"])
    assert not not_kept(b)


def test_what_is_set_after_an_invalidation_is_told(a, b, monkeypatch):
    """Also by another thread, right after it was published, and when the team is away again: it was meant to stay."""
    forget = Settling.forget

    def late(*args):
        with away(b):
            b.cache.mset({"key": "later"}, tags=["t"])
        forget(*args)

    monkeypatch.setattr(Settling, "forget", late)
    b.cache.invalidate_tag("t")
    b.told()
    assert everywhere([a, b], "key") == ["later", "later"]
    assert not not_kept(b)


def test_over_an_invalidation_that_waits_it_is_not_kept(a, b):
    """It could not be told from what that was about; it is said at once, and it can be set again afterwards."""
    with away(b):
        b.cache.clear()
        b.cache.set("key", "mine")
        assert b.cache.get("key") is None
        assert len(lost_at_once(b)) == 1
    b.told()
    b.cache.set("key", "again")
    b.told()
    assert everywhere([a, b], "key") == ["again", "again"]


def test_what_is_set_again_with_the_team_takes_its_place(a, b, monkeypatch):
    """What waited is not told, and not missed."""
    monkeypatch.setattr(Drain, "poke", lambda _: None)
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b):
        b.cache.set("key", "mine")
    b.cache.set("key", "later")
    b.told()
    assert everywhere([a, b], "key") == ["later", "later"]
    assert not not_kept(b)


def test_computed_values_too(a, b):
    """What `@cached` and `map` keep is shared later; what `map` computes anew replaces what was there."""
    computed = itertools.count()

    @cached(cache=b.cache)
    def numbered(_):
        return next(computed)

    def double(item):
        return [item, next(computed)]

    first = b.cache.map(double, [1], name="double", progress=False)
    b.told()
    assert a.cache.map(double, [1], name="double", progress=False) == first
    with away(b):
        kept = numbered("x")
        assert numbered("x") == kept
        with llm_cache(mode="refresh"):
            again = b.cache.map(double, [1], name="double", progress=False)
        assert again != first
        assert b.cache.map(double, [1], name="double", progress=False) == again
    b.told()
    a.goes_stale()
    assert a.cache.map(double, [1], name="double", progress=False) == again
    assert not not_kept(b)


def test_who_joins_sees_what_is_valid(team, a):
    """A machine knows the team's document as soon as its cache is open, so what it sets can be judged later."""
    a.cache.set("key", "old")
    a.told()
    c = team.machine("c")
    with away(c):
        c.cache.set("new", 1)
        assert c.cache.get("new") == 1
    c.told()
    assert everywhere([a], "new") == [1]
