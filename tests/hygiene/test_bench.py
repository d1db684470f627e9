"""`make bench` keeps working: its command line, its table, and what it writes for programs."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from genai_cache_magic.vectors import INSTALL_LOCAL

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

    done = bench("--trial", "--json", str(file), "lookup", "stampede", "hit", "seal", "guard")

    assert done.returncode == 0, done.stderr
    found = json.loads(file.read_text())
    assert found["machine"]["cpu"]
    assert {finding["row"] for finding in found["findings"]} == {"lookup", "stampede", "hit", "seal", "guard"}
    for finding in found["findings"]:
        low, high = finding["interval"]
        assert low <= finding["value"] <= high
        assert low > 0 or finding["unit"] != "x"  # what is added may come to nothing, or less
        if finding["target"] is not None:
            assert finding["verdict"] == ("met" if finding["value"] <= finding["target"] else "NOT met")
    sealed = found["findings"][0]
    assert sealed["what"] == "Cache.get, sealed"
    assert sealed["unit"] == "x"
    assert sealed["medians_s"]["sealed"] > 0
    assert "<= 6x" in done.stdout
    assert "Cache.get, sealed" in done.stdout


@pytest.mark.parametrize("rows", [("miss", "many", "growth", "catalogue", "vectors"), ("load", "first")], ids="-".join)
def test_a_row_can_be_measured(tmp_path, rows):
    """Each row that needs no peers and no server runs through: what it checks of what it measures holds."""
    file = tmp_path / "bench.json"

    done = bench("--trial", "--json", str(file), *rows)

    assert done.returncode == 0, done.stdout + done.stderr
    assert {finding["row"] for finding in json.loads(file.read_text())["findings"]} == set(rows)


@pytest.mark.service
def test_a_row_over_a_server_can_be_measured(tmp_path, redis_server):
    """So does each that starts a server of its own."""
    file = tmp_path / "bench.json"

    done = bench("--trial", "--json", str(file), "batch", "team")

    assert done.returncode == 0, done.stdout + done.stderr
    assert {finding["row"] for finding in json.loads(file.read_text())["findings"]} == {"batch", "team"}


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


def test_wrong_answers_are_counted_beside_other_caches(tmp_path):
    """Guarded, none is another question's; a peer that is not there is told with what installs it, or measured."""
    pytest.importorskip("all_minilm_l6_v2", reason=INSTALL_LOCAL)
    pytest.importorskip("tokenizers", reason=INSTALL_LOCAL)
    file = tmp_path / "bench.json"

    done = bench("--trial", "--json", str(file), "semantic")

    assert done.returncode == 0, done.stderr
    found = {finding["what"]: finding for finding in json.loads(file.read_text())["findings"]}
    assert found["another question's answer, 0.90: ours, guarded"]["value"] == 0
    assert found["another question's answer, 0.90: ours"]["value"] > 0
    assert found["a look-up: ours, guarded / ours"]["medians_s"]["ours"] > 0
    for peer in ("GPTCache", "redisvl SemanticCache", "redisvl EmbeddingsCache"):
        if f"an add: {peer} / ours" not in found:
            assert any(why in found[peer]["note"] for why in ("bin/pip install", "query engine", "make services"))


@pytest.mark.parametrize("count", range(1, 10))
def test_each_case_comes_as_often_after_each_other_one(count):
    """Within a round; and from one round to the next none of more than two after itself, however many there are."""
    rounds = 2 * count if count % 2 else count
    program = f"""
import json
from harness import take_turns
said = []
cases = {{str(n): lambda n=n: said.append(n) or 0.0 for n in range({count})}}
take_turns(cases, rounds={rounds + 1}, warm_up=0)
print(json.dumps(said))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=True, cwd=BENCHMARKS
    )
    said = json.loads(done.stdout)
    orders = [said[start : start + count] for start in range(0, len(said), count)]
    assert orders[-1] == orders[0]  # they begin anew
    assert all(sorted(order) == list(range(count)) for order in orders)
    within = Counter(pair for order in orders[:-1] for pair in itertools.pairwise(order))
    assert set(within.values()) <= {2 if count % 2 else 1}
    assert len(within) == count * (count - 1)
    between = Counter((one[-1], other[0]) for one, other in itertools.pairwise(orders))
    after_itself = {n: between[n, n] for n in range(count)}
    if count > 2:
        assert not any(after_itself.values())
    elif count == 2:
        assert list(after_itself.values()) == list(within.values()) == [1, 1]


def test_a_wrong_answer_of_a_peer_is_seen():
    """Whether it was given to a text that asks something else, or in the place of the right one."""
    program = """
from rows_semantic import Asked, wrong_and_right
asked = Asked(changed=[("a", "not a"), ("b", "not b"), ("c", "a")], same=[("d", "d, too"), ("e", "e, too")])
print(wrong_and_right(asked, [None, None, "a", "d", "e"]), wrong_and_right(asked, ["a", "c", "c", "a", None]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT_S, check=True, cwd=BENCHMARKS
    )
    assert done.stdout.strip() == "(0, 2) (4, 0)"


def test_a_server_that_is_missing_costs_its_rows_alone(tmp_path, monkeypatch):
    """They are not measured, it is said what installs it, and the others are there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    file = tmp_path / "bench.json"

    done = bench("--trial", "--json", str(file), "team", "seal")

    assert done.returncode == 1
    assert "team: not measured: redis-server is not installed: make services" in done.stdout
    assert {finding["row"] for finding in json.loads(file.read_text())["findings"]} == {"seal"}
