"""The line in an IPython profile that loads the extension in every shell and kernel.

A profile's ``extensions`` load before the first cell. (Its ``lazy_magics`` would load too late: the first
cell is transformed before the magic in it is looked up.)
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from pathlib import Path

from genai_cache_magic.errors import ConfigurationError

LINE = 'c.InteractiveShellApp.extensions.append("genai_cache_magic")  # written by `genai-cache enable`'


def change_profile(profile: str, *, remove: bool = False) -> tuple[Path, bool]:
    """Add our line to the configuration of `profile`, or take it out again.

    Returns
    -------
    tuple of Path and bool
        The file, and whether it had to be changed.

    Raises
    ------
    ConfigurationError
        The profile's name is a path, or its file can't be read or written.
    """
    if not profile or Path(profile).name != profile:
        raise ConfigurationError(f"--profile {profile}: write the name of a profile, such as default")
    path = Path(_ipython_directory(), f"profile_{profile}", "ipython_config.py")
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = _without(before) if remove else _with(before)
        if after != before:
            # Through a link, which is how people keep such files under version control.
            _replace(path.resolve(), after)
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} can't be changed ({exc}): make it readable and writable") from exc
    return path, after != before


def _ipython_directory() -> str:
    """Return where IPython keeps its profiles; not the temporary directory that it takes where it can't write."""
    from IPython.paths import get_ipython_dir

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*not a writable location", category=UserWarning)
        try:
            return str(get_ipython_dir())
        except UserWarning as exc:
            raise ConfigurationError(
                "IPython can't keep a profile, since your home directory can't be written: set IPYTHONDIR to a "
                "directory of your own",
            ) from exc


def _with(text: str) -> str:
    if LINE in text.splitlines():
        return text
    head = text or "c = get_config()  # noqa\n"
    return f"{head}{'' if head.endswith(chr(10)) else chr(10)}{LINE}\n"


def _without(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if line.strip() != LINE)


def _replace(path: Path, text: str) -> None:
    """Write `path` as a whole or not at all, with the mode that it had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        if path.exists():
            Path(draft).chmod(path.stat().st_mode & 0o777)
        Path(draft).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(draft).unlink()
