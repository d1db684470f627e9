"""A model that is asked as the environment says and costs what OpenAI's does, a question of it, and a cache."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.api.scopes.session import current_session

MODEL = "gpt-4.1-mini"


def body(text, **more):
    """A question of at most 100 tokens, so that it can be said what the answer may cost."""
    return {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": text}], **more}


def asked_as_openai(server, monkeypatch):
    """Let OpenAI's SDK ask a simulated server, of which each call costs what it does at OpenAI."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.url: "openai"}))
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@pytest.fixture(name="_own", autouse=True)
def own_priced_model(isolated, unique_server, monkeypatch):
    """Every test has a cache of its own, and a model that costs what OpenAI's does."""
    asked_as_openai(unique_server, monkeypatch)


@pytest.fixture(name="cache")
def users_cache():
    """The cache that a cell, a magic or a command of this process uses."""
    return current_session().cache("default")
