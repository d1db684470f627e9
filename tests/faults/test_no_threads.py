"""A process in which no thread can be started any more: too many are there, or the interpreter is ending."""

from __future__ import annotations

import threading

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.entries.behind import Behind
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.intercept.patching import patcher
from genai_cache_magic.ledger.sharer import Sharer
from genai_cache_magic.stores.disk.locks import FileLock


@pytest.fixture
def no_thread(monkeypatch):
    """Let none of ours be started."""
    patcher.install()  # first, or it would be taken away with what stands around it
    start = threading.Thread.start

    def refused(self):
        if self.name.startswith("genai-cache"):
            raise RuntimeError("can't start new thread")
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        yield


@pytest.fixture
def ask(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:
        yield lambda text: client.chat.completions.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": text}]
        )


def test_hits_are_hits_and_all_is_counted(ask, unique_server, request):
    """Nobody pays twice, replays are answered, and what could not be counted behind is counted later."""
    with llm_cache():
        ask("a")
    reset_session()
    request.getfixturevalue("no_thread")
    with llm_cache() as cell:
        ask("a")
        ask("b")
    with llm_cache(mode="replay") as replayed:
        ask("a")
    assert (cell.hits, cell.misses, cell.troubles) == (1, 1, ())
    assert (replayed.hits, replayed.troubles) == (1, ())
    assert unique_server.count == 2
    used = current_session().cache("default").usage().total
    assert (used.hits, used.misses) == (2, 2)


def test_invalidating_goes_on(ask, no_thread, unique_server):
    """What is invalid is so at once; its room is given back by whoever comes next."""
    with llm_cache(tags=("t",)):
        ask("a")
    assert current_session().cache("default").invalidate_tag("t").count == 1
    with llm_cache() as cell:
        ask("a")
    assert (cell.misses, cell.troubles, unique_server.count) == (1, (), 2)


BEHIND = {
    "what the team brought": lambda place: Behind(lambda _: None, lambda _: None).add({"0" * 64: None}, print),
    "what the team is told": lambda place: Drain(None, None).poke(),
    "what the team is told of the ledger": lambda place: Sharer(lambda: None, lock=FileLock(place / "lock")).poke(),
}


@pytest.mark.parametrize("work", BEHIND.values(), ids=BEHIND)
def test_what_is_done_behind_waits(tmp_path, no_thread, work):
    """Who leaves work behind goes on."""
    assert work(tmp_path) is None
