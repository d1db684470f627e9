"""Whether a file system keeps a database that several processes use: known to, tried, or refused.

SQLite's write-ahead log needs memory that processes share and locks that hold between them. A file system that several
machines share has neither between those, and no trial on one machine shows it. So names decide where they can: what
is local, and what is shared. Of FUSE, where anybody may call anything by any name, only what is known is used.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from genai_cache_magic.host import PRIVATE_DIRECTORY, create_private, try_lock

_MOUNTS = Path("/proc/self/mountinfo")
_octal_escape = re.compile(r"\\([0-7]{3})")

_LOCAL = frozenset({
    "aufs", "bcachefs", "btrfs", "ecryptfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuse.fuse-overlayfs",
    "fuseblk", "hfs", "hfsplus", "iso9660", "jfs", "minix", "msdos", "nilfs2", "ntfs", "ntfs3", "overlay", "ramfs",
    "reiserfs", "rootfs", "squashfs", "tmpfs", "udf", "ufs", "vfat", "xfs", "zfs",
})  # fmt: skip
_LAYERS = frozenset({
    "fuse.bindfs", "fuse.cryfs", "fuse.encfs", "fuse.gocryptfs", "fuse.mergerfs", "fuse.securefs", "fuse.unionfs",
})  # fmt: skip
"""What these stand upon may be a disk or a share."""

_is_shared = re.compile(
    r"nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|coda|ceph|lustre|beegfs|gpfs|gfs2?|ocfs2|glusterfs|orangefs|pvfs2|davfs2?"
    r"|fuse(\..+)?"
).fullmatch
_WINDOWS_DRIVE = "aname=drvfs"  # how WSL mounts C: and its kin, by the Plan 9 protocol
_TRIAL_TIMEOUT_S = 20.0


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


def is_local(kind: str) -> bool:
    """Return whether a file system of type `kind` is known to belong to this machine alone."""
    return kind in _LOCAL


def is_shared(kind: str, options: str) -> bool:
    """Return whether several machines may share a file system of type `kind`, as far as its name tells."""
    if kind in _LOCAL or kind in _LAYERS:
        return False
    return _is_shared(kind) is not None or (kind == "9p" and _WINDOWS_DRIVE in options)


def keeps_a_database(directory: Path) -> bool:
    """Try with a second process whether locks and a write-ahead log work in `directory`; raises ``OSError``."""
    trial = directory / f".trial-{secrets.token_hex(8)}"
    trial.mkdir(mode=PRIVATE_DIRECTORY)
    try:
        return _is_passed(trial)
    except (sqlite3.Error, subprocess.SubprocessError):
        return False
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def look(trial: str) -> str:
    """Return what another process sees of a trial: whether lock and database are free, and the rows; adds one."""
    directory = Path(trial)
    with (directory / "lock").open("rb") as lock, contextlib.closing(_connect(directory)) as connection:
        is_lock_free = try_lock(lock.fileno())
        rows = connection.execute("SELECT count(*) FROM trial").fetchone()[0]
        try:
            connection.execute("INSERT INTO trial VALUES (2)")
        except sqlite3.OperationalError:
            return f"{is_lock_free} False {rows}"
        return f"{is_lock_free} True {rows}"


def _is_passed(trial: Path) -> bool:
    with open(create_private(trial / "lock"), "wb") as lock, contextlib.closing(_connect(trial)) as connection:  # noqa: PTH123 - a descriptor
        if connection.execute("PRAGMA journal_mode = WAL").fetchall() != [("wal",)] or not try_lock(lock.fileno()):
            return False
        connection.execute("CREATE TABLE trial (value)")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO trial VALUES (1)")
        if _ask_another(trial) != "False False 0":
            return False
        connection.execute("COMMIT")
        lock.close()
        if _ask_another(trial) != "True True 1":
            return False
        return connection.execute("SELECT value FROM trial").fetchall() == [(1,), (2,)]


def _ask_another(trial: Path) -> str:
    # SECURITY: isolated, and without the working directory, so that nothing there is imported.
    path = [entry for entry in sys.path if entry]
    code = f"import sys; sys.path[:] = {path!r}; from {__name__} import look; print(look(sys.argv[1]))"
    command = [sys.executable, "-I", "-c", code, str(trial)]
    done = subprocess.run(  # noqa: S603 - our own interpreter
        command, check=True, capture_output=True, text=True, timeout=_TRIAL_TIMEOUT_S, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip()


def _connect(directory: Path) -> sqlite3.Connection:
    return sqlite3.connect(directory / "trial.db", timeout=0, isolation_level=None)
