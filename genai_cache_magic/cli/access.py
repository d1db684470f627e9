"""``genai-cache access``: what this identity may do, what gives somebody a role, and where the tier is from here."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from genai_cache_magic.cli.codes import DONE, FOUND
from genai_cache_magic.cli.opening import Namespace, warn
from genai_cache_magic.cli.overview import Commands
from genai_cache_magic.cli.showing import AsJson, print_table, shown
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.ops.grants import Line
    from genai_cache_magic.settings.model import Settings

access_app = typer.Typer(cls=Commands, rich_markup_mode=None)

Scope = Annotated[str | None, typer.Option(metavar="ID", help="The Azure resource, by its id.")]


@access_app.callback(invoke_without_command=True)
def _access(context: typer.Context) -> None:
    """Say who may do what in the team's tier, and with the vault's keys."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@access_app.command()
def check(
    *,
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="What to compare with; default: the setting role.")
    ] = None,
    namespace: Namespace = None,
    as_json: AsJson = False,
) -> None:
    """Try what this identity may really do, and say what is missing or too much for its role.

    Exit codes: 0 nothing is; 1 something is; 2 there is nothing to try.
    """
    from genai_cache_magic.ops.access import examine, in_words
    from genai_cache_magic.ops.grants import checked_role

    settings, name = _settings(namespace)
    found = examine(settings, name, settings.role if role is None else checked_role(role))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        rows = [(shown(o.place), o.right, o.state.value, shown(o.says)) for o in found.tried]
        print_table(("place", "right", "", "why"), rows)
        for line in in_words(found):
            typer.echo(shown(line))
    raise typer.Exit(FOUND if found.missing or found.too_much else DONE)


@access_app.command()
def grant(  # noqa: PLR0913 - one parameter for each option of the command
    *,
    role: Annotated[str, typer.Option(metavar="ROLE", help="Cache.Reader, Cache.Writer or Cache.Admin.")],
    principal: Annotated[str, typer.Option(metavar="ID", help="Who: an object id, a name, a Redis user.")],
    scope: Annotated[str, typer.Option(metavar="ID", help="The Azure resource or group, by its id, or redis://HOST.")],
    print_: Annotated[bool, typer.Option("--print", help="Print the commands; nothing is run.")] = False,
    namespace: Annotated[
        str | None, typer.Option(metavar="NAME", help="Let a Redis user use the keys of this one alone.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the commands and Redis rules that give somebody a role. None is run."""
    from genai_cache_magic.ops import grants

    wanted = grants.checked_role(role)
    who, where = grants.checked_principal(principal), grants.checked_scope(scope)
    name = None if namespace is None else _settings(namespace)[1]
    if not print_:
        raise ConfigurationError("access grant prints what gives a role, and runs nothing itself: add --print")
    _print_lines(grants.grant(wanted, who, where, name), as_json=as_json)


@access_app.command()
def network(*, scope: Scope = None, as_json: AsJson = False) -> None:
    """Say where the tier and the vault are from here, and print the firewall rules for allowed_ips. None is run.

    Exit codes: 0 all is as the settings want it; 1 something is not; 2 there is nothing to look up.
    """
    from genai_cache_magic.ops import grants
    from genai_cache_magic.ops.network import look

    where = None if scope is None else grants.checked_scope(scope)
    settings, _ = _settings(None)
    places = look(settings)
    rules = grants.firewall(tuple(map(str, settings.network.allowed_ips)), where)
    if as_json:
        found = {"places": [place.as_json() for place in places], "lines": [asdict(line) for line in rules]}
        typer.echo(json.dumps(found))
    else:
        rows = [(shown(p.host), ", ".join(p.addresses), "wrong" if p.is_wrong else "", shown(p.says)) for p in places]
        print_table(("host", "addresses", "", "finding"), rows)
        _print_lines(rules, as_json=False)
    raise typer.Exit(FOUND if any(place.is_wrong for place in places) else DONE)


def _print_lines(lines: Iterable[Line], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"lines": [asdict(line) for line in lines]}))
        return
    for line in lines:
        typer.echo(f"# {line.text}" if line.kind == "note" else line.text)


def _settings(namespace: str | None) -> tuple[Settings, str]:
    """Return the settings, and the name of a namespace, None for the configured one."""
    from genai_cache_magic.api.scopes.session import Session

    session = Session()
    try:
        warn(session)
        return session.settings, session.options(namespace=namespace).namespace
    finally:
        session.close()
