"""``genai-cache runs``: what named runs asked and were answered, compared, pinned, and carried to others."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any

import typer

from genai_cache_magic.cli.codes import FOUND
from genai_cache_magic.cli.opening import Namespace, opened
from genai_cache_magic.cli.overview import Commands
from genai_cache_magic.cli.showing import AsJson, print_table, shown
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from genai_cache_magic.runs.summaries import Written

runs_app = typer.Typer(cls=Commands, rich_markup_mode=None)

_STDERR = 2

Name = Annotated[str, typer.Argument(metavar="NAME", help="The run: what --run names.")]


@runs_app.callback(invoke_without_command=True)
def _runs(context: typer.Context) -> None:
    """List, show, compare, pin, export, import and replay named runs."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@runs_app.command("list")
def runs_list(*, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """List the runs of this machine and of its team."""
    from genai_cache_magic.jupyter.shown.runs import listed

    with opened(namespace) as cache:
        found, notes = cache.runs.list(), cache.runs.notes
    if as_json:
        typer.echo(json.dumps({"runs": [run.as_json() for run in found], "notes": list(notes)}))
        return
    report = listed(found)
    _show(report.table, report.title, *notes)


@runs_app.command("show")
def runs_show(name: Name, *, as_json: AsJson = False, namespace: Namespace = None) -> None:
    """Show the calls of a run."""
    from genai_cache_magic.jupyter.shown.runs import described

    with opened(namespace) as cache:
        found, notes = cache.runs.show(name), cache.runs.notes
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "notes": list(notes)}))
        return
    report = described(found)
    _show(report.table, report.title, *report.notes, *notes)


@runs_app.command("diff")
def runs_diff(
    one: Name,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The run to compare it with.")],
    *,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Compare two runs: which calls differ, in what, and which answers. Exits with 1 if any do."""
    from genai_cache_magic.jupyter.shown.runs import differences

    with opened(namespace) as cache:
        found, notes = cache.runs.diff(one, other), cache.runs.notes
    if as_json:
        typer.echo(json.dumps({**found.as_json(), "notes": list(notes)}))
    else:
        report = differences(one, other, found)
        _show(report.table, report.title, *notes)
    raise typer.Exit(0 if found.is_empty else FOUND)


@runs_app.command("pin")
def runs_pin(
    name: Name,
    *,
    remove: Annotated[bool, typer.Option("--remove", help="Undo it.")] = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Keep the answers of a run as they are now, for replay: past their time, past clear and refresh."""
    from genai_cache_magic.jupyter.shown.runs import left_out, written

    with opened(namespace) as cache:
        if remove:
            was_pinned = cache.runs.unpin(name)
            says = f"run {name} is no longer pinned" if was_pinned else f"run {name} was not pinned"
            typer.echo(json.dumps({"run": name, "pinned": False}) if as_json else says)
            return
        done = cache.runs.pin(name)
    if as_json:
        typer.echo(json.dumps({"run": name, "pinned": True, **_counts(done), "team": done.is_told}))
        return
    for line in (written("pinned", name, done), *left_out(done)):
        typer.echo(shown(line))


@runs_app.command("export")
def runs_export(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")],
    *,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="As text that anyone can read.")] = False,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Write a run into one file, sealed for those who share the namespace unless --plaintext is given."""
    from genai_cache_magic.jupyter.shown.runs import left_out, written

    with opened(namespace) as cache:
        done = cache.runs.export(name, file, plaintext=plaintext)
    if as_json:
        typer.echo(json.dumps({"run": name, "file": str(file), **_counts(done)}))
        return
    for line in (written(f"written to {file}", name, done), *left_out(done)):
        typer.echo(shown(line))


@runs_app.command("import")
def runs_import(  # noqa: PLR0913 - one parameter for each option of the command
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `runs export` wrote, a run file, or what --from names.")
    ],
    named: Annotated[str, typer.Argument(metavar="NAME", help="The run's name here; default: the file's.")] = "",
    *,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="The same.")] = "",
    source: Annotated[
        str, typer.Option("--from", metavar="TOOL", help="Who recorded it: vcr (cassettes) or cachy (cachy.jsonl).")
    ] = "",
    log: Annotated[
        Path | None, typer.Option("--log", metavar="FILE", help="With --from cachy: the log that CACHY_LOG named.")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="RULE", help="A rule about noise, as in the cells that replay it; repeatable."
        ),
    ] = None,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Take over a run from a file: it is checked as a whole, and answers only a replay of that run."""
    from genai_cache_magic.jupyter.shown.runs import left_out, written

    if name and named and name != named:
        raise ConfigurationError(f"the run is called {named} and, by --as, {name}: give it one name")
    called = name or named or file.stem
    with opened(namespace) as cache:
        done = cache.runs.import_(file, called, source=source, log=log, ignore=ignore)
    if as_json:
        typer.echo(json.dumps({"run": called, "calls": done.count, "left_out": dict(done.left_out)}))
        return
    for line in (written("imported", called, done), *left_out(done)):
        typer.echo(shown(line))


@runs_app.command("replay")
def runs_replay(  # noqa: PLR0913 - one parameter for each option of the command
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The notebook, or script, to execute.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARG", help="What the script is given; after -- if it begins with a dash."),
    ] = None,
    *,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the executed notebook goes; default: nowhere.")
    ] = None,
    as_json: AsJson = False,
    namespace: Namespace = None,
) -> None:
    """Execute a notebook or a script with the run's answers: no model is called, no key is needed."""
    from genai_cache_magic.cli.replaying import bundle_in, replay
    from genai_cache_magic.jupyter.shown.runs import left_out

    with tempfile.TemporaryDirectory(prefix="genai-cache-") as folder:
        bundle = bundle_in(folder, name)
        with opened(namespace) as cache:
            done = cache.runs.write_bundle(name, bundle)
            chosen = cache.namespace
        for line in () if done is None else left_out(done):
            typer.echo(shown(line), err=True)
        # What a script prints is not for who reads our object.
        prints_to = _STDERR if as_json else None
        code = replay(bundle, file, arguments or [], output, namespace=chosen, prints_to=prints_to)
    if as_json:
        about = {"run": name, "file": str(file), "output": None if output is None else str(output), "code": code}
        typer.echo(json.dumps(about))
    raise typer.Exit(code)


def _counts(done: Written) -> dict[str, Any]:
    """Return plain values of what was written."""
    left_out = dict(done.left_out)
    return {"calls": done.count, "changed": done.changed, "similar": done.similar, "left_out": left_out}


def _show(table: object, *notes: str) -> None:
    from genai_cache_magic.jupyter.shown.report import Table

    if isinstance(table, Table):
        print_table(table.header, [tuple(shown(cell) for cell in row) for row in table.rows])
    for note in notes:
        typer.echo(shown(note))
