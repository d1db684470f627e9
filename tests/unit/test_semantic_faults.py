"""Similar questions that can't be looked for: no call breaks or waits, and nothing lies at rest in plain text."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from machines import Origin, Team
from similar_questions import (
    ONE,
    OTHER,
    alike,
    all_alike,  # noqa: F401 - fixtures
    ask,
    asked,
    outcome,
)

from genai_cache_magic import llm_cache
from genai_cache_magic.api import similar as module
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.calls.coalesce import LookedUp
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Follow
from genai_cache_magic.core.options import Options
from genai_cache_magic.entries.listing.catalogue import Catalogue
from genai_cache_magic.entries.permits import Permit
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.vectors import INSTALL_LOCAL

pytestmark = pytest.mark.timeout(100)


def test_nothing_is_at_rest_in_plain_text(isolated):
    """The question, its vector and where its answer lies are sealed."""
    asked(ONE)
    cache = current_session().cache("default")
    cache.parts.questions.settle()
    (vector,) = alike([ONE])
    reset_session()
    files = [path.read_bytes() for path in Path(isolated, "cache").rglob("*") if path.is_file()]
    assert files
    assert not any(ONE.encode() in data or vector.tobytes() in data for data in files)


def failing(_texts):
    raise ValueError("no vector today")


def without_extra():
    raise ConfigurationError("numpy is missing")


@pytest.mark.parametrize(
    ("local", "said"),
    [
        (without_extra, f"questions can't be compared here, so only equal calls are hits: {INSTALL_LOCAL}"),
        (lambda: failing, "questions could not be compared, so only equal calls are hits: no vector today"),
        (lambda: lambda texts: [[float("nan")] * 384] * len(texts), "questions can't be compared here"),
    ],
    ids=["no extra", "raises", "nan"],
)
def test_what_fails_breaks_no_call(monkeypatch, local, said):
    """The model is asked, the answer stored, and the trouble said once, with the fix."""
    monkeypatch.setattr(module, "_local", local)
    with llm_cache(semantic=0.95) as cell:
        ask(ONE)
        ask(OTHER)
        ask(ONE)
        current_session().cache("default").parts.questions.settle()
    assert (cell.misses, cell.hits) == (2, 1)
    lines = [line for line in as_text(summarise(cell)).splitlines() if line.startswith("semantic")]
    assert len(lines) == 1
    assert lines[0].startswith(f"semantic: {said}")


def test_who_leads_a_call_looks_for_no_other_answer(tmp_path, monkeypatch):
    """A team is asked once more by who may ask the model; what others wait for is the answer to that call alone."""
    team, origin = Team(tmp_path, monkeypatch), Origin()
    machine = team.machine("one")
    desk, questions = machine.cache.calls, machine.cache.parts.questions
    monkeypatch.setattr(desk._permits, "try_take", lambda _: None)
    monkeypatch.setattr(desk._permits, "take", lambda entry_id, deliver: deliver(Permit(entry_id, has_waited=True)))
    looked, look = [], questions.look
    monkeypatch.setattr(questions, "look", lambda lead, *more: looked.append(lead.flight) or look(lead, *more))
    step, kinds = machine.begin(CellScope(Options(semantic=0.95), person="tester"), ONE), []
    while isinstance(step, Follow):
        kinds.append(type(step.future.result(30)))
        step = step.lead.desk.resume(step, step.future.result())
    step.desk.commit(step, origin())
    team.close()
    assert kinds.count(LookedUp) == 2
    assert looked == [None]


def test_a_listing_that_is_wrong_mixes_no_frames(monkeypatch):
    """An entry that is listed with questions of another frame is none of them: its sealed tags say where it belongs."""
    listed = []
    carrying = Catalogue.carrying

    def mixed(self, kind, name, **where):
        listed.append(name)
        return [one for frame in dict.fromkeys(listed) for one in carrying(self, kind, frame, **where)]

    monkeypatch.setattr(Catalogue, "carrying", mixed)
    with llm_cache(semantic=0.95) as cell:
        ask(ONE, temperature=0)
        ask(OTHER, temperature=0)
        ask(OTHER, temperature=1)
    assert len(set(listed)) == 2
    assert (cell.similar, cell.misses) == (1, 2)


def test_no_call_waits_behind_all_that_is_to_be_noted(monkeypatch):
    """Of many hits a few are noted at once, so that a question that is asked then is soon compared; others later."""
    count, may_go = module._MOST_BEHIND + 5, threading.Event()
    with llm_cache():
        for number in range(count):
            ask(ONE, seed=number)

    def slow(texts):
        assert may_go.wait(60)
        return alike(texts)

    monkeypatch.setattr(module, "_local", lambda: slow)
    questions = current_session().cache("default").parts.questions
    with llm_cache(semantic=0.95) as cell:
        for number in range(count):
            ask(ONE, seed=number)
        assert (cell.hits, questions._workers.unfinished) == (count, module._MOST_BEHIND)
        may_go.set()
        questions.settle()
        ask(ONE, seed=count - 1)
        questions.settle()
        ask(OTHER, seed=count - 1)
    assert cell.similar == 1


def test_without_threads_the_model_is_asked(monkeypatch):
    """Where no thread can be started nothing is compared, and no call waits."""
    questions = current_session().cache("default").parts.questions

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(questions._workers, "submit", refuse)
    assert outcome(ONE) is Outcome.MISS
    assert outcome(OTHER) is Outcome.MISS
    assert outcome(ONE) is Outcome.HIT
