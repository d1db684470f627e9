"""``genai-cache trust``: the projects whose files are heard on directory, key and encryption."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import typer

from genai_cache_magic.cli.showing import AsJson, tell
from genai_cache_magic.core.masking import without_credentials
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import tilde
from genai_cache_magic.settings.files import NAMES, project_files, read_for_trust
from genai_cache_magic.settings.trust import TrustedFiles, decides_trust, digest_of
from genai_cache_magic.settings.units import spell_addresses

_SECRETS = frozenset({"l2_password", "l2_connection_string", "l2_account_key"})
_WITH_SECRETS = frozenset({"cdn", "monitoring"})
"""Tables of which parts are secrets."""
_ADDRESS_ENDS = re.compile(r"[/?#]")
_QUERY = re.compile(r"[?#]")


def trust(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A file, or a folder of the project; default: this one.")
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
    """Return a value as the user may see it, without what lets whoever knows it in.

    SECURITY: nothing is checked yet: a misspelled name may hold a password, at whatever depth, and a list of headers a
    whole header.
    """
    from genai_cache_magic.settings.model import Settings, is_header

    if name not in Settings.model_fields:
        return "(no setting of genai-cache)"
    if name in _SECRETS or (name in _WITH_SECRETS and not isinstance(value, dict)):
        return "(set)"
    if name == "l2":
        texts = value if isinstance(value, list) else str(value).split(",")
        from pydantic import SecretStr

        return repr(spell_addresses(tuple(SecretStr(str(text).strip()) for text in texts)))
    if name == "extra_headers":
        listed = value if isinstance(value, list) else [value]
        value = [one if is_header(one) else "(no name of a header)" for one in listed]
    return without_credentials(repr(_known(value, Settings.model_fields[name].annotation)))


def _known(value: object, kind: Any, name: str = "") -> object:
    """Return what is known to belong there of a value that stands where one of a `kind` belongs, under a `name`."""
    from pydantic import BaseModel, SecretStr

    if isinstance(value, list):
        return [_known(one, (*get_args(kind), kind)[0], name) for one in value]
    if isinstance(value, dict):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kinds = {part: field.annotation for part, field in kind.model_fields.items()}
        else:
            kinds = dict.fromkeys(value, get_args(kind)[1]) if get_origin(kind) is dict else {}
        return {part: _known(one, kinds[part], part) if part in kinds else "(set)" for part, one in value.items()}
    if name in {"endpoint", "webhook"}:
        return _host(str(value), is_secret=kind is SecretStr)
    if kind is SecretStr:
        return "(set)"
    return _QUERY.split(str(value), maxsplit=1)[0] if name == "path" else value


def _host(address: str, *, is_secret: bool) -> str:
    """Return of an address who is told, and not the path, which may be what lets one in."""
    scheme, is_url, rest = address.partition("://")
    if not is_url and is_secret:
        return "(set)"
    host, *more = _ADDRESS_ENDS.split(rest if is_url else scheme, maxsplit=1)
    return host.rpartition("@")[2] + ("/..." if any(more) else "")


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
