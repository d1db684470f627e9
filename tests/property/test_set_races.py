"""Values set under one key at once, in forced orders of their steps; `make torture` forces thousands."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("greenlet", reason="greenlet is not installed: pip install gevent")
INTERLEAVINGS = 120


def test_forced_interleavings(isolated, monkeypatch, capsys):
    """Whichever part of the tier is away in between, and who is killed: nobody has another value in the end."""
    from property.set_races import run_set_races

    orders = run_set_races(INTERLEAVINGS, monkeypatch)
    with capsys.disabled():
        sys.stdout.write(f"\n{INTERLEAVINGS} races of values set at once, {orders} orders: 0 wrong\n")
    assert orders > INTERLEAVINGS * 0.9
