"""Hits of which nothing is to be decided: told and judged as all others; what is more than that is not taken."""

from __future__ import annotations

from dataclasses import replace

import openai
import pytest
from embeddings import asked, embed
from team_in_memory import machine_a, machine_b, numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.calls.at_hand import AtHand
from genai_cache_magic.calls.reports import Reports
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Lead
from genai_cache_magic.core.options import Options
from genai_cache_magic.entries.team.clock import TeamClock
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.providers.registry import recognise

ASKED = [{"role": "user", "content": "What is at hand?"}]


@pytest.fixture
def client(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        yield client


@pytest.fixture
def at_hand(monkeypatch):
    """Whether each call was answered at once."""
    told, answer = [], AtHand.answer

    def noted(self, *args):
        answered = answer(self, *args)
        told.append(answered is not None)
        return answered

    monkeypatch.setattr(AtHand, "answer", noted)
    return told


def ask(client, **more):
    return client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED, **more)


def told(cell):
    return [replace(call, latency_s=0.0) for call in cell.calls]


@pytest.mark.parametrize(
    "options", [{}, {"tags": ("a", "b")}, {"mode": "read"}, {"mode": "replay"}, {"ttl": "1h"}, {"run": "one"}]
)
def test_told_as_every_other_hit(client, unique_server, at_hand, monkeypatch, options):
    """The record, the sums and the answer are those of a hit that was decided upon, in each mode that may serve one."""
    with llm_cache():
        for _ in range(3):  # stored, read, at hand
            ask(client)
    with llm_cache(**options) as quick:
        answer = ask(client)
    assert at_hand == [False, False, True, True]
    monkeypatch.setattr(AtHand, "answer", lambda *_: None)
    with llm_cache(**options) as decided:
        assert ask(client) == answer
    assert told(quick) == told(decided)
    assert (quick.hits, quick.saved_usd) == (decided.hits, decided.saved_usd)
    assert quick.calls[0].latency_s > 0
    assert unique_server.count == 1


class Listening:
    """Hears of calls, as books and monitors do."""

    def __init__(self):
        self.heard = []

    def note(self, event, **more):
        self.heard.append((event, more))


@pytest.mark.parametrize("is_elsewhere", [False, True])
def test_everybody_hears_of_it_as_of_every_other_hit(is_elsewhere):
    """Books, monitors, hooks, and of another process the one that the scope is of."""
    call, heard = CallRecord(Outcome.HIT, model="m"), []
    for told in (CellScope.emit, CellScope.add):
        hook = Listening()
        scope = CellScope(Options(run="r"), person="ann", hooks=[hook.note])
        scope.books, scope.monitor = books, monitor = Listening(), Listening()
        reports = scope.reports
        reports.prepare()
        if is_elsewhere:
            scope.reports = Reports(reports.directory)
        told(scope, call)
        lines = [one.what for one in reports.read()]
        heard.append((books.heard, monitor.heard, hook.heard, lines, scope.calls))
    assert heard[0] == heard[1]
    assert heard[0][0] == [(call, {"run": "r", "person": "ann"})]
    assert [len(part) for part in heard[0]] == [1, int(not is_elsewhere), 1, int(is_elsewhere), 1]


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"samples": "distinct"}, Outcome.HIT),
        ({"ignore": ("uuid",)}, Outcome.MISS),  # another key
        ({"salt": "another"}, Outcome.MISS),  # likewise
        ({"mode": "refresh"}, Outcome.MISS),
        ({"mode": "off"}, Outcome.BYPASS),
    ],
)
def test_what_is_more_than_that(client, at_hand, options, outcome):
    """Where something else is to be done first, or the answer may not be served, it is decided upon."""
    with llm_cache():
        for _ in range(3):
            ask(client)
    with llm_cache(**options) as cell:
        ask(client)
    assert at_hand == [False, False, True, False]
    assert [call.outcome for call in cell.calls] == [outcome]


@pytest.mark.parametrize(("passed_s", "outcome"), [(3590, Outcome.HIT), (3610, Outcome.STALE)])
def test_an_answer_that_is_at_hand_grows_old(client, at_hand, monkeypatch, passed_s, outcome):
    """It is served as long as its caller allows, and no longer."""
    with llm_cache():
        for _ in range(3):
            ask(client)
    now = TeamClock.__call__
    monkeypatch.setattr(TeamClock, "__call__", lambda self: now(self) + passed_s)
    with llm_cache(ttl="1h") as cell:
        ask(client)
    assert at_hand[3] is (outcome is Outcome.HIT)
    assert [call.outcome for call in cell.calls] == [outcome]


@pytest.mark.parametrize("how", ["clear", "tag", "entry"])
def test_an_invalidation_counts_at_the_next_call(client, unique_server, at_hand, how):
    """Also one by another who shares the directory, and however often the answer was at hand before."""
    with llm_cache(tags=("a",)) as cell:
        first = [ask(client) for _ in range(4)][-1]
        with create_cache() as other:
            if how == "clear":
                other.clear()
            elif how == "tag":
                other.invalidate_tag("a")
            else:
                other.invalidate_entry(cell.calls[0].entry_id)
        again = ask(client)
    assert at_hand == [False, False, True, True, False]
    assert again.id != first.id
    assert unique_server.count == 2


def test_a_tag_of_the_callers_counts(client, at_hand):
    """What was stored before a tag was invalidated is not for a scope that names it, whatever it was stored with."""
    with llm_cache():
        for _ in range(3):
            ask(client)
    with create_cache() as other:
        other.invalidate_tag("a")
    for tags, outcome in (((), Outcome.HIT), (("b",), Outcome.HIT), (("a",), Outcome.STALE)):
        with llm_cache(tags=tags) as cell:
            ask(client)
        assert at_hand.pop() is (outcome is Outcome.HIT)
        assert [call.outcome for call in cell.calls] == [outcome]


def test_what_is_answered_item_by_item(client, unique_server, at_hand):
    """Of a batch each item counts: one that is invalid makes the whole invalid, however often that was asked."""
    with llm_cache() as cell:
        embed(client, ["one"])
        for _ in range(3):
            embed(client, ["one", "two"])
        with create_cache() as other:
            other.invalidate_entry(cell.calls[0].entry_id)
        embed(client, ["one", "two"])
    assert not any(at_hand)
    assert [call.outcome for call in cell.calls[1:]] == [Outcome.MISS, Outcome.HIT, Outcome.HIT, Outcome.STALE]
    assert asked(unique_server) == [["one"], ["two"], ["one"]]


def test_a_team_is_asked_first_where_it_was_not_seen_lately(team, a, b, origin, at_hand):
    """What a teammate has invalidated is served no longer than `max_stale`, out of memory neither."""
    call = recognise(a.http_call("hello"), a.cache.origins)

    def outcome():
        scope = CellScope(Options())
        step = a.waited(a.cache.calls.begin(call, scope, is_async=False))
        if isinstance(step, Lead):
            step.desk.commit(step, origin())
        return scope.calls[-1].outcome

    assert [outcome() for _ in range(3)] == [Outcome.MISS, Outcome.HIT, Outcome.HIT]
    a.told()
    b.cache.invalidate_entry(b.ask(origin)[1].entry_id)
    a.goes_stale()
    assert outcome() is Outcome.STALE
    assert at_hand == [False, False, True, False, False]


def test_what_is_asked_in_another_way(client, unique_server, at_hand):
    """A stream of an answer that came whole is made of it by who decides, whatever was at hand before and after."""
    with llm_cache() as cell:
        whole = [ask(client) for _ in range(3)][-1]
        for _ in range(2):
            pieces = [event.choices[0].delta.content or "" for event in ask(client, stream=True) if event.choices]
            assert "".join(pieces) == whole.choices[0].message.content
            assert ask(client) == whole
    assert at_hand == [False, False, True, False, True, False, True]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, *[Outcome.HIT] * 6]
    assert unique_server.count == 1
