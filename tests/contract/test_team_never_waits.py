"""The thread that asks, a kernel's event loop, never waits for the team's tier: whatever has to, is done behind."""

from __future__ import annotations

import asyncio
import threading

import pytest
from team_in_memory import numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Answered, Follow, Lead
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.entries.team import tier as teams
from genai_cache_magic.entries.team.tier import GENERATIONS
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.intercept.active import Active
from genai_cache_magic.intercept.workers.threads import in_force
from genai_cache_magic.testing.tier import MemoryTier


@pytest.fixture
def asked_here(monkeypatch):
    """Every call of the tier that is made in the test's own thread, from now on."""
    own, calls, reach = threading.get_ident(), [], MemoryTier.reach

    def noted(self):
        if threading.get_ident() == own:
            calls.append(1)
        reach(self)

    monkeypatch.setattr(MemoryTier, "reach", noted)
    return calls


def lose(documents):
    del documents[GENERATIONS]


def damage(documents):
    document = documents[GENERATIONS]
    assert document.replace(b"rubbish", expected=document.load())


def put_back(documents):
    document = documents[GENERATIONS]
    assert document.replace(documents["saved"], expected=document.load())


def whole_call(machine, origin, text, mode="use"):
    """Make a call as an interceptor does; return the kinds of its steps, and the record."""
    scope = CellScope(Options(mode=Mode(mode)), person="tester")
    step, kinds = machine.begin(scope, text), []
    while isinstance(step, Follow):
        kinds.append("waits")
        step.future.result(30)
        step = step.lead.desk.resume(step, step.future.result())
    if isinstance(step, Lead):
        step.desk.commit(step, origin())
    else:
        assert isinstance(step, Answered)
    return kinds, scope.calls[-1]


@pytest.mark.parametrize("mode", ["use", "refresh", "read"])
@pytest.mark.parametrize("how", [lose, damage, put_back])
def test_a_record_that_was_lost_is_made_behind(team, origin, asked_here, how, mode):
    """Seen to be lost a moment ago, so that it counts as fresh: the next call waits in its own colour for a new one."""
    ada = team.machine("ada")
    whole_call(ada, origin, "hello")
    ada.told()
    documents = team.server.documents
    documents["saved"] = documents[GENERATIONS].load()
    ada.cache.invalidate_tag("another")
    how(documents)
    ada.sees()
    asked_here.clear()
    kinds, record = whole_call(ada, origin, "hello", mode)
    assert asked_here == []
    assert kinds[:1] == ["waits"]
    assert record.outcome != "hit"
    assert record.stored is (mode != "read")
    assert documents[GENERATIONS].load() not in (b"rubbish", documents["saved"])


def test_another_thread_is_content_with_less(team, origin, monkeypatch):
    """A thread that may not wait lets a record count just after another has looked: that one makes the team's."""
    ada = team.machine("ada")
    whole_call(ada, origin, "hello")
    ada.told()
    lose(team.server.documents)
    ada.goes_stale()
    look = ada.cache._team._look

    def then_another(entry_ids=()):
        found = look(entry_ids)
        ada.cache._team._generations.current()
        return found

    monkeypatch.setattr(ada.cache._team, "_look", then_another)
    kinds, record = whole_call(ada, origin, "hello")
    assert kinds[:1] == ["waits"]
    assert (record.outcome, record.stored) == ("stale", True)
    assert team.server.documents[GENERATIONS].load() is not None
    monkeypatch.undo()
    assert whole_call(ada, origin, "hello")[1].outcome == "hit"


@pytest.mark.parametrize("how", [lose, damage, put_back])
def test_one_that_is_lost_while_the_model_is_asked(team, origin, asked_here, how):
    """What comes to be stored then is judged without waiting, and is of no use to anyone."""
    ada = team.machine("ada")
    whole_call(ada, origin, "hello")
    documents = team.server.documents
    documents["saved"] = documents[GENERATIONS].load()
    ada.cache.invalidate_tag("another")
    scope = CellScope(Options(), person="tester")
    lead = ada.waited(ada.begin(scope, "another"))
    how(documents)
    ada.sees()
    asked_here.clear()
    lead.desk.commit(lead, origin())
    assert asked_here == []
    assert not scope.calls[-1].stored
    assert whole_call(ada, origin, "another")[1].outcome != "hit"


def test_without_the_tier_and_without_a_copy(team, origin, asked_here, monkeypatch):
    """A machine that never saw what is valid begins on its own, asks nobody for it, and gives that up later."""
    with monkeypatch.context() as patch:
        patch.setattr(teams.Team, "ensure_seen", lambda _: None)  # the tier goes away before that
        team.machine("ada")  # which keeps a copy of the keyset, and asks nothing
    whole_call(team.machine("ben"), origin, "another")
    ada = team.machine("ada", is_away=True)
    asked_here.clear()
    assert whole_call(ada, origin, "hello")[1].stored
    assert whole_call(ada, origin, "hello")[1].outcome == "hit"
    assert asked_here == []
    made = team.server.documents[GENERATIONS].load()
    ada.tier.is_away = False
    assert whole_call(ada, origin, "hello")[1].outcome != "hit"
    assert team.server.documents[GENERATIONS].load() == made


def test_the_first_value_of_a_team_loses_nothing(team):
    """A record that never was is none that was removed: nothing is said of one."""
    ada = team.machine("ada")
    ada.cache.set("name", "value")
    assert ada.cache.get("name") == "value"
    ada.told()
    assert team.machine("ben").cache.get("name") == "value"
    assert ada.events == []


def test_listings_and_values_do_not_either(team, asked_here):
    """What needs no word of the team is found on this machine."""
    ada = team.machine("ada")
    ada.cache.set("name", "value")
    ada.told()
    lose(team.server.documents)
    ada.sees()
    asked_here.clear()
    assert ada.cache.get("name") is None
    ada.cache.set("name", "another")
    assert ada.cache.get("name") == "another"
    ada.cache.stats()
    assert asked_here == []


def test_a_replay_that_can_not_wait_for_the_team_never_asks_the_model(team, origin):
    """A time-out below that of a look-up, or a loop that can't wait: what is here is served, and the rest is a miss."""
    ada = team.machine("ada")
    whole_call(ada, origin, "hello")
    ada.told()
    for text in ("hello", "something else"):
        ada.goes_stale()
        scope = CellScope(Options(mode=Mode.REPLAY), person="tester")
        step = ada.begin(scope, text)
        assert isinstance(step, Follow)
        if text == "hello":
            assert isinstance(step.lead.desk.resume(step, None), Answered)
        else:
            with pytest.raises(ReplayMiss, match="could not wait"):
                step.lead.desk.resume(step, None)
    assert origin.answers == 1


def test_a_mapped_coroutine_waits_behind(team, monkeypatch):
    """What is computed anew overwrites what the team has while the loop goes on, and it is the loop that lets it."""
    ada, done, reach = team.machine("ada"), [], MemoryTier.reach
    is_asked, may_go_on = threading.Event(), threading.Event()

    async def ask(item):
        monkeypatch.setattr(MemoryTier, "reach", wait)
        return item

    def wait(self):
        is_asked.set()
        assert may_go_on.wait(30)
        reach(self)

    async def let():
        assert await asyncio.to_thread(is_asked.wait, 30)
        done.append("let")
        may_go_on.set()

    async def asked():
        with in_force(Active(ada.cache, CellScope(Options(mode=Mode.REFRESH), person="tester"))):
            assert await ada.cache.map(ask, [1], name="asked") == [1]
        done.append("kept")

    async def both():
        await asyncio.gather(asked(), let())

    ada.cache.map(lambda item: item, [1], name="asked")
    ada.told()
    asyncio.run(both())
    assert done == ["let", "kept"]
