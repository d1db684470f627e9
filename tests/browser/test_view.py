"""The view of a call report in a real browser: what is said, and what its buttons ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

VECTORS = json.loads((Path(__file__).parents[2] / "spec" / "vectors" / "report.json").read_text(encoding="utf-8"))
REPORTS = {vector["name"]: vector["report"] for vector in VECTORS["reports"]}
USUAL = REPORTS["hits and a miss"]


def test_every_vector_is_drawn_as_it_says(shown):
    """Whatever is in a report, a person reads words, and no script fails."""
    for vector in VECTORS["reports"]:
        shown.show(vector["report"])
        if "words" in vector:
            assert shown.summary == vector["words"], vector["name"]
            assert shown.page.evaluate("report => view.callsOf(report).length", vector["report"]) == vector["calls"]
        else:
            assert "report" in shown.summary, vector["name"]
            assert "run the cell again" in shown.summary or "pip install --upgrade" in shown.summary
        is_lacking = shown.words.count("This report lacks")
        assert is_lacking == (vector["outcome"] == "incomplete" and vector["name"] != "a call that can't be read")


def test_a_newer_report_says_what_it_can_and_what_to_do(shown):
    """Its headline as text, and how to get a view that reads it."""
    shown.show(REPORTS["a newer version"])
    assert "version 4" in shown.summary
    assert shown.summary.endswith("It said: all well")
    assert shown.page.get_by_role("button").count() == 0


def test_controls_of_the_cell_are_there_before_anything_is_opened(shown):
    """Its calls are folded away, its buttons are not."""
    shown.show(USUAL)
    assert [button.inner_text() for button in shown.page.get_by_role("button").all()] == [
        "Show 4 calls",
        "Re-run fresh",
        "Invalidate this cell",
    ]
    assert shown.page.locator("table").count() == 0


def test_the_table_holds_each_call(shown):
    """Outcome and tier, model, tokens with provider-cached apart, spent, saved, sample, tags."""
    shown.show(USUAL)
    shown.open()
    assert shown.rows == [
        ["+miss", "gpt-4.1-mini", "1,034", "", "267", "$0.0012", "$0", "", "baseline"],
        ["✓hit L1", "gpt-4.1-mini", "400", "512", "100", "$0", "$0.0025", "", "baseline"],
        ["✓hit L1", "gpt-4.1-mini", "400", "", "100", "$0", "$0.0025", "", "baseline"],
        ["✓hit L1", "gpt-4.1-mini", "400", "", "100", "$0", "$0.0025", "1", "baseline"],
    ]
