"""How a command shows tables, times and what others have named."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print columns of text, if there are rows."""
    from genai_cache_magic.jupyter.report import Table

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
