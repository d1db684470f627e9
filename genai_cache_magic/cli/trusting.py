"""``genai-cache trust``: the projects whose files are heard on directory, key and encryption."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from genai_cache_magic.core.masking import without_credentials
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import tilde
from genai_cache_magic.settings.files import NAMES, project_files, read_for_trust
from genai_cache_magic.settings.trust import TrustedFiles, decides_trust, digest_of
from genai_cache_magic.settings.units import spell_addresses

_SECRETS = frozenset({"l2_password", "l2_connection_string", "l2_account_key"})


def trust(
    path: Annotated[
        Path, typer.Argument(metavar="[PATH]", help="A file, or a folder of the project; default: this one.")
    ] = Path(),
    *,
    listed: Annotated[bool, typer.Option("--list", help="Show what is trusted.")] = False,
    revoke: Annotated[bool, typer.Option("--revoke", help="Trust it no longer.")] = False,
) -> None:
    """Let a project's file decide where answers lie and how they are sealed.

    It is trusted as it is now: what it says of genai-cache is shown, and once that changes it has to be trusted anew.
    """
    trusted = TrustedFiles()
    if listed:
        _show(trusted)
    elif revoke:
        _revoke(trusted, path)
    else:
        for file in _files(path):
            _trust(trusted, file)


def _trust(trusted: TrustedFiles, file: Path) -> None:
    try:
        table = read_for_trust(file)
    except OSError as exc:
        raise ConfigurationError(f"{file} can't be read ({exc.strerror}): make it readable") from exc
    if not table:
        typer.echo(f"{tilde(file)} says nothing to genai-cache")
        return
    trusted.add(file, digest_of(table))
    typer.echo(f"{tilde(file)} is trusted as it is now:")
    for name, value in table.items():
        # SECURITY: who wrote the file may not command the terminal that shows it.
        shown = "".join(
            c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in f"{name} = {_shown(name, value)}"
        )
        typer.echo(f"  {shown}{'  (decided by trusted files alone)' if decides_trust(name) else ''}")


def _shown(name: str, value: object) -> str:
    """Return a value as the user may see it, without what opens the team's tier."""
    if name in _SECRETS:
        return "(set)"
    if name == "l2":
        texts = value if isinstance(value, list) else str(value).split(",")
        from pydantic import SecretStr

        return repr(spell_addresses(tuple(SecretStr(str(text).strip()) for text in texts)))
    return without_credentials(repr(value))


def _files(path: Path) -> list[Path]:
    """Return the files that settings would be read from at `path`."""
    if path.is_dir():
        found = project_files(_whole(path))
        if not found:
            raise ConfigurationError(f"{tilde(_whole(path))} has no {' or '.join(NAMES)}: name the file to trust")
        return found
    if path.name not in NAMES:
        raise ConfigurationError(f"{path} is no file that settings are read from: those are {' and '.join(NAMES)}")
    return [_whole(path)]


def _revoke(trusted: TrustedFiles, path: Path) -> None:
    targets = [_whole(path)]
    if path.is_dir():
        targets += project_files(_whole(path))
    # Each of them, not only until one was found.
    removed = [trusted.remove(target) for target in targets]
    if not any(removed):
        raise ConfigurationError(f"{tilde(_whole(path))} was not trusted: `genai-cache trust --list` shows what is")
    typer.echo(f"{tilde(_whole(path))} is trusted no longer")


def _show(trusted: TrustedFiles) -> None:
    files, complaint = trusted.load()
    if complaint:
        raise ConfigurationError(f"{tilde(trusted.path)}, the list of trusted projects, is ignored: {complaint}")
    for name in sorted(files):
        typer.echo(
            f"{tilde(name)}{'' if _is_as_trusted(Path(name), files[name]) else '  (changed since, so not heard)'}"
        )
    if not files:
        typer.echo("no project is trusted")


def _whole(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_as_trusted(path: Path, digest: str) -> bool:
    try:
        return digest_of(read_for_trust(path)) == digest
    except (OSError, ConfigurationError):
        return False
