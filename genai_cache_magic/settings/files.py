"""Where configuration files lie, and what stands in them. Parsing alone costs nothing at load time."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import home, open_to_read, tilde
from genai_cache_magic.settings.trust import TrustedFiles, danger_of, digest_of, for_shell, narrowed

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLE = "genai-cache-magic"
NAMES = ("genai-cache.toml", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Layer:
    """What counts of one file.

    Attributes
    ----------
    table
        Its settings, names with underscores.
    danger
        Why nothing of it counts; empty if it is safe to read.
    withheld
        Names of the settings that don't count, since they decide trust and the user trusts no such project file.
    is_confined
        Whether its aliases count among its own rules alone, for the same reason.
    is_changed
        Whether the user trusted what it said before.
    """

    path: Path
    table: dict[str, Any] = field(repr=False)
    danger: str = ""
    withheld: tuple[str, ...] = ()
    is_confined: bool = False
    is_changed: bool = False


def check_syntax() -> None:
    """Parse the configuration files without reading settings from them.

    Raises
    ------
    ConfigurationError
        As `read_layers`.
    """
    read_layers()


def read_layers() -> list[Layer]:
    """Return what the files say, as far as it counts, nearest first.

    Raises
    ------
    ConfigurationError
        A file can't be read or is not TOML; the message names the file and the line.
    """
    trusted = TrustedFiles()
    own = users_file()
    users = None if own is None else _read(own, trusted)
    layers = [_narrowed(layer, trusted) for path in project_files() if (layer := _read(path, trusted)) is not None]
    if users is not None:
        layers = [*(_with_distinctions_of(users, layer) for layer in layers), users]
    return layers


def complaints(layers: Iterable[Layer]) -> list[str]:
    """Return a sentence, with its fix, for each file of which something is ignored."""
    said = [sentence for layer in layers if (sentence := _complaint(layer))]
    if said and (why := TrustedFiles().load()[1]):
        said.append(f"{tilde(TrustedFiles().path)}, the list of trusted projects, is ignored: {why}")
    return said


def project_files(start: Path | None = None) -> list[Path]:
    """Return the files of the project that `start` lies in, the working directory by default.

    The nearest folder that has any counts. The search ends at the root of a repository, and at home: what lies
    above was put there by somebody else, or for something else.
    """
    try:
        here = Path.cwd() if start is None else start
        own = home()
        ends = {Path(own), Path(os.path.realpath(own))} if own else set()
        for folder in (here, *here.parents):
            found = [folder / name for name in NAMES if os.path.isfile(folder / name)]  # noqa: PTH113 - never raises
            if found:
                return found
            if folder in ends or os.path.lexists(folder / ".git"):
                break
    except OSError:
        pass  # the working directory is gone
    return []


def users_file() -> Path | None:
    """Return the file that is the user's own, whether it is there or not; None if nobody knows of a home.

    SECURITY: a path that is not absolute would be one of the working directory, and so the word of a project.
    """
    bases = Path(os.environ.get("XDG_CONFIG_HOME", "")), Path(os.path.expanduser("~"), ".config")  # noqa: PTH111 - never raises
    return next((base / "genai-cache" / "config.toml" for base in bases if base.is_absolute()), None)


def read_for_trust(path: Path) -> dict[str, Any]:
    """Return what `path` says, whoever owns it: for the user to see and to trust; raises as `read_layers`."""
    return _parse(path, _content(path)[0])


def _complaint(layer: Layer) -> str:
    path = tilde(layer.path)
    if layer.danger:
        return f"{path} is not read: {layer.danger}"
    if not layer.withheld:
        return ""
    changed = " It has changed since you trusted it." if layer.is_changed else ""
    return (
        f"{path} sets {' and '.join(layer.withheld)}: ignored, since that decides who can read your answers and who "
        f"can give them.{changed} If you trust whoever wrote it, run `genai-cache trust {for_shell(layer.path)}`"
    )


def _read(path: Path, trusted: TrustedFiles) -> Layer | None:
    """Return what `path` says; None if it is not there or says nothing to us."""
    try:
        content, danger = _content(path)
    except (FileNotFoundError, NotADirectoryError):  # the latter where what is said to be home is a file
        return None
    except OSError as exc:
        try:
            danger = danger_of(path, path.stat())
        except OSError:
            danger = ""
        if danger:
            return Layer(path, {}, danger)
        raise ConfigurationError(f"{path} can't be read ({exc.strerror}): make it readable or remove it") from exc
    if path.name == "pyproject.toml" and TABLE.encode() not in content:
        return None
    if danger and not trusted.knows(path):
        # SECURITY: not even parsed, so that nobody else can stop a notebook by a line that is no TOML.
        return Layer(path, {}, danger)
    table = _parse(path, content)
    if danger and not trusted.trusts(path, digest_of(table)):
        return Layer(path, {}, danger)
    return Layer(path, table) if table else None


def _content(path: Path) -> tuple[bytes, str]:
    # SECURITY: what is judged is the open file, not its name, which could change in between.
    with os.fdopen(open_to_read(path, follow_link=True), "rb") as file:
        return file.read(), danger_of(path, os.fstat(file.fileno()))


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        table: Any = tomllib.loads(content.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{path} is not TOML ({exc}): mend that line") from exc
    if path.name == "pyproject.toml":
        tools = table.get("tool", {})
        table = tools.get(TABLE, {}) if isinstance(tools, dict) else {}
    elif "tool" in table:  # copied from a page, which writes all examples as of pyproject.toml
        raise ConfigurationError(
            f"{tilde(path)}: [tool.{TABLE}] belongs into pyproject.toml; here leave that line out, and write "
            f"[tool.{TABLE}.cdn] as [cdn]"
        )
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: tool.{TABLE} must be a table, written [tool.{TABLE}]")
    return {name.replace("-", "_"): value for name, value in table.items()}


def _narrowed(layer: Layer, trusted: TrustedFiles) -> Layer:
    kept, withheld, is_confined = narrowed(layer.table)
    if not (withheld or is_confined) or trusted.trusts(layer.path, digest_of(layer.table)):
        return layer
    return replace(layer, table=kept, withheld=withheld, is_confined=is_confined, is_changed=trusted.knows(layer.path))


def _with_distinctions_of(users: Layer, layer: Layer) -> Layer:
    """Return `layer` with what the user adds to keys beside its own: no project may put people together again."""
    added: dict[str, Any] = {}
    for name in ("extra_headers", "key_include"):
        own, theirs = (one.table.get(name) for one in (users, layer))
        if isinstance(own, list) and isinstance(theirs, list):
            added[name] = [*own, *theirs]
    return replace(layer, table={**layer.table, **added}) if added else layer
