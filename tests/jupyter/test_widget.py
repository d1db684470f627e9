"""The view of a cell as a widget: when it is shown, what stands in for it, and the panel."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import nbformat
import pytest
from widgets import Kerneled, asked_cell, make_widget  # noqa: F401 - fixtures

from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter import anywidget
from genai_cache_magic.jupyter.controls import CellControls, PanelControls
from genai_cache_magic.jupyter.panel import panel
from genai_cache_magic.jupyter.shown.call_report import MIME
from genai_cache_magic.jupyter.views import CellViews
from genai_cache_magic.ledger.usage import UsageRow


@pytest.fixture
def _no_front_end(monkeypatch):
    for name in ("VSCODE_PID", "JPY_SESSION_NAME", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)


VSCODE = {"__vsc_ipynb_file__": "/a.ipynb"}


@pytest.mark.usefixtures("_no_front_end")
@pytest.mark.parametrize(
    ("status", "user_ns", "environment", "is_widget"),
    [
        ("auto", {}, {}, False),
        ("widget", {}, {}, True),
        ("auto", VSCODE, {}, True),
        ("static", VSCODE, {}, False),
        ("off", VSCODE, {}, False),
        ("auto", {}, {"VSCODE_PID": "1"}, True),
        ("auto", {}, {"VSCODE_PID": "1", "JPY_SESSION_NAME": "a.ipynb"}, False),
        ("auto", {}, {"COLAB_RELEASE_TAG": "release"}, True),
    ],
)
def test_a_widget_is_made_where_nothing_else_has_buttons(monkeypatch, status, user_ns, environment, is_widget):
    """In VS Code and Colab, and where it is asked for; a JupyterLab in VS Code's terminal has its extension."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    views = CellViews(Kerneled(**user_ns))
    assert (views.maker(status, "c") is not None) is is_widget
    assert views.hints(status, "c") == ()


@pytest.mark.usefixtures("_no_front_end")
def test_where_the_widget_is_missing_one_cell_says_how_to_get_it(monkeypatch):
    """However often that runs, so that it is saved alike; the badge stands there all the same."""
    monkeypatch.setattr(anywidget, "is_installed", lambda: False)
    views = CellViews(Kerneled())
    assert views.maker("widget", "c") is None
    name = "0123456789abcdef"  # of a cell that the front end gave no id
    (hint,) = views.hints("widget", name)
    assert "pip install 'genai-cache-magic[widget]'" in hint
    assert views.hints("widget", "other") == ()
    assert views.hints("widget", f"{name}-2") == (hint,)
    assert CellViews(Kerneled()).hints("auto", "c") == ()


def test_a_terminal_gets_no_widget():
    """Whatever is asked for."""
    shell = type("Shell", (), {"user_ns": {}})()
    assert CellViews(shell).maker("widget", "c") is None
    assert CellViews(shell).hints("widget", "c") == ()


def test_a_message_gets_its_answer(made):
    """By its number, with what is answered or why not; an unforeseen failure is a sentence too."""

    def answer(path, body):
        if path == "bad":
            raise ConfigurationError("that is wrong: do this")
        return {"path": path, **body}

    widget, sent = made(answer)
    widget._handle_custom_msg({"id": 7, "path": "live", "body": {"a": 1}}, [])
    widget._handle_custom_msg({"id": 8, "path": "bad", "body": {}}, [])
    assert sent == [{"id": 7, "answer": {"path": "live", "a": 1}}, {"id": 8, "error": "that is wrong: do this"}]
    sent.clear()
    with pytest.raises(KeyError):
        widget._heard(widget, {"id": 9}, [])
    assert "unforeseen" in sent[0]["error"]


def test_the_modules_of_a_widget_import_nothing():
    """A front end has nothing else than the text that it is given, wherever it is."""
    for widget in (anywidget.cell_status({}, dict), anywidget.panel(dict, {})):
        assert "\nimport " not in f"\n{widget._esm}"
        assert widget._esm.count("export default") == 1
        assert "http" not in widget._esm.replace("HTTP", "")
    assert type(anywidget.cell_status({}, dict)).__name__ == "CellStatus"


# -- the panel


def test_the_panel_says_the_essentials_in_words(asked):
    """Today, models by cost, tags; with widgets it is one."""
    cell, _, _ = asked
    current_session().last = cell
    views = CellViews(Kerneled())
    said = panel(current_session(), views, has_front_end=False).bundle()
    assert set(said) == {"text/plain", "text/html"}
    assert "2 answers in the cache" in said["text/plain"]
    assert "2 misses" in said["text/plain"]
    assert "last cell: " in said["text/plain"]
    shown = panel(current_session(), views, has_front_end=True).bundle()
    assert next(iter(shown)) == anywidget.VIEW_MIME


def test_the_panel_in_words_calls_an_unknown_price_so(isolated, monkeypatch):
    """It is not $0.0000 of a model that nobody knows the price of, and a small sum keeps its digits."""
    rows = (
        UsageRow(model="house-model", spent_unknown=2, misses=2),
        UsageRow(model="gpt-4.1-mini", spent_usd=Decimal("0.000021"), misses=1),
    )
    cache = current_session().cache(current_session().options().namespace)
    nothing = cache.usage("today")
    monkeypatch.setattr(type(cache), "usage", lambda *_, **__: replace(nothing, rows=rows))
    said = panel(current_session(), CellViews(Kerneled()), has_front_end=False).bundle()["text/plain"]
    assert "house-model" in said
    assert "spent unknown, saved $0" in said
    assert "spent $0.000021, saved $0" in said


def test_without_the_widget_the_panel_says_how_to_get_it(isolated, monkeypatch):
    """And is in words."""
    monkeypatch.setattr(anywidget, "is_installed", lambda: False)
    said = panel(current_session(), CellViews(Kerneled()), has_front_end=True).bundle()
    assert "pip install 'genai-cache-magic[widget]'" in said["text/plain"]
    assert anywidget.VIEW_MIME not in said


def test_a_terminal_is_proposed_no_widget(isolated, monkeypatch):
    """None could be shown there, installed or not."""
    monkeypatch.setattr(anywidget, "is_installed", lambda: False)
    said = panel(current_session(), CellViews(Kerneled()), has_front_end=False).bundle()
    assert "widget" not in said["text/plain"]
    assert "buttons" not in said["text/plain"]


def test_the_panel_is_answered_as_the_sidebar_is(asked):
    """What the cache holds, by search; what it cost; a tag is counted before it is invalidated."""
    cell, _, _ = asked
    answer = PanelControls(CellControls(cell, lambda: None))
    assert answer("stats", {})["tags"] == [{"name": "t", "count": 2}]
    assert answer("usage", {"since": "today", "by": ["model"]})["total"]["misses"] == 2
    assert answer("entries", {"search": "gpt", "offset": 0, "limit": 20})["total"] == 2
    assert answer("entries", {"search": "nothing"})["total"] == 0
    assert answer("invalidate", {"tag": "t", "dry_run": True})["count"] == 2
    assert answer("live", {"store": cell.store})["entries"]


# -- in a kernel


@pytest.mark.service
def test_a_widget_stands_under_the_cell_in_a_real_kernel(execute):
    """Before the other forms, and so does the panel."""
    cell = "%%llm_cache --tag a\nask('a question')"
    notebook = execute(cell, "%llm_cache panel", GENAI_CACHE_STATUS="widget")
    outputs = [o for c in notebook.cells[1:] for o in c.outputs if o.output_type == "display_data"]
    assert [next(iter(output.data)) for output in outputs] == [anywidget.VIEW_MIME] * 2
    assert MIME in outputs[0].data
    assert nbformat.validate(notebook) is None
