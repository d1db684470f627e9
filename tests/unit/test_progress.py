"""A bar is shown where somebody looks, tells the truth, and breaks nothing."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.api import progress
from genai_cache_magic.api.progress import bar_of


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "_shell", lambda: None)
    seen = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=seen))
    return seen


@pytest.fixture
def notebook(isolated, monkeypatch):
    shown = []
    handle = SimpleNamespace(update=lambda data, raw: shown.append(data))
    display = lambda data, raw, display_id: shown.append(data) or handle  # noqa: E731 - as IPython's
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(progress, "_shell", lambda: SimpleNamespace(kernel=object()))
    return shown


def test_in_a_terminal(terminal):
    """A line on standard error."""
    with bar_of(10, 2, None) as bar:
        bar.show(5)
    assert "/10" in terminal.getvalue()


@pytest.mark.parametrize("where", ["a pipe", "dumb", "a worker", "not wanted"])
def test_nothing_where_nobody_would_see_it(terminal, monkeypatch, where):
    """Neither in a file, nor where lines can't be redrawn, nor from a pool's workers, nor against the user's word."""
    if where == "a pipe":
        monkeypatch.setattr(terminal, "isatty", lambda: False)
    if where == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    if where == "a worker":
        monkeypatch.setattr("multiprocessing.parent_process", object)
    with bar_of(10, 0, False if where == "not wanted" else None) as bar:
        bar.show(5)
    assert terminal.getvalue() == ""


def test_in_a_notebook(notebook):
    """An element under the cell; what is left of it are counts, the same at every run."""
    with bar_of(10, 4, None) as bar:
        for done in range(5, 11):
            bar.show(done)
    assert 'max="10"' in notebook[0]["text/html"]
    assert notebook[-1]["text/plain"] == "llm_cache map: 10 of 10: 4 from the cache, 6 computed"


def test_items_that_are_equal_are_counted_each(notebook):
    """What is computed once for several of them is said so."""
    with create_cache("memory") as cache:
        cache.map(len, ["a", "bb"], name="length", progress=False)
        assert cache.map(len, ["a", "a", "ccc", "ccc", "ccc"], name="length", max_workers=1) == [1, 1, 3, 3, 3]
    said = "llm_cache map: 5 of 5: 2 from the cache, 1 computed, 2 equal to one of these"
    assert notebook[-1]["text/plain"] == said
    heard = []
    with create_cache("memory") as cache:
        cache.map(len, ["a", "a", "b"], name="length", progress=lambda *told: heard.append(told))
    assert (heard[0], heard[-1]) == ((0, 3), (3, 3))


def test_a_batch_that_stops_says_how_far_it_came(notebook):
    """The interrupt goes on its way."""

    def batch():
        with bar_of(10, 4, None) as bar:
            bar.show(6)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch()
    assert "stopped at 6 of 10: 4 from the cache, 2 computed" in notebook[-1]["text/plain"]


def test_a_bar_that_fails_is_given_up(notebook, monkeypatch):
    """The batch goes on without."""

    def fails(*_, **__):
        raise OSError("the terminal is gone")

    monkeypatch.setattr("IPython.display.display", fails)
    with bar_of(10, 4, None) as bar:
        bar.show(6)
    assert notebook == []


def test_a_function_of_the_users_own(terminal):
    """It hears each step, from the start on, and what it raises is the user's."""
    heard = []
    with bar_of(3, 1, lambda done, total: heard.append((done, total))) as bar:
        bar.show(2)
    assert heard == [(1, 3), (2, 3)]
    assert terminal.getvalue() == ""
