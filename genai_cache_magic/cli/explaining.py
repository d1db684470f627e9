"""``genai-cache explain``: why a call is no hit, in what it differs from the nearest one, and what would help."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from genai_cache_magic.cli.codes import FOUND
from genai_cache_magic.cli.opening import Namespace, opened
from genai_cache_magic.cli.showing import AsJson, print_table, shown


def explain(
    call: Annotated[
        str, typer.Argument(metavar="CALL", help="The start of an entry id, or with --run also a number.")
    ] = "",
    *,
    run: Annotated[str, typer.Option(metavar="NAME", help="The calls of this run.")] = "",
    text: Annotated[bool, typer.Option("--text", help="Show words of prompts, too.")] = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Say why calls are no hits, what differs from the nearest stored one, and what would help.

    Exits with 1 if nothing is known of such a call.
    """
    from genai_cache_magic.jupyter.shown.explaining import explained

    with opened(namespace) as cache:
        found = cache.explain(call=call, run=run)
    if as_json:
        typer.echo(json.dumps({"calls": [one.as_json(shows_text=text) for one in found]}))
    elif found:
        report = explained("", found, shows_text=text)
        assert report.table is not None
        print_table(report.table.header, [tuple(shown(cell) for cell in row) for row in report.table.rows])
        for note in report.notes:
            typer.echo(shown(note))
    else:
        where = f"run {run}" if run else f"namespace {cache.namespace}"
        typer.echo(f"nothing is known of a call {call} in {where}: genai-cache entries lists what there is", err=True)
    raise typer.Exit(0 if found else FOUND)
