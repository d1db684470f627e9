"""``genai-cache trust``: the projects whose files are heard on directory, key and encryption."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from genai_cache_magic.cli.showing import AsJson, tell
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
    as_json: AsJson = False,
) -> None:
    """Let a project's file decide where answers lie and how they are sealed.

    It is trusted as it is now: what it says of genai-cache is shown, and once that changes it has to be trusted anew.
    """
    trusted = TrustedFiles()
    if listed:
        _show(trusted, as_json=as_json)
    elif revoke:
        _revoke(trusted, path, as_json=as_json)
    else:
        found = [_trust(trusted, file, as_json=as_json) for file in _files(path)]
        if as_json:
            typer.echo(json.dumps({"trusted": found}))


def _trust(trusted: TrustedFiles, file: Path, *, as_json: bool) -> dict[str, Any]:
    """Trust a file, and say what it says; return that."""
    try:
        table = read_for_trust(file)
    except OSError as exc:
        raise ConfigurationError(f"{file} can't be read ({exc.strerror}): make it readable") from exc
    says = {name: _shown(name, value) for name, value in table.items()}
    about = {"file": str(file), "settings": says}
    if table:
        trusted.add(file, digest_of(table))
    if as_json:
        return about
    typer.echo(f"{tilde(file)} is trusted as it is now:" if table else f"{tilde(file)} says nothing to genai-cache")
    for name, value in says.items():
        # SECURITY: who wrote the file may not command the terminal that shows it.
        said = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in f"{name} = {value}")
        typer.echo(f"  {said}{'  (decided by trusted files alone)' if decides_trust(name) else ''}")
    return about


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


def _revoke(trusted: TrustedFiles, path: Path, *, as_json: bool) -> None:
    targets = [_whole(path)]
    if path.is_dir():
        targets += project_files(_whole(path))
    # Each of them, not only until one was found.
    removed = [trusted.remove(target) for target in targets]
    if not any(removed):
        raise ConfigurationError(f"{tilde(_whole(path))} was not trusted: `genai-cache trust --list` shows what is")
    tell({"revoked": str(_whole(path))}, f"{tilde(_whole(path))} is trusted no longer", as_json=as_json)


def _show(trusted: TrustedFiles, *, as_json: bool) -> None:
    files, complaint = trusted.load()
    if complaint:
        raise ConfigurationError(f"{tilde(trusted.path)}, the list of trusted projects, is ignored: {complaint}")
    heard = {name: _is_as_trusted(Path(name), files[name]) for name in sorted(files)}
    lines = [
        f"{tilde(name)}{'' if is_heard else '  (changed since, so not heard)'}" for name, is_heard in heard.items()
    ]
    about = [{"file": name, "heard": is_heard} for name, is_heard in heard.items()]
    tell({"trusted": about}, *(lines or ["no project is trusted"]), as_json=as_json)


def _whole(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_as_trusted(path: Path, digest: str) -> bool:
    try:
        return digest_of(read_for_trust(path)) == digest
    except (OSError, ConfigurationError):
        return False
