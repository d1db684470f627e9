"""``genai-cache audit``: what of a cache is less safe than it could be; the exit code is that of the worst."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer

from genai_cache_magic.cli.opening import Namespace  # noqa: TC001 - typer reads it
from genai_cache_magic.cli.showing import print_table, shown
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.settings.units import parse_duration


def audit(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")] = False,
    as_sarif: Annotated[bool, typer.Option("--sarif", help="One SARIF 2.1.0 log, for code hosts.")] = False,
    max_key_age: Annotated[
        str, typer.Option("--max-key-age", metavar="AGE", help="A rotation is due after so long.")
    ] = "365d",
    project: Annotated[
        Path | None, typer.Option("--project", metavar="DIR", help="Whose git is looked at; default: this folder.")
    ] = None,
    namespace: Namespace = None,
) -> None:
    """Look for old keys, wide rights, plain text, open tiers and expiring certificates; change nothing.

    Exit codes: 0 nothing to do; 1 there are warnings; 2 there are errors, or it can't be done.
    """
    from genai_cache_magic import __version__
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.ops import audit as ops
    from genai_cache_magic.ops.checks import Severity
    from genai_cache_magic.ops.sarif import as_sarif as sarif_of

    if as_json and as_sarif:
        raise ConfigurationError("--json and --sarif are two forms of one answer: give one of them")
    session = Session()
    try:
        found = ops.audit(
            session, namespace, longest_key_age_s=parse_duration(max_key_age, name="max-key-age"), project=project
        )
    finally:
        session.close()
    if as_sarif:
        typer.echo(json.dumps(sarif_of(found, version=__version__), indent=1))
    elif as_json:
        for one in found:
            typer.echo(json.dumps(one.as_json()))
    elif found:
        print_table(("rule", "", "finding"), [(o.rule.id, o.severity.name.lower(), shown(o.says)) for o in found])
    else:
        typer.echo("nothing was found")
    raise typer.Exit(int(max((one.severity for one in found), default=Severity.OK)))
