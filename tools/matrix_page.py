"""Write docs/matrix.md from what came of the tests of each generation: ``matrix_page.py NAME=JUNIT.xml ...``.

`make matrix` runs it, with the tests' list of forms on the path.
Exit code 1, and no page, where a cell was not tested or did not turn out as the list of forms says.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from matrix.forms import FORMS
from matrix.generations import GENERATIONS, pins
from matrix.page import page, promised

if TYPE_CHECKING:
    from matrix.cells import Form

ROOT = Path(__file__).resolve().parents[1]


def outcomes(report: str) -> dict[str, bool]:
    """Return name of a cell's test -> whether it is cached, without those that were skipped."""
    found = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest wrote it a moment ago
        form_id = case.get("name", "").partition("[")[2].removesuffix("]")
        skipped = case.find("skipped")
        if skipped is None or skipped.get("type") == "pytest.xfail":
            found[form_id] = skipped is None and case.find("failure") is None and case.find("error") is None
    return found


def main(arguments: list[str]) -> int:
    """Check the reports and write the page."""
    came = {name: outcomes(path) for name, _, path in (argument.partition("=") for argument in arguments)}

    def is_cached(generation: str, form: Form) -> bool | None:
        return came.get(generation, {}).get(form.id)

    cells = [(g, form) for g in GENERATIONS for form in FORMS if form.way.package in pins(g)]
    wrong = [f"{g}: {form.id}" for g, form in cells if is_cached(g, form) is not promised(g, form)]
    if wrong:
        sys.stderr.write("not as the list of forms says, or not tested:\n  " + "\n  ".join(wrong) + "\n")
        return 1
    (ROOT / "docs" / "matrix.md").write_text(page(lambda g, form: bool(is_cached(g, form))), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
