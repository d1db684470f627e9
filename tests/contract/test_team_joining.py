"""A machine joins its team by the keyset that both know: from its first cell, later, again, or, refused, not at all."""

from __future__ import annotations

import threading
import time

import pytest
from team_in_memory import machine_a, machine_b, numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.api import factory
from genai_cache_magic.crypto.keyset import create_manifest
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError, ReplayMiss, StoreDenied, StoreUnavailable
from genai_cache_magic.events import Outcome, Tier


def test_a_first_cell_without_the_tier(team, origin):
    """A machine that has never seen its team works on its own, says so, and needs no restart for its own answers."""
    alone = team.machine("c", is_away=True)
    assert alone.ask(origin)[1].stored
    assert alone.ask(origin)[1].outcome is Outcome.HIT
    assert any("stay on this machine" in event.message for event in alone.events)


def test_a_machine_with_another_key_works_on_its_own(team, a, origin):
    """It can't read its team's entries, says so with what to do, and its cells go on."""
    a.ask(origin)
    a.told()
    other = team.machine("b", key="another")
    assert other.ask(origin)[0] == "answer 2"
    assert any("L2 is not used" in event.message for event in other.events)


def test_a_new_process_without_the_tier_knows_its_team(team, a, origin):
    """Keyset and document are kept beside L1: what was shared before is served offline, in replay too."""
    a.ask(origin)
    a.told()
    a.cache.close()
    offline = team.machine("a", is_away=True)
    assert offline.ask(origin, mode="replay")[1].outcome is Outcome.HIT
    with pytest.raises(ReplayMiss, match="team could not be asked"):
        offline.ask(origin, "something else", mode="replay")
    assert origin.answers == 1


def test_a_tier_that_lost_everything_gets_the_same_keyset(team, a, origin):
    """From the next process of a machine that knows it: what the machines have stays theirs, and is valid for none."""
    a.ask(origin)
    a.told()
    keyset = team.server.documents["keyset"].load()
    team.server.flush()
    team.machine("a")
    assert team.server.documents["keyset"].load() == keyset


def test_a_running_kernel_gives_the_keyset_back(team, a, origin):
    """Before a machine that never saw it makes another one, with which the two could share nothing."""
    a.ask(origin)
    a.told()
    team.server.flush()
    a.ask(origin, "new")
    a.told()
    c = team.machine("c")
    assert c.ask(origin, "new")[1].tier is Tier.L2
    assert c.events == []


@pytest.mark.parametrize("forged", [b"garbage", "foreign"])
def test_a_forged_keyset_replaces_no_good_one(team, a, origin, forged):
    """Neither rubbish nor another name space's: this machine works on its own, says so, and keeps the last good one."""
    a.ask(origin)
    a.told()
    document = a.tier.document("keyset")
    if forged == "foreign":
        wrapper = LocalKeyFile.load_or_create(team.key_file(), cache_directory=team.key_file().parent / "none")
        forged = create_manifest("other", wrapper)
    good = document.load()
    assert document.replace(forged, expected=good)
    alone = team.machine("a")
    assert alone.ask(origin)[1].outcome is Outcome.MISS
    assert [event.where for event in alone.events] == ["L2"]
    assert document.replace(good, expected=forged)
    offline = team.machine("a", is_away=True)
    assert offline.ask(origin)[1].tier is Tier.L1


def test_a_damaged_keyset_is_not_offered(tmp_path, team, isolated, origin):
    """What a machine can't read itself it gives to nobody."""
    place = tmp_path / "a" / "v1" / "default"
    team.machine("a")
    (copy,) = place.glob("team-*/keyset")
    copy.write_bytes(b"garbage")
    team.server.flush()
    fresh = team.machine("a")
    fresh.ask(origin)
    fresh.told()
    assert team.machine("b").ask(origin)[1].tier is Tier.L2


def test_machines_of_a_team_know_their_store_by_one_fingerprint(a, b, tmp_path):
    """What a colleague's notebook names is found on this machine too, and is not taken for a cache of its own."""
    assert a.cache.fingerprint == b.cache.fingerprint
    with create_cache(dir=tmp_path / "alone", key_file=tmp_path / "keys" / "alone") as alone:
        assert alone.fingerprint != a.cache.fingerprint


def test_a_machine_joins_its_team_later(team, a, origin):
    """As soon as the tier answers it says so, and shares from then on; what it had stays its own."""
    a.ask(origin, "shared")
    a.told()
    c = team.machine("c", is_away=True)
    c.ask(origin, "alone")
    assert c.cache.team is None
    c.cache.set("value", 1)
    c.tier.is_away = False
    awaited(lambda: c.cache.team is not None)
    assert c.ask(origin, "shared")[1].tier is Tier.L2
    c.ask(origin, "new")
    c.cache.set("value", 2)
    c.told()
    assert a.ask(origin, "new")[1].tier is Tier.L2
    assert a.cache.get("value") == 2
    awaited(lambda: any(event.error == "Joined" for event in c.events))
    assert ["stay on this machine" in event.message for event in c.events] == [True, False]


def test_a_call_on_its_way_ends_as_it_began(team, a, origin):
    """One that asked its model alone is stored where it began, whatever joined meanwhile."""
    c = team.machine("c", is_away=True)

    def slow():
        c.tier.is_away = False
        awaited(lambda: c.cache.team is not None)
        return origin()

    text, record = c.ask(slow, "alone")
    assert (text, record.outcome, record.stored) == ("answer 1", Outcome.MISS, True)
    assert c.ask(origin, "alone")[0] == "answer 2"  # with its team it has other keys
    assert [event.where for event in c.events if event.where != "L2"] == []


def test_a_closed_cache_joins_nobody(team, a):
    """Closing ends the attempts, and what was made in the middle of one is closed too."""
    c = team.machine("c", is_away=True)
    parts = []
    adopt = c.cache.adopt
    c.cache.adopt = lambda made: parts.append(made) or c.cache.close() or adopt(made)
    c.tier.is_away = False
    awaited(lambda: parts)
    awaited(lambda: c.cache._is_closed)
    assert not adopt(parts[0])
    with pytest.raises(StoreUnavailable):
        parts[0].state.mark("x")
    assert all(event.error != "Joined" for event in c.events)


@pytest.mark.parametrize("why", [StoreDenied("denied"), DecryptionError("another key")])
def test_who_is_refused_is_told_and_tries_no_more(team, a, monkeypatch, why):
    """Wrong credentials, or a key that opens nothing here, need another kernel."""
    c = team.machine("c", is_away=True)
    monkeypatch.setattr(factory, "team_storage", lambda *_: raised(why))
    c.tier.is_away = False
    awaited(lambda: len(c.events) > 1)
    assert str(why) in c.events[-1].message
    awaited(lambda: not any(thread.name == "genai-cache-joining" for thread in threading.enumerate()))
    assert c.cache.team is None


def raised(error):
    raise error


def awaited(is_so):
    """Wait until something is so that no event tells."""
    give_up_at = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
