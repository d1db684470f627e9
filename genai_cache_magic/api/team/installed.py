"""Whether what a setting needs is installed: said when a cache is opened, with the command that installs it."""

from __future__ import annotations

import importlib.util

from genai_cache_magic.errors import ConfigurationError


def is_installed(package: str) -> bool:
    """Return whether `package`, a dotted name, can be imported; the last part of it is not."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # not even what it is in
        return False


def ensure_installed(setting: str, extra: str, *packages: str) -> None:
    """Raise ``ConfigurationError`` for the first of `packages` that is missing; `extra` of ours brings them."""
    for package in packages:
        if not is_installed(package):
            raise ConfigurationError(f"{setting} needs {package}: pip install 'genai-cache-magic[{extra}]'")
