"""Reports of cells, as the vectors of ``spec/report.md`` have them."""

from __future__ import annotations

import json
from pathlib import Path

VECTORS = json.loads((Path(__file__).parents[1] / "spec" / "vectors" / "report.json").read_text(encoding="utf-8"))
REPORTS = {vector["name"]: vector["report"] for vector in VECTORS["reports"]}
USUAL = REPORTS["hits and a miss"]


def answers_of(report):
    """Under which ids the answers lie that the cell was given: the last word that a call may have, or its first."""
    calls = [call.split() for kind in report["kinds"] for line in kind["calls"] for call in line.split("; ")]
    return [call[6] if len(call) > 6 else call[0] for call in calls]


def many(number=1000):
    calls = [f"{n:016x} {number - n} {200 + n % 7} 0.0{n:04}" for n in range(number)]
    lines = ["; ".join(calls[at : at + 16]) for at in range(0, number, 16)]
    kind = {"outcome": "hit", "tier": "L1", "provider": "openai.chat", "model": "gpt-4.1-mini"}
    return {**USUAL, "hits": number, "misses": 0, "kinds": [{**kind, "calls": lines}]}
