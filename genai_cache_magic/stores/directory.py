"""The private directory that a tier on disk lives in, or words that say why it can't."""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.host import (
    PRIVATE_DIRECTORY,
    PRIVATE_FILE,
    is_foreign,
    mode_of,
    rights_of_others,
    user_id,
)
from genai_cache_magic.stores.faults import describe

MARKER_NAME = ".genai-cache"
"""An empty file that says: this directory is ours, so its mode is ours to correct."""

_MOUNTS = Path("/proc/self/mountinfo")
# SQLite's write-ahead log shares memory between processes and trusts locks; over these it has neither.
_NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "lustre", "beegfs", "gpfs"}
)
_NETWORK_PREFIXES = ("fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.rclone", "fuse.blobfuse", "fuse.gluster")
_WINDOWS_DRIVE = "aname=drvfs"  # how WSL mounts C: and its kin, by the Plan 9 protocol
_octal_escape = re.compile(r"\\([0-7]{3})")


def ensure_private_directory(path: Path) -> Path:
    """Return `path`, absolute and without links, as a writable directory that only its owner may enter.

    A missing directory is made, with its missing parents, for the owner alone. One that others may enter is
    tightened if it is empty or bears our marker; another might hold somebody's files, so its mode is left.

    Raises
    ------
    ConfigurationError
        It is no directory, belongs to another user, is open to others, can't be written, or lies on a
        network file system. The message names the directory and the fix.
    StoreUnavailable
        It could not be made now: no room, an error of the medium.
    """
    path = Path(path).resolve()
    _refuse_network(path, mount_table())
    try:
        is_new = _make(path)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(f"cache directory {path} is a file. {_elsewhere()}")
        _refuse_foreign_owner(path, status)
        _tighten(path, status, is_new=is_new)
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            raise ConfigurationError(
                f"cache directory {path} can't be written. "
                f"Run `chmod u+rwx {shlex.quote(str(path))}`, or use another: {_elsewhere()}"
            )
        (path / MARKER_NAME).touch(mode=PRIVATE_FILE, exist_ok=True)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise ConfigurationError(f"cache directory {path} can't be used: {describe(error)}. {_elsewhere()}") from error
    except OSError as error:
        raise StoreUnavailable(f"cache directory {path} can't be used now: {describe(error)}") from error
    return path


def mount_table(source: Path = _MOUNTS) -> str:
    """Return the kernel's list of mounts, or an empty text where there is none to read."""
    try:
        return source.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def file_system_of(path: Path, mounts: str) -> tuple[str, str]:
    """Return the type and the options of the file system that holds `path`; empty texts if unknown.

    Parameters
    ----------
    path
        Absolute, links resolved; need not exist.
    mounts
        A table in the form of ``/proc/self/mountinfo``, see proc(5).
    """
    best = ("", "", "")
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5 or len(kind) < 3:  # noqa: PLR2004 - the columns that proc(5) promises
            continue
        mount_point = _octal_escape.sub(lambda match: chr(int(match[1], 8)), fields[4])
        # A later line with the same mount point hides the earlier one.
        if path.is_relative_to(mount_point) and len(mount_point) >= len(best[0]):
            best = (mount_point, kind[0], kind[2])
    return best[1], best[2]


def _refuse_network(path: Path, mounts: str) -> None:
    kind, options = file_system_of(path, mounts)
    if kind in _NETWORK_TYPES or kind.startswith(_NETWORK_PREFIXES) or (kind == "9p" and _WINDOWS_DRIVE in options):
        raise ConfigurationError(
            f"cache directory {path} lies on a network file system ({kind}), where several processes would damage "
            f"the database. {_elsewhere()}"
        )


def _make(path: Path) -> bool:
    """Make `path` and its missing parents, and return whether it was missing."""
    if path.exists():
        return False
    for missing in reversed([path, *(parent for parent in path.parents if not parent.exists())]):
        missing.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    return True


def _refuse_foreign_owner(path: Path, status: os.stat_result) -> None:
    # SECURITY: whoever owns the directory can put files into it, so it must be us.
    if is_foreign(status):
        raise ConfigurationError(
            f"cache directory {path} belongs to user id {status.st_uid}, not to {user_id()}. {_elsewhere()}"
        )


def _tighten(path: Path, status: os.stat_result, *, is_new: bool) -> None:
    if not rights_of_others(status):
        return
    if is_new or (path / MARKER_NAME).is_file() or not any(path.iterdir()):
        path.chmod(PRIVATE_DIRECTORY)
        return
    raise ConfigurationError(
        f"cache directory {path} has mode {mode_of(status):04o}, which lets other users in. "
        f"Run `chmod 700 {shlex.quote(str(path))}`, or use another: {_elsewhere()}"
    )


def _elsewhere() -> str:
    return "Set GENAI_CACHE_DIR to a local directory of your own, such as ~/.cache/genai-cache."
