"""Findings as a table for people and as JSON for programs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from harness import Finding, Row

_WIDTH = 150  # where the output is a file
_UNITS = {"x": "x", "µs": " µs", "ms": " ms", "calls": "", "hits": ""}


def console() -> Console:
    """Return where the report goes."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH)


def table(row: Row, findings: Iterable[Finding]) -> Table:
    """Return the findings of one row."""
    shown = Table(title=f"{row.name}: {row.about}", title_justify="left", title_style="bold", expand=True)
    for heading, settings in _COLUMNS.items():
        shown.add_column(heading, **settings)
    for finding in findings:
        notes = [_times(finding.medians), finding.note]
        shown.add_row(
            escape(finding.what),
            "" if finding.target is None else f"<= {_number(finding.target, finding.unit)}",
            _measured(finding),
            finding.verdict,
            escape("\n".join(filter(None, notes))),
        )
    return shown


_COLUMNS: dict[str, dict[str, Any]] = {
    "what": {"ratio": 5},
    "target": {"justify": "right", "no_wrap": True},
    "measured (95%)": {"justify": "right", "no_wrap": True},
    "": {"no_wrap": True},
    "medians here": {"ratio": 4},
}


def as_json(machine: Mapping[str, str], found: Iterable[tuple[Row, Finding]]) -> dict[str, Any]:
    """Return everything that was found."""
    return {"machine": dict(machine), "findings": [_fields(row, finding) for row, finding in found]}


def _fields(row: Row, finding: Finding) -> dict[str, Any]:
    measured = finding.measured
    return {
        "row": row.name,
        "what": finding.what,
        "unit": finding.unit,
        "target": finding.target,
        "value": None if measured is None else measured.value,
        "interval": None if measured is None else [measured.low, measured.high],
        "verdict": finding.verdict,
        "medians_s": dict(finding.medians),
        "note": finding.note,
    }


def _measured(finding: Finding) -> str:
    estimate = finding.measured
    if estimate is None:
        return "not measured"
    value = _number(estimate.value, finding.unit)
    if estimate.low == estimate.high:
        return value
    return f"{value} ({_digits(estimate.low)} to {_digits(estimate.high)})"


def _number(value: float, unit: str) -> str:
    return f"{_digits(value)}{_UNITS[unit]}"


def _digits(value: float) -> str:
    if value == int(value):
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"  # noqa: RUF100 - three digits say enough


def _times(medians: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_time(seconds)}" for name, seconds in medians.items())


def _time(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{_digits(round(seconds * 1e6, 1))} µs"
    if seconds < 1:
        return f"{_digits(round(seconds * 1e3, 2))} ms"
    return f"{_digits(round(seconds, 2))} s"
