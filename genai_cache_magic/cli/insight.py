"""``genai-cache stats`` and ``optimize``: how a cache is used, and what could be otherwise."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from genai_cache_magic.cli.opening import Namespace, opened
from genai_cache_magic.cli.showing import AsJson, local_time, print_table, shown
from genai_cache_magic.host import tilde

Since = Annotated[
    str, typer.Option(metavar="DAY", help="The first day that counts: 2026-05-31, yesterday, or an age such as 7d.")
]


def stats(
    *,
    since: Since = "30d",
    holdings: Annotated[
        bool, typer.Option("--holdings", help="Count what is kept of each model, tag and run, however much.")
    ] = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Show how much the cache holds and how it is used: hit rate, reasons of misses, latencies, what is read most."""
    from rich.filesize import decimal

    from genai_cache_magic.jupyter.shown.insight import (
        growth_note,
        hit_line,
        holdings_note,
        log_note,
        room_notes,
        tables,
    )
    from genai_cache_magic.jupyter.shown.words import counted
    from genai_cache_magic.ops.rooms import FEW, rooms_of
    from genai_cache_magic.settings.reading import load_settings

    with opened(namespace) as cache:
        found, used = cache.stats(), cache.insight.statistics(since, has_holdings=holdings or None)
        grown = cache.insight.growth(found.size_bytes)
        rooms, untold = rooms_of(cache, load_settings()) if holdings or found.entries <= FEW else ((), "")
    if as_json:
        told = {"growth": asdict(grown), "rooms": [one.as_json() for one in rooms]}
        typer.echo(json.dumps({**found.as_json(), **used.as_json(), **told}))
        return
    typer.echo(f"namespace {used.namespace}: {counted(found.entries, 'answer')}, {decimal(found.size_bytes)}")
    if found.synced:
        typer.echo(f"with what the team had at {local_time(found.synced)}")
    if found.oldest and found.newest:
        typer.echo(f"stored between {local_time(found.oldest)} and {local_time(found.newest)}")
    typer.echo(f"kept in {tilde(found.directory)}")
    for line in (
        *log_note(found),
        *growth_note(grown),
        *room_notes(rooms),
        untold,
        hit_line(used),
        *holdings_note(used),
    ):
        if line:
            typer.echo(shown(line))
    for heading, table in tables(used):
        typer.echo(f"\n{heading}")
        print_table(table.header, [tuple(map(shown, row)) for row in table.rows])


def optimize(*, since: Since = "30d", as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Say what could be otherwise, with numbers: time to live, noise in the key, what nobody reads. Applies nothing."""
    from genai_cache_magic.jupyter.shown.insight import advice_report

    with opened(namespace) as cache:
        found = cache.insight.optimize(since)
        name = cache.namespace
    if as_json:
        typer.echo(json.dumps({"namespace": name, "advice": [one.as_json() for one in found]}))
        return
    report = advice_report(found)
    typer.echo(report.title)
    if report.table is not None:
        print_table(report.table.header, [tuple(map(shown, row)) for row in report.table.rows])
