"""The command, run in this process; a home in which nothing is configured, and an answer in its cache."""

from __future__ import annotations

import functools
import os

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.testing.model_server import SimulatedModelServer

PROMPT = "a prompt that stays at home"


@pytest.fixture(name="home")
def unconfigured_home(tmp_path, monkeypatch):
    """A home in which nothing is configured but where the cache and its key lie."""
    for name in list(os.environ):
        if name.startswith("GENAI_CACHE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / "keys" / "local.key"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(capsys, *arguments):
    """Run the command in this process; return its exit code, output and error output."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.fixture(name="run")
def run_command(capsys):
    """The command, run in this process: its exit code, output and error output."""
    return functools.partial(ran, capsys)


@pytest.fixture(name="answered")
def one_answer(home):
    """A cache that holds the answer to one real model call."""
    with SimulatedModelServer() as server:
        client = openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0)
        with llm_cache(tags=("kept",), run="sweep") as cell, client:
            client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": PROMPT}])
    uninstall()
    reset_session()
    assert cell.calls[0].stored


def invalidated(output):
    return output.split()[0]
