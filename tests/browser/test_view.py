"""The view of a call report in a real browser: what is said of the cell and of each call."""

from __future__ import annotations

import pytest
from reports import REPORTS, USUAL, VECTORS, many

pytestmark = pytest.mark.service


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
    """Outcome, model, tokens with provider-cached apart, spent, saved, sample, tags; the tier where it was saved."""
    shown.show(REPORTS["hits that name their tier, of an earlier release"])
    shown.open()
    assert [row[0] for row in shown.rows] == ["+miss", "✓hit L1", "✓hit L1", "✓hit L1"]
    shown.show(USUAL)
    shown.open()
    assert shown.rows == [
        ["+miss", "gpt-4.1-mini", "1,034", "", "267", "$0.0012", "$0", "", "baseline"],
        ["✓hit", "gpt-4.1-mini", "400", "512", "100", "$0", "$0.0025", "", "baseline"],
        ["✓hit", "gpt-4.1-mini", "400", "", "100", "$0", "$0.0025", "", "baseline"],
        ["✓hit", "gpt-4.1-mini", "400", "", "100", "$0", "$0.0025", "1", "baseline"],
    ]


def test_what_a_person_should_know_is_said(shown):
    """A price that nobody knows, and answers that were cut off."""
    chat = {"provider": "openai.chat", "model": "m"}
    kinds = [
        {**chat, "outcome": "refused", "reason": "truncated", "calls": ["00112233445566aa 1 1 0.1; - 1 1 0.1"]},
        {**chat, "outcome": "miss", "calls": ["10112233445566aa 1 1 -"]},
        {**chat, "outcome": "hit", "calls": ["20112233445566aa 1 1 -; 30112233445566aa 1 1 0.1"]},
    ]
    shown.show({**USUAL, "kinds": kinds})
    assert "The price of 2 calls is unknown: sums are of what is known." in shown.words
    assert (
        "2 answers were cut off and not stored: allow more tokens, or keep such answers by --store truncated."
        in shown.words
    )
    shown.show(USUAL)
    assert "unknown" not in shown.words
    assert "cut off" not in shown.words


def test_a_thousand_calls_are_turned_over_in_pages(shown):
    """What is in the page stays small, whatever is looked for, sorted and turned."""
    shown.show(many())
    shown.open()
    pager = shown.page.locator(".gcm-pager span")
    assert len(shown.rows) == 50
    assert pager.inner_text() == "1 to 50 of 1,000 calls"
    shown.press("Next")
    assert pager.inner_text() == "51 to 100 of 1,000 calls"
    shown.press("tokens in")
    assert pager.inner_text() == "1 to 50 of 1,000 calls"
    assert [row[2] for row in shown.rows][:2] == ["1,000", "999"]
    shown.press("tokens in")
    assert [row[2] for row in shown.rows][:2] == ["1", "2"]
    assert shown.page.locator("th[aria-sort=ascending]").inner_text().startswith("tokens in")
    shown.page.get_by_label("Filter").fill("00000000000003e7")
    assert pager.inner_text() == "1 to 1 of 1 call"
    shown.page.get_by_label("Filter").fill("nothing like it")
    assert pager.inner_text() == "no call matches"


def test_a_filter_looks_at_every_column_and_the_outcome(shown):
    """Words in any order, case aside."""
    shown.show(
        {
            **USUAL,
            "kinds": [
                *USUAL["kinds"],
                {"outcome": "refused", "model": "Other", "reason": "Truncated", "calls": ["- 1 1 0"]},
            ],
        }
    )
    shown.open()
    shown.page.get_by_label("Filter").fill("BASELINE other trunc")
    assert [row[1] for row in shown.rows] == ["Other"]
    shown.page.get_by_label("Filter").fill("")
    shown.page.get_by_label("Outcome").select_option("miss")
    assert [row[0] for row in shown.rows] == ["+miss"]


def test_what_is_not_saved_is_fetched_when_the_table_opens(shown):
    """Latency, age, a hit's tier and whether an entry is still there; without it their columns are not there."""
    shown.page.evaluate(
        """() => { window.host.fetchLive = async () => ({
             entries: {
               "00112233445566aa": {age_s: 7300, latency_s: 1.53, tier: "L1", state: "valid"},
               "1f3b5a77c0de1234": {age_s: 60, tier: "L2", state: "valid"},
               "0f3b5a77c0de1234": {state: "absent"},
             },
             notes: ["the team's tier can't be reached"]}) }"""
    )
    shown.show(USUAL)
    assert "tier" not in shown.words
    shown.open()
    shown.page.get_by_text("the team's tier can't be reached").wait_for()
    assert [row[0] for row in shown.rows] == ["+miss", "✓hit", "✓hit L2", "✓hit L2"]  # a miss was on no tier
    assert [row[7:9] for row in shown.rows] == [["1.5 s", "2 h"], ["", "absent"], ["", "1 min"], ["", "1 min"]]


@pytest.mark.parametrize("name", ["0f3b5a77c0de1234", "00112233445566aa"])
def test_a_similar_answer_is_as_old_as_it_is_where_it_lies(shown, name):
    """A kernel tells of what was asked, a server of the entry whose answer was given."""
    live = {"entries": {name: {"age_s": 7300, "state": "valid"}, "1f3b5a77c0de1234": {"state": "absent"}}}
    shown.page.evaluate("live => { window.host.fetchLive = async () => live }", live)
    shown.show(REPORTS["answers to similar questions, one of which lies nobody knows where"])
    shown.open()
    shown.page.get_by_role("columnheader", name="age").wait_for()
    assert [row[6] for row in shown.rows] == ["2 h", "absent", ""]


# -- while a cell runs


def test_progress_is_followed_without_losing_what_was_opened(shown):
    """Done, in flight, money so far, time left; the table stays open, sorted and focused."""
    running = {"done": 1, "in_flight": 4, "expected": 8, "spent_usd": "0.0041", "eta_s": 17.2}
    shown.show({**USUAL, "progress": running})
    shown.open()
    assert "1 of about 8 done, 4 in flight, spent $0.0041 so far, about 17 s left" in shown.words
    shown.press("spent")
    shown.page.get_by_label("Filter").focus()
    update = "report => window.drawn.update(report)"
    shown.page.evaluate(update, {**USUAL, "hits": 4, "progress": {"done": 5, "in_flight": 3, "spent_usd": None}})
    assert "5 done, 3 in flight, spent unknown so far" in shown.words
    assert " · 4 hits, 1 miss · " in shown.summary
    assert shown.page.evaluate("() => document.activeElement.dataset.does") == "filter"
    shown.page.evaluate(update, USUAL)
    assert "in flight" not in shown.words
    assert next(row[5] for row in shown.rows) == "$0.0012"
    assert shown.page.locator("th[aria-sort=descending]").inner_text().startswith("spent")
