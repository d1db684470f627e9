"""What the ledger says, as people read it: a sentence, a table, and a picture of the days."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.jupyter.shown.plot import DayBar, Plot, bars
from genai_cache_magic.jupyter.shown.report import Report, Table
from genai_cache_magic.jupyter.shown.summary import Amount
from genai_cache_magic.jupyter.shown.words import counted, money

if TYPE_CHECKING:
    from decimal import Decimal

    from genai_cache_magic.ledger.usage import UsageReport, UsageRow

SINCE: Final = "30d"
"""The first day where none is asked for."""

_NUMBERS: Final = frozenset(
    {"spent", "saved", "hits", "similar", "misses", "tokens in", "out", "tokens saved", "other calls"}
)


def usage_report(found: UsageReport) -> Report:
    """Return all of it for a notebook."""
    notes = (*team_notes(found), "Days are those of UTC, as on a provider's bill.")
    return Report(headline(found), usage_table(found), notes, day_bars(found).as_image())


def day_bars(found: UsageReport) -> Plot:
    """Return a picture of the days, empty if none of them came to anything."""
    spent: dict[object, DayBar] = {}
    for row in found.rows:
        if row.day is not None:
            bar = spent.setdefault(row.day, DayBar(row.day))
            bar.spent += row.spent_usd
            bar.saved += row.saved_usd
    return bars(list(spent.values()), last=found.until)


def headline(found: UsageReport) -> str:
    """Return the sum in one sentence."""
    total = found.total
    since = f"since {found.since}" if found.since else "in all"
    until = f"{since} until {found.until}" if found.since != found.until else f"on {found.until}"
    return (
        f"namespace {found.namespace}, {until}: {came_to(total)}, "
        f"{counted(total.hits, 'hit')}{f', {total.similar:,} similar' if total.similar else ''}, "
        f"{counted(total.misses, 'miss', 'misses')}"
    )


def team_notes(found: UsageReport) -> tuple[str, ...]:
    """Return what there is to say of the team's numbers; nothing where they are of this machine alone."""
    team = found.team
    if team is None:
        return ()
    of = f"of {counted(team.machines, 'machine')}; this one: {came_to(team.here)}"
    notes = [f"{of}, {counted(team.here.hits, 'hit')}, {counted(team.here.misses, 'miss', 'misses')}"]
    if team.trouble:
        known = f"as of {team.known_at:%Y-%m-%d %H:%M} UTC" if team.known_at else "not all known here"
        notes.append(f"the other machines' numbers are {known}: {team.trouble}")
    if team.ignored:
        why = "; ".join(sorted(set(team.ignored)))
        notes.append(f"{counted(len(team.ignored), 'page')} of the team's ledger ignored: {why}")
    return tuple(notes)


def came_to(row: UsageRow) -> str:
    """Return what was spent and saved; what is unknown is called so."""
    return f"spent {_spent(row)}, saved {_saved(row)}"


def usage_table(found: UsageReport) -> Table:
    """Return the rows; a column in which nothing stands is left out."""
    named = {name: [str(getattr(row, name) or "") for row in found.rows] for name in found.by}
    numbers = {
        "spent": [_spent(row) for row in found.rows],
        "saved": [_saved(row) for row in found.rows],
        "hits": [f"{row.hits:,}" for row in found.rows],
        "similar": [_counted(row.similar) for row in found.rows],
        "misses": [f"{row.misses:,}" for row in found.rows],
        "other calls": [_counted(row.bypassed + row.errors + row.unrecognised) for row in found.rows],
        "tokens in": [f"{row.input_tokens:,}" for row in found.rows],
        "out": [f"{row.output_tokens:,}" for row in found.rows],
        "tokens saved": [_counted(row.saved_input_tokens + row.saved_output_tokens) for row in found.rows],
    }
    columns = {name: cells for name, cells in {**named, **numbers}.items() if any(cells)}
    return Table(tuple(zip(*columns.values(), strict=True)), tuple(columns), _NUMBERS)


def _spent(row: UsageRow) -> str:
    asked = row.misses + row.bypassed + row.errors + row.unrecognised
    return _money(row.spent_usd, row.spent_unknown, asked)


def _saved(row: UsageRow) -> str:
    return _money(row.saved_usd, row.saved_unknown, row.hits + row.similar)


def _money(known: Decimal, unknown: int, calls: int) -> str:
    return money(Amount(known, unknown, calls))


def _counted(count: int) -> str:
    return f"{count:,}" if count else ""
