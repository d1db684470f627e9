"""The report for a team: the numbers that `usage` gives, on one page that needs nothing and lets nothing in."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser

import openai
import pytest
from commands import run_command  # noqa: F401 - a fixture

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.api.team_report import facts_of
from genai_cache_magic.events import CallRecord, Outcome, Tier
from genai_cache_magic.jupyter.shown.report_page import page
from genai_cache_magic.jupyter.shown.usage import usage_table
from genai_cache_magic.ledger.usage import TeamPart

NASTY = '"><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>'
TAGS = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "main",
        "header",
        "footer",
        "section",
        "h1",
        "h2",
        "p",
        "small",
    ),
    *(
        "dl",
        "div",
        "dt",
        "dd",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "details",
        "summary",
        "span",
        "i",
        "ul",
        "li",
    ),
    *("code", "svg", "g", "path", "rect", "text"),
}


@pytest.fixture(autouse=True)
def _own(isolated, monkeypatch):
    """Every test has a cache of its own."""
    monkeypatch.setenv("GENAI_CACHE_PERSON", "anna-the-person")


@pytest.fixture
def called(server, monkeypatch):
    """Real calls of a run: misses, hits, one whose price nobody knows."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.openai_url: "openai"}))
    reset_session()
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        for _ in range(2):
            with llm_cache(tags=("kept",), run="sweep"):
                for model in ("gpt-4.1-mini", "gpt-4.1", "nobody-knows"):
                    asked = [{"role": "user", "content": "a canaryprompt"}]
                    client.chat.completions.create(model=model, messages=asked)
    reset_session()


class Read(HTMLParser):
    """What a page holds: its tags with their attributes, its tables by their headings, and what stands there."""

    def __init__(self, html):
        super().__init__()
        self.found, self.tables, self._heading, self._row, self._text = [], {}, "", None, None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag in ("h2", "td", "th"):
            self._text = ""
        elif tag == "tr":
            self._row = []

    def handle_endtag(self, tag):
        if tag == "h2":
            self._heading = self._text
        elif tag in ("td", "th"):
            self._row.append(self._text)
        elif tag == "tr":
            self.tables.setdefault(self._heading, []).append(tuple(self._row))
        else:
            return
        self._text = None

    def handle_data(self, data):
        if self._text is not None:
            self._text += data


def noted(cache, **fields):
    """Put calls into the books that nobody made."""
    run, person = fields.pop("run", ""), fields.pop("person", "")
    cache.ledger.books.note(CallRecord(**fields), run=run, person=person)


@pytest.mark.parametrize(
    ("heading", "by"), [("By day", "day"), ("By model", "model"), ("By run", "run"), ("By person", "person")]
)
def test_the_numbers_are_those_of_usage(called, run, isolated, heading, by):
    """Each table of the page holds what `usage` says, row by row, and the command's JSON is that of `usage`."""
    code, out, _ = run("report", "-o", "r.html", "--persons", "--json")
    assert code == 0
    usage = json.loads(run("usage", "--by", by, "--json")[1])
    assert json.loads(out)["usage"][by] == usage
    (header, *rows) = Read((isolated / "home" / "r.html").read_text()).tables[heading]
    with create_cache() as cache:
        table = usage_table(cache.usage("30d", "today", by=by))
    assert header == (*table.header, "hit rate")
    assert [row[:-1] for row in rows] == list(table.rows)
    assert [row[-1] for row in rows] == [f"{r['hits'] / (r['hits'] + r['misses']):.0%}" for r in usage["rows"]]


def test_calls_of_no_run_are_called_so(isolated):
    """Where no call has one, too: no column stands there without a name."""
    with create_cache() as cache:
        noted(cache, outcome=Outcome.MISS, provider="openai", model="m", spent_usd=Decimal(1), saved_usd=Decimal(0))
        tables = Read(page(facts_of(cache, "30d"))).tables
    header, *rows = tables["By run"]
    assert header[0] == "run"
    assert [row[0] for row in rows] == ["(no run)"]


def test_all_of_it_is_told_of_the_same_calls(isolated, monkeypatch):
    """Somebody else's calls end while the report is made: no table holds one that another lacks."""
    with create_cache() as cache:
        read = cache.ledger.accounts.between

        def called_meanwhile(first, last):
            found = read(first, last)
            noted(cache, outcome=Outcome.MISS, provider="openai", model="m", run="r", person="p")
            return found

        noted(cache, outcome=Outcome.MISS, provider="openai", model="m", run="r", person="p")
        monkeypatch.setattr(cache.ledger.accounts, "between", called_meanwhile)
        facts = facts_of(cache, "30d", has_persons=True)
    counted = [(found.total.misses, *(row.misses for row in found.rows)) for found in facts.usage.values()]
    assert counted == [(1, 1)] * 4
    assert (facts.used.misses, [row.misses for row in facts.used.models]) == (1, [1])


def test_advice_is_on_the_days_of_the_report(run, isolated):
    """What was seen after its last day is not in it, as it is in no table."""
    with create_cache() as cache:
        for _ in range(2):  # what was stored is asked for again, so it was evicted
            noted(cache, outcome=Outcome.MISS, model="m", entry_id="a" * 64, stored=True)
            cache.ledger.books.flush()
            cache.ledger.books.count()
    said = {}
    for until in ("today", "yesterday"):
        said[until] = json.loads(run("report", "-o", "r.html", "--until", until, "--json")[1])
    assert [one["about"] for one in said["today"]["advice"]] == ["eviction"]
    assert said["yesterday"]["advice"] == said["yesterday"]["stats"]["reasons"] == []


def test_what_is_there_to_see(called, run, isolated):
    """Latencies by tier, what is read most, the reasons of misses, and the sum in words."""
    assert run("report", "-o", "r.html")[0] == 0
    html = (isolated / "home" / "r.html").read_text()
    tables = Read(html).tables
    assert {row[0] for row in tables["How long calls took"][1:]} == {"L1", "model"}
    assert len(tables["Answers that are read most"]) == 4
    assert tables["Why models were asked"][1][:2] == ("not in the cache", "3")
    assert "3 hits, 3 misses" in html
    assert "<dd>50%<small>3 of 6 calls</small></dd>" in html
    assert "nothing was seen that could be otherwise" in html


def test_nobody_is_named_unless_that_is_asked_for(called, run, isolated):
    """People are told apart only with --persons; prompts and answers never stand in it."""
    run("report", "-o", "r.html")
    run("report", "-o", "named.html", "--persons")
    pages = [(isolated / "home" / name).read_text() for name in ("r.html", "named.html")]
    assert ["anna-the-person" in text for text in pages] == [False, True]
    assert not any("canaryprompt" in text for text in pages)


def test_whatever_others_named_is_text():
    """Models, runs and people with markup in their names: no tag, attribute or address of theirs is in the page."""
    with create_cache() as cache:
        for outcome in (Outcome.HIT, Outcome.MISS):
            noted(
                cache, outcome=outcome, tier=Tier.L1, provider=NASTY, model=NASTY, run=NASTY, person=NASTY,
                spent_usd=Decimal(1), saved_usd=Decimal(1), entry_id="a" * 64, stored=True,
            )  # fmt: skip
        cache.set(NASTY, "v", tags=(NASTY,))
        cache.get(NASTY)
        html = page(facts_of(cache, "30d", has_persons=True))
    read = Read(html)
    assert {tag for tag, _ in read.found} <= TAGS
    assert not any(
        name.startswith("on") or name in ("src", "href", "style") for _, given in read.found for name in given
    )
    assert read.tables["By model"][1][0].startswith('"><script>alert(1)')


def test_the_page_needs_and_lets_in_nothing(called):
    """Its policy allows its own style by its digest and nothing else; no address stands in any attribute."""
    with create_cache() as cache:
        html = page(facts_of(cache, "30d"))
    read = Read(html)
    (policy,) = [given["content"] for tag, given in read.found if given.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "script" not in {tag for tag, _ in read.found}
    assert "svg" in {tag for tag, _ in read.found}  # drawn in the page itself: its policy lets no image in
    named = [
        value for _, given in read.found for name, value in given.items() if value and "//" in value and name != "xmlns"
    ]
    assert named == []
    assert "url(" not in style


def test_an_empty_report_says_so(run, isolated):
    """Without a call there are no tables, and a sentence says what to do."""
    code, out, err = run("report", "-o", "r.html")
    assert (code, err) == (0, "")
    assert out.endswith("written to r.html\n")
    html = (isolated / "home" / "r.html").read_text()
    assert Read(html).tables == {}
    assert "Nothing was called in these days" in html


def test_what_is_of_one_machine_says_so_in_a_teams_report(called):
    """Where sums are of a team, what `stats` and `optimize` know of this machine alone is called that."""
    with create_cache() as cache:
        facts = facts_of(cache, "30d")
    part = TeamPart(3, facts.whole.total)
    of_team = replace(facts, usage={by: replace(found, team=part) for by, found in facts.usage.items()})
    headings = set(Read(page(of_team)).tables)
    assert {"By model", "On this machine: how long calls took"} <= headings
    assert "of 3 machines" in page(of_team)
    assert "On this machine: what could be otherwise" in page(of_team)


def test_many_rows_are_cut():
    """A year of runs makes no page that nobody can open: what is left out is counted."""
    with create_cache() as cache:
        for number in range(250):
            noted(cache, outcome=Outcome.HIT, run=f"run {number}")
        html = page(facts_of(cache, None))
    assert len(Read(html).tables["By run"]) == 201
    assert "and 50 more rows" in html


def test_a_hundred_thousand_calls():
    """Not one is lost, and the page does not grow with them."""
    calls, runs = 100_000, 500
    with create_cache() as cache:
        for number in range(calls):
            noted(cache, outcome=Outcome.HIT if number % 4 else Outcome.MISS, run=f"run {number % runs}")
            if number % 5_000 == 0:
                cache.ledger.books.flush()  # what waits to be counted takes room
        facts = facts_of(cache, None)
    assert (facts.whole.total.hits, facts.whole.total.misses) == (calls * 3 // 4, calls // 4)
    assert len(page(facts)) < 200_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "no/such/place/r.html"], "a directory that is there"),
        (["-o", "."], "-o"),
        (["--since", "soon"], "soon"),
        (["--team"], "there is no team here"),
        (["-o", "-", "--json"], "both"),
    ],
)
def test_what_can_not_be_written_is_one_line(run, isolated, arguments, said):
    """Exit code 2, one line with the fix, and nothing is left behind."""
    code, out, err = run("report", *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert list((isolated / "home").glob(".*.new")) == []


def test_a_page_is_printed_or_written_anew(called, run, isolated):
    """`-o -` prints the page; a file that is there is replaced."""
    (isolated / "home" / "r.html").write_text("an old one")
    run("report", "-o", "r.html")
    assert run("report", "-o", "-")[1] == (isolated / "home" / "r.html").read_text()


@pytest.mark.skipif(os.name == "nt", reason="links take a right of their own there")
def test_no_link_is_followed_where_the_page_is_written(run, isolated):
    """Where others may write too, what they put in the way of a draft leads nowhere."""
    folder, victim = isolated / "home", isolated / "victim"
    victim.write_text("mine")
    for name in (f".r.html.{os.getpid()}.new", ".r.html.new"):
        (folder / name).symlink_to(victim)
    assert run("report", "-o", "r.html")[0] == 0
    assert victim.read_text() == "mine"
    assert (folder / "r.html").is_file()
    assert not (folder / "r.html").is_symlink()
