"""The call report that is saved with a notebook: of the form that is specified, small, and equal for equal runs."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import jsonschema
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.core.options import Options
from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble
from genai_cache_magic.jupyter.shown.badge import bundle
from genai_cache_magic.jupyter.shown.call_report import MIME
from genai_cache_magic.jupyter.shown.summary import summarise

SCHEMA = json.loads((Path(__file__).parents[2] / "spec" / "report.schema.json").read_text(encoding="utf-8"))
LIMIT = 64 * 1024
MONEY = st.none() | st.decimals(min_value=0, max_value=1000, places=12)
TOKENS = st.none() | st.integers(min_value=0, max_value=10**9)
RECORDS = st.builds(
    CallRecord,
    st.sampled_from(Outcome),
    tier=st.none() | st.sampled_from(Tier),
    stored=st.booleans(),
    reason=st.text(max_size=300),
    provider=st.text(max_size=300),
    model=st.text(max_size=300),
    input_tokens=TOKENS,
    cached_input_tokens=st.integers(min_value=0, max_value=10**6),
    output_tokens=TOKENS,
    spent_usd=MONEY,
    saved_usd=MONEY,
    latency_s=st.floats(min_value=0, max_value=100),
    sample=st.integers(min_value=0, max_value=50),
    entry_id=st.sampled_from(["", "0f" * 32, "a7" * 32]),
    similar_to=st.sampled_from(["", "0f" * 32, "b8" * 32]),
)


def scope_of(*events, tags=(), store="77aa0011bb22cc33"):
    scope = CellScope(Options(tags=tags))
    scope.store = store
    for event in events:
        scope.emit(event)
    return scope


def report_of(*events, **how):
    return json.loads(json.dumps(bundle(summarise(scope_of(*events, **how)))[MIME]))


def fetched(number=0, **more):
    facts = {"provider": "openai.chat", "model": "gpt-4.1-mini", "input_tokens": 900 + number, "output_tokens": 200}
    facts |= {"spent_usd": Decimal("0.0008408123"), "saved_usd": Decimal(0), "stored": True}
    return CallRecord(**{"outcome": Outcome.MISS, **facts, "entry_id": f"{number:032x}{0:032x}", **more})


def saved_bytes(shown):
    """What a bundle adds to a saved notebook [bytes]."""
    code = nbformat.v4.new_code_cell
    outputs = [[], [nbformat.v4.new_output("display_data", data=shown)]]
    texts = [nbformat.writes(nbformat.v4.new_notebook(cells=[code(id="a", outputs=output)])) for output in outputs]
    return len(texts[1].encode()) - len(texts[0].encode())


@given(st.lists(RECORDS, max_size=30))
def test_what_is_written_is_what_is_specified(records):
    """Whatever was asked and however it is called, the schema takes it."""
    jsonschema.Draft202012Validator(SCHEMA).validate(report_of(*records))


@given(st.lists(RECORDS, max_size=8), st.randoms(use_true_random=False))
def test_the_order_in_which_calls_end_is_not_in_it(records, chance):
    """Nor how long they took."""
    again = [replace(record, latency_s=1.5) for record in records]
    chance.shuffle(again)
    assert json.dumps(report_of(*records)) == json.dumps(report_of(*again))


def test_a_call_is_there_with_what_the_view_shows():
    """Entry, tokens, money, what the provider had cached, sample; and of what kind it is."""
    facts = {"input_tokens": 1034, "output_tokens": 267, "cached_input_tokens": 512, "sample": 2}
    hit = fetched(outcome=Outcome.HIT, tier=Tier.L1, saved_usd=Decimal("0.0012345678"), **facts)
    assert report_of(hit)["kinds"] == [
        {
            "outcome": "hit",
            "provider": "openai.chat",
            "model": "gpt-4.1-mini",
            "calls": ["0000000000000000 1034 267 0.00123457 512 2"],
        },
    ]


def test_the_id_under_which_a_similar_answer_lies_is_there():
    """Last of all, and of a call alone that was given the answer to another question."""
    facts = {"input_tokens": 1034, "output_tokens": 267, "saved_usd": Decimal("0.001"), "outcome": Outcome.SIMILAR}
    similar = fetched(1, **facts, similar_to="a7" * 32)
    own = fetched(2, **{**facts, "outcome": Outcome.HIT})
    assert [kind["calls"] for kind in report_of(similar, own)["kinds"]] == [
        ["0000000000000000 1034 267 0.001 0 0 a7a7a7a7a7a7a7a7"],
        ["0000000000000000 1034 267 0.001"],
    ]
    sampled = report_of(replace(similar, sample=3, cached_input_tokens=5))
    assert sampled["kinds"][0]["calls"] == ["0000000000000000 1034 267 0.001 5 3 a7a7a7a7a7a7a7a7"]
    other = replace(similar, similar_to="b8" * 32)
    assert report_of(similar, other) == report_of(other, similar)


def test_where_the_cache_found_an_answer_is_not_saved():
    """What came from the team's tier the first time, and from this machine the second, is saved as the same bytes."""
    runs = [
        [fetched(n, outcome=Outcome.HIT, tier=tier, saved_usd=Decimal(1)) for n, tier in enumerate(tiers)]
        for tiers in ([Tier.L2, Tier.L1, Tier.L2], [Tier.L1, Tier.L1, Tier.L1], [Tier.L1, Tier.L2, Tier.L2])
    ]
    first, *others = (json.dumps(bundle(summarise(scope_of(*calls)))) for calls in runs)
    assert others == [first, first]
    assert not re.search(r"\bL[12]\b", first)
    shelved = fetched(outcome=Outcome.HIT, tier=Tier.FILE)
    assert report_of(shelved)["kinds"][0]["tier"] == "file"


def test_an_entry_id_is_never_whole():
    """16 of its 64 digits are saved, in every form of the bundle; nor is that of the entry whose answer was given."""
    ids = [secrets.token_hex(32) for _ in range(20)]
    calls = [fetched(entry_id=one, similar_to=other) for one, other in zip(ids[::2], ids[1::2], strict=True)]
    shown = json.dumps(bundle(summarise(scope_of(*calls))))
    assert all(one[:16] in shown for one in ids)
    assert not any(one[:17] in shown for one in ids)


def test_what_is_not_in_the_cache_is_counted():
    """Answers that were refused, and those that could not or must not be kept."""
    refused = fetched(1, stored=False, outcome=Outcome.REFUSED)
    report = report_of(fetched(2), fetched(3, stored=False, reason="mode read"), refused)
    assert (report["misses"], report["not_stored"]) == (3, 2)
    assert "not_stored" not in report_of(fetched(2))


def test_a_thousand_calls_take_less_than_64_kib_and_none_is_lost():
    """Ordinary ones: different entries, tokens and prices."""
    calls = [fetched(number, entry_id=secrets.token_hex(32)) for number in range(1000)]
    shown = bundle(summarise(scope_of(*calls, tags=("baseline",))))
    assert saved_bytes(shown) < LIMIT
    assert "more" not in shown[MIME]
    assert sum(line.count(";") + 1 for line in shown[MIME]["kinds"][0]["calls"]) == 1000


LONG = {
    "quoted": '"<\\' * 200,
    "of three bytes": "€" * 400,
    "of lines": "\n" * 400,
    "half a pair": "\ud800" * 300,
}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
@pytest.mark.parametrize("outcome", [Outcome.HIT, Outcome.UNRECOGNISED])
def test_whatever_things_are_called_there_is_an_end(text, outcome):
    """Models, reasons, tags and hosts have long names; calls without room are counted."""
    many = 10**12
    numbers = {
        "input_tokens": many,
        "output_tokens": many,
        "cached_input_tokens": many,
        "saved_usd": Decimal("1.23E-5"),
        "similar_to": "b8" * 32,
    }
    calls = [
        CallRecord(outcome, reason=f"{n}{text}", provider=f"{n}{text}", model=f"{n % 60}{text}", sample=n, **numbers)
        for n in range(1000)
    ]
    troubles = [Trouble("L2", "E", f"{n}{text}") for n in range(20)]
    shown = bundle(summarise(scope_of(*calls, *troubles, tags=tuple(f"{n}{text}"[:200] for n in range(16)))))
    assert saved_bytes(shown) < LIMIT
    kept = sum(line.count(";") + 1 for kind in shown[MIME]["kinds"] for line in kind["calls"])
    assert kept + shown[MIME].get("more", 0) == 1000


def test_no_day_is_saved():
    """On which an answer expired is told by `explain`."""
    stale = CallRecord(Outcome.STALE, reason="expired on 2026-05-01", model="m", provider="p")
    shown = json.dumps(bundle(summarise(scope_of(stale))))
    assert "expired" in shown
    assert not re.search(r"\d{4}-\d\d", shown)


@pytest.mark.parametrize(
    "message",
    [
        "the directory /srv/team cache/llm is full",
        "can't write ~/clients/acme/cache: free some room",
        "C:\\Users\\kim\\cache is not private",
        "redis://cache.corp.example:6380/0 refused, see /var/lib/acme/log",
        "https://acme.blob.core.windows.net/container answered 403",
        "file '/home/kim/.config/acme/keys': mode 0644",
    ],
)
def test_no_place_is_saved(message):
    """A trouble names no path and no host of anybody's."""
    (said,) = report_of(Trouble("L1", "E", message))["troubles"]
    assert not re.search(r"acme|kim|corp|srv|6380|Users", said)
    assert said.startswith("L1: ")


@pytest.mark.parametrize(
    "message", ["read and/or write failed", "3 tokens in / 4 out", "a ratio of 1/2 is low", "it is 50 % full"]
)
def test_what_is_no_place_stays(message):
    """Words with a slash are words."""
    assert report_of(Trouble("L1", "E", message))["troubles"] == [f"L1: {message}"]


def test_a_cache_that_nobody_else_can_reach_has_no_fingerprint():
    """One in memory."""
    assert "store" not in report_of(fetched(), store="")
    assert report_of(fetched())["store"] == "77aa0011bb22cc33"
