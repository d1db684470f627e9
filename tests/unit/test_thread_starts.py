"""A thread that could not be started, or whose starter was interrupted, is started by the next who needs it."""

from __future__ import annotations

import threading
import time

import pytest
from waiters import A, Leases

from genai_cache_magic.api.scopes.opening import Opening
from genai_cache_magic.entries.behind import Behind
from genai_cache_magic.entries.link import Link
from genai_cache_magic.entries.permits import Permits
from genai_cache_magic.entries.team.drain import Drain
from genai_cache_magic.entries.team.outbox import Outbox
from genai_cache_magic.stores.disk.locks import KeyLocks


class Done(threading.Event):
    """That a part has done its work, whatever it calls."""

    def __call__(self, *_):
        self.set()
        return True


class Team:
    """A team that is told."""

    def __init__(self, fill):
        self.fill = fill


def _link(done, _):
    link = Link(lambda _: ({}, ""), overdue=lambda: "late")
    return lambda: link.look_up(A, done)


def _permits(done, directory):
    permits = Permits(KeyLocks(directory), Leases())
    return lambda: permits.take(A, done)


def _behind(done, _):
    behind = Behind(done, done)
    return lambda: behind.add({A: object()}, done)


def _drain(done, _):
    outbox = Outbox(None)
    outbox.add_entries({A: b"a"})
    return Drain(outbox, Team(done)).poke


def _opening(done, _):
    opening = Opening(lambda: done.wait(60))  # a key that does not come
    return lambda: opening.seat(0.01).add_done_callback(done)


GOING_ON = {_permits: True, _behind: False, _drain: False}
"""What goes on where no thread can be started, and whether it has done its work then."""


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("part", [_link, _permits, _behind, _drain, _opening])
def test_the_next_one_starts_it(part, error, tmp_path, monkeypatch):
    """Nothing counts as running that never began: whoever asks next is served."""
    done = Done()
    ask = part(done, tmp_path)

    def fails(_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fails)
        if error is RuntimeError and part in GOING_ON:
            ask()
            assert done.is_set() is GOING_ON[part]
            done.clear()
        else:
            with pytest.raises(error):
                ask()
    ask()
    assert done.wait(30)


def test_an_interrupted_look_up_leaves_nothing_behind():
    """Who asks for the same entry later does not wait for one that was never asked for."""
    moments = iter([KeyboardInterrupt])

    def clock():
        for error in moments:
            raise error
        return time.monotonic()

    link = Link(lambda _: ({}, ""), overdue=lambda: "late", clock=clock)
    with pytest.raises(KeyboardInterrupt):
        link.look_up(A, lambda _: None)
    done = Done()
    link.look_up(A, done)
    assert done.wait(30)
