"""Measure what the speed targets promise, as ratios in one run: ``python benchmarks/run.py [--quick] [ROW ...]``.

Nothing is asserted and nothing fails for being slow: every line says ``met`` or ``NOT met``. See ``docs/speed.md``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from harness import BenchmarkError, Effort, Finding, Row, machine
from report import as_json, console, table
from surroundings import isolated

from genai_cache_magic.testing.servers import ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Row -> where it is, in the order of the report. Imported when asked for: some need packages that others don't.
_ROWS = {
    "hit": ("rows_hit", "ROW"),
    "miss": ("rows_miss", "ROW"),
    "many": ("rows_many", "ROW"),
    "lookup": ("rows_lookup", "LOOKUP"),
    "seal": ("rows_seal", "ROW"),
    "growth": ("rows_lookup", "GROWTH"),
    "catalogue": ("rows_catalogue", "ROW"),
    "guard": ("rows_guard", "ROW"),
    "load": ("rows_start", "LOAD"),
    "first": ("rows_start", "FIRST"),
    "stampede": ("rows_stampede", "ROW"),
    "peers": ("rows_peers", "ROW"),
    "batch": ("rows_batch", "ROW"),
    "team": ("rows_team", "ROW"),
    "vectors": ("rows_vectors", "ROW"),
    "semantic": ("rows_semantic", "ROW"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rows and print them; 1 if one could not be measured."""
    options = _options(arguments)
    effort = Effort(is_quick=options.quick or options.trial, is_trial=options.trial)
    json_file: Path | None = options.json and options.json.absolute()
    surroundings = machine()
    out = console()
    out.print(", ".join(f"{name} {value}" for name, value in surroundings.items()), style="dim", highlight=False)
    out.print("Medians; ratios and differences of neighbouring samples; no garbage collection within a sample.\n")
    found: list[tuple[Row, Finding]] = []
    failures = 0
    for name in options.rows or _ROWS:
        module, attribute = _ROWS[name]
        try:
            row: Row = getattr(importlib.import_module(module), attribute)
            row.prepare(effort)
            with isolated():
                findings = list(row.run(effort))
        except (BenchmarkError, ModuleNotFoundError, ServerMissingError) as exc:
            failures += 1
            out.print(f"{name}: not measured: {exc}\n", style="bold", highlight=False, markup=False)
            continue
        out.print(table(row, findings), "")
        found += [(row, finding) for finding in findings]
    if json_file is not None:
        json_file.write_text(json.dumps(as_json(surroundings, found), indent=1) + "\n", encoding="utf-8")
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"any of {', '.join(_ROWS)}; default: all")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; installs no peers")
    parser.add_argument("--trial", action="store_true", help="whether rows work at all: their figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    options = parser.parse_args(arguments)
    for name in options.rows:
        if name not in _ROWS:
            parser.error(f"there is no row {name!r}: choose from {', '.join(_ROWS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
