"""Foreign errors of the file system and of SQLite, told apart by what a store should do about them."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sqlite3
from typing import TYPE_CHECKING

from genai_cache_magic.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Trouble around a database that says nothing about its content. Any other code means that the content
# is not what we wrote, our statements being fixed and known to be right.
_TRANSIENT = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_ABORT,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOLFS,
        sqlite3.SQLITE_AUTH,
        sqlite3.SQLITE_MISUSE,
    }
)
_PRIMARY = 0xFF  # the low byte of an extended result code is its primary code, sqlite.org/rescode.html

_LOCKED = "another process keeps it locked"
_NO_ROOM = "no space left on device, or no right to write"
_WORDS = {
    sqlite3.SQLITE_PERM: "the right to use it is missing",
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_NOMEM: "memory is short",
    sqlite3.SQLITE_READONLY: "it can only be read",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_IOERR_SHMOPEN: _NO_ROOM,
    sqlite3.SQLITE_IOERR_SHMSIZE: _NO_ROOM,
    sqlite3.SQLITE_IOERR_SHMMAP: _NO_ROOM,
    sqlite3.SQLITE_IOERR_WRITE: _NO_ROOM,
    sqlite3.SQLITE_CORRUPT: "it is damaged",
    sqlite3.SQLITE_NOTADB: "it is damaged",
    sqlite3.SQLITE_FULL: "no space left on device",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened",
    sqlite3.SQLITE_PROTOCOL: "its locks don't work",
    sqlite3.SQLITE_TOOBIG: "a value in it is too large",
}
"""What codes of SQLite mean, the more exact ones first; names such as SQLITE_BUSY help no user."""

_NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})
_HINDERED = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)

FOREIGN_FILE_ERRNOS = frozenset({errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG})
"""What opening says when a link, a directory or a device stands where a value file should be."""


def is_damage(error: BaseException) -> bool:
    """Return whether `error` says that the database's content is broken, so that only a rebuild helps."""
    # A failed ROLLBACK after an error that had already rolled back hides that error, which is the one that counts.
    while isinstance(error.__context__, sqlite3.Error):
        error = error.__context__
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Without a code Python's own module speaks: a connection closed meanwhile, or a message of SQLite that
        # can't be decoded because it quotes a damaged schema.
        return isinstance(error, UnicodeDecodeError)
    return code == sqlite3.SQLITE_IOERR_SHORT_READ or code & _PRIMARY not in _TRANSIENT


def hinders_writing(error: BaseException | None) -> bool:
    """Return whether `error` may leave us able to read: no room, no right, a file system mounted for reading only."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM_ERRNOS or error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}
    return isinstance(error, sqlite3.Error) and _primary(error) in _HINDERED


def lacks_room(error: BaseException | None) -> bool:
    """Return whether `error` may say that there is no room for what had to be written."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM_ERRNOS
    return isinstance(error, sqlite3.Error) and _primary(error) in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & _PRIMARY


def damage(reason: str) -> sqlite3.DatabaseError:
    """Return the error for damage that we, not SQLite, found."""
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    error.sqlite_errorname = "SQLITE_CORRUPT"
    return error


def describe(error: BaseException) -> str:
    """Return in words what `error` says about the system, and nothing of what was read or written."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return _WORDS.get(code) or _WORDS.get(code & _PRIMARY, "the database reports an error")
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno).lower()
    return _LOCKED if type(error).__name__ == "Timeout" else "it can't be read"


def remedy(error: BaseException | None, directory: Path) -> str:
    """Return what to do about what hinders writing in `directory`."""
    code = error.errno if isinstance(error, OSError) else None
    if lacks_room(error):
        return "Make room on that disk; `genai-cache gc` and `genai-cache clear` do"
    if code in {errno.EACCES, errno.EPERM}:
        return f"Run `chmod -R u+rwX {shlex.quote(str(directory))}`, or set GENAI_CACHE_DIR to a directory of your own"
    return "Mount it for writing, or set GENAI_CACHE_DIR to a directory of your own"


@contextlib.contextmanager
def map_os_errors(doing: str, directory: Path | None = None) -> Iterator[None]:
    """Turn any ``OSError`` of the block into ``StoreUnavailable``.

    `doing` says what was tried, and where; what hinders writing in `directory` is said with its remedy.
    """
    try:
        yield
    except OSError as error:
        words = f"{doing}: {describe(error)}"
        if directory is not None and hinders_writing(error):
            words = f"{words}. {remedy(error, directory)}"
        raise StoreUnavailable(words) from error
