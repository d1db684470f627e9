"""`make bench` keeps working: its command line, its table, and what it writes for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parents[2] / "benchmarks" / "run.py"
TIMEOUT_S = 150


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_rows_print_ratios_beside_their_targets(tmp_path):
    """Each finding states target, measured ratio, verdict in words and absolute medians, in the table and as JSON."""
    file = tmp_path / "bench.json"

    done = bench("--quick", "--json", str(file), "lookup", "stampede")

    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["machine"]["cpu"]
    assert {finding["row"] for finding in found["findings"]} == {"lookup", "stampede"}
    for finding in found["findings"]:
        low, high = finding["interval"]
        assert 0 < low <= finding["value"] <= high
        assert finding["verdict"] == ("met" if finding["value"] <= finding["target"] else "NOT met")
    sealed = found["findings"][0]
    assert sealed["what"] == "Cache.get, sealed"
    assert sealed["unit"] == "x"
    assert sealed["medians_s"]["sealed"] > 0
    assert "<= 6x" in done.stdout
    assert "Cache.get, sealed" in done.stdout


def test_an_unknown_row_is_refused_by_name():
    """A mistyped row ends at once with the rows that exist, instead of measuring all or nothing."""
    done = bench("lokup")

    assert done.returncode == 2
    assert "lokup" in done.stderr
    assert "lookup" in done.stderr
