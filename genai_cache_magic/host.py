"""The operating system under us: files of the user's alone, locks, names. All that POSIX and Windows do differently.

What a system does not offer is asked for by name when it is needed, so that this file is the only one that a new
system concerns. On Windows, owner and rights of a file are those of the user's profile folder, which we don't check.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import importlib
import os
import random
import re
import stat
import sys
import threading
import time
import uuid
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_BUSY_ERRNOS = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
_MOVE_TRIES = 20
_MOVE_PAUSE_S = 0.01


chance = random.SystemRandom()
"""For pauses and what else is better not alike everywhere: the sequence of ``random`` itself is the user's."""

_process_locks: WeakSet[Any] = WeakSet()


def process_lock() -> Any:
    """Return a new re-entrant lock of the threads of this process: a forked child has it free, whoever held it here.

    Re-entrant, since the garbage collector may end a call in the middle of anything.
    """
    lock = threading.RLock()
    _process_locks.add(lock)
    return lock


def request_id() -> str:
    """Return a new id of a request, by which a service's log tells it from others: a random UUID (RFC 9562, version 4).

    SDKs make one of the time and this machine's address (version 1) where none is given. libuuid keeps a file open for
    each thread that ever asked it for such a one, where the system has its ``uuidd``: notebooks ran out of files.
    """
    return str(uuid.uuid4())


def seconds_awake_or_asleep() -> float:
    """Return seconds that never run backwards, and go on while the machine sleeps where the system tells them."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    if clock is None and sys.platform == "darwin":
        # `time.monotonic` stands still there while it sleeps, and `CLOCK_MONOTONIC` moves when the time is set.
        clock = time.CLOCK_MONOTONIC_RAW
    if clock is not None:
        with contextlib.suppress(OSError):  # the kernel, or a sandbox, does not know it
            return time.clock_gettime(clock)
    return time.monotonic()


_process_id = os.getpid()


def process_id() -> int:
    """Return what ``os.getpid`` does, without asking the system: of a model call it is asked several times."""
    return _process_id


def _after_fork() -> None:
    """Learn a forked child's own id, and free what threads held that it does not have."""
    global _process_id  # noqa: PLW0603 - there is one of it in a process
    _process_id = os.getpid()
    for lock in _process_locks:
        lock._at_fork_reinit()  # noqa: SLF001 - as the standard library does with its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _flags(*names: str) -> int:
    """Return those flags of ``os.open`` that this system has."""
    flags = 0
    for name in names:
        flags |= getattr(os, name, 0)
    return flags


def open_to_read(path: str | Path, *, follow_link: bool = False) -> int:
    """Return a descriptor of a file, which a pipe in its place can't block; a link in its place is ``ELOOP``."""
    # O_BINARY, or Windows would translate what looks like ends of lines.
    flags = os.O_RDONLY | _flags("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "" if follow_link else "O_NOFOLLOW")
    return os.open(path, flags)


def create_private(path: str | Path) -> int:
    """Return a descriptor of a new file, to be written by, and for, its owner alone, whatever the umask."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _flags("O_CLOEXEC", "O_BINARY", "O_NOFOLLOW")
    return _made_private(os.open(path, flags, PRIVATE_FILE))


def make_private_directories(path: Path) -> None:
    """Make what is missing of `path`, each level for its owner alone."""
    if path.is_dir():
        return
    make_private_directories(path.parent)
    path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)


def open_lock(path: str | Path) -> int:
    """Return a descriptor of a file that is there to be locked, made if it is missing."""
    return os.open(path, os.O_RDWR | os.O_CREAT | _flags("O_CLOEXEC", "O_NOFOLLOW"), PRIVATE_FILE)


def _made_private(descriptor: int) -> int:
    change = getattr(os, "fchmod", None)
    if change is not None:
        try:
            change(descriptor, PRIVATE_FILE)
        except BaseException:
            os.close(descriptor)
            raise
    return descriptor


def set_time(descriptor: int, path: str | Path, time_ns: int) -> None:
    """Date the file of `descriptor`, which bears the name `path`, to `time_ns` [ns since 1970]."""
    os.utime(descriptor if os.utime in os.supports_fd else path, ns=(time_ns, time_ns))


def move(source: Path, target: str | Path) -> None:
    """Give `source` the name `target`, replacing what bore it."""
    for _ in range(_MOVE_TRIES if os.name == "nt" else 0):
        try:
            source.replace(target)
        except PermissionError:  # Windows replaces no file that somebody is reading at this moment
            time.sleep(_MOVE_PAUSE_S)
        else:
            return
    source.replace(target)


def flush_directory(directory: str | Path) -> None:
    """Make a new name in `directory` survive a power failure, where a directory can be flushed at all."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | _flags("O_DIRECTORY", "O_CLOEXEC"))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checks_owners() -> bool:
    """Return whether this system says who owns a file and who else may use it."""
    return hasattr(os, "geteuid")


def what_is_unchecked() -> str:
    """Return a sentence about what this system does not let us check; empty where all is checked."""
    if checks_owners():
        return ""
    return "owner and rights of the directory, the key file and the settings are not checked on this system"


def user_id() -> int | None:
    """Return the number of the user that this process acts for; None where users have none."""
    return os.geteuid() if checks_owners() else None


def is_foreign(status: os.stat_result) -> bool:
    """Return whether a file is known to belong to somebody else."""
    return checks_owners() and status.st_uid != os.geteuid()


def rights_of_others(status: os.stat_result) -> int:
    """Return the mode bits that let others use a file; 0 where the system's modes say nothing of others."""
    return status.st_mode & _OTHERS if checks_owners() else 0


def mode_of(status: os.stat_result) -> int:
    """Return the mode bits of a file, as ``chmod`` takes them."""
    return stat.S_IMODE(status.st_mode)


def home() -> str:
    """Return the user's home directory; empty where there is none, or it is everything."""
    path = os.path.expanduser("~")  # noqa: PTH111 - `Path.home` raises where nobody knows of one
    return "" if path in {"~", os.sep} else path.rstrip(os.sep)


def tilde(path: str | Path) -> str:
    """Return `path`, or a sentence that names paths, as people write them: ``~`` for their home."""
    text, own = str(path), home()
    for known in sorted({own, os.path.realpath(own)} if own else (), key=len, reverse=True):
        # A shell knows it outside of quotes alone.
        text = re.sub(rf"'{re.escape(known)}/([^'\n]*\s[^'\n]*)'", r"~/'\1'", text)
        text = re.sub(rf"(?<![\w.-]){re.escape(known)}(?![\w-]|\.\w)", "~", text)
    return text


def machine_name() -> str:
    """Return the name of this machine in its network."""
    if hasattr(os, "uname"):
        return os.uname().nodename
    import platform

    return platform.node()


def person_name() -> str:
    """Return the user's name at the operating system, or the number where a container knows no name.

    What of it is no UTF-8 is written as Python writes it in a text, since no entry or table takes it otherwise.
    """
    try:
        return getpass.getuser().encode("utf-8", "backslashreplace").decode()
    except (ImportError, KeyError, OSError):  # which of them depends on the version of Python
        number = user_id()
        return "unknown" if number is None else f"uid-{number}"


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl: Any = _optional("fcntl")
_msvcrt: Any = None if _fcntl else _optional("msvcrt")


def try_lock(descriptor: int) -> bool:
    """Lock a file for all processes of this machine, unless it is locked; return whether that was done.

    The system frees the lock when the descriptor is closed, or its process dies.
    """
    try:
        if _fcntl is not None:
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        else:
            _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _BUSY_ERRNOS:
            return False
        raise
    return True


def unlock(descriptor: int) -> None:
    """Free the lock on a file."""
    if _fcntl is not None:
        _fcntl.flock(descriptor, _fcntl.LOCK_UN)
    else:
        _msvcrt.locking(descriptor, _msvcrt.LK_UNLCK, 1)
