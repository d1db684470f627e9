"""The badge while the kernel lives: when it is shown, and that late calls bring it up to date."""

from __future__ import annotations

import threading

import pytest

from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Options
from genai_cache_magic.events import CallRecord, Outcome, Trouble
from genai_cache_magic.jupyter.live import LiveBadge

HIT = CallRecord(Outcome.HIT)
TROUBLE = Trouble("L1", "StoreUnavailable", "the disk is full: free some room")


class Screen:
    """Stands for the front end: what was shown, and an event for updates."""

    def __init__(self) -> None:
        self.shown: list[tuple[str, str, bool]] = []
        self.updated = threading.Event()

    def __call__(self, data, /, *, display_id="", update=False):
        self.shown.append((data["text/plain"], display_id, update))
        if update:
            self.updated.set()


def badge_and_scope(screen: Screen, **how) -> tuple[LiveBadge, CellScope]:
    badge = LiveBadge(screen, **how)
    return badge, CellScope(Options(), hooks=(badge.note,))


def test_late_calls_update_what_was_shown():
    """Many late calls are one update, in the place of the first badge."""
    screen = Screen()
    badge, scope = badge_and_scope(screen)
    badge.show(scope)
    for _ in range(50):
        scope.emit(HIT)
    assert screen.updated.wait(10)
    (_, display_id, _), (text, same_id, update) = screen.shown
    assert (display_id, update) == (same_id, True)
    assert "50 hits" in text


def test_calls_before_the_end_of_the_cell_show_nothing():
    """Nothing is displayed while the cell still runs."""
    screen = Screen()
    badge, scope = badge_and_scope(screen)
    scope.emit(HIT)
    assert screen.shown == []
    badge.show(scope)
    assert len(screen.shown) == 1


@pytest.mark.parametrize(
    ("how", "events", "is_shown"),
    [
        ({"quiet": True}, [HIT], False),
        ({"quiet": True}, [HIT, TROUBLE], True),
        ({"automatic": True}, [], False),
        ({"automatic": True}, [HIT], True),
        ({"automatic": True}, [TROUBLE], True),
        ({}, [], True),
    ],
)
def test_a_badge_is_hidden_unless_there_is_something_to_say(how, events, is_shown):
    """``--quiet`` and automatic scopes show what matters only; trouble always does."""
    screen = Screen()
    badge, scope = badge_and_scope(screen, **how)
    for event in events:
        scope.emit(event)
    badge.show(scope)
    assert bool(screen.shown) is is_shown


def test_where_updates_are_impossible_none_is_tried():
    """A terminal would print the badge again."""
    screen = Screen()
    badge, scope = badge_and_scope(screen, updates=False)
    badge.show(scope)
    scope.emit(HIT)
    assert not badge._is_due
    assert len(screen.shown) == 1
