"""What stands under a cell: one static bundle that needs no kernel, no trust, no script and no style.

The front end's sanitizer strips styles and colours from untrusted notebooks, so it is words and a table,
in the colours of the theme; the one style in it keeps a wide table from widening a narrow page. Everything that an
SDK, a server or a user named is escaped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genai_cache_magic.jupyter.shown.call_report import MIME, as_json
from genai_cache_magic.jupyter.shown.report import OPEN, Table, breakable, paragraphs
from genai_cache_magic.jupyter.shown.words import counted, in_words, money, progress_in_words, tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.jupyter.shown.progress import Progress
    from genai_cache_magic.jupyter.shown.summary import Row, Summary

TITLE = "llm_cache"
MAX_TABLE_BYTES = 14 * 1024
"""Room for the table of calls in a saved notebook [bytes]; fifty ordinary rows take about 11 kB."""
_NUMBERS = frozenset({"calls", "tokens in", "provider-cached", "out", "spent", "saved"})


def bundle(summary: Summary, progress: Progress | None = None) -> dict[str, Any]:
    """Return the badge: data for our own renderer, HTML for any browser, text for a terminal.

    With `progress` it is that of a cell that runs.
    """
    html, text = as_html(summary), as_text(summary)
    shown: dict[str, Any] = {MIME: as_json(summary, beside=(html, text)), "text/html": html, "text/plain": text}
    if progress is None:
        return shown
    said = progress_in_words(progress)
    most = f' max="{progress.expected}" value="{min(progress.done, progress.expected)}"' if progress.expected else ""
    words = f"<strong>{TITLE}</strong> <progress{most}></progress> {said}"
    return {
        MIME: {**shown[MIME], "progress": progress.as_json()},
        "text/html": f"{OPEN}<p>{words}</p></div>",
        "text/plain": f"{TITLE}: {said}",
    }


def as_text(summary: Summary) -> str:
    """Return the badge as lines of text."""
    return "\n".join([f"{TITLE}: {in_words(summary)}", *summary.troubles, *summary.hints])


def as_html(summary: Summary) -> str:
    """Return the badge as HTML; the table of calls is folded away."""
    headline = f"<strong>{TITLE}</strong> {breakable(in_words(summary))}"
    notes = paragraphs([*summary.troubles, *summary.hints])
    if not summary.rows:
        return f"{OPEN}<p>{headline}</p>{notes}</div>"
    rows = summary.rows
    html = _table(rows).as_html()
    while len(html.encode()) > MAX_TABLE_BYTES:
        rows = rows[: len(rows) * 3 // 4]
        html = _table(rows).as_html()
    left_out = summary.more + sum(row.count for row in summary.rows[len(rows) :])
    more = f"<p>and {counted(left_out, 'more call')}</p>" if left_out else ""
    return f"{OPEN}<details><summary>{headline}</summary>{html}{more}</details>{notes}</div>"


def _table(rows: Sequence[Row]) -> Table:
    columns = {
        "calls": [f"{row.count:,}" for row in rows],
        "outcome": [f"{row.outcome.value} {row.tier}".rstrip() for row in rows],
        "model": [row.model or row.provider for row in rows],
        "tokens in": [tokens(row.input_tokens) for row in rows],
        "provider-cached": [f"{row.cached_input_tokens:,}" if row.cached_input_tokens else "" for row in rows],
        "out": [tokens(row.output_tokens) for row in rows],
        "spent": [money(row.spent) for row in rows],
        "saved": [money(row.saved) for row in rows],
        "why": [row.reason for row in rows],
    }
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return Table(tuple(zip(*shown.values(), strict=True)), tuple(shown), _NUMBERS)
