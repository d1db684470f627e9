"""Runs of several machines are one: by cell the last execution counts; what can be no run of the team is left out."""

from __future__ import annotations

import zlib
from dataclasses import replace
from decimal import Decimal

import orjson
import pytest
from ledgers import KEYS, Machine, Tier

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.ledger import team_runs
from genai_cache_magic.ledger.pages import PageSeal, Place
from genai_cache_magic.ledger.run_rows import RunCall, RunNote, merged
from genai_cache_magic.ledger.sharer import Sharer
from genai_cache_magic.runs import team_pins

NOON_MS = 1_780_228_800_000
CALL = RunCall(
    run="sweep",
    cell="one",
    passing="first",
    digest="d" * 64,
    sample=0,
    entry_id="e" * 64,
    surface="openai.chat",
    model="m",
    outcome="miss",
    asked="json",
    content="",
    day=20_604,
    input_tokens=3,
    spent_usd=Decimal("0.001"),
    person="ann",
    surroundings={"openai": "3.1"},
    at_ms=1_000,
)
SEAL = PageSeal(KEYS)


@pytest.fixture
def tier():
    return Tier()


@pytest.fixture
def machine(tmp_path, tier, monkeypatch):
    """Return a machine by name; nothing is told by itself."""
    monkeypatch.setattr(Sharer, "poke", lambda _: None)
    made = []

    def make(name):
        made.append(Machine(tmp_path / name, tier, lambda: NOON_MS))
        return made[-1]

    yield make
    for one in made:
        one.close()


def note(one, *calls):
    for call in calls:
        one.ledger.books.note_run(RunNote(call, None, Response(200, (), b"{}", Form.JSON)))
    one.ledger.books.flush()


def asked(digest, **more):
    return replace(CALL, digest=digest * 64, **more)


def known(one, name="sweep"):
    """Return what a machine knows of others' calls of a run, as names of digests."""
    return "".join(call.digest[0] for call in one.shared.runs.calls(name)[0])


def test_calls_come_as_they_were_noted(machine):
    """Whole, with their prices, and in a line of the list."""
    a, b = machine("a"), machine("b")
    note(a, CALL, asked("f", cell=""))
    a.tell()
    found, learnt = b.shared.runs.calls("sweep")
    assert {(call.digest[0], call.cell, call.spent_usd) for call in found} == {
        ("d", "one", Decimal("0.001")),
        ("f", "", Decimal("0.001")),
    }
    assert (learnt.trouble, learnt.ignored) == ("", ())
    ((line,),) = b.shared.runs.headlines()[0].values()
    assert (line.name, line.calls, line.spent_usd, line.persons) == ("sweep", 2, Decimal("0.002"), ("ann",))
    assert a.shared.runs.headlines()[0] == {}


def test_a_cell_that_got_shorter(machine, monkeypatch):
    """What it does not ask any more is gone for the others too, however many pages it had."""
    monkeypatch.setattr(team_runs, "_PAGE_BYTES", 100)
    a, b = machine("a"), machine("b")
    note(a, *(asked(digest) for digest in "abc"), asked("f", cell="two"))
    a.tell()
    assert sorted(known(b)) == list("abcf")
    note(a, asked("b", passing="second"))
    a.tell()
    assert sorted(known(b)) == list("bf")
    assert sorted(known(machine("c"))) == list("bf")


def test_only_what_changed_is_told(machine, tier):
    """Another cell's pages, and another run's, are not sent again, by another process neither."""
    a = machine("a")
    note(a, CALL, asked("f", cell="two"), asked("a", run="other"))
    a.tell()
    before = len(tier.puts)
    note(a, asked("b", cell="two"))
    machine("a").tell()
    (_, pages), *_ = [(group, pages) for group, pages in tier.puts[before:] if group == SEAL.key("run", "sweep")]
    assert list(pages) == [SEAL.key("run", "sweep", a.ledger.accounts.ledger_id(), "two", "0")]
    machine("a").tell()
    assert len(tier.puts) == before + 2


def test_what_was_imported_is_told_to_nobody(machine):
    """A file from elsewhere answers only where it was named."""
    a, b = machine("a"), machine("b")
    note(a, replace(CALL, outcome="imported"))
    a.tell()
    assert known(b) == ""
    assert b.shared.runs.headlines()[0] == {}


def test_a_very_large_request_is_known_by_its_digest(machine, monkeypatch):
    """What would fill a page is told without its parts."""
    monkeypatch.setattr(team_runs, "_LARGEST_CALL_BYTES", 1_000)
    a, b = machine("a"), machine("b")
    note(a, replace(CALL, parts={f"body.messages[{n}]": "0" * 16 for n in range(50)}))
    a.tell()
    ((found,), _) = b.shared.runs.calls("sweep")
    assert (found.parts, found.digest) == ({}, CALL.digest)


def test_very_many_runs(machine, monkeypatch):
    """The list is as many pages as it takes."""
    monkeypatch.setattr(team_runs, "_INDEX_ROWS", 3)
    a, b = machine("a"), machine("b")
    note(a, *(replace(CALL, run=f"run {number}") for number in range(8)))
    a.tell()
    assert len(b.shared.runs.headlines()[0]) == 8


def in_time(*calls):
    return "".join(call.digest[0] for call in merged(calls))


def test_of_a_cell_the_last_execution_counts():
    """On whichever machine it was; what one execution asked on several machines stays together."""
    mine = [asked("a"), asked("b", at_ms=2_000)]
    theirs = [asked("c", passing="second", at_ms=3_000), asked("a", passing="second", at_ms=4_000)]
    assert in_time(*mine, *theirs) == in_time(*theirs, *mine) == "ca"
    assert in_time(*mine, asked("f", at_ms=1_500)) == "afb"
    assert in_time(*mine, asked("f", cell="two", passing="third", at_ms=1)) == "fab"


def test_of_what_was_asked_twice_the_last_counts():
    """Also where there are no cells, so that nothing is replaced as a whole."""
    one, other = (
        asked("a", cell="", passing=p, at_ms=at, outcome=o) for p, at, o in (("x", 1, "miss"), ("y", 2, "hit"))
    )
    assert [call.outcome for call in merged([other, one])] == ["hit"]
    assert in_time(one, asked("b", cell="", passing="z", at_ms=3)) == "ab"


WRONG = {
    "no call": ["one", 0, 1, "x"],
    "no cell": [0, 1],
    "nothing": [],
    "another run": ["one", 0, 1, replace(CALL, run="other").as_fields()],
    "another cell": ["two", 0, 1, CALL.as_fields()],
    "no number": ["one", "0", 1, CALL.as_fields()],
    "no amount": ["one", 0, 1, {**CALL.as_fields(), "spent_usd": "NaN"}],
    "an amount without an end": ["one", 0, 1, {**CALL.as_fields(), "spent_usd": "1" * 1_000}],
    "a sum beyond all": ["one", 0, 1, {**CALL.as_fields(), "spent_usd": "9E+999999"}],
    "a million digits": ["one", 0, 1, {**CALL.as_fields(), "saved_usd": "0E-999999"}],
    "no tokens": ["one", 0, 1, {**CALL.as_fields(), "input_tokens": -1}],
    "no text": ["one", 0, 1, {**CALL.as_fields(), "model": None}],
    "a text without an end": ["one", 0, 1, {**CALL.as_fields(), "model": "m" * 20_000}],
    "no parts": ["one", 0, 1, {**CALL.as_fields(), "parts": [1]}],
    "half a call": ["one", 0, 1, {"run": "sweep", "cell": "one"}],
    "one of two": ["one", 0, 1, CALL.as_fields(), {}],
}


def forged(tier, key, **changes):
    """Let a page of our own key say something else."""
    group = tier.inner.groups[key]
    ((name, (page, _)),) = group.items()
    place = Place(key, name)
    bound, seal = f"page {place.group} {place.name}".encode(), ColumnSeal(KEYS.mac_key)
    said = orjson.loads(zlib.decompress(seal.open(page.blob, place=bound)))
    blob = seal.seal(zlib.compress(orjson.dumps({**said, "serial": 2**61, **changes})), place=bound)
    tier.inner.put(key, {name: blob}, ttl_s=60)


@pytest.mark.parametrize("rows", WRONG.values(), ids=WRONG)
def test_rows_that_can_be_no_calls_are_ignored_with_a_reason(machine, tier, rows):
    """The page as a whole."""
    a, b = machine("a"), machine("b")
    note(a, CALL)
    a.tell()
    forged(tier, SEAL.key("run", "sweep"), rows=rows)
    found, learnt = b.shared.runs.calls("sweep")
    assert (found, learnt.ignored) == ([], ("no page of this format",))


def test_what_a_newer_version_says_of_a_call_beside_is_passed_over(machine, tier):
    """A call of its is one of ours."""
    a, b = machine("a"), machine("b")
    note(a, CALL)
    a.tell()
    forged(tier, SEAL.key("run", "sweep"), rows=["one", 0, 1, {**CALL.as_fields(), "mood": "good"}])
    assert known(b) == "d"


@pytest.mark.parametrize(
    "row",
    [
        None,
        [],
        {},
        {"name": 1},
        {"calls": "many"},
        {"first": 10**9, "last": 10**9},
        {"first": 5, "last": 4},
        {"spent_usd": "Infinity"},
        {"spent_usd": None},
        {"spent_usd": "9E+999999"},
        {"saved_usd": "1E-999999"},
        {"models": 5},
        {"models": [5]},
        {"persons": [None]},
        {"surroundings": {"a": 1}},
        {"surroundings": 5},
    ],
)
def test_a_line_that_can_be_none_is_left_out(machine, tier, row):
    """And takes no other with it."""
    a, b = machine("a"), machine("b")
    note(a, CALL)
    a.tell()
    ((line,),) = b.shared.runs.headlines()[0].values()
    told = {**team_runs._line(line), **row} if row else row
    forged(tier, SEAL.key("runs"), rows=[told, team_runs._line(replace(line, name="whole"))])
    assert list(machine("c").shared.runs.headlines()[0]) == ["whole"]


def test_a_page_is_of_its_run_and_place(machine, tier):
    """Put under another run, or another list, it is nothing."""
    a, b = machine("a"), machine("b")
    note(a, CALL)
    a.tell()
    for group, (page, _) in [(g, next(iter(pages.values()))) for g, pages in tier.inner.groups.items() if pages]:
        for key in (SEAL.key("run", "other"), SEAL.key("runs"), SEAL.key("run", "sweep")):
            if key != group:
                tier.inner.put(key, {"0" * 64: page.blob}, ttl_s=60)
    assert known(b, "other") == ""
    assert known(b) == "d"
    found, learnt = b.shared.runs.headlines()
    assert list(found) == ["sweep"]
    assert len(learnt.ignored) == 1


def test_offline_runs_are_as_they_were_known(machine, tier):
    """With the reason, and the time at which the team was last asked."""
    a, b = machine("a"), machine("b")
    note(a, CALL)
    a.tell()
    assert known(b) == "d"
    tier.is_away = True
    found, learnt = machine("b").shared.runs.calls("sweep")
    assert [call.digest for call in found] == [CALL.digest]
    assert (learnt.trouble, learnt.known_at_ms) == ("the tier can't be reached", NOON_MS)
    tier.is_away = False


WELL = ["sweep", True, "a" * 64, 3, "digest"]


@pytest.mark.parametrize(
    "rows",
    [
        [],
        WELL[:4],
        [*WELL, 1],
        [1, *WELL[1:]],
        ["sweep", 1, *WELL[2:]],
        ["sweep", True, "../" + "a" * 61, 3, "digest"],
        ["sweep", True, "a" * 64, 0, "digest"],
        ["sweep", True, "a" * 64, 10**6, "digest"],
        ["sweep", True, "a" * 64, True, "digest"],
        ["sweep", True, "a" * 64, 3, None],
    ],
)
def test_what_can_be_no_pin_is_none(rows):
    """A page of another shape pins nothing, and is asked for no parts."""
    name, pin = team_pins._pin(WELL, 7)
    assert (name, pin.serial, pin.is_pinned, pin.ident, pin.parts) == ("sweep", 7, True, "a" * 64, 3)
    assert team_pins._pin(rows, 7) is None
