"""Runs that are recorded into a file, and the colleague who has nothing but that."""

from __future__ import annotations

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.core.model import Request, Response
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.runs.lines import (
    CallName,
    RecordedCall,
)

FILE = "runs/sweep.jsonl"


def ask(url, text="hello", model="gpt-4.1-mini", **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model=model, messages=messages, **more)


@pytest.fixture(name="url")
def origin_url(isolated, unique_server):
    return unique_server.openai_url


@pytest.fixture(name="elsewhere")
def go_elsewhere(monkeypatch, tmp_path):
    """Go on as another person, on another machine, with an empty cache and another key."""

    def move(name="colleague", **more):
        reset_session()
        monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / name))
        monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / name / ".." / f"{name}.key"))
        monkeypatch.setenv("GENAI_CACHE_MACHINE", name)
        monkeypatch.setenv("GENAI_CACHE_PERSON", name)
        for variable, value in more.items():
            monkeypatch.setenv(variable, value)

    return move


def outcomes(cell):
    return [(call.outcome.value, call.tier.value if call.tier else "") for call in cell.calls]


def recorded(url, *texts, file=FILE):
    with llm_cache(mode="record", run_file=file) as cell:
        return [ask(url, text).id for text in texts], cell


def made(number, text="answer"):
    form = portable_form(Request("openai.chat", "https://api.openai.com", "m", {"n": number}))
    response = Response(200, (("content-type", "application/json"),), f'"{text} {number}"'.encode())
    return RecordedCall(CallName(portable_digest(form), 0), "openai.chat", "m", response, "json", form)
