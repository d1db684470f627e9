"""``genai-cache warm`` and ``genai-cache estimate``: what is asked beforehand, and what it would cost.

Exit codes: 0 done; 1 some requests failed or are left; 2 it can't be done, and one line says why.
"""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from genai_cache_magic.cli.codes import DONE, FOUND
from genai_cache_magic.cli.opening import Namespace, opened
from genai_cache_magic.cli.showing import shown

Endpoint = Annotated[
    str, typer.Option("--endpoint", metavar="PATH", help="The path of bodies that stand alone, such as /v1/responses.")
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")]


def warm(  # noqa: PLR0913 - one parameter for each option of the command
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines: bodies, or OpenAI's batch file.")],
    *,
    endpoint: Endpoint = "",
    budget: Annotated[str | None, typer.Option(metavar="USD", help="What it may cost in all.")] = None,
    budget_unknown: Annotated[
        str | None, typer.Option(metavar="USD", help="What a call counts as whose price nobody knows.")
    ] = None,
    run: Annotated[str, typer.Option(metavar="NAME", help="The run that the calls belong to.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag for what is stored; repeatable.")] = None,
    ttl: Annotated[str | None, typer.Option(metavar="TTL", help="How long answers are good, such as 30d.")] = None,
    max_workers: Annotated[int, typer.Option(metavar="N", help="How many are asked at one time.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, send nothing.")] = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Ask what of a file of requests is not in the cache, with the vendors' SDKs and the keys of the environment."""
    from genai_cache_magic.jupyter.warming import foreseen_report, warmed_report

    with opened(namespace) as cache:
        if dry_run:
            foreseen = cache.estimate(file, endpoint=endpoint)
            _say(json.dumps(foreseen.as_json()) if as_json else foreseen_report(foreseen).bundle()["text/plain"])
            return
        done = cache.warm(
            file,
            endpoint=endpoint,
            budget=budget,
            budget_unknown=budget_unknown,
            run=run,
            tags=tag or (),
            ttl=ttl,
            max_workers=max_workers,
            progress=False if as_json else None,
        )
    _say(json.dumps(done.as_json()) if as_json else warmed_report(done).bundle()["text/plain"])
    raise typer.Exit(FOUND if done.failed or done.left else DONE)


def estimate(
    what: Annotated[str, typer.Argument(metavar="FILE|RUN", help="Requests as for warm, or the name of a run.")],
    *,
    endpoint: Endpoint = "",
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Say how much of a file of requests, or of a run, is in the cache, and what the rest would cost."""
    from genai_cache_magic.jupyter.warming import foreseen_for, foreseen_report

    with opened(namespace) as cache:
        found = foreseen_for(cache, what, endpoint=endpoint)
    _say(json.dumps(found.as_json()) if as_json else foreseen_report(found).bundle()["text/plain"])


def _say(text: str) -> None:
    for line in text.split("\n"):
        typer.echo(shown(line))
