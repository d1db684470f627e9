"""``genai-cache doctor``: what is well and what is not, a line each; the exit code is that of the worst."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from genai_cache_magic.cli.opening import Namespace  # noqa: TC001 - typer reads it
from genai_cache_magic.cli.showing import print_table, shown


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")] = False,
    namespace: Namespace = None,
) -> None:
    """Look at configuration, key, cache and team tier, and say what to do.

    Exit codes: 0 all is well; 1 it works, with less than it could; 2 something can't be used as it is set.
    """
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.ops.doctor import examine
    from genai_cache_magic.ops.findings import worst

    session = Session()
    try:
        found = examine(session, namespace)
    finally:
        session.close()
    if as_json:
        for finding in found:
            typer.echo(json.dumps(finding.as_json()))
    else:
        print_table(
            ("part", "", "finding", "settings"),
            [(f.part, f.severity.name.lower(), shown(f.says), ", ".join(f.settings)) for f in found],
        )
    raise typer.Exit(int(worst(found)))
