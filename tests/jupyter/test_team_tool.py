"""`make team` shows what it says: two kernels share through both tiers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

ROOT = Path(__file__).parent.parent.parent


def test_two_kernels_share_and_invalidate(isolated, redis_server, azurite):
    """What one fetched the other gets, what one invalidates the other misses, through Redis and through Blob."""
    ran = subprocess.run(
        [sys.executable, ROOT / "tools" / "team.py"], capture_output=True, text=True, timeout=170, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Everything was as promised." in ran.stdout
