"""The command ``genai-cache``: what the magic does, for a terminal and for scripts.

Exit codes stand in `cli/codes.py`, and for people in `docs/commands.md`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genai_cache_magic.cli.access import access_app
from genai_cache_magic.cli.alerts import alerts_app
from genai_cache_magic.cli.auditing import audit
from genai_cache_magic.cli.backing_up import backup, restore
from genai_cache_magic.cli.codes import CAN_NOT, INTERRUPTED
from genai_cache_magic.cli.examining import doctor
from genai_cache_magic.cli.explaining import explain
from genai_cache_magic.cli.insight import optimize, stats
from genai_cache_magic.cli.keys import keys_app
from genai_cache_magic.cli.money import usage
from genai_cache_magic.cli.opening import Namespace, opened
from genai_cache_magic.cli.overview import Overview
from genai_cache_magic.cli.report import report
from genai_cache_magic.cli.runs import runs_app
from genai_cache_magic.cli.showing import AsJson, confirm, print_table, shown, tell
from genai_cache_magic.cli.trusting import trust
from genai_cache_magic.cli.warming import estimate, warm
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError
from genai_cache_magic.host import tilde

try:
    from typer import TyperException as CommandLineError
except ImportError:  # older ones raise what `click` does
    from click import ClickException as CommandLineError  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.entries.listing.results import Invalidation, Listed

_SELECTORS = "--tag, --entry, --run, --model, --person, --older-than or a PATTERN"
_ID_DIGITS = 12

_ROOM_S = 10.0
"""How long a command that has said what it made invalid goes on giving room back [s]."""

_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    cls=Overview,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=_HELP,
)
app.add_typer(keys_app, name="keys")
app.add_typer(access_app, name="access")
app.add_typer(alerts_app, name="alerts")
app.command()(trust)
app.command()(usage)
app.command()(report)
app.command()(warm)
app.command()(estimate)
app.command()(doctor)
app.command()(stats)
app.command()(optimize)
app.command()(explain)
app.command()(audit)
app.command()(backup)
app.command()(restore)
app.add_typer(runs_app, name="runs")

DryRun = Annotated[bool, typer.Option("--dry-run", help="Count, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Don't ask.")]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command, and exit with its code."""
    try:
        code = app(args=arguments, prog_name="genai-cache", standalone_mode=False)
    except CommandLineError as exc:
        code = _fail(f"{exc.format_message()}{_where_to_read(exc)}")
    except GenaiCacheError as exc:
        code = _fail(str(exc))
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    sys.exit(code or 0)


def _where_to_read(exc: CommandLineError) -> str:
    """Return the command that says what the one that was mistyped takes."""
    context = getattr(exc, "ctx", None)  # of errors in how it was called
    return f" ({context.command_path} --help says what it takes)" if context is not None else ""


def _fail(message: str) -> int:
    typer.echo(f"genai-cache: {' '.join(message.split())}", err=True)
    return CAN_NOT


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and stop.")] = False,
) -> None:
    """Look after the cache of model calls: what %llm_cache does in a notebook, for a terminal."""
    if version:
        from genai_cache_magic import __version__

        typer.echo(f"genai-cache {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    *,
    live: Annotated[
        bool, typer.Option("--live", help="Ask real endpoints; needs OPENAI_API_KEY, costs cents.")
    ] = False,
    team: Annotated[
        bool, typer.Option("--team", help="Two machines share, through Redis or Azurite and a simulated Key Vault.")
    ] = False,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Where to work; made anew.")] = Path("demo-output"),
    as_json: AsJson = False,
) -> None:
    """Run the quickstart notebook twice and compare.

    The models are simulated, on this machine, unless --live is given.
    """
    if team and live:
        raise ConfigurationError("--team shows simulated models alone: leave --live out")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        code = _demonstrated(output, live=live, team=team)
    if as_json:
        typer.echo(json.dumps({"shown": code == 0, "output": None if team else str(output)}))
    raise typer.Exit(code)


def _demonstrated(output: Path, *, live: bool, team: bool) -> int:
    if team:
        from rich.console import Console

        from genai_cache_magic.cli.demos.team_demo import demonstrate_team

        return demonstrate_team(Console(), sealed=True, needs_all=False)
    from genai_cache_magic.cli.demos.demo import demonstrate

    return demonstrate(output, live=live)


@app.command()
def config(*, as_json: AsJson = False) -> None:
    """Show every setting, its value and where it was set."""
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.ops.doctor import troubles

    session = Session()
    found = session.describe()
    notes = (*found.notes, *troubles(session))
    if as_json:
        settings = [{"name": line.name, "value": line.value, "source": line.source} for line in found.lines]
        typer.echo(json.dumps({"settings": settings, "notes": notes}))
        return
    print_table(("setting", "value", "from"), [(line.name, line.value, line.source) for line in found.lines])
    for note in notes:
        typer.echo(shown(note))


@app.command()
def entries(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Names to list, such as 'gpt-4.1*'.")] = "*",
    *,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="Newest first, at most so many.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, for scripts.")] = False,
    previews: Annotated[bool, typer.Option("--previews", help="Also the start of each prompt.")] = False,
    namespace: Namespace = None,
) -> None:
    """List stored answers, the newest first."""
    from genai_cache_magic.entries.listing.names import short_name
    from genai_cache_magic.jupyter.shown.words import counted

    with opened(namespace) as cache:
        count, found = cache.catalogue.newest(pattern, limit)
    rows = [_described(item, previews=previews) for item in found]
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, default=str))
        return
    for row, item in zip(rows, found, strict=True):
        row["name"] = short_name(row["name"])
        if not item.metadata.model:  # a value of one's own: no model was asked, so there is nothing to know
            row.update(dict.fromkeys(("tokens_in", "tokens_out", "usd"), ""))
    print_table(tuple(rows[0]) if rows else (), [tuple(map(shown, row.values())) for row in rows])
    more = f", the newest {limit:,} are shown" if count > limit else ""
    typer.echo(f"{counted(count, 'answer')}{more}")


@app.command()
def invalidate(  # noqa: PLR0913 - one parameter for each option of the command
    pattern: Annotated[
        str | None, typer.Argument(metavar="PATTERN", help="Answers whose name matches, such as 'gpt-4.1*'.")
    ] = None,
    *,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="Answers with this tag.")] = None,
    entry: Annotated[str | None, typer.Option(metavar="ID", help="The answer whose id begins so.")] = None,
    run: Annotated[str | None, typer.Option(metavar="NAME", help="Answers that this run stored.")] = None,
    model: Annotated[str | None, typer.Option(metavar="MODEL", help="Answers of this model.")] = None,
    person: Annotated[str | None, typer.Option(metavar="NAME", help="Answers that this person stored.")] = None,
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="Older answers, such as 7d.")] = None,
    namespace: Namespace = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Make answers invalid, chosen by one option or a PATTERN."""
    given = {"tag": tag, "run": run, "model": model, "person": person}
    given |= {"entry": entry, "older-than": older_than, "PATTERN": pattern}
    chosen = [(by, value) for by, value in given.items() if value is not None]
    if len(chosen) != 1:
        got = " and ".join(by for by, _ in chosen) or "nothing"
        raise ConfigurationError(f"invalidate wants one of {_SELECTORS}, and got {got}; all of it is `clear`")
    by, value = chosen[0]
    with opened(namespace) as cache:
        if not (dry_run or yes) and _at_terminal():
            counted = _invalidate(cache, by, value, dry_run=True)
            confirm(f"Make answers invalid, {counted.count:,} of {counted.known:,} that are known?", as_json=as_json)
        _tell(_invalidate(cache, by, value, dry_run=dry_run), as_json=as_json)
        cache.catalogue.sweeper.wait(_ROOM_S)


@app.command()
def clear(*, namespace: Namespace = None, dry_run: DryRun = False, yes: Yes = False, as_json: AsJson = False) -> None:
    """Make every answer of the namespace invalid."""
    with opened(namespace) as cache:
        if not (dry_run or yes):
            if not _at_terminal():
                raise ConfigurationError("clear makes everything invalid: add --yes, or --dry-run to count it first")
            confirm(f"Make every answer in namespace {cache.namespace} invalid?", as_json=as_json)
        _tell(cache.clear(dry_run=dry_run), as_json=as_json)
        cache.catalogue.sweeper.wait(_ROOM_S)


@app.command()
def gc(
    *,
    old_versions: Annotated[
        bool,
        typer.Option("--old-versions", help="Instead: what older major versions have left; says what would go first."),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Remove what is expired, invalid, damaged or left over."""
    if old_versions:
        from genai_cache_magic.cli.leaving import give_up_old

        give_up_old(namespace, yes=yes, as_json=as_json)
        return
    from genai_cache_magic.jupyter.shown.insight import room_notes
    from genai_cache_magic.jupyter.shown.words import counted
    from genai_cache_magic.ops.rooms import rooms_of
    from genai_cache_magic.settings.reading import load_settings

    with opened(namespace) as cache:
        removed = cache.collect()
        is_shared = cache.team is not None
        rooms, untold = rooms_of(cache, load_settings())
    if as_json:
        shared = {
            "shared_entries": removed.shared_entries,
            "shared_orphans": removed.shared_orphans,
            "records": removed.records,
        }
        here = {"entries": removed.entries, "orphan_files": removed.orphan_files}
        told = {"rooms": [one.as_json() for one in rooms]}
        typer.echo(json.dumps({**here, **(shared if is_shared else {}), **told}))
        return
    typer.echo(f"{counted(removed.entries, 'answer')} and {counted(removed.orphan_files, 'orphan file')} removed")
    if is_shared:
        answers, records = counted(removed.shared_entries, "answer"), counted(removed.records, "record")
        typer.echo(f"from the team's tier {answers} and {records} of what was invalidated removed")
        if removed.shared_orphans:
            typer.echo(f"and {counted(removed.shared_orphans, 'large answer')} there that nothing pointed to any more")
    for line in (*room_notes(rooms), untold):
        if line:
            typer.echo(shown(line))


@app.command()
def enable(
    *,
    profile: Annotated[str, typer.Option(metavar="NAME", help="IPython profile.")] = "default",
    remove: Annotated[bool, typer.Option("--remove", help="Undo it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load the extension everywhere, without %load_ext."""
    from genai_cache_magic.cli.profile import change_profile

    path, is_changed = change_profile(profile, remove=remove)
    state = "no longer loaded" if remove else "loaded"
    says = f"the extension is {state} by {tilde(path)}{'' if is_changed else ', as it was before'}"
    tell({"path": str(path), "loaded": not remove, "changed": is_changed}, says, as_json=as_json)


def _invalidate(cache: Cache, by: str, value: str, *, dry_run: bool) -> Invalidation:
    match by:
        case "PATTERN":
            return cache.invalidate(value, dry_run=dry_run)
        case "entry":
            return cache.invalidate_entry(value, dry_run=dry_run)
        case "older-than":
            return cache.invalidate_older_than(value, dry_run=dry_run)
        case "run" | "model" | "person":
            return cache.invalidate_tag(value, kind=by, dry_run=dry_run)
        case _:
            return cache.invalidate_tag(value, dry_run=dry_run)


def _tell(done: Invalidation, *, as_json: bool) -> None:
    from genai_cache_magic.jupyter.shown.words import outcome_in_words

    tell(asdict(done), outcome_in_words(done), as_json=as_json)


def _described(item: Listed, *, previews: bool) -> dict[str, Any]:
    """Return what is listed of an entry; prompts only where they were asked for."""
    of, usage = item.metadata, item.metadata.usage
    row = {
        "id": item.entry_id[:_ID_DIGITS],
        "name": of.key or of.label,
        "stored": datetime.fromtimestamp(item.header.created_ms // 1000, UTC),
        "tokens_in": usage.input_tokens,
        "tokens_out": usage.output_tokens,
        "usd": None if of.cost_usd is None else f"{of.cost_usd:f}",
        "run": of.run,
        "tags": of.tags,
    }
    return {**row, "prompt": of.preview} if previews else row


def _at_terminal() -> bool:
    return sys.stdin.isatty()


if __name__ == "__main__":
    main()
