"""Draw what the row ``peers`` measured, from a report's JSON: ``python benchmarks/chart.py REPORT.json [CHART.svg]``.

A bar is the median of the ratios of one cache's hit to the same call through `openai` over a transport that answers at
once, as far as both were compared with ours in one run. Its scale is logarithmic: caches differ by hundreds.
"""

from __future__ import annotations

import json
import math
import sys
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from rows_peers import FLOOR, QUESTIONS

OURS = "genai_cache_magic"
CHART = Path(__file__).parents[1] / "docs" / "images" / "speed.svg"

_WIDTH = 860
_NAMES = 200  # room for the names at the left
_NUMBERS = 60  # and for the numbers at the right
_BAR, _ROW, _HEAD, _TOP = 14, 20, 34, 46

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.head { font-weight: 600 } .note { font-size: 12px; fill: #59636e }
.bar { fill: #9aa4af } .ours { fill: #0969da } .line { stroke: #59636e; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .note { fill: #9198a1 } .bar { fill: #57606a } .ours { fill: #4493f8 }
  .line { stroke: #9198a1 }
}
"""


class Bar(NamedTuple):
    """One cache's hit, as a multiple of the call without a cache or a network."""

    name: str
    ratio: float


def groups_of(report: dict[str, Any]) -> dict[str, list[Bar]]:
    """Return the bars of each question, the fastest first; a question without a floor has none."""
    found: dict[str, list[Bar]] = {}
    for question in QUESTIONS:
        told = {f["what"]: f["value"] for f in report["findings"] if f["row"] == "peers" and f["value"] is not None}
        by_ours = {
            what.removeprefix(f"{question}: ").removesuffix(" / ours"): value
            for what, value in told.items()
            if what.startswith(f"{question}: ")
        }
        floor = by_ours.pop(FLOOR, None)
        if floor:
            bars = [Bar(OURS, 1 / floor), *(Bar(name, value / floor) for name, value in by_ours.items())]
            found[question] = sorted(bars, key=lambda bar: bar.ratio)
    return found


def drawn(report: dict[str, Any]) -> str:
    """Return the chart as SVG, for a light page or a dark one."""
    groups = groups_of(report)
    ratios = [bar.ratio for bars in groups.values() for bar in bars]
    if not ratios:
        raise SystemExit("the report has no row 'peers': python benchmarks/run.py --json REPORT.json peers")
    low, high = math.log(min(*ratios, 0.1) / 1.3), math.log(max(*ratios, 2))
    room = _WIDTH - _NAMES - _NUMBERS

    def across(ratio: float) -> float:
        return room * (math.log(ratio) - low) / (high - low)

    parts, y = [], _TOP
    for question, bars in groups.items():
        parts.append(f'<text class="head" x="0" y="{y + 18}">{escape(question)}</text>')
        y += _HEAD
        top = y
        for bar in bars:
            kind = "ours" if bar.name == OURS else "bar"
            width = across(bar.ratio)
            parts += (
                f'<text x="{_NAMES - 8}" y="{y + 12}" text-anchor="end">{escape(bar.name)}</text>',
                f'<rect class="{kind}" x="{_NAMES}" y="{y}" width="{width:.1f}" height="{_BAR}" rx="2"/>',
                f'<text x="{_NAMES + width + 6:.1f}" y="{y + 12}">{_spelt(bar.ratio)}</text>',
            )
            y += _ROW
        at = _NAMES + across(1)
        parts.append(f'<line class="line" x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" y2="{y}"/>')
    machine = report["machine"]
    note = f"{machine['cpu']}, {machine['python']}. Dashed: the call through openai without a cache or a network."
    title = "One hit, as a multiple of the same call without a cache or a network (shorter is faster; logarithmic)"
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y + 30}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(_in_words(groups))}</desc>",
            f"<style>{_STYLE}</style>",
            f'<text class="head" x="0" y="18">{escape(title)}</text>',
            *parts,
            f'<text class="note" x="0" y="{y + 22}">{escape(note)}</text>',
            "</svg>\n",
        )
    )


def _in_words(groups: dict[str, list[Bar]]) -> str:
    """Return what the chart shows, for who can't see it."""
    return " ".join(
        f"{question}: {', '.join(f'{bar.name} {_spelt(bar.ratio)}' for bar in bars)}."
        for question, bars in groups.items()
    )


def _spelt(ratio: float) -> str:
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:.0f}x"


def main(arguments: list[str]) -> None:
    """Write the chart."""
    if not arguments:
        raise SystemExit(__doc__)
    chart = Path(arguments[1]) if len(arguments) > 1 else CHART
    chart.write_text(drawn(json.loads(Path(arguments[0]).read_text(encoding="utf-8"))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
