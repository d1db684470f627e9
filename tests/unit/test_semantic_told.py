"""What is told of an answer to a similar question: by explain, by runs and by the ledger, never as a hit."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import openai
import pytest
from reports import answers_of
from similar_questions import (
    ONE,
    OTHER,
    all_alike,  # noqa: F401 - fixtures
    ask,
    asked,
    body,
    outcome,
)

from genai_cache_magic import llm_cache
from genai_cache_magic.api.explaining import explanations
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter import marimo
from genai_cache_magic.jupyter.arguments import Selection
from genai_cache_magic.jupyter.commands import _apply
from genai_cache_magic.jupyter.controls import CellControls
from genai_cache_magic.jupyter.server import answers
from genai_cache_magic.jupyter.server.caches import Caches
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.call_report import as_json
from genai_cache_magic.jupyter.shown.runs import differences, written
from genai_cache_magic.jupyter.shown.summary import summarise

pytestmark = pytest.mark.timeout(100)


def test_who_counts_hits_by_their_mark_counts_none_of_it():
    """A response says of itself that it answers another question, and a plain hit that it is one."""
    with llm_cache(semantic=0.95), openai.OpenAI() as client:
        raw = client.chat.completions.with_raw_response
        marks = [raw.create(**body(text)).headers.get("x-genai-cache") for text in (ONE, OTHER, ONE)]
    assert marks == [None, "similar", "hit"]


def test_explain_shows_both_questions():
    """What was asked stands beside what the answer was given to, in words only if these are asked for."""
    asked(ONE)
    _, cell = asked(OTHER)
    cache = current_session().cache("default")
    (found,) = explanations(cache.parts.explainer, cache.runs, cell)
    assert found.reason == "similar 0.99: the answer to another question"
    shown = "\n".join(found.diff)
    assert ONE.split()[-1] in shown
    assert OTHER.split()[-1] in shown
    assert "diff" not in found.as_json()


def test_a_run_says_how_alike_questions_had_to_be():
    """Its record names the bar, and which calls got the answer to another question."""
    asked(ONE, run="r")
    asked(OTHER, run="r")
    calls = current_session().cache("default").runs.show("r").calls
    assert [call.outcome for call in calls] == ["miss", "similar"]
    assert {call.surroundings["semantic"] for call in calls} == {"0.95"}
    assert [call.saved_usd is not None for call in calls] == [False, True]


@pytest.mark.parametrize("plaintext", [True, False])
def test_a_run_that_is_carried_on_says_what_was_similar(unique_server, plaintext):
    """A file, a pin and who takes them over give it as what it was: by its outcome, its mark, its line, in `show`."""
    first, _ = asked(ONE, run="r")
    asked(OTHER, run="r")
    runs = current_session().cache("default").runs
    file = Path("r.jsonl" if plaintext else "r.run")
    for done in (runs.export("r", file, plaintext=plaintext), runs.pin("r"), runs.import_(file, "theirs")):
        assert (done.count, done.similar, done.left_out) == (2, 1, {})
    if plaintext:
        assert [b'"similar":true' in line for line in sorted(file.read_bytes().splitlines()[1:])].count(True) == 1
    assert "2 calls, 1 of them similar (the answer to another question), is pinned" in written("pinned", "r", done)
    asked_before = unique_server.count
    for options in ({"run": "theirs"}, {"run": "r"}, {"run_file": file}):
        current_session().cache("default").clear()
        with llm_cache(mode="replay", **options) as cell, openai.OpenAI() as client:
            assert ask(ONE) == first
            raw = client.chat.completions.with_raw_response.create(**body(OTHER))
        assert raw.headers["x-genai-cache"] == "similar"
        assert raw.parse().choices[0].message.content == first
        assert [call.outcome for call in cell.calls] == [Outcome.HIT, Outcome.SIMILAR]
        assert (cell.hits, cell.similar) == (1, 1)
        label = {"theirs": "pinned run theirs", "r": "pinned run r"}.get(options.get("run"), file.name)
        assert f"1 hit (from {label}), 1 similar, 0 misses" in as_text(summarise(cell))
        assert "similar, from" in current_session().cache("default").explain(cell)[0].reason
    assert unique_server.count == asked_before
    assert [call.outcome for call in runs.show("theirs").calls].count("imported, similar") == 1
    assert runs.export("theirs", file, plaintext=True).similar == 1


def test_who_does_not_replay_asks_for_an_answer_of_its_own(unique_server):
    """A file's similar answer is given in a replay alone; recording puts the own one in its place."""
    asked(ONE, run="r")
    asked(OTHER, run="r")
    runs, file = current_session().cache("default").runs, Path("r.jsonl")
    runs.export("r", file, plaintext=True)
    current_session().cache("default").clear()
    first, _ = asked(ONE, semantic=None, run_file=file)
    assert outcome(OTHER, semantic=None, run_file=file, mode="read") is Outcome.MISS
    own, cell = asked(OTHER, semantic=None, run_file=file, mode="record")
    assert cell.calls[0].outcome is Outcome.MISS
    assert own != first
    again, cell = asked(OTHER, semantic=None, run_file=file, mode="replay")
    assert (again, cell.calls[0].outcome) == (own, Outcome.HIT)
    assert b'"similar"' not in file.read_bytes()


def test_two_runs_differ_where_one_got_the_answer_to_another_question(monkeypatch, server):
    """Also where the words are the same."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)  # says the same each time
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.url: "openai"}))
    reset_session()
    asked(ONE, run="similar")
    asked(OTHER, run="similar")
    asked(ONE, semantic=None, run="plain")
    asked(OTHER, semantic=None, run="plain", mode="refresh")
    found = current_session().cache("default").runs.diff("similar", "plain")
    assert (found.same, len(found.changed), found.differing) == (1, 1, ())
    assert differences("similar", "plain", found).table.rows[0][-2:] == ("answered otherwise", "similar in similar")


def test_the_ledger_counts_no_hit():
    """What was saved is counted; a hit it is not."""
    asked(ONE)
    asked(OTHER)
    total = current_session().cache("default").usage().total
    assert (total.hits, total.similar, total.misses) == (0, 1, 1)
    assert total.saved_usd > 0


def by_command(_):
    assert _apply(Selection("cell", "", dry_run=True)).count == 1
    assert _apply(Selection("cell", "")).count == 1


def by_view(cell):
    by_buttons(cell, CellControls(cell, lambda: None))


def by_saved_report(cell):
    """As JupyterLab does: the server knows the report alone."""
    with contextlib.closing(Caches()) as caches:
        by_buttons(cell, lambda route, given: getattr(answers, route)(caches, given))


def by_buttons(cell, ask_for):
    entries = answers_of(json.loads(json.dumps(as_json(summarise(cell)))))
    for dry_run in (True, False):
        done = ask_for("invalidate", {"store": cell.store, "entries": entries, "dry_run": dry_run})
        assert (done["count"], "not in the cache" in done["sentence"]) == (1, False)


@pytest.mark.parametrize("forget", [by_command, by_view, by_saved_report, marimo._forget])
def test_invalidating_the_cell_takes_the_answer_that_it_was_given(forget):
    """It lies under the other question's id: else the cell would go on getting what was refused a moment ago."""
    first, _ = asked(ONE)
    _, cell = asked(OTHER)
    forget(cell)
    again, cell = asked(OTHER)
    assert again != first
    assert (cell.similar, cell.misses) == (0, 1)


def test_the_answer_that_was_given_is_told_of_as_being_there():
    """Though under what was asked there is nothing; how long it took is said of this cell's own calls."""
    _, one = asked(ONE)
    _, other = asked(OTHER)
    (call,) = other.calls
    found = CellControls(other, lambda: None)("live", {"store": other.store})["entries"]
    assert list(found) == [call.entry_id[:16]]
    facts = found[call.entry_id[:16]]
    assert (facts["state"], facts["latency_s"]) == ("valid", call.latency_s)
    with llm_cache(semantic=0.95) as both:
        for text in (ONE, OTHER):
            ask(text)
    found = CellControls(both, lambda: None)("live", {"store": both.store})["entries"]
    assert {entry: facts["latency_s"] for entry, facts in found.items()} == {
        call.entry_id[:16]: call.latency_s for call in both.calls
    }
    assert answers_of(as_json(summarise(both))) == [one.calls[0].entry_id[:16]] * 2
