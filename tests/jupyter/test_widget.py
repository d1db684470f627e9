"""The view of a cell as a widget: when it is shown, what its messages are answered with, and what stands in for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from decimal import Decimal

import nbformat
import pytest

from genai_cache_magic.api.cells import llm_cache
from genai_cache_magic.api.session import current_session
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Mode, Options
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.jupyter import anywidget
from genai_cache_magic.jupyter.call_report import MIME
from genai_cache_magic.jupyter.controls import CellControls, PanelControls
from genai_cache_magic.jupyter.live import LiveBadge
from genai_cache_magic.jupyter.panel import panel
from genai_cache_magic.jupyter.progress import Progress
from genai_cache_magic.jupyter.views import CellViews, Clearing
from genai_cache_magic.ledger.usage import UsageRow

HIT = CallRecord(Outcome.HIT, spent_usd=Decimal(0))
MISS = CallRecord(Outcome.MISS, spent_usd=Decimal("0.002"))
OPEN = CallRecord(Outcome.OPEN)


# -- when it is shown


class Kerneled:
    """Stands for the shell of a kernel."""

    kernel = object()

    def __init__(self, **user_ns):
        self.user_ns = user_ns
        self.display_pub = None


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


# -- while the cell runs


class Screen:
    """Stands for the front end."""

    def __init__(self):
        self.shown = []
        self.seen = threading.Event()

    def __call__(self, data, /, *, display_id="", update=False):
        self.shown.append((data, display_id, update))
        self.seen.set()


class View:
    """Stands for a widget."""

    def __init__(self, report):
        self.reports = []
        self.seen = threading.Event()
        self.report = report

    model_id = "m1"

    def __setattr__(self, name, value):
        if name == "report":
            self.reports.append(value)
            self.seen.set()
        super().__setattr__(name, value)


@pytest.fixture
def at_once(monkeypatch):
    """Progress is looked at soon, and often."""
    monkeypatch.setattr("genai_cache_magic.jupyter.live.FIRST_PROGRESS_S", 0.01)
    monkeypatch.setattr("genai_cache_magic.jupyter.live.NEXT_PROGRESS_S", 0.01)


def test_a_long_cell_shows_how_far_it_is_and_then_its_badge_in_the_same_place(at_once):
    """Done, in flight, money so far."""
    screen = Screen()
    badge = LiveBadge(screen, expected=4)
    scope = CellScope(Options())
    scope.emit(MISS)
    ticket = scope.opened(OPEN)
    badge.start(scope)
    assert screen.seen.wait(30)
    data, display_id, update = screen.shown[0]
    assert data["text/plain"].startswith("llm_cache: 1 of about 4 done, 1 in flight, spent $0.0020 so far, about ")
    assert data[MIME]["progress"]["in_flight"] == 1
    assert not update
    scope.emit(MISS, closes=ticket)
    badge.show(scope)
    last, same_id, update = screen.shown[-1]
    assert (same_id, update) == (display_id, True)
    assert "progress" not in last[MIME]
    assert "2 misses" in last["text/plain"]


def test_a_cell_of_hits_alone_shows_nothing_before_its_end(at_once):
    """So that what is saved does not depend on how long it took."""
    screen, looked = Screen(), threading.Event()
    badge = LiveBadge(screen, is_captured=looked.is_set)

    class Watched(CellScope):
        @property
        def calls(self):
            looks.append(1)
            if len(looks) > 3:
                looked.set()
            return super().calls

    looks = []
    scope = Watched(Options())
    scope.emit(HIT)
    badge.start(scope)
    assert looked.wait(30)
    assert screen.shown == []
    badge.show(scope)
    assert [update for _, _, update in screen.shown] == [False]


def test_nothing_is_shown_into_a_capture(at_once):
    """`%%capture` would keep it, and its place with it."""
    screen, looked = Screen(), threading.Event()
    badge = LiveBadge(screen, is_captured=lambda: looked.set() or True)
    scope = CellScope(Options())
    scope.emit(MISS)
    badge.start(scope)
    assert looked.wait(30)
    badge.show(scope)
    assert [("progress" in data[MIME], update) for data, _, update in screen.shown] == [(False, False)]


def test_a_capture_is_noticed():
    """While it lasts, and no longer."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell.instance()
    try:
        views = CellViews(shell)
        assert not views.is_captured()
        with capture_output():
            assert views.is_captured()
        assert not views.is_captured()
    finally:
        InteractiveShell.clear_instance()


class Publisher:
    """Stands for a kernel's publisher."""

    def __init__(self):
        self.hooks = []
        self.register_hook, self.unregister_hook = self.hooks.append, self.hooks.remove

    def clear_output(self):
        message = {"header": {"msg_type": "clear_output"}}
        assert [hook(message) for hook in self.hooks] == [message] * len(self.hooks)


@pytest.mark.parametrize("make_view", [None, lambda _scope, report: View(report)])
def test_a_cell_that_clears_its_outputs_has_its_badge_all_the_same(at_once, make_view):
    """What was shown while it ran is gone with them, so the badge is shown anew, not in its place."""
    screen, publisher = Screen(), Publisher()
    badge = LiveBadge(screen, clearing=Clearing(publisher), make_view=make_view)
    scope = CellScope(Options())
    scope.emit(MISS)
    badge.start(scope)
    assert screen.seen.wait(30)
    publisher.clear_output()
    badge.show(scope)
    data, _, update = screen.shown[-1]
    assert (update, "progress" in data[MIME]) == (False, False)
    assert publisher.hooks == []
    assert len([1 for _, _, update in screen.shown if not update]) == 2


def test_a_widget_follows_the_cell(at_once):
    """It is shown once, in front of the other forms; then its report changes."""
    screen, made = Screen(), []

    def make_view(_scope, report):
        made.append(View(report))
        return made[-1]

    badge = LiveBadge(screen, make_view=make_view)
    scope = CellScope(Options(), hooks=(badge.note,))
    scope.emit(HIT)
    badge.start(scope)
    assert screen.seen.wait(30)
    badge.show(scope)
    (view,) = made
    ((data, _, _),) = screen.shown
    assert list(data) == [anywidget.VIEW_MIME, MIME, "text/html", "text/plain"]
    assert data[anywidget.VIEW_MIME]["model_id"] == "m1"
    assert "progress" in view.reports[0]
    assert "progress" not in view.reports[-1]
    view.seen.clear()
    scope.emit(HIT)
    assert view.seen.wait(30)
    assert view.report["hits"] == 2


def test_progress_knows_what_is_unknown():
    """A price, how many calls are to come."""
    scope = CellScope(Options())
    assert Progress.of(scope, expected=0, elapsed_s=1).as_json() == {"done": 0, "in_flight": 0, "spent_usd": "0"}
    scope.emit(CallRecord(Outcome.MISS, spent_usd=None))
    assert Progress.of(scope, expected=0, elapsed_s=1).spent is None
    assert Progress.of(scope, expected=3, elapsed_s=1.04).as_json()["eta_s"] == 2.1
    for _ in range(3):
        scope.emit(HIT)
    assert Progress.of(scope, expected=3, elapsed_s=1).as_json()["expected"] == 4


# -- what its buttons do


@pytest.fixture
def asked(isolated, server):
    """Two calls of a cell: their scope, and what answers its view."""
    import openai

    with (
        openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client,
        llm_cache(tags=("t",)) as cell,
    ):
        for text in ("Say hello\nto Ann", "Say hello\nto Bob"):
            client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": text}])
    fresh = []
    return cell, CellControls(cell, lambda: fresh.append(1)), fresh


def prefixes(cell):
    return [call.entry_id[:16] for call in cell.calls]


def test_a_cell_is_invalidated_through_its_view(asked):
    """Counted first; then its answers are gone, and a second time there is nothing left."""
    cell, answer, _ = asked
    body = {"store": cell.store, "entries": prefixes(cell)}
    counted = answer("invalidate", {**body, "dry_run": True})
    assert (counted["count"], counted["known"], counted["dry_run"]) == (2, 2, True)
    done = answer("invalidate", {**body, "dry_run": False})
    assert done["count"] == 2
    assert "made invalid" in done["sentence"]
    assert answer("invalidate", {**body, "dry_run": True})["count"] == 0


def test_what_is_not_saved_is_told_by_the_kernel(asked):
    """Latency of this cell's own calls, age and state of their entries."""
    cell, answer, _ = asked
    found = answer("live", {"store": cell.store})["entries"]
    assert set(found) == set(prefixes(cell))
    facts = found[prefixes(cell)[0]]
    assert facts["state"] == "valid"
    assert facts["age_s"] >= 0
    assert facts["latency_s"] == cell.calls[0].latency_s


def test_a_hit_is_told_from_where_it_came(asked):
    """The tier in which this cell's call found it; of what a run file answered, nothing of the cache's."""
    cell, answer, _ = asked
    first, second = cell.calls
    cell.emit(replace(first, outcome=Outcome.HIT, tier=Tier.L2))
    cell.emit(replace(second, outcome=Outcome.HIT, tier=Tier.FILE))
    found = answer("live", {"store": cell.store})["entries"]
    assert [found[name].get("tier") for name in prefixes(cell)[:2]] == ["L2", None]
    assert "state" not in found[prefixes(cell)[1]]


def test_a_miss_is_explained_by_the_nearest_call(asked):
    """Which part differs, and how, as a short diff."""
    cell, answer, _ = asked
    found = answer("explain", {"store": cell.store, "entry": prefixes(cell)[1]})
    assert found["differs"] == ["body.messages[0]"]
    assert found["diff"] == ["body.messages[0].content", "- Say hello to Ann", "+ Say hello to Bob"]


def test_what_a_replay_missed_is_explained_too(asked):
    """By what the error named."""
    cell, _, _ = asked
    missed = CallRecord(Outcome.ERROR, reason="replay: not in the cache", entry_id="ab" * 32, differs=("body.top_p",))
    cell.emit(missed)
    answer = CellControls(cell, lambda: None)
    assert answer("explain", {"store": cell.store, "entry": "ab" * 8}) == {
        "reason": "replay: not in the cache",
        "differs": ["body.top_p"],
        "diff": [],
        "notes": [],
    }


def test_a_fresh_run_is_asked_for(asked):
    """It comes with the next run of the cell."""
    _, answer, fresh = asked
    assert "next run" in answer("rerun", {"store": "", "fresh": True})["sentence"]
    assert fresh == [1]


@pytest.mark.parametrize("name", ["a-cell-id-4", "0123456789abcdef-2"])
def test_a_fresh_run_is_one_run(name):
    """The mode of the next run alone, and of no cell that names another mode."""
    views = CellViews(Kerneled())
    views.ask_fresh(name)
    assert views.asked("another", Options()).mode is Mode.USE
    again = name.replace("-2", "-3")
    assert views.asked(again, Options(mode=Mode.REPLAY)).mode is Mode.REPLAY
    views.ask_fresh(name)
    assert views.asked(again, Options()).mode is Mode.REFRESH
    assert views.asked(again, Options()).mode is Mode.USE


def test_another_cache_is_refused_with_a_sentence(asked, monkeypatch, tmp_path):
    """The kernel's settings changed since the cell ran."""
    cell, answer, _ = asked
    cell.store = "0" * 16
    with pytest.raises(GenaiCacheError) as error:
        answer("invalidate", {"store": cell.store, "entries": prefixes(cell), "dry_run": False})
    assert "this kernel has another cache" in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("path", ["clear", "__class__", "body", ""])
def test_nothing_else_can_be_asked_for(asked, path):
    """A widget's message names one of a few paths."""
    _, answer, _ = asked
    for one in (answer, PanelControls(None)):
        with pytest.raises(ConfigurationError):
            one(path, {})


# -- the widget itself


@pytest.fixture
def made(monkeypatch):
    """Make a widget, and take what it sends."""

    def make(answer):
        widget = anywidget.cell_status({"version": 3}, answer)
        sent = []
        monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append(content))
        return widget, sent

    return make


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
