"""Takes away what POSIX has and Windows has not, before the package is imported: a pytest plugin, or to be imported.

It is no Windows: paths, sharing of open files and the end of processes stay as they are here.
"""

from __future__ import annotations

import asyncio  # noqa: F401 - the standard library chooses by the platform's name what to import: let it, first
import concurrent.futures.process  # noqa: F401
import contextlib
import errno
import fcntl
import multiprocessing.util  # noqa: F401
import os
import shutil
import stat
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import types
from pathlib import Path

import _pytest.tmpdir
import platformdirs  # noqa: F401 - chooses by the platform's name as well

with contextlib.suppress(ImportError):
    import trio  # noqa: F401 - so does this, which httpcore and anyio import where it is installed

NAMES = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "fchmod", "fork", "getegid", "geteuid", "getgid",
    "getuid", "mkfifo", "register_at_fork", "setuid", "uname",
)  # fmt: skip
MODULES = ("fcntl", "grp", "pwd", "resource")
TEXT_MODE = "translates ends of lines: open it with O_BINARY"
_O_BINARY = 1 << 30

_open, _utime, _stat, _fstat = os.open, os.utime, os.stat, os.fstat


def _open_binary(path, flags, *rest, **named):
    ours = sys._getframe(1).f_globals.get("__name__", "").startswith("genai_cache_magic")
    if ours and flags & os.O_WRONLY and not flags & _O_BINARY:
        raise AssertionError(f"{path} {TEXT_MODE}")
    if ours and Path(path).is_dir():
        raise PermissionError(errno.EACCES, "a directory can't be opened", path)
    return _open(path, flags & ~_O_BINARY, *rest, **named)


def _utime_by_name(path, *rest, **named):
    if isinstance(path, int):
        raise TypeError("utime: path should be string, bytes or os.PathLike, not int")
    return _utime(path, *rest, **named)


def _as_windows_says(status: os.stat_result) -> os.stat_result:
    """Owner 0, and rights that are the same for all."""
    fields = list(status)
    fields[0] = stat.S_IFMT(fields[0]) | (0o777 if stat.S_ISDIR(fields[0]) else 0o666)
    fields[4] = fields[5] = 0
    times = {name: getattr(status, name) for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns")}
    return os.stat_result(fields + [ns / 1e9 for ns in times.values()], times)


def _locking(descriptor: int, how: int, _count: int) -> None:
    fcntl.flock(descriptor, {2: fcntl.LOCK_EX | fcntl.LOCK_NB, 0: fcntl.LOCK_UN}[how])


msvcrt = types.ModuleType("msvcrt")
msvcrt.locking, msvcrt.LK_NBLCK, msvcrt.LK_UNLCK = _locking, 2, 0  # type: ignore[attr-defined]
sys.modules["msvcrt"] = msvcrt
for name in MODULES:
    sys.modules[name] = None  # type: ignore[assignment]
for name in NAMES:
    delattr(os, name)
shutil._use_fd_functions = False  # type: ignore[attr-defined]  # it has found out at its import what it may use
os.O_BINARY = _O_BINARY  # type: ignore[attr-defined]
os.open = _open_binary
os.utime = _utime_by_name  # not among os.supports_fd, which holds the one of before
os.stat = lambda *args, **named: _as_windows_says(_stat(*args, **named))
os.fstat = lambda *args: _as_windows_says(_fstat(*args))
for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
_pytest.tmpdir.get_user_id = lambda: None  # type: ignore[assignment]  # pytest asks by the platform's name, too
