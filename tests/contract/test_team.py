"""What one machine of a team fetched every other gets, and what one invalidates nobody serves later than the bound."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from machines import Origin
from team_in_memory import machine_a, machine_b, numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.entries.permits import Permit
from genai_cache_magic.errors import ReplayMiss, StoreUnavailable
from genai_cache_magic.events import Outcome, Tier


def test_what_one_fetched_the_other_gets(a, b, origin):
    """A second machine is answered from L2 without asking the model, and from its own L1 after that."""
    first, record = a.ask(origin)
    assert record.stored
    a.told()
    again, hit = b.ask(origin)
    assert (again, hit.outcome, hit.tier) == (first, Outcome.HIT, Tier.L2)
    calls = b.tier.calls
    assert b.ask(origin)[1].tier is Tier.L1
    assert b.tier.calls == calls
    assert origin.answers == 1


def test_a_tag_invalidated_by_one_is_a_miss_for_the_other(a, b, origin):
    """As soon as another machine sees the document, what carries the tag is asked anew, and shared anew."""
    a.ask(origin, tags=["t"])
    a.told()
    b.ask(origin)
    assert a.cache.invalidate_tag("t", dry_run=True).published == "local"
    assert a.cache.invalidate_tag("t").published == "published"
    b.goes_stale()
    text, record = b.ask(origin)
    assert (text, record.outcome) == ("answer 2", Outcome.STALE)
    b.told()
    a.goes_stale()
    assert a.ask(origin)[0] == "answer 2"
    assert origin.answers == 2


@pytest.mark.parametrize("how", ["clear", "entry", "refresh"])
def test_every_way_to_invalidate_reaches_the_other(a, b, origin, how):
    """A new root, a single entry, and a refresh that replaces it."""
    _, record = a.ask(origin)
    a.told()
    b.ask(origin)
    if how == "clear":
        a.cache.clear()
    elif how == "entry":
        a.cache.invalidate_entry(record.entry_id[:16])
    else:
        assert a.ask(origin, mode="refresh")[0] == "answer 2"
        a.told()
    b.goes_stale()
    assert b.ask(origin)[0] == "answer 2"
    assert origin.answers == 2


def test_a_slow_fill_of_what_was_invalidated_is_born_invalid(a, b, origin):
    """An answer that was on its way when another machine invalidated it is served to nobody else."""
    slow = threading.Event()

    def fetch():
        response = origin()
        b.sees()
        b.cache.clear()
        slow.set()
        return response

    a.ask(fetch)
    assert slow.is_set()
    a.told()
    for machine in (a, b):
        machine.goes_stale()
        assert machine.ask(origin)[0] != "answer 1"


def test_without_the_tier_a_machine_goes_on(a, origin):
    """What is here is served, what is not is asked and kept here, and the cell is told why."""
    a.ask(origin)
    a.told()
    a.tier.is_away = True
    a.goes_stale()
    assert a.ask(origin)[1].outcome is Outcome.HIT
    assert a.ask(origin, "another")[1].stored
    assert a.ask(origin, "another")[1].outcome is Outcome.HIT


def test_what_was_fetched_without_the_tier_is_shared_later(a, b, origin):
    """The queue keeps it, and the team has it once it is back."""
    a.ask(origin, "before")
    a.tier.is_away = True
    a.goes_stale()
    a.ask(origin, "meanwhile")
    a.tier.is_away = False
    a.told()
    assert b.ask(origin, "meanwhile")[1].tier is Tier.L2


def test_nobody_is_held_up_by_what_can_not_be_told(a, origin):
    """A lease stays until the team was told what came of it, and no longer once the team can't be told."""
    _, record = a.ask(origin, "before")
    a.told()
    team, entry_id = a.cache._team, EntryId(record.entry_id)
    assert team.is_told(entry_id)
    a.tier.is_away = True
    a.breaker.trip(StoreUnavailable("away"))
    team._outbox.add_entries({entry_id: b"answer"})
    assert team.is_told(entry_id)
    a.breaker.reset()
    assert not team.is_told(entry_id)


def test_who_waits_is_not_let_go_by_what_is_large(a, origin, monkeypatch):
    """A tier that has an answer, and more of them than it can send in time, is not away."""
    _, record = a.ask(origin, "before")
    a.told()
    team, entry_id = a.cache._team, EntryId(record.entry_id)
    other = EntryId("0" * 64)
    assert not team.is_away([entry_id, other])
    look_up = a.tier.look_up
    monkeypatch.setattr(a.tier, "look_up", lambda name, keys: replace(look_up(name, keys), blobs={}, unread=[entry_id]))
    assert team.looked_up([entry_id])[entry_id].trouble
    assert not team.is_away([entry_id, other])
    a.tier.is_away = True
    assert team.is_away([entry_id, other])


def test_an_invalidation_without_the_tier_holds_here_at_once(a, b, origin):
    """It is queued, holds on this machine from now on, and is published before anything else."""
    a.ask(origin, tags=["t"])
    a.told()
    b.ask(origin)
    a.tier.is_away = True
    assert a.cache.invalidate_tag("t").published == "queued"
    a.goes_stale()
    text, record = a.ask(origin, tags=["t"])
    assert text == "answer 2"
    assert not record.stored
    a.tier.is_away = False
    a.told()
    b.goes_stale()
    assert b.ask(origin)[0] == "answer 3"
    assert a.cache.clear().published == "published"


def test_a_killed_kernel_loses_neither_queue(team, a, origin):
    """What one process of a machine has queued, the next one tells."""
    b = team.machine("b")
    a.ask(origin, tags=["t"])
    a.told()
    b.ask(origin)
    a.tier.is_away = True
    a.goes_stale()
    a.ask(origin, "meanwhile")
    a.cache.invalidate_tag("t")
    next_one = team.machine("a")
    next_one.told()
    assert b.ask(origin, "meanwhile")[1].tier is Tier.L2
    b.goes_stale()
    assert b.ask(origin)[0] == "answer 3"


def test_a_lost_document_is_misses_and_never_stale(team, a, b, origin):
    """Everything is asked anew, once: the machines agree on the one new root."""
    a.ask(origin)
    a.told()
    b.ask(origin)
    team.server.documents.pop("generations")
    for machine in (a, b):
        machine.goes_stale()
    assert a.ask(origin)[0] == "answer 2"
    a.told()
    assert b.ask(origin)[0] == "answer 2"
    assert origin.answers == 2
    told = [event.message for event in a.events if "what was invalidated is not known any more" in str(event)]
    assert [sentence.partition(": ")[0] for sentence in told] == [a.tier.name]  # whose record that was


def test_a_flush_by_an_outsider(team, a, b, origin):
    """With everything gone the team starts anew, and what was invalidated does not come back."""
    a.ask(origin, tags=["t"])
    a.told()
    b.ask(origin)
    a.cache.invalidate_tag("t")
    team.server.flush()
    for machine in (a, b):
        machine.goes_stale()
    assert b.ask(origin)[0] == "answer 2"
    b.told()
    # The one who has seen more makes another root above all that it saw, and then they agree.
    text, _ = a.ask(origin)
    assert text != "answer 1"
    a.told()
    b.goes_stale()
    assert b.ask(origin)[0] == text


def test_a_document_that_was_rolled_back(team, a, b, origin):
    """An older document put back undoes no invalidation: who has seen the newer makes a new root above it."""
    a.ask(origin, tags=["t"])
    a.told()
    b.ask(origin)
    document = team.server.documents["generations"]
    before = document.load()
    a.cache.invalidate_tag("t")
    assert document.replace(before, expected=document.load())
    a.goes_stale()
    assert a.ask(origin)[0] == "answer 2"
    a.told()
    b.goes_stale()
    assert b.ask(origin)[0] == "answer 2"


def test_replay_is_answered_by_the_team(a, b, origin):
    """A machine that never asked a model replays what its team has."""
    a.ask(origin)
    a.told()
    assert b.ask(origin, mode="replay")[0] == "answer 1"
    with pytest.raises(ReplayMiss):
        b.ask(origin, "something else", mode="replay")


def test_many_who_ask_at_once_are_one_look_up(a, b, origin):
    """Thirty-two threads that ask one thing are one look-up and one call."""
    a.ask(origin)
    a.told()
    calls = b.tier.calls
    start = threading.Barrier(32)
    found = []

    def ask():
        start.wait()
        found.append(b.ask(origin)[0])

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {"answer 1"}
    assert b.tier.calls - calls < 32
    assert origin.answers == 1


class GrantedLate:
    """Permits that are to be had at once, by when whoever had them before has left an answer."""

    def __init__(self, answer_elsewhere, token):
        self.answer_elsewhere = answer_elsewhere
        self.token = token

    def try_take(self, entry_id):
        return None

    def take(self, entry_id, deliver):
        self.answer_elsewhere()
        deliver(Permit(entry_id, token=self.token))

    def release(self, permit):
        assert permit.token is self.token


@pytest.mark.parametrize(("where", "token"), [("a", None), ("b", b"lease")])
def test_who_gets_a_permit_looks_again(team, a, where, token):
    """Between a look-up and the permit to ask another process, or machine, may have asked and gone."""
    origin = Origin()
    other = team.machine(where)

    def answer_elsewhere():
        other.ask(origin)
        other.told()

    a.cache.calls._permits = GrantedLate(answer_elsewhere, token)
    assert a.ask(origin)[0] == "answer 1"
    assert origin.answers == 1


def test_values_are_shared_too(a, b):
    """`set` and `get`, many at once, overwriting and deleting."""
    a.cache.mset({f"key {n}": n for n in range(50)})
    a.told()
    b.sees()
    calls = b.tier.calls
    assert b.cache.mget([f"key {n}" for n in range(50)]) == list(range(50))
    assert b.tier.calls - calls == 1
    b.cache.set("key 1", "new")
    b.told()
    a.goes_stale()
    assert a.cache.get("key 1") == "new"
    a.cache.delete("key 2")
    b.goes_stale()
    assert b.cache.get("key 2") is None


def test_a_value_is_replaced_by_who_never_had_it(a, b):
    """What only the team has is overwritten too, so that all get the new one."""
    a.cache.set("key", "old")
    a.told()
    assert b.cache.set("key", "new") is None
    b.told()
    a.goes_stale()
    assert a.cache.get("key") == "new"
    assert b.cache.get("key") == "new"
    b.cache.mset({"key": "newer", "another": 1})
    b.told()
    a.goes_stale()
    assert a.cache.mget(["key", "another"]) == ["newer", 1]


def test_a_value_that_is_set_without_the_tier_replaces_the_teams(a, b):
    """Of what was set so shortly before it can't be known that it was before: nobody gets either, and it is said."""
    a.cache.set("key", "old")
    a.told()
    b.tier.is_away = True
    b.goes_stale()
    b.cache.set("key", "new")
    assert b.cache.fill_many({"key": "newer"}, birth=b.cache.birth(), overwrites=True) == 1
    assert b.cache.get("key") == "newer"
    b.tier.is_away = False
    b.told()
    assert "not kept: 1;" in b.events[-1].message
    said = len(b.events)
    for machine in (a, b):
        machine.goes_stale()
        assert machine.cache.get("key") != "old"
    b.cache.set("key", "newer")
    assert len(b.events) == said
    b.told()
    a.goes_stale()
    assert a.cache.get("key") == "newer"


def test_nothing_readable_in_the_tier(team, a, origin):
    """Neither prompts nor answers, tags or models can be read by who can read the tier."""
    a.ask(origin, "a very secret prompt", tags=["secret-tag"])
    a.told()
    held = b"".join(team.server.store.get_many(list(team.server.store.scan())).values())
    held += b"".join(document.load() or b"" for document in team.server.documents.values())
    for word in (b"secret", b"answer", b"gpt-4.1"):
        assert word not in held


def test_trouble_on_the_way_is_told_and_breaks_nothing(a, origin, monkeypatch):
    """A queue that can't be written costs the team an answer, and the caller nothing."""

    def fails(*_, **__):
        raise StoreUnavailable("outbox.db can't be written")

    monkeypatch.setattr(a.cache._team._outbox, "add_entries", fails)
    text, _ = a.ask(origin)
    assert text == "answer 1"
    assert a.ask(origin)[1].outcome is Outcome.HIT


def test_a_record_that_the_tier_lost_is_said(team, a, origin):
    """Also by a process that has not seen it itself: its machine has."""
    a.ask(origin)
    a.cache.invalidate_tag("t")
    a.told()
    team.server.documents.pop("generations")
    later = team.machine("a")
    later.goes_stale()
    later.ask(origin)
    assert ["not known any more" in event.message for event in later.events] == [True]


def test_what_one_process_of_a_machine_invalidates_no_other_serves(team, origin):
    """A server's button holds for the next call of the kernel beside it, however fresh that takes itself to be."""
    kernel = team.machine("a")
    server = team.machine("a")
    first, _ = kernel.ask(origin, tags=["t"])
    kernel.told()
    assert kernel.ask(origin)[0] == first
    assert server.cache.invalidate_tag("t").published == "published"
    again, record = kernel.ask(origin)
    assert again != first
    assert record.outcome is not Outcome.HIT
    kernel.told()
    assert kernel.ask(origin)[0] == again
