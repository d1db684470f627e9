"""A value that is set while the team is away, in processes that are killed or that overtake one another."""

from __future__ import annotations

import contextlib
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

from genai_cache_magic.entries.placing import Places
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.stores.snapshot import SnapshotDocument


@pytest.mark.parametrize("tags", [[], ["t"]])
def test_over_an_invalidation_that_another_process_has_queued_it_is_not_kept(team, a, b, tags):
    """That is said at once too, and not found out when both are told."""
    b.cache.set("key", "old", tags=tags)
    b.told()
    other = team.machine("b")
    with away(b, other):
        other.cache.invalidate_tag("t") if tags else other.cache.clear()
        b.cache.set("key", "mine", tags=tags)
        assert len(lost_at_once(b)) == 1
        assert b.cache.get("key") is None
    b.told()
    assert everywhere([a, b, other], "key") == [None, None, None]


class Killed(BaseException):
    """Stands for the end of a process."""


_STEPS = (
    (Outbox, "add_values"),
    (Outbox, "settle_values"),
    (Places, "place"),
    (Places, "remove"),
    (SnapshotDocument, "replace"),
)


def dies_at(point, patch):
    """Let whatever is done die at its step `point`, before it or after."""
    step = itertools.count()

    def stepping(done):
        def stepped(*args, **more):
            if next(step) == point:
                raise Killed
            result = done(*args, **more)
            if next(step) == point:
                raise Killed
            return result

        return stepped

    for owner, name in _STEPS:
        patch.setattr(owner, name, stepping(getattr(owner, name)))


@pytest.mark.parametrize("point", range(4))
def test_killed_while_it_is_set(team, a, b, monkeypatch, point):
    """It is as if it had never been set, or it arrives: in the end everybody has the same."""
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    b.cache._entries.settle()
    with away(b), monkeypatch.context() as patch:
        dies_at(point, patch)
        with contextlib.suppress(Killed):
            b.cache.set("key", "mine")
    again = team.machine("b")
    again.told()
    b.told()
    found = everywhere([a, again], "key")
    assert found in (["old"] * 2, ["mine"] * 2)
    assert not not_kept(again)


@pytest.mark.parametrize(("point", "has_changed"), list(itertools.product(range(12), (False, True))))
def test_killed_while_it_is_told(team, monkeypatch, point, has_changed):
    """The next process of the machine tells it, or says that it is not kept; what was there never comes back."""
    a, b = team.machine("a"), team.machine("b")
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b], "key") == ["old"]
    with away(b), monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        b.cache.set("key", "mine")
        if has_changed:
            a.cache.set("key", "team's")
            assert a.cache.team.tell(within_s=30)
    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        dies_at(point, patch)
        with contextlib.suppress(Killed):
            b.cache._team._drain.once()
    again = team.machine("b")
    again.told()
    b.told()
    found = everywhere([a, again], "key")
    said = [*not_kept(b), *not_kept(again)]
    if has_changed:
        assert found == ["team's", "team's"]
        assert said
    else:
        assert found == ["mine"] * 2 or (found == [None] * 2 and said)


def test_over_what_another_process_has_set_with_the_team_it_is_not_kept(team, a, b):
    """What this process knows of what is valid is older than that, so it would not hold here: that is said at once."""
    other = team.machine("b")
    b.cache.set("key", "old")
    b.told()
    assert everywhere([a, other], "key") == ["old", "old"]
    with away(other):
        b.cache.set("key", "older")
        b.told()
        other.cache.set("key", "newer")
        assert len(lost_at_once(other)) == 1
        assert other.cache.get("key") is None
    other.told()
    assert everywhere([a, b, other], "key") == [None, None, None]
    assert b.cache.team.waiting() == (0, 0)


def test_what_is_set_while_the_one_before_is_told_is_not_hidden_by_it(team, a, b, monkeypatch):
    """By another process of the machine, which does not reach the team yet: the older one is served to nobody."""
    other = team.machine("b")
    a.cache.set("key", "old")
    a.told()
    assert everywhere([b, other], "key") == ["old", "old"]
    settle = Outbox.settle_values

    def overtaken(outbox, settled, queued):
        patch.setattr(Outbox, "settle_values", settle)
        with away(other):
            other.cache.set("key", "newer")
        return settle(outbox, settled, queued)

    with monkeypatch.context() as patch:
        patch.setattr(Drain, "poke", lambda _: None)
        patch.setattr(Outbox, "settle_values", overtaken)
        with away(b, other):
            b.cache.set("key", "older")
        b.cache._team._drain.once()
        assert Outbox.settle_values is settle
    b.told()
    found = everywhere([a, b, other], "key")
    assert found in ([None] * 3, ["newer"] * 3)
    assert found[0] or not_kept(b)
