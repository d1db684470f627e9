"""Directories and files as people write them: ``~/cache``, ``$SCRATCH/cache``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from genai_cache_magic.errors import ConfigurationError

_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


def parse_place(text: str | Path) -> Path:
    """Return `text` as an absolute path, its variables and ``~`` put in: once, so that all who use it mean the same.

    Raises
    ------
    ConfigurationError
        There is no such variable or user.
    """
    if not isinstance(text, str | Path):
        raise ConfigurationError(f"{text!r} is no path: write it as text, such as ~/.cache/genai-cache")
    path = Path(_VARIABLE.sub(_value, str(text)))
    try:
        path = path.expanduser()
    except RuntimeError as exc:
        raise ConfigurationError(
            f"{str(text)!r} names a home directory that is not known: write the whole path"
        ) from exc
    return path.absolute()


def _value(match: re.Match[str]) -> str:
    name = match[1] or match[2]
    value = os.environ.get(name)
    if not value:
        raise ConfigurationError(f"there is no environment variable {name}: set it, or write the whole path")
    return value


def own_directory(kind: Literal["cache", "config"]) -> Path:
    """Return where this user's `kind` of files lies by the custom of the system.

    Raises
    ------
    ConfigurationError
        No home is known. SECURITY: a path that is not absolute would be one of the working directory.
    """
    import platformdirs

    try:
        found = platformdirs.user_cache_dir if kind == "cache" else platformdirs.user_config_dir
        path = Path(found("genai-cache"))
    except RuntimeError:  # newer ones refuse it themselves
        path = Path()
    if not path.is_absolute():
        raise ConfigurationError(
            f"your home directory is not known: set HOME, or XDG_{kind.upper()}_HOME, to a directory of your own"
        )
    return path
