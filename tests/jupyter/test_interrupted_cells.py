"""Interrupts that come as a cell begins or ends: nothing of it stays in force, and the next cells are as always."""

from __future__ import annotations

import json

import httpx
import pytest
from IPython.core.interactiveshell import InteractiveShell

from genai_cache_magic.api.scopes.opened import OpenCell
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.patching import patcher
from genai_cache_magic.jupyter.cell import CellScopes
from genai_cache_magic.jupyter.live import LiveBadge
from genai_cache_magic.jupyter.views import CellViews


@pytest.fixture
def shell(isolated):
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.display_pub.publish = lambda *_, **__: None
    shell.run_line_magic("load_ext", "genai_cache_magic")
    yield shell
    shell.run_line_magic("unload_ext", "genai_cache_magic")
    InteractiveShell.clear_instance()


@pytest.fixture
def asked(shell):
    """What reached the model that `ask` of the shell asks."""
    asked = []

    def answer(request):
        asked.append(json.loads(request.content)["messages"][0]["content"])
        message = {"role": "assistant", "content": asked[-1]}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return httpx.Response(200, json={"object": "chat.completion", "model": "m", "choices": [choice]})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="https://api.openai.com") as client:

        def ask(question):
            body = {"model": "m", "messages": [{"role": "user", "content": question}]}
            return client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]

        shell.user_ns["ask"] = ask
        yield asked


def interrupted_once(monkeypatch, of, name, *, after):
    """Let the next call of a method be interrupted, before it has done anything or after it has done all."""
    original, comes = getattr(of, name), [True]

    def method(*given, **named):
        is_now = comes and comes.pop()
        made = None if is_now and not after else original(*given, **named)
        if is_now:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(of, name, method)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        (CellViews, "hints"),
        (LiveBadge, "start"),
        (OpenCell, "begin"),
        (type(patcher), "install"),
        (CellScopes, "_take"),
        (CellScopes, "_end"),
        (OpenCell, "close"),
        (CellScope, "end"),
        (CellScope, "outstanding"),
    ],
)
@pytest.mark.parametrize(
    "cell", ["%%llm_cache\nask('a')", "get_ipython().run_cell_magic('llm_cache', '', 'ask(\"a\")')"]
)
def test_nothing_of_an_interrupted_cell_stays(shell, asked, monkeypatch, method, after, cell):  # noqa: PLR0917
    """A plain cell behind it asks the model, a cell with the magic is answered from the cache; no progress is shown."""
    shell.run_cell("%%llm_cache\nask('a')")
    begun = []
    monkeypatch.setattr(LiveBadge, "start", lambda badge, _: begun.append(badge))
    interrupted_once(monkeypatch, *method, after=after)
    shell.run_cell(cell)
    assert active.get() is None
    assert all(badge._is_over for badge in begun)
    before = len(asked)
    shell.run_cell("ask('a')").raise_error()
    assert len(asked) == before + 1
    shell.run_cell("%%llm_cache\nanswer = ask('a')").raise_error()
    assert len(asked) == before + 1
    assert shell.user_ns["answer"] == "a"
