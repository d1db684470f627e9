"""`make bench` keeps working: its command line, its table, and what it writes for programs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TIMEOUT_S = 150


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("run.py", *arguments)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


def test_rows_print_ratios_beside_their_targets(tmp_path):
    """Each finding states target, measured ratio, verdict in words and absolute medians, in the table and as JSON."""
    file = tmp_path / "bench.json"

    done = bench("--trial", "--json", str(file), "lookup", "stampede", "hit", "seal")

    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["machine"]["cpu"]
    assert {finding["row"] for finding in found["findings"]} == {"lookup", "stampede", "hit", "seal"}
    for finding in found["findings"]:
        low, high = finding["interval"]
        assert 0 < low <= finding["value"] <= high
        if finding["target"] is not None:
            assert finding["verdict"] == ("met" if finding["value"] <= finding["target"] else "NOT met")
    sealed = found["findings"][0]
    assert sealed["what"] == "Cache.get, sealed"
    assert sealed["unit"] == "x"
    assert sealed["medians_s"]["sealed"] > 0
    assert "<= 6x" in done.stdout
    assert "Cache.get, sealed" in done.stdout


def test_the_chart_is_drawn_from_a_report(tmp_path):
    """Each cache has a bar and a number beside the call without one, also in words; what was not compared has none."""
    report, chart = tmp_path / "bench.json", tmp_path / "speed.svg"
    ratios = {"no cache, no network": 2.0, "a peer <1>": 4.0, "another": None}
    findings = [
        {"row": "peers", "what": f"a short prompt: {name} / ours", "value": value} for name, value in ratios.items()
    ]
    report.write_text(json.dumps({"machine": {"cpu": "a cpu", "python": "a Python"}, "findings": findings}))

    done = run("chart.py", str(report), str(chart))

    assert done.returncode == 0, done.stderr
    drawing = ET.fromstring(chart.read_text())
    texts = ["".join(element.itertext()) for element in drawing.iter() if element.tag.endswith(("}text", "}desc"))]
    assert "a short prompt: genai_cache_magic 0.50x, a peer <1> 2.00x." in texts
    assert {"genai_cache_magic", "0.50x", "a peer <1>", "2.00x"} <= set(texts)
    assert "another" not in str(texts)
    widths = [float(bar.get("width")) for bar in drawing.iter() if bar.tag.endswith("}rect")]
    assert 0 < widths[0] < widths[1]


def test_a_report_without_peers_draws_nothing(tmp_path):
    """Without the row that it shows there is no chart, and it is said how to get the row."""
    report, chart = tmp_path / "bench.json", tmp_path / "speed.svg"
    report.write_text(json.dumps({"machine": {}, "findings": []}))

    done = run("chart.py", str(report), str(chart))

    assert done.returncode == 1
    assert "peers" in done.stderr
    assert not chart.exists()


def test_an_unknown_row_is_refused_by_name():
    """A mistyped row ends at once with the rows that exist, instead of measuring all or nothing."""
    done = bench("lokup")

    assert done.returncode == 2
    assert "lokup" in done.stderr
    assert "lookup" in done.stderr
