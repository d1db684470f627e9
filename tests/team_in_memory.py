"""A team in this process whose tier is in memory, two machines of it, and a model that numbers its answers."""

from __future__ import annotations

import time

import pytest
from machines import Origin, Team


@pytest.fixture(name="team")
def team_in_memory(tmp_path, isolated, monkeypatch):
    team = Team(tmp_path, monkeypatch)
    yield team
    team.close()


@pytest.fixture(name="origin")
def numbering_origin():
    return Origin()


@pytest.fixture(name="a")
def machine_a(team):
    return team.machine("a")


@pytest.fixture(name="b")
def machine_b(team, a):
    return team.machine("b")


@pytest.fixture(name="passes")
def time_that_passes(team):
    """Let time pass by the tier's clock."""
    shift_s = 0.0

    def let(seconds):
        nonlocal shift_s
        shift_s += seconds
        team.server.clock = team.server.store._clock = lambda: time.time() + shift_s

    return let
