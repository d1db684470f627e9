"""How a command shows tables, times and what others have named, or tells it to scripts."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")]


def tell(about: Mapping[str, Any], *lines: str, as_json: bool) -> None:
    """Say what was done or found: in lines, or as one JSON object."""
    for line in [json.dumps(about)] if as_json else map(shown, lines):
        typer.echo(line)


def confirm(question: str, *, as_json: bool = False) -> None:
    """Return if the answer is yes, else end the command; what is asked stays out of what a script reads."""
    if not typer.confirm(question, err=as_json):
        typer.echo("nothing was changed", err=as_json)
        raise typer.Exit


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns of text, if there are rows."""
    from genai_cache_magic.jupyter.shown.report import Table

    if rows:
        typer.echo(Table(tuple(rows), header).as_text())


def shown(value: object) -> str:
    """Return `value` as it stands in a table."""
    if value is None:
        return "unknown"
    if isinstance(value, datetime):
        return local_time(value)
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    # SECURITY: names come from servers and other people: none may command the terminal.
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def local_time(moment: datetime) -> str:
    """Return a moment to the minute, in the time of this machine."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
