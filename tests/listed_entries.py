"""A cache whose catalogue is looked at, a cell that asks, and whether rows and entries agree."""

from __future__ import annotations

import openai
import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session

DAY_S = 86_400


@pytest.fixture(name="ask")
def asking_cell(isolated, unique_server):
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client:

        def ask(text="hello", temperature=0.5, **options):
            with llm_cache(**options) as cell:
                client.chat.completions.create(
                    model="gpt-4.1-mini", temperature=temperature, messages=[{"role": "user", "content": text}]
                )
            return cell

        ask.cache = lambda: current_session().cache("default")
        yield ask


@pytest.fixture(name="cache")
def listed_cache(isolated):
    events = []
    cache = create_cache(on_event=events.append)
    cache.events = events
    yield cache
    cache.close()


def later(cache, monkeypatch, seconds):
    clock = cache._entries.judge.clock
    monkeypatch.setattr(cache._entries.judge, "clock", lambda: clock() + seconds)


def agrees(cache):
    """Return whether the catalogue lists exactly what opening every entry finds."""
    opened = {entry_id: (header, metadata) for entry_id, header, metadata in cache._entries.scan()}
    listed = {item.entry_id: (item.header, item.metadata) for item in cache.catalogue.items()}
    assert cache.stats().entries == len(listed)
    assert cache.clear(dry_run=True).known == len(listed)
    return opened == listed
