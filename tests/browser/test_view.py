"""The view of a call report in a real browser: what is said, and what its buttons ask for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browsers import serious

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


# -- many calls


def many(number=1000):
    calls = [f"{n:016x} {number - n} {200 + n % 7} 0.0{n:04}" for n in range(number)]
    lines = ["; ".join(calls[at : at + 16]) for at in range(0, number, 16)]
    kind = {"outcome": "hit", "tier": "L1", "provider": "openai.chat", "model": "gpt-4.1-mini"}
    return {**USUAL, "hits": number, "misses": 0, "kinds": [{**kind, "calls": lines}]}


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


# -- what its buttons do


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
    assert shown.summary.startswith("4 hits")
    assert shown.page.evaluate("() => document.activeElement.dataset.does") == "filter"
    shown.page.evaluate(update, USUAL)
    assert "in flight" not in shown.words
    assert next(row[5] for row in shown.rows) == "$0.0012"
    assert shown.page.locator("th[aria-sort=descending]").inner_text().startswith("spent")


# -- everybody


STATES = {
    "usual": USUAL,
    "empty": REPORTS["no call"],
    "everything": REPORTS["everything else"],
    "newer": REPORTS["a newer version"],
    "lacking": REPORTS["members missing"],
    "running": {**USUAL, "progress": {"done": 1, "in_flight": 4}, "troubles": ["L2: refused"], "hints": ["more"]},
    "many": many(),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_stands_in_anybodys_way(make_page, axe, scheme):
    """By axe-core's rules, closed and open, in both colours of the page and in those of a host."""
    shown = make_page(color_scheme=scheme)
    shown.page.add_style_tag(content="body { background: Canvas } :root { color-scheme: light dark }")
    found = {}
    shown.answer(invalidate={"count": 3, "known": 41}, explain={"differs": ["messages"]})
    for name, report in STATES.items():
        shown.show(report)
        found[name] = serious(shown.page, axe)
        if shown.page.locator("[data-does=toggle]").count():
            shown.open()
            found[f"{name}, open"] = serious(shown.page, axe)
    shown.show(USUAL)
    shown.open()
    shown.press("Explain call 1")
    shown.press("Invalidate this cell")
    shown.page.locator("[data-does=yes]").wait_for()
    found["asking"] = serious(shown.page, axe)
    assert {name: grave for name, grave in found.items() if grave} == {}


def test_the_keyboard_reaches_everything(shown):
    """Tab by Tab: each control is met once, in the order in which it is read, and Enter does what a click does."""
    shown.show(USUAL)
    met = []
    for _ in range(3):
        shown.page.keyboard.press("Tab")
        met.append(shown.page.evaluate("() => document.activeElement.dataset.does"))
    assert met == ["toggle", "rerun", "invalidate"]
    shown.page.locator("[data-does=toggle]").focus()
    shown.page.keyboard.press("Enter")
    assert shown.page.evaluate("() => document.activeElement.dataset.does") == "toggle"
    shown.page.locator("[data-does=invalidate]").focus()
    wanted = shown.page.locator(".gcm-details :is(button, input, select):not(:disabled)").evaluate_all(
        "all => all.map(one => one.dataset.does)"
    )
    met = []
    for _ in range(len(wanted) + 1):  # and the place that scrolls
        shown.page.keyboard.press("Tab")
        met.append(shown.page.evaluate("() => document.activeElement.dataset.does ?? 'scroll'"))
    assert [one for one in met if one != "scroll"] == wanted
    shown.page.locator("[data-does=sort-saved]").focus()
    shown.page.keyboard.press("Space")
    assert shown.page.evaluate("() => document.activeElement.dataset.does") == "sort-saved"
    assert shown.page.locator("th[aria-sort=descending]").count() == 1


def test_320_pixels_are_enough(make_page):
    """Nothing is cut off, and nobody scrolls to the side."""
    shown = make_page(viewport={"width": 320, "height": 640})
    for name, report in STATES.items():
        shown.show(report)
        if shown.page.locator("[data-does=toggle]").count():
            shown.open()
        assert shown.page.evaluate("() => document.documentElement.scrollWidth") <= 320, name
        wide = "all => all.filter(one => one.getBoundingClientRect().right > 320).map(one => one.outerHTML)"
        assert shown.page.locator(".gcm *:visible").evaluate_all(wide) == [], name


@pytest.mark.parametrize(("scheme", "theme"), [("light", "dark"), ("dark", "light")])
def test_the_theme_of_the_notebook_wins_over_that_of_the_machine(make_page, scheme, theme):
    """JupyterLab's, VS Code's, or what the host says; also when it changes."""
    shown = make_page(color_scheme=scheme)
    told = shown.page.locator(".gcm")
    shown.show(USUAL)
    assert told.get_attribute("data-theme") is None
    body = "([name, value]) => document.body.setAttribute(name, value)"
    shown.page.evaluate(body, ["data-jp-theme-light", str(theme == "light").lower()])
    shown.page.locator(f".gcm[data-theme={theme}]").wait_for()
    shown.page.evaluate("() => document.body.removeAttribute('data-jp-theme-light')")
    shown.page.evaluate(body, ["data-vscode-theme-kind", f"vscode-{theme}"])
    shown.page.locator(f".gcm[data-theme={theme}]").wait_for()
    shown.show(USUAL, theme=scheme)
    assert told.get_attribute("data-theme") == scheme


# -- what others wrote


ACTS = ["executed++", "window.executed=1", "alert(1)", "parent.executed++"]
CARRIERS = [
    "<script>{}</script>",
    "<img src=x onerror={}>",
    "<img src=x onerror='{}'>",
    '"><img src=x onerror={}>',
    "'><svg onload={}>",
    "<svg><script>{}</script></svg>",
    "<svg/onload={}>",
    "<body onload={}>",
    "<iframe srcdoc='<script>{}</script>'></iframe>",
    "<iframe src=javascript:{}></iframe>",
    "<a href=javascript:{} autofocus onfocus={}>x</a>",
    "<details open ontoggle={}>",
    "<input autofocus onfocus={}>",
    "<style onload={}></style>",
    "</style><script>{}</script>",
    "</td></tr></table><script>{}</script>",
    "<math><mtext></mtext><script>{}</script></math>",
    "<video><source onerror={}></video>",
    "<object data=javascript:{}></object>",
    "<marquee onstart={}>x</marquee>",
    "javascript:{}",
    "{{{{constructor.constructor('{}')()}}}}",
    "${{{}}}",
    "` + {} + `",
    "'); {}; ('",
    "__proto__ {}",
    "<!--<img src=x onerror={}>-->",
    "<base href=javascript:{}//>",
    "<template><script>{}</script></template>",
    "\\u003cscript\\u003e{}\\u003c/script\\u003e",
]
PAYLOADS = [carrier.replace("{}", act, 9).replace("{{", "{").replace("}}", "}") for carrier in CARRIERS for act in ACTS]
OURS = "section style div p ul li span button table thead tbody tr th td input select option label progress"


def hostile(payload):
    """A report in which every text is `payload`, whatever it should be."""
    call = dict.fromkeys(("outcome", "tier", "provider", "model", "reason", "state"), payload)
    numbers = dict.fromkeys(
        ("input_tokens", "output_tokens", "cached_input_tokens", "spent_usd", "saved_usd", "sample"), payload
    )
    return {
        "version": 3,
        "headline": payload,
        "mode": payload,
        "run": payload,
        "tags": [payload],
        "hits": 1,
        "misses": 1,
        "errors": 1,
        "unrecognised": {payload: 1},
        "totals": dict.fromkeys(
            ("input_tokens", "output_tokens", "spent_usd", "saved_usd", "spent_at_least_usd"), payload
        ),
        "calls": [
            {**call, **numbers, "entry": "00112233445566aa"},
            {**call, "outcome": "miss", "entry": payload, "tags": [payload]},
        ],
        "progress": {"done": payload, "in_flight": payload, "spent_usd": payload, "eta_s": payload},
        "troubles": [payload],
        "hints": [payload],
        "store": payload,
    }


def test_what_a_report_holds_is_never_executed(shown):
    """100 payloads and more, in every text of a report, of what is fetched and of what a host answers: none runs."""
    assert len(set(PAYLOADS)) >= 100
    run = """async (payloads) => {
      const wrong = [];
      const settled = async () => { for (let turns = 0; turns < 20; turns++) await null; };
      for (const [payload, report, packed] of payloads) {
        const told = {reason: payload, differs: [payload], diff: [payload], sentence: payload};
        Object.assign(window.answers, {explain: told, rerun: told, invalidate: payload});
        const facts = {state: payload, tier: payload};
        window.host.fetchLive = async () => ({entries: {"00112233445566aa": facts}, notes: [payload]});
        for (const one of [report, packed, {version: 99, headline: payload}, {version: payload, headline: payload}]) {
          show(one);
          document.querySelector("[data-does=toggle]")?.click();
          await settled();
          for (const does of ["explain-1", "rerun", "invalidate"]) {
            document.querySelector(`[data-does="${does}"]`)?.click();
            await settled();
          }
          const names = [...document.querySelectorAll("#place *")].map((one) => one.localName);
          wrong.push(...names.filter((name) => !OURS.split(" ").includes(name)));
        }
        if (!document.querySelector("#place").textContent.includes(payload)) wrong.push(`not shown: ${payload}`);
      }
      await new Promise((done) => setTimeout(done, 100)); // for what would come from a fetch that failed
      return [window.executed, wrong];
    }""".replace("OURS", json.dumps(OURS))
    packed = [
        {
            **USUAL,
            "kinds": [
                {
                    "outcome": "miss",
                    "model": p,
                    "provider": p,
                    "reason": p,
                    "tier": p,
                    "calls": [p, f"00112233445566aa {p}"],
                }
            ],
        }
        for p in PAYLOADS
    ]
    executed, wrong = shown.page.evaluate(run, [[p, hostile(p), one] for p, one in zip(PAYLOADS, packed, strict=True)])
    assert (executed, wrong) == (0, [])
