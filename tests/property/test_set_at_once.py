"""Three machines whose threads set, delete and invalidate the same new keys; `make torture` lets them for minutes."""

from __future__ import annotations

import sys

import pytest
from torture.at_once import run_at_once

ROUNDS = 6


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("chosen", ["first", "second"])
def test_all_have_one_value_in_the_end(capsys, chosen):
    """One that was set, the last where that is clear, and none only where something was removed."""
    figures = run_at_once(chosen, rounds=ROUNDS, may_expire=False)
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
    assert not figures.faults
    assert figures.contested > ROUNDS
