"""Fixtures of the matrix."""

from __future__ import annotations

import gc
import sys

import pytest

# LangChain keeps an endpoint's HTTP clients for as long as the process lives; each test has an endpoint of its own.
KEPT_CLIENTS = ("langchain_openai.chat_models._client_utils", "langchain_anthropic._client_utils")


@pytest.fixture
def lone(isolated, monkeypatch):
    """Nothing beside us: no cache of an SDK's own, no message of one to its maker, no client of an earlier test."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else LiteLLM's import asks the network for prices
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    monkeypatch.setenv("DSPY_CACHEDIR", str(isolated / "dspy"))
    yield isolated
    for name in KEPT_CLIENTS:
        for kept in vars(sys.modules.get(name, sys)).values():
            getattr(kept, "cache_clear", lambda: None)()
    gc.collect()  # here, where the warnings of what SDKs leave open are not ours
    gc.freeze()  # so that the next one does not go through all that SDKs have imported


@pytest.fixture(scope="module", autouse=True)
def unfrozen():
    """What was kept out of collections is in them again afterwards."""
    yield
    gc.unfreeze()
    gc.collect()
    gc.freeze()  # as after collection: see tests/conftest.py
