"""Where configuration files lie, and what stands in them. Parsing alone costs nothing at load time."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from genai_cache_magic.errors import ConfigurationError

TABLE = "genai-cache-magic"


def check_syntax() -> None:
    """Parse the configuration files without reading settings from them.

    Raises
    ------
    ConfigurationError
        As `read_tables`.
    """
    read_tables()


def read_tables() -> list[tuple[Path, dict[str, Any]]]:
    """Return the tables of settings, nearest file first, names with underscores.

    Raises
    ------
    ConfigurationError
        A file can't be read or is not TOML; the message names the file and the line.
    """
    return [(path, table) for path in _files() if (table := _table(path))]


def _files() -> list[Path]:
    found: list[Path] = []
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = [path for name in ("genai-cache.toml", "pyproject.toml") if (path := folder / name).is_file()]
        if found:
            break
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    user = Path(base) / "genai-cache" / "config.toml"
    return [*found, user] if user.is_file() else found


def _table(path: Path) -> dict[str, Any]:
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigurationError(f"{path} can't be read ({exc.strerror}): make it readable or remove it") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} is not TOML ({exc}): mend that line") from exc
    if path.name == "pyproject.toml":
        table = table.get("tool", {}).get(TABLE, {})
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: tool.{TABLE} must be a table, written [tool.{TABLE}]")
    return {name.replace("-", "_"): value for name, value in table.items()}
