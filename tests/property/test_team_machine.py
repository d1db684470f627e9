"""Eight machines of a team, partitions, kills, sleep and losses: nobody is served what he can know to be invalid."""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from property.team_machine import Figures, TeamMachine

STEPS = 20_000
PARTS = 5
"""Each is far from what a test may take, on a loaded machine too."""


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("part", range(PARTS))
def test_twenty_thousand_steps(capsys, part):
    """No stale hit after the bound, one new root for a lost document at most, and the third machine hits."""

    class Counted(TeamMachine):
        figures = Figures()

    turn = 0
    while Counted.figures.steps < STEPS // PARTS:
        run_state_machine_as_test(
            seed(f"{part}/{turn}")(type("Counted", (Counted,), {})),
            settings=settings(
                max_examples=20,
                stateful_step_count=100,
                deadline=None,
                database=None,
                phases=(Phase.generate,),  # to shrink a team's life takes minutes
                suppress_health_check=list(HealthCheck),
            ),
        )
        turn += 1
    with capsys.disabled():
        sys.stdout.write(f"\n{Counted.figures}\n")
    assert Counted.figures.steps >= STEPS // PARTS


@pytest.mark.usefixtures("isolated")
def test_a_record_put_back_unseen_does_not_outrank_what_is_set_later():
    """What was stored by a later record than is there now is judged by its time: a value set long after it is kept."""

    class Told(TeamMachine):
        figures = Figures()

    team = Told()
    try:
        team.begin()
        team.save()
        team.set_away_and_change_meanwhile(how="tag", key="first", numbers=range(8))
        team.save()
        team.set_away_and_get_elsewhere(key="first", numbers=range(8))
        team.roll_back()

        team.set_away_and_get_elsewhere(key="first", numbers=[2, 3, 0, 1, 4, 5, 6, 7])
    finally:
        team.teardown()

    assert team.figures.arrived == 2
