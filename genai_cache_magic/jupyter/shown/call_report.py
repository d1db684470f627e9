"""A call report: what a cell asked and what came of it, as the JSON that is saved with it (`spec/report.md`).

It is read by `static/cell_status.js`, and by a server that resolves its entry ids. It holds no clock, latency, age,
host, path, key or prompt, and depends on nothing but what was asked and how it was answered.
"""

from __future__ import annotations

import json
from decimal import Context
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.events import SERVED
from genai_cache_magic.jupyter.shown.summary import kind_of, short
from genai_cache_magic.jupyter.shown.words import in_words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from decimal import Decimal

    from genai_cache_magic.events import CallRecord
    from genai_cache_magic.jupyter.shown.summary import Amount, Row, Summary

MIME: Final = "application/vnd.genai-cache.cell+json"
VERSION: Final = 3
PREFIX_DIGITS: Final = 16
"""What is saved of an entry id [hex digits]."""
MAX_BYTES: Final = 62 * 1024
"""Room for what stands under a cell, in a saved notebook [bytes]; a call takes about 40 of it."""
_CALLS_A_LINE = 16
_INDENTATION = 16  # of a line in a saved notebook, its quotes and comma included [bytes]
_KIND_BYTES = 120  # what the object of a kind takes beside its texts and calls: brackets, indentation
_UNKNOWN = "-"
_SIX_DIGITS = Context(prec=6)


def as_json(summary: Summary, *, beside: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the report of a cell. Money is a decimal text [USD]; null is unknown.

    `beside` are the texts that are saved with it. What all of it takes has an end (`MAX_BYTES`): calls that there is no
    room for are counted.
    """
    report = {
        "version": VERSION,
        "headline": in_words(summary),
        "mode": summary.options.mode.value,
        "run": short(summary.options.run),
        "tags": [short(tag) for tag in summary.options.tags],
        "hits": summary.hits,
        "misses": summary.misses,
        "bypassed": summary.bypassed,
        "refused": summary.refused,
        "errors": summary.errors,
        "open": summary.open,
        "unrecognised": dict(summary.unrecognised),
        "totals": _totals(summary.totals) if summary.totals else None,
        "kinds": [],
        "troubles": list(summary.troubles),
        "hints": list(summary.hints),
    }
    if summary.foreseen is not None:
        report["estimate"] = in_words(summary).partition(" ")[2]  # the view draws the glyph
    room = MAX_BYTES - saved_bytes(report) - sum(map(saved_bytes, beside))
    report["kinds"], more = _kinds(summary.calls, room)
    rare = {"store": summary.store, "similar": summary.similar, "not_stored": summary.not_stored, "more": more}
    return {**report, **{name: value for name, value in rare.items() if value}}


def saved_bytes(value: object) -> int:
    """Return at least what `value` takes in a saved notebook [bytes]."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    return len(text.encode("utf-8", "surrogatepass")) + _INDENTATION * (text.count("\n") + text.count("\\n") + 1)


def _kinds(calls: Iterable[CallRecord], room: int) -> tuple[list[dict[str, Any]], int]:
    """Return the calls by kind, as many as there is `room` for [bytes], and the number of the others."""
    kinds: list[dict[str, Any]] = []
    more = 0
    for (outcome, provider, model, tier, reason), group in groupby(calls, key=kind_of):
        named = {"outcome": outcome.value, "tier": tier.value if tier else "", "provider": provider, "model": model}
        kind: dict[str, Any] = {name: text for name, text in {**named, "reason": reason}.items() if text}
        packed = [_packed(call) for call in group]
        room -= _KIND_BYTES + saved_bytes(kind)
        fitting = _fitting(packed, room)
        more += len(packed) - len(fitting)
        room -= _taken(fitting)
        if fitting:
            lines = ["; ".join(fitting[at : at + _CALLS_A_LINE]) for at in range(0, len(fitting), _CALLS_A_LINE)]
            kinds.append({**kind, "calls": lines})
    return kinds, more


def _packed(call: CallRecord) -> str:
    """Return ``ENTRY IN OUT USD [CACHED [SAMPLE [GIVEN]]]``."""
    usd = call.saved_usd if call.outcome in SERVED else call.spent_usd
    known = [_whole(call.input_tokens), _whole(call.output_tokens), _UNKNOWN if usd is None else _brief(usd)]
    asked, given = call.entry_id[:PREFIX_DIGITS], call.answer_id[:PREFIX_DIGITS]
    rare = [str(call.cached_input_tokens), str(call.sample), "0" if given == asked else given]
    while rare and rare[-1] == "0":
        rare.pop()
    return " ".join([asked or _UNKNOWN, *known, *rare])


def _fitting(packed: list[str], room: int) -> list[str]:
    """Return the first of `packed` that fit into `room` [bytes]."""
    for count, call in enumerate(packed):
        room -= _room_of(call)
        if room < 0:
            return packed[:count]
    return packed


def _taken(packed: Iterable[str]) -> int:
    return sum(map(_room_of, packed))


def _room_of(call: str) -> int:
    return len(call) + 2 + _INDENTATION // _CALLS_A_LINE + 1


def _brief(usd: Decimal) -> str:
    """Return money to six significant digits, such as ``0.000840812`` or ``1.2E-7``; the totals are exact."""
    return "0" if usd == 0 else f"{+_SIX_DIGITS.create_decimal(usd).normalize()}"


def _whole(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)


def _totals(row: Row) -> dict[str, Any]:
    totals: dict[str, Any] = {
        "input_tokens": _int(row.input_tokens),
        "cached_input_tokens": row.cached_input_tokens,
        "output_tokens": _int(row.output_tokens),
        "spent_usd": _usd(row.spent),
        "saved_usd": _usd(row.saved),
    }
    for name, sum_ in (("spent", row.spent), ("saved", row.saved)):
        if sum_.unknown and not sum_.is_unknown:
            totals[f"{name}_at_least_usd"] = f"{sum_.known:f}"
    return totals


def _int(amount: Amount) -> int | None:
    return None if amount.unknown else int(amount.known)


def _usd(amount: Amount) -> str | None:
    return None if amount.unknown else f"{amount.known:f}"
