"""``genai-cache alerts``: the rules, what is in force, and whether the webhook hears of it."""

from __future__ import annotations

import typer

from genai_cache_magic.cli.codes import DONE, FOUND
from genai_cache_magic.cli.opening import Namespace, opened, warn
from genai_cache_magic.cli.overview import Commands
from genai_cache_magic.cli.showing import AsJson, print_table, shown, tell

alerts_app = typer.Typer(cls=Commands, rich_markup_mode=None)


@alerts_app.callback(invoke_without_command=True)
def _alerts(context: typer.Context) -> None:
    """List the alerts, or try whether the webhook hears of them."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@alerts_app.command("list")
def alerts_list(*, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Show the rules, and which are in force in a process of this machine.

    Exit codes: 0 none is; 1 one is.
    """
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.api.watching.alerting import listed
    from genai_cache_magic.settings.units import spell_duration

    settings = Session().settings.monitoring
    with opened(namespace) as cache:
        rules, others = listed(settings, cache)
    if as_json:
        tell({"alerts": [one.as_json() for one in rules], "others": list(others)}, as_json=True)
    else:
        print_table(
            ("alert", "above", "over", "state"),
            [
                (one.rule.name, f"{one.rule.threshold:g}", spell_duration(one.rule.window), _state(one.is_firing))
                for one in rules
            ],
        )
        for line in [one.rule.sentence for one in rules if one.is_firing] + list(others):
            typer.echo(shown(line))
        if not rules:
            typer.echo("no alerts are set: monitoring.alerts in the settings, see docs/monitoring.md")
    raise typer.Exit(FOUND if others or any(one.is_firing for one in rules) else DONE)


@alerts_app.command("test")
def alerts_test(*, as_json: AsJson = False) -> None:
    """Send the webhook a message of each rule, as an alert would, with the state "test".

    Exit codes: 0 all were taken; 1 one was not.
    """
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.api.watching.alerting import tested

    session = Session()
    warn(session)
    found = tested(session.settings.monitoring)
    lines = [f"{one.rule.name}: {one.trouble or 'the webhook took it'}" for one in found]
    tell({"alerts": [one.as_json() for one in found]}, *lines, as_json=as_json)
    raise typer.Exit(FOUND if any(one.trouble for one in found) else DONE)


def _state(is_firing: bool) -> str:  # noqa: FBT001 - a fact in words
    return "in force" if is_firing else "well"
