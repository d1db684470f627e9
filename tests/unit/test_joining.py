"""A machine that can't join its team says why, whatever went wrong."""

from __future__ import annotations

import threading

import pytest

from genai_cache_magic.api.team import joining
from genai_cache_magic.api.team.joining import Joining
from genai_cache_magic.errors import ConfigurationError, StoreDenied, WriteRefused
from genai_cache_magic.stores.breaker import Breaker


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreDenied("the password is not accepted"), "the password is not accepted"),
        (ConfigurationError("l2 is no address"), "l2 is no address"),
        (ValueError("of somebody else's"), "joining the team failed (ValueError)"),
    ],
)
def test_what_ends_it_is_told(monkeypatch, error, said):
    """Once, and nothing is tried after that."""
    monkeypatch.setattr(joining, "_SHORTEST_PAUSE_S", 0.0)
    told, is_told, attempts = [], threading.Event(), []

    def join():
        attempts.append(1)
        raise error

    def tell(event):
        told.append(event.message)
        is_told.set()

    Joining(Breaker("tier"), join, tell).start()
    assert is_told.wait(30)
    (message,) = told
    assert message == f"L2 is not used, answers stay on this machine: {said}"
    assert attempts == [1]


def test_who_may_only_read_tries_again_until_there_is_something(monkeypatch):
    """That a tier is empty is no reason to give up: somebody who may write will come."""
    monkeypatch.setattr(joining, "_SHORTEST_PAUSE_S", 0.0)
    told, is_told, attempts = [], threading.Event(), []

    def join():
        attempts.append(1)
        if len(attempts) < 3:
            raise WriteRefused("nothing is there")
        return True

    def tell(event):
        told.append(event.message)
        is_told.set()

    Joining(Breaker("tier"), join, tell).start()
    assert is_told.wait(30)
    assert told == [joining.JOINED]
    assert len(attempts) == 3
