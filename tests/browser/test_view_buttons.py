"""What the buttons of the view ask for: invalidating, explaining, running fresh, copying."""

from __future__ import annotations

import pytest
from reports import REPORTS, USUAL

pytestmark = pytest.mark.service


def test_what_is_invalidated_is_counted_and_agreed_to_first(shown):
    """Of the whole cell, each entry once; nothing happens before the yes."""
    shown.answer(
        invalidate={"count": 3, "known": 41, "sentence": "3 of 41 known answers made invalid, on this machine alone"}
    )
    shown.show(USUAL)
    shown.press("Invalidate this cell")
    shown.page.get_by_text("3 of 41 known answers would be invalid").wait_for()
    entries = ["00112233445566aa", "0f3b5a77c0de1234", "1f3b5a77c0de1234"]
    body = {"store": "77aa0011bb22cc33", "entries": entries}
    assert shown.asked == [["invalidate", {**body, "dry_run": True}]]
    shown.press("Invalidate 3 answers")
    shown.page.get_by_text("made invalid, on this machine alone").wait_for()
    assert shown.asked[1:] == [["invalidate", {**body, "dry_run": False}]]
    assert shown.page.locator(".gcm-asking").is_hidden()


SIMILAR = REPORTS["answers to similar questions, one of which lies nobody knows where"]


@pytest.mark.parametrize(
    "report",
    [
        SIMILAR,
        {
            **SIMILAR,
            "kinds": None,
            "calls": [{"outcome": "similar", "entry": "0f3b5a77c0de1234", "given": "00112233445566aa"}],
        },
    ],
    ids=["saved", "live"],
)
def test_a_similar_answer_is_invalidated_where_it_lies(shown, report):
    """With the cell and alone: under the id of the other question, which is also what selects it."""
    shown.answer(invalidate={"count": 1, "known": 41, "sentence": "1 of 41 known answers made invalid"})
    shown.show({**report, "tags": []})
    shown.open()
    for pressed in ("Invalidate this cell", "Invalidate call 1"):
        shown.press(pressed)
        shown.press("Invalidate 1 answer")
        shown.page.get_by_text("made invalid").wait_for()
    others = ["1f3b5a77c0de1234", "2f3b5a77c0de1234"] if report is SIMILAR else []
    of_cell, of_call = ["00112233445566aa", *others], ["00112233445566aa"]
    assert [body["entries"] for _, body in shown.asked] == [of_cell, of_cell, of_call, of_call]
    assert shown.page.get_by_role("button", name="Copy --entry 00112233445566aa").count() == 1


def test_where_a_report_does_not_say_where_a_similar_answer_lies(shown):
    """It names what was asked, under which there may be no answer: the call alone can't be invalidated."""
    shown.show(SIMILAR)
    shown.open()
    invalidates = shown.page.locator("td.gcm-actions").get_by_role("button", name="Invalidate")
    assert [button.get_attribute("aria-label") for button in invalidates.all()] == [
        "Invalidate call 1",
        "Invalidate call 3",
    ]


def test_who_says_no_changes_nothing(shown):
    """By the button or by Escape; the focus goes back to where it was."""
    shown.answer(invalidate={"count": 1, "known": 41})
    shown.show(USUAL)
    shown.open()
    for leave in (lambda: shown.press("Cancel"), lambda: shown.page.keyboard.press("Escape")):
        shown.press("Invalidate call 2")
        shown.page.get_by_text("1 of 41 known answers would be invalid").wait_for()
        leave()
        assert shown.page.locator(".gcm-asking").is_hidden()
        assert shown.page.evaluate("() => document.activeElement.dataset.does") == "invalidate-1"
    assert all(body["dry_run"] for _, body in shown.asked)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"count": 0, "known": 41}, "Nothing to invalidate: no valid answer of this cell is stored any more."),
        ({"count": 0, "sentence": "these answers are gone"}, "these answers are gone"),
        ("this server has another cache than the notebook", "this server has another cache than the notebook"),
        ("", "That did not work, and nobody said why: look into the log of the server."),
    ],
)
def test_what_can_not_be_done_is_said(shown, answer, said):
    """An entry deleted meanwhile, another cache, a failure: a sentence, and nothing is asked."""
    shown.answer(invalidate=answer)
    shown.show(USUAL)
    shown.press("Invalidate this cell")
    shown.said.get_by_text(said).or_(shown.page.locator(".gcm-said", has_text=said)).first.wait_for()
    assert shown.page.locator(".gcm-asking").is_hidden()


def test_without_anybody_to_ask_the_buttons_say_how(shown):
    """A page without a kernel or a server; what the host says of it goes first."""
    shown.show(USUAL, canControl=False)
    shown.press("Re-run fresh")
    assert "jupyter server extension enable genai_cache_magic" in shown.said.inner_text()
    shown.show(USUAL, canControl=False, howToControl="Start the kernel first.")
    shown.press("Invalidate this cell")
    assert shown.said.inner_text() == "Start the kernel first."
    assert shown.asked == []


def test_a_miss_is_explained_below_its_row(shown):
    """Which part of the request differs, and as a short diff; a second press folds it away."""
    shown.answer(explain={"reason": "not in the cache", "differs": ["messages"], "diff": ["- Hello", "+ Hallo <b>"]})
    shown.show(USUAL)
    shown.open()
    assert shown.page.get_by_role("button", name="Explain", exact=False).count() == 1
    shown.press("Explain call 1")
    told = shown.page.locator(".gcm-explained")
    assert told.inner_text().splitlines() == [
        "not in the cache",
        "differs from the nearest stored call in: messages",
        "- Hello",
        "+ Hallo <b>",
    ]
    shown.press("Explain call 1")
    assert told.count() == 0
    shown.answer(explain={"differs": ["messages"], "notes": ["how, is told to those who may read it"]})
    shown.press("Explain call 1")
    assert told.inner_text().splitlines()[-1] == "how, is told to those who may read it"


def test_what_can_not_be_compared_is_explained_by_what_is_known(shown):
    """A refused answer is in no cache: its reason stands below it, and why there is no more."""
    kind = {"outcome": "refused", "model": "m", "reason": "truncated", "calls": ["00112233445566aa 1 1 0.1"]}
    shown.answer(explain="this answer is not in the cache any more")
    shown.show({**USUAL, "kinds": [kind]})
    shown.open()
    shown.press("Explain call 1")
    assert shown.page.locator(".gcm-explained").inner_text() == "truncated"
    assert shown.page.get_by_role("button", name="Invalidate call 1").count() == 0
    assert shown.said.inner_text() == "this answer is not in the cache any more"


def test_re_running_fresh_is_asked_of_the_host(shown):
    """Which says what comes of it."""
    shown.answer(rerun={"sentence": "the cell runs again"})
    shown.show(USUAL)
    shown.press("Re-run fresh")
    shown.page.get_by_text("the cell runs again").wait_for()
    assert shown.asked == [["rerun", {"store": "77aa0011bb22cc33", "fresh": True}]]


def test_a_call_is_copied_as_what_selects_it(make_page):
    """Its tag, else its entry, as `%llm_cache invalidate` takes it."""
    shown = make_page(permissions=["clipboard-read", "clipboard-write"])
    shown.page.evaluate("() => { window.board = navigator.clipboard }")
    hide = "() => Object.defineProperty(navigator, 'clipboard', {value: undefined})"
    cases = {"--tag baseline": ["baseline"], "--tag 'it'\"'\"'s, late'": ["it's, late"], "--entry 00112233445566aa": []}
    for copied, tags in cases.items():
        shown.show({**USUAL, "tags": tags})
        shown.open()
        shown.press(f"Copy {copied}")
        shown.page.get_by_text(f"Copied: {copied}").wait_for()
        assert shown.page.evaluate("() => window.board.readText()") == copied
        shown.page.evaluate(hide)  # as in a page that came by plain HTTP
