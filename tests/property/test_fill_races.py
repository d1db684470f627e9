"""Fills that race with an invalidation, in 2,000 forced orders of their steps; `make torture` forces 10,000."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("greenlet", reason="greenlet is not installed: pip install gevent")
INTERLEAVINGS = 2_000
PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_forced_interleavings(isolated, monkeypatch, capsys, part):
    """A fill, an invalidation of each kind and another fill, in any order of their steps: no stale hit."""
    from property.fill_races import run_races

    count = INTERLEAVINGS // PARTS
    orders, hits = run_races(count, monkeypatch, first=part * count)
    with capsys.disabled():
        sys.stdout.write(f"\n{count:,} interleavings, {orders:,} different orders: {hits:,} hits, 0 stale\n")
    assert orders > count / 10
