"""``genai-cache gc --old-versions``: what older major versions have left is shown, and removed if that is wanted."""

from __future__ import annotations

import json
import sys

import typer

from genai_cache_magic.cli.opening import warn
from genai_cache_magic.cli.showing import confirm


def give_up_old(namespace: str | None, *, yes: bool, as_json: bool) -> None:
    """Show what is left, and remove it if `yes`, or whoever is asked, says so."""
    from genai_cache_magic.api.scopes.session import Session
    from genai_cache_magic.jupyter.shown.words import counted
    from genai_cache_magic.ops.old_versions import look, remove
    from genai_cache_magic.settings.units import rounded_size

    session = Session()
    try:
        warn(session)
        settings, name = session.settings, session.options(namespace=namespace).namespace
    finally:
        session.close()
    found = look(settings, name)
    for one in () if as_json else found:
        typer.echo(
            f"version {one.version} in {one.where}: {counted(one.count, 'value')}, {rounded_size(one.size_bytes)}"
        )
    is_removed = bool(found) and (yes or _is_wanted(name, as_json=as_json))
    if is_removed:
        remove(settings, found)
    if as_json:
        told = {"namespace": name, "removed": is_removed, "left": [one.as_json() for one in found]}
        typer.echo(json.dumps(told))
    elif not found:
        typer.echo(f"no older version has left anything of namespace {name}")
    else:
        typer.echo("removed" if is_removed else "nothing was removed: add --yes")


def _is_wanted(name: str, *, as_json: bool) -> bool:
    if not sys.stdin.isatty():
        return False
    confirm(f"Remove all of it, of namespace {name}, for everybody?", as_json=as_json)
    return True
