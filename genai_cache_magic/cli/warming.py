"""``genai-cache warm`` and ``genai-cache estimate``: what is asked beforehand, and what it would cost.

Exit codes: 0 done; 1 some requests failed, are left, or can't be asked again; 2 it can't be done, and a line says why.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, NoReturn

import typer

from genai_cache_magic.cli.codes import DONE, FOUND
from genai_cache_magic.cli.opening import Namespace, opened
from genai_cache_magic.cli.showing import AsJson, shown
from genai_cache_magic.errors import ConfigurationError

Endpoint = Annotated[
    str, typer.Option("--endpoint", metavar="PATH", help="The path of bodies that stand alone, such as /v1/responses.")
]
Ignore = Annotated[
    list[str] | None,
    typer.Option("--ignore", metavar="RULE", help="A rule about noise, as in the cells that ask; repeatable."),
]
Salt = Annotated[str, typer.Option("--salt", metavar="TEXT", help="The salt of the cells that ask.")]


def warm(  # noqa: PLR0913 - one parameter for each option of the command
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|RUN",
            help="JSON lines: bodies, or OpenAI's batch file; a run file; an imported run; --collect: a batch's id.",
        ),
    ] = "",
    *,
    endpoint: Endpoint = "",
    budget: Annotated[str | None, typer.Option(metavar="USD", help="What it may cost in all.")] = None,
    budget_unknown: Annotated[
        str | None, typer.Option(metavar="USD", help="What a call counts as whose price nobody knows.")
    ] = None,
    run: Annotated[str, typer.Option(metavar="NAME", help="The run that the calls belong to.")] = "",
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag for what is stored; repeatable.")] = None,
    ttl: Annotated[str | None, typer.Option(metavar="TTL", help="How long answers are good, such as 30d.")] = None,
    ignore: Ignore = None,
    salt: Salt = "",
    max_workers: Annotated[int, typer.Option(metavar="N", help="How many are asked at one time.")] = 8,
    batch: Annotated[
        bool, typer.Option("--batch", help="Submit it to the provider's batch API: half the price, within a day.")
    ] = False,
    collect: Annotated[bool, typer.Option("--collect", help="Store what submitted batches brought.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, send nothing.")] = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Ask what of a file of requests is not in the cache, with the vendors' SDKs and the keys of the environment."""
    from genai_cache_magic.jupyter.shown.warming import foreseen_for, foreseen_report, warmed_from, warmed_report

    if not what and not collect:
        raise ConfigurationError("name what is to be asked: genai-cache warm FILE")
    if collect:
        if batch or dry_run:
            raise ConfigurationError("--collect stores what was submitted before: leave --batch and --dry-run out")
        _collect(namespace, what, as_json=as_json)
    asked = {
        "endpoint": endpoint,
        "budget": budget,
        "budget_unknown": budget_unknown,
        "run": run,
        "tags": tag or (),
        "ttl": ttl,
        "ignore": ignore,
        "salt": salt,
    }
    if batch and not dry_run:
        _submit(namespace, what, asked, as_json=as_json)
    with opened(namespace) as cache:
        if dry_run:
            foreseen = foreseen_for(cache, what, endpoint=endpoint, ignore=ignore, salt=salt)
            _say(json.dumps(foreseen.as_json()) if as_json else foreseen_report(foreseen).bundle()["text/plain"])
            return
        done = warmed_from(cache, what, **asked, max_workers=max_workers, progress=False if as_json else None)
    _say(json.dumps(done.as_json()) if as_json else warmed_report(done).bundle()["text/plain"])
    raise typer.Exit(FOUND if done.failed or done.left or done.left_out else DONE)


def _submit(namespace: str | None, what: str, asked: dict[str, Any], *, as_json: bool) -> NoReturn:
    from genai_cache_magic.jupyter.shown.warming import batch_report, submitted_from

    with opened(namespace) as cache:
        done = submitted_from(cache, what, **asked)
    _say(json.dumps(done.as_json()) if as_json else batch_report(done).bundle()["text/plain"])
    raise typer.Exit(FOUND if done.left or done.left_out else DONE)


def _collect(namespace: str | None, batch: str, *, as_json: bool) -> NoReturn:
    from genai_cache_magic.jupyter.shown.warming import collected_report

    with opened(namespace) as cache:
        done = cache.collect_batches(batch)
    _say(json.dumps(done.as_json()) if as_json else collected_report(done).bundle()["text/plain"])
    raise typer.Exit(FOUND if done.failed or done.waiting else DONE)


def estimate(  # noqa: PLR0913 - one parameter for each option of the command
    what: Annotated[str, typer.Argument(metavar="FILE|RUN", help="Requests as for warm, or the name of a run.")],
    *,
    endpoint: Endpoint = "",
    ignore: Ignore = None,
    salt: Salt = "",
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Say how much of a file of requests, or of a run, is in the cache, and what the rest would cost."""
    from genai_cache_magic.jupyter.shown.warming import foreseen_for, foreseen_report

    with opened(namespace) as cache:
        found = foreseen_for(cache, what, endpoint=endpoint, ignore=ignore, salt=salt)
    _say(json.dumps(found.as_json()) if as_json else foreseen_report(found).bundle()["text/plain"])


def _say(text: str) -> None:
    for line in text.split("\n"):
        typer.echo(shown(line))
