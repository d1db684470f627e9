"""What stands under a cell: one static bundle that needs no kernel, no trust, no script and no style.

The front end's sanitizer strips styles and colours from untrusted notebooks, so it is words and a table,
in the colours of the theme. Everything that an SDK, a server or a user named is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from genai_cache_magic.jupyter.report import Table, paragraphs
from genai_cache_magic.jupyter.words import counted, in_words, money, tokens

if TYPE_CHECKING:
    from genai_cache_magic.jupyter.summary import Amount, Row, Summary

MIME = "application/vnd.genai-cache.cell+json"
VERSION = 2
TITLE = "llm_cache"
_NUMBERS = frozenset({"calls", "tokens in", "provider-cached", "out", "spent", "saved"})


def bundle(summary: Summary) -> dict[str, Any]:
    """Return the badge: data for our own renderer, HTML for any browser, text for a terminal."""
    return {MIME: as_json(summary), "text/html": as_html(summary), "text/plain": as_text(summary)}


def as_text(summary: Summary) -> str:
    """Return the badge as lines of text."""
    return "\n".join([f"{TITLE}: {in_words(summary)}", *summary.troubles, *summary.hints])


def as_html(summary: Summary) -> str:
    """Return the badge as HTML; the table of calls is folded away."""
    headline = f"<strong>{TITLE}</strong> {escape(in_words(summary))}"
    notes = paragraphs([*summary.troubles, *summary.hints])
    if not summary.rows:
        return f'<div class="genai-cache"><p>{headline}</p>{notes}</div>'
    more = f"<p>and {counted(summary.more, 'more call')}</p>" if summary.more else ""
    table = f"<details><summary>{headline}</summary>{_table(summary).as_html()}{more}</details>"
    return f'<div class="genai-cache">{table}{notes}</div>'


def as_json(summary: Summary) -> dict[str, Any]:
    """Return the badge as data. Money is a decimal text [USD]; null is unknown.

    Counts alone: it is saved with the notebook, where each number is a line of a diff. The calls are in the HTML, a
    line each.
    """
    totals = summary.totals
    return {
        "version": VERSION,
        "headline": in_words(summary),
        "mode": summary.options.mode.value,
        "run": summary.options.run,
        "tags": list(summary.options.tags),
        "hits": summary.hits,
        "misses": summary.misses,
        "bypassed": summary.bypassed,
        "refused": summary.refused,
        "errors": summary.errors,
        "open": summary.open,
        "unrecognised": dict(summary.unrecognised),
        "totals": _json_numbers(totals) if totals else None,
        "troubles": list(summary.troubles),
        "hints": list(summary.hints),
    }


def _table(summary: Summary) -> Table:
    columns = {
        "calls": [f"{row.count:,}" for row in summary.rows],
        "outcome": [f"{row.outcome.value} {row.tier}".rstrip() for row in summary.rows],
        "model": [row.model or row.provider for row in summary.rows],
        "tokens in": [tokens(row.input_tokens) for row in summary.rows],
        "provider-cached": [f"{row.cached_input_tokens:,}" if row.cached_input_tokens else "" for row in summary.rows],
        "out": [tokens(row.output_tokens) for row in summary.rows],
        "spent": [money(row.spent) for row in summary.rows],
        "saved": [money(row.saved) for row in summary.rows],
        "why": [row.reason for row in summary.rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return Table(tuple(zip(*shown.values(), strict=True)), tuple(shown), _NUMBERS)


def _json_numbers(row: Row) -> dict[str, Any]:
    return {
        "input_tokens": _whole(row.input_tokens),
        "cached_input_tokens": row.cached_input_tokens,
        "output_tokens": _whole(row.output_tokens),
        "spent_usd": _text(row.spent),
        "saved_usd": _text(row.saved),
    }


def _whole(amount: Amount) -> int | None:
    return None if amount.unknown else int(amount.known)


def _text(amount: Amount) -> str | None:
    return None if amount.unknown else f"{amount.known:f}"
