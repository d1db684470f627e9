"""How far a long cell is: shown in the place where its badge will stand, and not into a capture."""

from __future__ import annotations

import threading

import pytest
from widgets import HIT, MISS, OPEN

from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Options
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.jupyter import anywidget
from genai_cache_magic.jupyter.live import LiveBadge
from genai_cache_magic.jupyter.shown.call_report import MIME
from genai_cache_magic.jupyter.shown.progress import Progress
from genai_cache_magic.jupyter.views import CellViews, Clearing


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
