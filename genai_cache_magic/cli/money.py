"""``genai-cache usage``: what calls cost and what hits saved."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from genai_cache_magic.cli.opening import Namespace, OfTeam, opened
from genai_cache_magic.cli.showing import AsJson, shown

_PAPER: Final = 1_000
"""How wide a file or a pipe is [characters]: nothing is folded there."""


def usage(  # noqa: PLR0913 - its options
    *,
    since: Annotated[
        str, typer.Option(metavar="DAY", help="The first day: 2026-05-31, today, yesterday, or an age such as 7d.")
    ] = "30d",
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day.")] = "today",
    by: Annotated[
        str, typer.Option(metavar="WHAT", help="day, model, provider, run, person, with commas between.")
    ] = "day,model",
    team: OfTeam = None,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Show what calls cost and what hits saved, of the team, or on this machine where it works alone."""
    with opened(namespace) as cache:
        found = cache.usage(since, until, by=by, team=team)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from genai_cache_magic.jupyter.shown.usage import headline, team_notes, usage_table

    typer.echo(shown(headline(found)))
    table = usage_table(found)
    if table.rows:
        ruled = Table(box=None, pad_edge=False, header_style="bold")
        console = Console()
        if not console.is_terminal:
            console = Console(width=_PAPER)
        for name in table.header:
            heading = name.replace(" ", "\n") if console.is_terminal else name  # so that names stay whole beside it
            ruled.add_column(heading, justify="right" if name in table.numbers else "left", overflow="fold")
        for row in table.rows:
            ruled.add_row(*(Text(shown(cell)) for cell in row))  # not as markup, which a model's name may hold
        console.print(ruled)
    for note in team_notes(found):
        typer.echo(shown(note))
    typer.echo("days are those of UTC, as on a provider's bill")
