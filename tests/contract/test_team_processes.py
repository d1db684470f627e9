"""The processes of one machine share its queue: what one of them tells the team, the others take note of."""

from __future__ import annotations

import threading

from machines import Origin
from team_in_memory import team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic.crypto.document_mac import protect_document, verify_document
from genai_cache_magic.entries.team import tier as teams
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.contracts.store import key_of


def test_what_another_process_has_told_does_not_wait_here(team):
    """After an outage, what one process invalidated and told holds no answer of another for invalid any longer."""
    origin = Origin()
    a, b = team.machine("a"), team.machine("a")
    for process in (a, b):
        process.ask(origin, tags=["t"])
        process.tier.is_away = True
    a.cache.invalidate_tag("t")
    b.goes_stale()
    b.ask(origin, tags=["t"])  # asks in vain, and sees what waits
    assert b.cache._team.is_behind
    a.tier.is_away = b.tier.is_away = False
    a.told()
    b.goes_stale()
    b.ask(origin, tags=["t"])
    b.told()
    b.goes_stale()
    _, record = b.ask(origin, tags=["t"])
    assert record.outcome is Outcome.HIT
    assert not b.cache._team.is_behind


def test_a_tier_that_trickles_does_not_keep_a_cache_from_closing(team, monkeypatch):
    """However slowly the team is told, a process that ends does not wait for that beyond its deadline."""
    machine = team.machine("a")
    may_end = threading.Event()
    monkeypatch.setattr(Drain, "poke", lambda _: None)
    monkeypatch.setattr(teams, "DEADLINE_S", 0.05)
    monkeypatch.setattr(machine.cache._team, "fill", lambda _: may_end.wait())
    machine.cache._team._outbox.add_entries({key_of("a"): b"a"})
    assert not machine.cache._team.tell(within_s=0.0)
    assert machine.breaker.reason
    may_end.set()


def test_a_record_of_a_newer_version_is_told_by_calls_and_breaks_no_opening(team):
    """Two environments of one machine share a directory: the older one opens, stores nothing, and says what to do."""
    origin, machine = Origin(), team.machine("a")
    machine.ask(origin)
    machine.told()
    live, document = machine.cache._team._generations, team.server.documents["generations"]
    newer = bytearray(verify_document(live._mac_key, live._context, document.load()))
    newer[len(b"GCGD")] += 1
    changed = protect_document(live._mac_key, live._context, bytes(newer))
    document.replace(changed, expected=document.load())
    copy = machine.cache._team._snapshot._copy
    copy.replace(changed, expected=copy.load())
    older = team.machine("a")
    text, record = older.ask(origin, "another")
    assert text == f"answer {origin.answers}"
    assert not record.stored
    assert "newer version" in older.cache._team.trouble()
