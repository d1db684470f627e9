"""The report for a team as one page of HTML that needs nothing beside itself, and lets nothing else in.

SECURITY: names of models, runs, tags and people come from servers and from others. Each is escaped and cut; the page
has no script, and its policy allows none, nor anything from elsewhere: its one style is named there by its digest.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.jupyter.shown.insight import advice_report, tables
from genai_cache_magic.jupyter.shown.report import Table, paragraphs
from genai_cache_magic.jupyter.shown.summary import short
from genai_cache_magic.jupyter.shown.usage import day_bars, headline, team_notes, usage_table
from genai_cache_magic.jupyter.shown.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from decimal import Decimal

    from genai_cache_magic.api.team_report import Facts
    from genai_cache_magic.ledger.usage import UsageReport, UsageRow

_HEADINGS: Final = {"day": "By day", "model": "By model", "run": "By run", "person": "By person"}
_NAMELESS: Final = {"model": "(no model)", "run": "(no run)", "person": "(nobody named)"}
_MOST_ROWS: Final = 200
_MOST_CHARS: Final = 120
_EMPTY: Final = (
    "Nothing was called in these days: run a cell that begins with %%llm_cache, or a block under llm_cache(), and make "
    "the report anew."
)


def page(facts: Facts) -> str:
    """Return the whole page."""
    whole = facts.whole
    style = files("genai_cache_magic.jupyter").joinpath("static", "report.css").read_text(encoding="utf-8")
    title = escape(f"genai-cache: {whole.namespace}, {_days(whole)}")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(style)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{title}</title>",
            f"<style>{style}</style>",
            "</head>",
            "<body>",
            "<main>",
            *_body(facts),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _policy(style: str) -> str:
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def _body(facts: Facts) -> Iterable[str]:
    whole = facts.whole
    yield f"<header><h1>Model calls of {escape(short(whole.namespace))}</h1><p>{escape(_days(whole))}</p></header>"
    yield _tiles(whole.total)
    notes = (*team_notes(whole), "Days are those of UTC, as on a provider's bill.")
    if not whole.rows:
        yield f'<section><p class="empty">{escape(_EMPTY)}</p></section>'
    else:
        yield from (_usage(found, by) for by, found in facts.usage.items())
    here = "" if whole.team is None else "On this machine: "
    for heading, table in tables(facts.used):
        said = f"{here}{heading}"
        yield _section(f"{said[0].upper()}{said[1:]}", _shown(table))
    yield _section(f"{here}what could be otherwise".capitalize(), _advice(facts))
    yield f"<footer><p>{escape(short(headline(whole), 500))}</p>{paragraphs(notes)}</footer>"


def _days(found: UsageReport) -> str:
    if found.since is None:
        return f"until {found.until}"
    return f"{found.since}" if found.since == found.until else f"{found.since} to {found.until}"


def _tiles(total: UsageRow) -> str:
    asked = total.hits + total.misses
    tiles = (
        ("Spent", _least(total.spent_usd, total.spent_unknown), _unknown(total.spent_unknown, "cost")),
        ("Saved", _least(total.saved_usd, total.saved_unknown), _unknown(total.saved_unknown, "would have cost")),
        ("Hit rate", f"{total.hits / asked:.0%}" if asked else "none", f"{total.hits:,} of {counted(asked, 'call')}"),
        ("Tokens", f"{total.input_tokens + total.output_tokens:,}", f"{_saved_tokens(total):,} saved"),
    )
    shown = (
        f"<div><dt>{name}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in tiles
    )
    return f'<dl class="tiles">{"".join(shown)}</dl>'


def _saved_tokens(total: UsageRow) -> int:
    return total.saved_input_tokens + total.saved_output_tokens


def _least(known: Decimal, unknown: int) -> str:
    return "unknown" if unknown and not known else dollars(known)


def _unknown(unknown: int, what: str) -> str:
    return f"and what {counted(unknown, 'call')} of unknown price {what}" if unknown else ""


def _usage(found: UsageReport, by: str) -> str:
    table = usage_table(found)
    if by in _NAMELESS and by not in table.header:  # nobody named any: a column of nothing is left out of a table
        table = Table(tuple(("", *row) for row in table.rows), (by, *table.header), table.numbers)
    if by in _NAMELESS:
        place = table.header.index(by)
        rows = tuple((*row[:place], row[place] or _NAMELESS[by], *row[place + 1 :]) for row in table.rows)
        table = Table(rows, table.header, table.numbers)
    rate = [_rate(row) for row in found.rows]
    table = Table(
        tuple((*row, one) for row, one in zip(table.rows, rate, strict=True)),
        (*table.header, "hit rate"),
        table.numbers | {"hit rate"},
    )
    if by != "day":
        return _section(_HEADINGS[by], _shown(table))
    folded = f"<details><summary>{counted(len(table.rows), 'day')} in numbers</summary>{_shown(table)}</details>"
    return _section(_HEADINGS[by], f"{_picture(found, day_bars(found).svg)}{folded}")


def _picture(found: UsageReport, drawn: str) -> str:
    """Return the days with their key, in letters of the page's own size."""
    if not drawn:
        return "<p>Nothing was spent or saved, as far as prices are known.</p>"
    days = [row.day for row in found.rows if row.day is not None]
    highest = max(max(row.spent_usd, row.saved_usd) for row in found.rows)
    said = f"{min(days)} to {found.until}, at most {dollars(highest)} on one day"
    key = f'<p class="key"><span class="spent"></span>spent <span class="saved"></span>saved <i>{escape(said)}</i></p>'
    return f'{key}<div class="picture">{drawn}</div>'


def _rate(row: UsageRow) -> str:
    return f"{row.hits / (row.hits + row.misses):.0%}" if row.hits + row.misses else ""


def _advice(facts: Facts) -> str:
    """Return what could be otherwise as a list: its sentences are too long for a table."""
    found = advice_report(facts.advice)
    items = [] if found.table is None else [_advised(*row) for row in found.table.rows]
    return f"<p>{escape(found.title)}</p><ul>{''.join(items)}</ul>" if items else f"<p>{escape(found.title)}</p>"


def _advised(seen: str, saves: str, write: str) -> str:
    more = f"would save {escape(saves)}" if saves else ""
    what = f"write <code>{escape(short(write))}</code>" if write else ""
    return f"<li>{escape(short(seen))}<small>{'; '.join(part for part in (more, what) if part)}</small></li>"


def _section(heading: str, inner: str) -> str:
    return f"<section><h2>{escape(heading)}</h2>{inner}</section>"


def _shown(table: Table) -> str:
    """Return a table that is scrolled by itself where the page is narrow."""
    kept = table.rows[:_MOST_ROWS]
    head = "".join(f"<th{_side(name, table)} scope='col'>{escape(name)}</th>" for name in table.header)
    body = "\n".join(_row(row, table) for row in kept)
    left = len(table.rows) - len(kept)
    more = f"<p>and {counted(left, 'more row')}</p>" if left else ""
    inner = f"<thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody>"
    return f'<div class="wide" tabindex="0"><table>{inner}</table></div>{more}'


def _row(row: Sequence[str], table: Table) -> str:
    cells = (
        f"<td{_side(name, table)}>{_cell(short(cell, _MOST_CHARS), is_number=name in table.numbers)}</td>"
        for name, cell in zip(table.header, row, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str, *, is_number: bool) -> str:
    """Return a cell; what is said of a number in brackets is small below it."""
    number, bracket, said = text.partition(" (")
    if not (is_number and bracket):
        return escape(text)
    return f"{escape(number)} <small>({escape(said)}</small>"


def _side(name: str, table: Table) -> str:
    return " class='number'" if name in table.numbers else ""
