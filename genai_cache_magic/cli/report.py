"""``genai-cache report``: what a team's calls came to, as one page to be passed on."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Annotated

import typer

from genai_cache_magic.cli.insight import Since  # noqa: TC001 - typer reads it
from genai_cache_magic.cli.opening import Namespace, OfTeam, opened
from genai_cache_magic.cli.showing import AsJson, tell
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import move, tilde


def report(  # noqa: PLR0913 - its options
    *,
    since: Since = "30d",
    until: Annotated[str, typer.Option(metavar="DAY", help="The last day.")] = "today",
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it; - is standard output.")
    ] = Path("report.html"),
    persons: Annotated[
        bool, typer.Option("--persons", help="Tell people apart, by name; otherwise nobody is named.")
    ] = False,
    team: OfTeam = None,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Write one HTML page: spent and saved by day, model and run, hit rate, latencies, what is read most, advice.

    The page needs no network and holds no script; its numbers are those of `usage`, `stats` and `optimize`.
    """
    from genai_cache_magic.api.team_report import facts_of
    from genai_cache_magic.jupyter.shown.report_page import page
    from genai_cache_magic.jupyter.shown.usage import headline

    is_printed = str(output) == "-"
    if is_printed and as_json:
        raise ConfigurationError("--json and the page can't both go to standard output: name a file with -o")
    with opened(namespace) as cache:
        facts = facts_of(cache, since, until, team=team, has_persons=persons)
    html = page(facts)
    if is_printed:
        sys.stdout.write(html)
        return
    _write(output, html)
    place = tilde(output)
    tell({"output": str(output), **facts.as_json()}, headline(facts.whole), f"written to {place}", as_json=as_json)


def _write(output: Path, html: str) -> None:
    """Write the page, whole or not at all; raises ``ConfigurationError``."""
    # SECURITY: where others may write, such as /tmp, nobody knows its name before, and no link is followed.
    draft = output.parent / f".{output.name}.{os.getpid()}.{secrets.token_hex(8)}.new"
    try:
        with draft.open("x", encoding="utf-8", errors="replace") as file:
            file.write(html)
        move(draft, output)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise ConfigurationError(
            f"-o {tilde(output)}: it can't be written ({exc.strerror}): name a file in a directory that is there"
        ) from exc
