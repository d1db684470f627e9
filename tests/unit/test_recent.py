"""Answers opened a moment ago: the same judgement as for the store, and bounded room."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.factory import create_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.core.model import EntryId, Response
from genai_cache_magic.entries.recent import Recent
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import SimulatedModelServer

IDS = [EntryId(f"{n:064x}") for n in range(4)]


@dataclass
class Kept:
    response: Response


def kept(size):
    return Kept(Response(200, (), bytes(size)))


def test_the_oldest_goes_where_room_is_short():
    """Room is bounded in bytes; what was used last stays."""
    recent = Recent(3 * 4096)
    for entry_id in IDS[:3]:
        recent.keep(entry_id, kept(2048))
    assert recent.get(IDS[0]) is not None
    recent.keep(IDS[3], kept(2048))
    assert [recent.get(entry_id) is not None for entry_id in IDS] == [True, False, True, True]
    recent.forget(IDS[0])
    recent.keep(IDS[1], kept(2048))
    assert [recent.get(entry_id) is not None for entry_id in IDS] == [False, True, True, True]
    recent.clear()
    assert [recent.get(entry_id) for entry_id in IDS] == [None] * 4


def test_what_is_forgotten_while_it_is_looked_up_is_not_there():
    """Looking up takes no lock: another thread may let go of it at any moment."""

    class Forgetful(OrderedDict):
        def get(self, key, default=None):
            return self.pop(key, default)

    recent = Recent(1 << 20)
    recent.keep(IDS[0], kept(1))
    recent._found = Forgetful(recent._found)
    assert recent.get(IDS[0]) is None


@pytest.mark.parametrize("limit", [0, 4096])
def test_what_is_larger_than_the_room_is_not_kept(limit):
    """A size of 0 switches it off."""
    recent = Recent(limit)
    recent.keep(IDS[0], kept(limit + 1))
    assert recent.get(IDS[0]) is None


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / "keys" / "key"))
    reset_session()
    with (
        SimulatedModelServer(answers="unique") as server,
        openai.OpenAI(base_url=server.openai_url, api_key="simulated", max_retries=0) as client,
    ):

        def ask(**options):
            with llm_cache(**options) as cell:
                answer = client.chat.completions.create(
                    model="gpt-4.1-mini", messages=[{"role": "user", "content": "hello"}]
                )
            return cell.calls[0].outcome, answer.choices[0].message.content

        yield ask
    reset_session()


def test_the_second_hit_needs_no_store(ask):
    """An answer opened a moment ago is served without a look-up, as what it is: a hit of L1."""
    _, first = ask()
    assert ask() == (Outcome.HIT, first)
    store = current_session().cache("default")._entries.store
    asked = []
    original = store.get
    store.get = lambda key: asked.append(key) or original(key)
    assert ask() == (Outcome.HIT, first)
    assert asked == []


def test_another_processs_invalidation_counts_at_once(ask):
    """What someone else invalidated is not served from memory either, nor what they refreshed."""
    _, first = ask(tags=("t",))
    assert ask(tags=("t",)) == (Outcome.HIT, first)
    with create_cache() as other:
        assert other.invalidate_tag("t").count == 1
    outcome, second = ask(tags=("t",))
    assert outcome is not Outcome.HIT
    assert second != first
    assert ask(tags=("t",)) == (Outcome.HIT, second)
    with create_cache() as other:
        other.clear()
    assert ask(tags=("t",))[0] is not Outcome.HIT


def test_the_time_to_live_counts(ask, monkeypatch):
    """An expired answer is not served from memory either."""
    ask(ttl="10s")
    assert ask()[0] is Outcome.HIT
    entries = current_session().cache("default")._entries
    now = entries.judge.clock()
    monkeypatch.setattr(entries.judge, "clock", lambda: now + 11)
    assert ask()[0] is Outcome.STALE or ask()[0] is Outcome.MISS


def test_a_callers_changes_do_not_reach_it(ask):
    """Answers are parsed anew for each caller."""
    _, first = ask()
    assert ask() == ask() == (Outcome.HIT, first)
