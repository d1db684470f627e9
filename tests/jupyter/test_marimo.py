"""Blocks in marimo, which has no magics: what stands under the cell that ran one."""

from __future__ import annotations

import html
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from genai_cache_magic.api.scopes.cells import llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.jupyter import anywidget

NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    import openai
    from genai_cache_magic import llm_cache
    client = openai.OpenAI(base_url={url!r}, api_key="k", max_retries=0)
    def ask(text):
        messages = [{{"role": "user", "content": text}}]
        return client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    return ask, llm_cache

@app.cell
def _(ask, llm_cache):
    with llm_cache():
        _ = [ask("one"), ask("two")]
    return

@app.cell
def _(ask, llm_cache):
    with llm_cache() as block:
        answer = ask("one")
    block
    return

if __name__ == "__main__":
    app.run()
"""


@pytest.mark.service
def test_a_block_has_its_view_under_the_cell_that_ran_it(isolated_environment, tmp_path, server):
    """In a notebook that marimo runs the widget draws it, also as a last expression; a script shows nothing."""
    pytest.importorskip("marimo", reason="pip install marimo")
    (tmp_path / "notebook.py").write_text(NOTEBOOK.format(url=server.openai_url))

    def ran(*command):
        how = {"cwd": tmp_path, "env": isolated_environment, "capture_output": True, "text": True, "timeout": 120}
        done = subprocess.run([sys.executable, *command], **how, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    ran("-m", "marimo", "export", "html", "notebook.py", "-o", "shown.html")
    shown = html.unescape((tmp_path / "shown.html").read_text())
    assert shown.count("u003Cmarimo-anywidget ") == 2
    assert "0 hits, 2 misses" in shown
    assert "1 hit, 0 misses" in shown
    assert ran("notebook.py") == ""


class Marimo:
    """Stands for marimo, in one of its modes."""

    def __init__(self, mode="edit"):
        self.shown = []
        self.output = SimpleNamespace(append=self.shown.append)
        self.app_meta = lambda: SimpleNamespace(mode=mode)
        self.Html = str

    @staticmethod
    def running_in_notebook():
        return True


@pytest.fixture
def begin(isolated, monkeypatch):
    """Let marimo run this process, in a mode."""

    def make(mode="edit", **settings):
        for name, value in settings.items():
            monkeypatch.setenv(f"GENAI_CACHE_{name.upper()}", value)
        stand_in = Marimo(mode)
        monkeypatch.setitem(sys.modules, "marimo", stand_in)
        from genai_cache_magic import llm_cache  # which notices where it is

        assert llm_cache is not None
        return stand_in.shown

    return make


def test_where_no_widget_can_be_made_the_badge_stands_there(begin, monkeypatch):
    """As HTML, with how to get the buttons; `status = static` asks for it, and needs no hint."""
    monkeypatch.setattr(anywidget, "is_installed", lambda: False)
    shown = begin()
    with llm_cache() as cell:
        pass
    assert "no model calls" in shown[0]
    assert "genai-cache-magic[widget]" in html.unescape(shown[0])
    assert cell._display_() is shown[0]
    monkeypatch.setenv("GENAI_CACHE_STATUS", "static")
    current_session()._settings = None
    with llm_cache():
        pass
    assert "no model calls" in shown[1]
    assert "widget" not in shown[1]


@pytest.mark.parametrize(("mode", "status"), [("run", "auto"), ("script", "auto"), ("edit", "off")])
def test_who_uses_an_app_or_wants_nothing_is_shown_nothing(begin, mode, status):
    """The record is there all the same, and its name is what it draws."""
    shown = begin(mode, status=status)
    with llm_cache() as cell:
        pass
    assert shown == []
    assert cell._display_() == repr(cell)


def test_what_runs_often_or_inside_another_block_is_not_shown_by_itself(begin):
    """A function may run a thousand times; a block in a block is part of what the outer one's cell shows."""
    shown = begin()

    @llm_cache()
    def asked():
        return 1

    with llm_cache():
        assert [asked() for _ in range(3)] == [1, 1, 1]
        with llm_cache():
            pass
        assert shown == []
    assert len(shown) == 1


def test_the_buttons_of_a_block_go_to_the_process_that_ran_it(begin, server):
    """Run afresh, its models are asked anew."""
    import openai

    shown = begin()
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:

        def run():
            with llm_cache() as cell:
                client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": "one"}])
            return cell.hits, cell.misses

        assert [run(), run()] == [(0, 1), (1, 0)]
        said = shown[-1]._answer("rerun", {"store": "", "fresh": True})
        assert "run it now" in said["sentence"]
        assert run() == (0, 1)


def test_elsewhere_a_block_shows_nothing(isolated):
    """A process that has never heard of marimo does not import what would draw there."""
    code = "import sys; from genai_cache_magic import llm_cache; print('genai_cache_magic.jupyter' in sys.modules)"
    environment = {**os.environ, "HOME": str(isolated)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout == "False\n"
    assert current_session().shows is None


def test_a_view_that_fails_is_told_and_ends_no_block(isolated, monkeypatch):
    """What the block returns, or raises, is its own."""

    def fail(scope):
        raise RuntimeError("a front end that is built differently")

    monkeypatch.setattr(current_session(), "shows", fail)
    with llm_cache() as scope:
        pass
    assert [trouble.error for trouble in scope.troubles] == ["RuntimeError"]
    with pytest.raises(KeyError), llm_cache():
        raise KeyError
