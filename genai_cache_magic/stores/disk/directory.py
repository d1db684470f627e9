"""The private directory that a tier on disk lives in, or words that say why it can't."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.host import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    is_foreign,
    make_private_directories,
    mode_of,
    rights_of_others,
    user_id,
)
from genai_cache_magic.stores.disk.faults import describe, lacks_room
from genai_cache_magic.stores.disk.file_systems import (
    file_system_of,
    is_local,
    is_shared,
    keeps_a_database,
    mount_table,
)

MARKER_NAME = ".genai-cache"
"""A file that says: this directory is ours, so its mode is ours to correct; and how its file system did when tried."""

_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_LEVELS = 4  # how far above a tier the cache's own directory is at most


def ensure_private_directory(path: Path, *, device: int | None = None) -> Path:
    """Return `path`, absolute and without links, as a directory that only its owner may enter.

    A missing directory is made, with its missing parents, for the owner alone. One that others may enter is
    tightened if it is empty or bears our marker; another might hold somebody's files, so its mode is left.

    Parameters
    ----------
    path
        The directory; made if it is missing.
    device
        That of a directory whose file system was found good: on the same one `path` needs no second look.

    Raises
    ------
    ConfigurationError
        It is no directory, belongs to another user, is open to others, can't be read, or lies on a file system that
        several machines may share. The message names the directory and the fix.
    StoreUnavailable
        It could not be made now: no room, an error of the medium.
    """
    path = Path(path).resolve()
    is_known = device is not None and device_of(path) == device
    kind, options = ("", "") if is_known else file_system_of(path, mount_table())
    _refuse_shared(path, kind, options)
    try:
        is_new = _make(path)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(f"cache directory {path} is a file. {_elsewhere()}")
        _refuse_foreign_owner(path, status)
        _tighten(path, status, is_new=is_new)
        if not os.access(path, os.R_OK | os.X_OK):
            raise ConfigurationError(
                f"cache directory {path} can't be read. "
                f"Run `chmod u+rwx {shlex.quote(str(path))}`, or use another: {_elsewhere()}"
            )
        if is_writable(path):
            _mark(path)
            if not is_known:
                _try_unknown(path, kind)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"cache directory {path} can't be used: {describe(error)}. {_elsewhere()}") from error
    except OSError as error:
        raise StoreUnavailable(
            f"cache directory {path} can't be used now: {describe(error)}. {_elsewhere()}"
        ) from error
    return path


def _mark(path: Path) -> None:
    try:
        (path / MARKER_NAME).touch(mode=PRIVATE_FILE, exist_ok=True)
    except OSError as error:
        if not lacks_room(error):  # a full disk can still be read
            raise


def _refuse_shared(path: Path, kind: str, options: str) -> None:
    if is_shared(kind, options):
        raise ConfigurationError(
            f"cache directory {path} lies on a file system ({kind}) that other machines may share, where several "
            f"processes would damage the database. {_elsewhere()}"
        )


def _try_unknown(path: Path, kind: str) -> None:
    """Try a file system that we don't know, once: the marker says that it was, and on which device."""
    if is_local(kind):
        return
    marker = path / MARKER_NAME
    passed = f"tried {kind or 'unknown'} {path.stat().st_dev}\n"
    if any(_content(directory / MARKER_NAME) == passed for directory in (path, *path.parents[:_LEVELS])):
        return
    if not keeps_a_database(path):
        raise ConfigurationError(
            f"cache directory {path} lies on a file system ({kind or 'unknown'}) where locks or a write-ahead log "
            f"don't work between processes. {_elsewhere()}"
        )
    marker.write_text(passed, encoding="utf-8")


def _content(marker: Path) -> str:
    try:
        return marker.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def device_of(path: Path) -> int:
    """Return the device of `path`, or of the nearest directory above it that exists."""
    while (found := identity_of(path)) is None:
        path = path.parent
    return found[0]


def identity_of(path: Path) -> tuple[int, int] | None:
    """Return what tells one file or directory from another of the same name; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def is_writable(path: Path) -> bool:
    """Return whether files can be made in `path`, as far as its mode and its mount tell."""
    return os.access(path, os.R_OK | os.W_OK | os.X_OK)


def _make(path: Path) -> bool:
    """Make `path` and its missing parents, and return whether it was missing."""
    if path.exists():
        return False
    make_private_directories(path)
    return True


def _refuse_foreign_owner(path: Path, status: os.stat_result) -> None:
    # SECURITY: whoever owns the directory can put files into it, so it must be us.
    if is_foreign(status):
        raise ConfigurationError(
            f"cache directory {path} belongs to user id {status.st_uid}, not to {user_id()}. {_elsewhere()}"
        )


def _tighten(path: Path, status: os.stat_result, *, is_new: bool) -> None:
    if not rights_of_others(status) or (_is_mounted_to_read(path) and not status.st_mode & _MAY_WRITE):
        return
    if is_new or (path / MARKER_NAME).is_file() or not any(path.iterdir()):
        path.chmod(PRIVATE_DIRECTORY)
        return
    raise ConfigurationError(
        f"cache directory {path} has mode {mode_of(status):04o}, which lets other users in. "
        f"Run `chmod 700 {shlex.quote(str(path))}`, or use another: {_elsewhere()}"
    )


def _is_mounted_to_read(path: Path) -> bool:
    """Return whether `path` lies on a file system that nobody can write here, so that its modes can't be corrected."""
    statvfs = getattr(os, "statvfs", None)
    return statvfs is not None and bool(statvfs(path).f_flag & os.ST_RDONLY)


def _elsewhere() -> str:
    return "Set GENAI_CACHE_DIR to a local directory of your own, such as ~/.cache/genai-cache."
