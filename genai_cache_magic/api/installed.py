"""Whether what a setting needs is installed: said when a cache is opened, with the command that installs it."""

from __future__ import annotations

import importlib.util

from genai_cache_magic.errors import ConfigurationError


def ensure_installed(setting: str, extra: str, *packages: str) -> None:
    """Raise ``ConfigurationError`` for the first of `packages` that is missing; `extra` of ours brings them."""
    for package in packages:
        try:
            is_there = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:  # not even what it is in
            is_there = False
        if not is_there:
            raise ConfigurationError(f"{setting} needs {package}: pip install 'genai-cache-magic[{extra}]'")
