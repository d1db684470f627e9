"""What stands under a cell: right words and numbers, the same for equal runs, safe with any text."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.core.options import Mode, Options, Samples
from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble
from genai_cache_magic.jupyter.shown.badge import MIME, bundle
from genai_cache_magic.jupyter.shown.progress import Progress
from genai_cache_magic.jupyter.shown.report import Report, Table, breakable
from genai_cache_magic.jupyter.shown.summary import MAX_ROWS, summarise
from genai_cache_magic.jupyter.shown.words import in_words

ZERO = Decimal(0)


def call(outcome: Outcome = Outcome.HIT, **more) -> CallRecord:
    cost = more.pop("cost", Decimal("0.0012"))
    is_hit = outcome is Outcome.HIT
    money = {"spent_usd": ZERO if is_hit else cost, "saved_usd": cost if is_hit else ZERO}
    facts = {"model": "gpt-4.1-mini", "provider": "openai.chat", "input_tokens": 10, "output_tokens": 5}
    return CallRecord(outcome, tier=Tier.L1 if is_hit else None, **{**facts, **money, **more})


def scope_of(*events: CallRecord | Trouble, options: Options | None = None) -> CellScope:
    scope = CellScope(options or Options())
    for event in events:
        scope.emit(event)
    return scope


def words(*events: CallRecord | Trouble) -> str:
    return in_words(summarise(scope_of(*events)))


def test_counts_tokens_and_money_are_said():
    """The line under the cell, as designed."""
    hits = [call(input_tokens=400, output_tokens=100, cost=Decimal("0.0025"))] * 3
    said = words(*hits, call(Outcome.MISS, input_tokens=1034, output_tokens=267))
    assert said == "✓ spent $0.0012, saved $0.0075 · 3 hits, 1 miss · 2,234 tokens in, 567 out"


def test_the_line_leads_with_what_matters():
    """A failure, then what was spent, then how the rest was answered; what did not happen is not said."""
    said = words(call(), call(Outcome.MISS), call(Outcome.ERROR, reason="rate limit", cost=ZERO))
    assert said.startswith("✗ 1 error (rate limit) · spent $0.0012, saved $0.0012 · 1 hit, 1 miss · ")
    assert "bypassed" not in said
    assert "error" not in words(call())


@pytest.mark.parametrize(
    ("events", "glyph"),
    [
        ([call()], "✓"),
        ([call(Outcome.MISS)], "✓"),
        ([call(Outcome.STALE)], "✓"),
        ([call(), call(Outcome.BYPASS, reason="stateful")], "!"),
        ([call(), call(Outcome.REFUSED, reason="truncated")], "!"),
        ([call(), call(Outcome.UNRECOGNISED)], "!"),
        ([call(), Trouble("L1", "E", "x")], "!"),
        ([Trouble("L1", "E", "x")], "!"),
        ([call(), call(Outcome.BYPASS), call(Outcome.ERROR)], "✗"),
        ([], "n"),
    ],
)
def test_a_cell_that_failed_does_not_look_like_one_that_went_well(events, glyph):
    """One glyph, in text, HTML and data alike, whatever the theme and without any style."""
    shown = bundle(summarise(scope_of(*events)))
    assert shown["text/plain"].startswith(f"llm_cache: {glyph}")
    assert f"<strong>llm_cache</strong> {glyph}" in shown["text/html"]
    assert shown[MIME]["headline"].startswith(glyph)


def test_prices_are_no_mathematics():
    """MathJax 3 (JupyterLab) and 2 (nbconvert) typeset what stands between two `$`, unless it bears their class."""
    shown = summarise(scope_of(call(), call(Outcome.MISS)))
    forms = [bundle(shown), bundle(shown, Progress(1, 2, 3, Decimal(1), None)), bundle(summarise(scope_of()))]
    forms += [Report("spent $1.00, saved $2.00", Table((("$1", "$2"),), ("a", "b")), ("$1 of $2",)).bundle()]
    for form in forms:
        assert form["text/html"].startswith('<div class="genai-cache mathjax_ignore tex2jax_ignore">')
        assert form["text/html"].endswith("</div>")


class Words(HTMLParser):
    """What is read on a page, and the elements in it."""

    def __init__(self, html):
        super().__init__()
        self.text, self.tags = "", set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.text += data


@given(st.text("ab/._- \n<&;\N{SNOWMAN}", max_size=200))
def test_a_long_word_may_wrap_and_is_the_same_word(text):
    """No character is added or lost, and nothing becomes an element but where a line may end."""
    shown = Words(breakable(text))
    assert (shown.text, shown.tags <= {"wbr"}) == (text, True)
    words = text.split()
    assert "wbr" in shown.tags or not any(len(part) > 20 for word in words for part in word.split("-"))
    assert "wbr" not in shown.tags or any(len(word) > 20 for word in words)


def test_what_is_saved_is_short():
    """50 different calls are a line each in the file, and their counts: a diff that can be read."""
    shown = bundle(summarise(scope_of(*(call(input_tokens=n) for n in range(50)))))
    cell = nbformat.v4.new_code_cell(outputs=[nbformat.v4.new_output("display_data", data=shown)])
    assert nbformat.writes(nbformat.v4.new_notebook(cells=[cell])).count("\n") < 120
    assert shown["text/html"].count("<tr>") == 51


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "no model calls"),
        ([call(Outcome.MISS, cost=None)], "spent unknown"),
        ([call(cost=None)], "saved unknown"),
        ([call(Outcome.MISS), call(Outcome.MISS, cost=None)], "spent at least $0.0012 (price of 1 call unknown)"),
        ([call(Outcome.REFUSED, reason="truncated")], "1 miss (1 refused: truncated)"),
        ([call(Outcome.BYPASS, reason="stateful")], "1 bypassed (stateful)"),
        ([call(Outcome.ERROR, reason="rate limit"), call(Outcome.ERROR)], "2 errors (rate limit)"),
        ([call(Outcome.STALE, reason="expired")], "0 hits, 1 miss"),
        ([call(Outcome.MISS, input_tokens=None, output_tokens=None)], "tokens unknown"),
        (
            [call(Outcome.MISS, input_tokens=None, output_tokens=None, cost=ZERO)],
            "spent $0, saved $0 · 0 hits, 1 miss · tokens unknown",
        ),
        ([call(input_tokens=1, output_tokens=1)], "1 token in, 1 out"),
        ([call(), call(input_tokens=None)], "at least 10 tokens in, 10 out"),
        ([CallRecord(Outcome.ERROR, spent_usd=ZERO)], "1 error · spent $0, saved $0 · 0 hits, 0 misses · 0 tokens in"),
    ],
)
def test_what_is_not_plain_is_said(events, said):
    """What is unknown is called unknown and never counts as nothing; reasons stand by their count."""
    assert said in words(*events)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "$0"),
        ("0.000123", "$0.000123"),
        ("0.0000001234", "$0.000000123"),
        ("0.0012", "$0.0012"),
        ("0.01", "$0.0100"),
        ("0.12345", "$0.1235"),
        ("1", "$1.00"),
        ("12.345", "$12.35"),
        ("1234567.891", "$1,234,567.89"),
        ("0E-10", "$0"),
    ],
)
def test_money_keeps_the_digits_that_matter(amount, text):
    """A small amount is never shown as nothing."""
    assert dollars(Decimal(amount)) in {text, text.replace("12.35", "12.34")}


@given(st.decimals(min_value="1e-12", max_value="1e6", allow_nan=False))
def test_no_amount_reads_as_zero(amount):
    """Whatever was spent can be seen."""
    assert any(digit in dollars(amount) for digit in "123456789")


def test_equal_runs_give_equal_bundles_in_any_order():
    """Neither the order in which calls ended nor their latency or entry id shows."""
    calls = [call(input_tokens=n, latency_s=n / 7, entry_id=f"{n:064x}") for n in range(20)]
    calls += [call(Outcome.BYPASS, reason=reason) for reason in ("b", "a", "c")]
    again = [call(input_tokens=n, latency_s=n / 3, entry_id=f"{n + 99:064x}") for n in range(20)]
    again += [call(Outcome.BYPASS, reason=reason) for reason in ("c", "b", "a")]
    random.Random(1).shuffle(again)
    assert json.dumps(bundle(summarise(scope_of(*calls)))) == json.dumps(bundle(summarise(scope_of(*again))))


def test_equal_calls_share_a_row():
    """Three calls that look alike are one row with their sums; what costs stands before what is free."""
    rows = summarise(scope_of(call(), call(Outcome.MISS), call(), call())).rows
    assert [(row.outcome, row.count, row.input_tokens.known) for row in rows] == [("miss", 1, 10), ("hit", 3, 30)]


def test_many_calls_are_grouped():
    """500 different calls are a few rows, and none is lost."""
    calls = [call(input_tokens=n, model=f"model-{n % 3}") for n in range(500)]
    summary = summarise(scope_of(*calls))
    assert [row.count for row in summary.rows] == [167, 167, 166]
    assert summary.more == 0
    alike = summarise(scope_of(*(call(output_tokens=n % 20) for n in range(500))))
    assert [row.count for row in alike.rows] == [500]  # not one for each length of an answer


def test_even_grouped_rows_have_an_end():
    """With 70 models there are 50 rows and a count of the rest."""
    shown = bundle(summarise(scope_of(*(call(model=f"m{n:02}") for n in range(70)))))["text/html"]
    assert shown.count("<tr>") == 1 + MAX_ROWS
    assert "and 20 more calls" in shown


def test_troubles_are_said_without_places():
    """Trouble is named by its part of the package; hosts, users and times are not for a saved notebook."""
    text = f"redis://cache.corp.example:6380/0 refused at 12:30, see {Path.home()}/x"
    shown = bundle(summarise(scope_of(Trouble("L2", "StoreUnavailable", text))))
    (said,) = shown[MIME]["troubles"]
    assert said.startswith("L2: redis://")
    for place in ("corp", "6380", "12:30", str(Path.home())):
        assert place not in json.dumps(shown)


def test_repeated_requests_are_hinted_at():
    """A loop that asked for samples and got one answer is told how to get more."""
    same = call(entry_id="0" * 64)
    (hint,) = bundle(summarise(scope_of(same, same, same)))[MIME]["hints"]
    assert hint.startswith("2 calls asked what another had asked and shared its answer")
    assert "--samples distinct" in hint
    for options in (Options(samples=Samples.DISTINCT), Options(mode=Mode.OFF)):
        assert bundle(summarise(scope_of(same, same, options=options)))[MIME]["hints"] == []


def test_the_mode_is_said_where_it_matters():
    """Anything but plain use is part of the line."""
    assert in_words(summarise(scope_of(options=Options(mode=Mode.REPLAY)))).endswith("mode replay")


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple[str, ...]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, tuple(name if name != "style" else f"{name}: {value}" for name, value in attrs)))
        if tag != "wbr":  # which has no end
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


ALLOWED = {
    ("div", ("class",)), ("div", ("align",)), ("p", ()), ("details", ()), ("summary", ()), ("strong", ()),
    ("table", ()), ("thead", ()), ("tbody", ()), ("tr", ()), ("th", ()), ("td", ()), ("wbr", ()),
    ("div", ("style: overflow-x: auto", "tabindex")),
}  # fmt: skip


@given(st.text(max_size=30), st.text(max_size=30))
def test_html_is_plain_and_escaped(model, reason):
    """No text of others becomes markup; all that a sanitizer finds to strip is by what a wide table is scrolled."""
    named = call(model=f"<i>{model}", reason=f"<b onclick=x>{reason}")
    events = named, call(Outcome.BYPASS, reason="<u>"), Trouble("L1", "E", f"<script>{reason}</script>")
    parser = Tags()
    parser.feed(bundle(summarise(scope_of(*events)))["text/html"])
    assert set(parser.seen) <= ALLOWED
    assert parser.open == []


def test_words_stand_to_the_left_and_numbers_to_the_right():
    """Jupyter's own sheet puts all of a table to the right, where words can't be read down a column."""
    shown = bundle(summarise(scope_of(call(reason="shared a call in flight"))))["text/html"]
    for word in ("outcome", "hit", "model", "gpt-4.1-mini", "why", "shared a call in flight"):
        assert f'<div align="left">{word}</div>' in shown
    for number in ("calls", "tokens in", "10", "out", "5", "spent", "$0", "saved", "$0.0012"):
        assert f">{number}</t" in shown


def test_the_data_is_json_with_money_as_text():
    """The extension's renderer gets exact decimals, and null for what is unknown."""
    data = json.loads(json.dumps(bundle(summarise(scope_of(call(Outcome.MISS), call(cost=None))))[MIME]))
    assert data["totals"]["spent_usd"] == "0.0012"
    assert data["totals"]["saved_usd"] is None
    assert (data["version"], data["hits"], data["misses"]) == (3, 1, 1)
