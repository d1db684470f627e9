"""``%%llm_cache --estimate`` ends the cell at the first answer that is needed, and says under it what was seen."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell
from priced_model import asked_as_openai

CALLS = """
import openai
def ask(text):
    with openai.OpenAI() as client:
        body = {"model": "gpt-4.1-mini", "max_tokens": 50, "messages": [{"role": "user", "content": text}]}
        return client.chat.completions.create(**body).id
"""


@pytest.fixture
def shell(isolated, unique_server, monkeypatch):
    """A shell with the extension, whose outputs are kept."""
    monkeypatch.setenv("GENAI_CACHE_STATUS", "static")
    asked_as_openai(unique_server, monkeypatch)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.shown = []
    shell.display_pub.publish = lambda data, *_, **__: shell.shown.append(data)
    shell.run_line_magic("load_ext", "genai_cache_magic")
    shell.run_cell(CALLS)
    yield shell
    shell.run_line_magic("unload_ext", "genai_cache_magic")
    InteractiveShell.clear_instance()


def test_a_cell_run_dry(shell, unique_server, capsys):
    """The error has no traceback; the cells after it don't run on what isn't there; the line has the range."""
    assert shell.run_cell("%%llm_cache\nfirst = ask('a')").success
    result = shell.run_cell("%%llm_cache --estimate\nagain = ask('a')\nother = ask('b')\nnever = 1")
    assert type(result.error_in_exec).__name__ == "NotSent"
    assert shell.user_ns["again"] == shell.user_ns["first"]
    assert not {"other", "never"} & {*shell.user_ns}
    assert "Traceback" not in capsys.readouterr().out
    line = shell.shown[-1]["text/plain"]
    assert line.startswith("llm_cache: ! estimate, at least: 1 hit, 1 miss, about $0.0")
    assert "stopped at the first answer that is needed" in line
    assert shell.run_cell("%%llm_cache --estimate\nask('a')").success
    assert "nothing would be asked" in shell.shown[-1]["text/plain"]
    assert unique_server.count == 1


def test_a_whole_notebook(shell, unique_server):
    """`%llm_cache on --estimate` holds for every cell, whatever a cell says, until it is off."""
    shell.run_cell("%llm_cache on --estimate")
    assert not shell.run_cell("ask('a')").success
    assert not shell.run_cell("%%llm_cache --mode refresh\nask('a')").success
    assert unique_server.count == 0
    shell.run_cell("%llm_cache off")
    assert shell.run_cell("%%llm_cache\nask('a')").success
    assert unique_server.count == 1
