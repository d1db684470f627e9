"""Eight machines of a team, partitions, kills, sleep and losses: nobody is served what he can know to be invalid."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from property.team_machine import Figures, TeamMachine

STEPS = 20_000


@pytest.mark.usefixtures("isolated")
def test_twenty_thousand_steps(capsys):
    """No stale hit after the bound, one new root for a lost document at most, and the third machine hits."""

    class Counted(TeamMachine):
        figures = Figures()

    run_state_machine_as_test(
        Counted,
        settings=settings(
            max_examples=260,
            stateful_step_count=100,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink a team's life takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{Counted.figures}\n")
    assert Counted.figures.steps >= STEPS
