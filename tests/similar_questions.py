"""Questions that are all found alike, so that nothing but what is compared beside them decides."""

from __future__ import annotations

import hashlib

import openai
import pytest
from guard_pairs import SAME
from priced_model import asked_as_openai

from genai_cache_magic import llm_cache
from genai_cache_magic.api import similar as module
from genai_cache_magic.vectors.guard import differs

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")

MODEL = "gpt-4.1-mini"
ONE, OTHER = next((one, other) for one, other in SAME if differs(one, other) is None)


def alike(texts):
    """Find all texts alike, so that nothing but what is compared beside decides."""
    made = []
    for text in texts:
        vector = np.zeros(module.DIMENSION, np.float32)
        vector[0], vector[1 + hashlib.sha256(text.encode()).digest()[0]] = 1, 0.1
        made.append(vector)
    return made


@pytest.fixture(name="_own", autouse=True)
def all_alike(isolated, unique_server, monkeypatch):
    """Every test has a cache of its own, a model that never says the same twice, and vectors that are all alike."""
    asked_as_openai(unique_server, monkeypatch)
    monkeypatch.setattr(module, "_local", lambda: alike)


def body(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def ask(text, **more):
    with openai.OpenAI() as client:
        return client.chat.completions.create(**body(text, **more)).choices[0].message.content


def asked(text, *, semantic=0.95, more=None, **options):
    """Return the answer and the record of a call in a cell of its own."""
    with llm_cache(semantic=semantic, **options) as cell:
        answer = ask(text, **(more or {}))
    return answer, cell


def outcome(text, **options):
    return asked(text, **options)[1].calls[0].outcome
