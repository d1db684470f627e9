"""The SQLite file of a disk tier before anybody trusts it: connect, audit, put aside.

`diskcache` runs every row of its ``Settings`` table as an attribute and, for ``sqlite_*``, as a pragma.
So the file is audited before `diskcache` sees it, and a connection takes its pragmas from here alone.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import re
import shutil
import sqlite3
import stat
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from genai_cache_magic.host import PRIVATE_DIRECTORY, create_private
from genai_cache_magic.stores.disk.faults import damage

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

DATABASE_NAME = "cache.db"
DATABASE_FILES = (DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm")
COUNTERS = ("count", "size", "hits", "misses")
LONGEST_FIELD_BYTES = 1 << 28
"""Longer fields are refused by SQLite before it allocates room for them [bytes]."""

_COUNTS = (
    "CREATE TRIGGER Settings_{name} AFTER {event} ON Cache FOR EACH ROW BEGIN UPDATE Settings SET value = {value} END"
)
_SCHEMA = {
    ("table", "Settings", "Settings"): "CREATE TABLE Settings ( key TEXT NOT NULL UNIQUE, value)",
    ("index", "sqlite_autoindex_Settings_1", "Settings"): None,
    ("table", "Cache", "Cache"): (
        "CREATE TABLE Cache ( rowid INTEGER PRIMARY KEY, key BLOB, raw INTEGER, store_time REAL, expire_time REAL,"
        " access_time REAL, access_count INTEGER DEFAULT 0, tag BLOB, size INTEGER DEFAULT 0, mode INTEGER DEFAULT 0,"
        " filename TEXT, value BLOB)"
    ),
    ("index", "Cache_key_raw", "Cache"): "CREATE UNIQUE INDEX Cache_key_raw ON Cache(key, raw)",
    ("index", "Cache_expire_time", "Cache"): "CREATE INDEX Cache_expire_time ON Cache (expire_time)",
    ("index", "Cache_store_time", "Cache"): "CREATE INDEX Cache_store_time ON Cache (store_time)",
    **{
        ("trigger", f"Settings_{name}", "Cache"): _COUNTS.format(name=name, event=event, value=value)
        for name, event, value in (
            ("count_insert", "INSERT", 'value + 1 WHERE key = "count";'),
            ("count_delete", "DELETE", 'value - 1 WHERE key = "count";'),
            ("size_insert", "INSERT", 'value + NEW.size WHERE key = "size";'),
            ("size_update", "UPDATE", 'value + NEW.size - OLD.size WHERE key = "size";'),
            ("size_delete", "DELETE", 'value - OLD.size WHERE key = "size";'),
        )
    },
}
"""What `diskcache` makes, by type, name and table: nothing else may stand in the file, nor in other words."""

_PRAGMAS = (
    "PRAGMA trusted_schema = OFF",  # SECURITY: a view or trigger may call nothing that reaches outside
    "PRAGMA cell_size_check = ON",  # finds damaged pages when they are read
    "PRAGMA mmap_size = 0",  # a mapped file that somebody truncates kills the process with SIGBUS
    "PRAGMA cache_size = 8192",  # [pages]
    "PRAGMA synchronous = NORMAL",  # under WAL a power failure can lose the last puts, never the database
)
_HOLD = "PRAGMA locking_mode = EXCLUSIVE"  # before anything is read, so that no memory is shared by way of a file
_IN_PLACE = "PRAGMA journal_mode = MEMORY"  # a kill in the middle costs the database, which is a cache's
_LARGEST_REWRITE_BYTES = 1 << 28
_is_quarantine = re.compile(r"quarantine-\d+-\d+").fullmatch
_is_shard = re.compile(r"[0-9a-f]{2}").fullmatch


class Closer:
    """Closes a connection with the thread, or the store, that owned it.

    A connection refers to itself through its cache of statements, so alone it would wait for the garbage
    collector, and with it the log that SQLite tidies up when the last connection closes.
    """

    __slots__ = ("_connection",)
    _open: ClassVar[set[sqlite3.Connection]] = set()
    """Keeps them from being collected together with their owners, in an order that nobody knows."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._open.add(connection)

    def __del__(self) -> None:
        self._open.discard(self._connection)
        self._connection.close()


class Access(enum.Enum):
    """How a database is opened; the value is what SQLite's URI says of it."""

    CREATE = "mode=rw&cache=private"
    WRITE = "mode=rw"
    ALONE = "mode=rw&psow=1"
    """Nobody else uses it meanwhile: pages are changed in place, which needs no room."""
    HELD = "mode=rw&psow=true"
    """Nobody else uses it meanwhile, and its log is read where it is."""
    READ = "mode=ro"
    UNCHANGED = "mode=ro&immutable=1"
    """As far as can be seen nobody changes it: no log is read, nor any lock taken."""


def connect(directory: str, timeout_s: float, access: Access = Access.WRITE) -> sqlite3.Connection:
    """Return a connection to the database of `directory`; it waits up to `timeout_s` [s] for others' locks."""
    return connect_file(os.path.join(directory, DATABASE_NAME), timeout_s, access)  # noqa: PTH118 - kept as text


def connect_file(path: str, timeout_s: float, access: Access = Access.CREATE) -> sqlite3.Connection:
    """Return a connection to the database at `path`, made private to its owner if there is none."""
    if access is Access.CREATE:
        with contextlib.suppress(FileExistsError):
            os.close(create_private(path))
    ensure_file(path)
    # SQLite itself never makes the file: the umask would decide who may read it.
    connection = sqlite3.connect(
        f"{Path(path).absolute().as_uri()}?{access.value}",
        uri=True,
        timeout=timeout_s,
        isolation_level=None,
        check_same_thread=False,  # used by one thread; another may have to close it
    )
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        connection.text_factory = _decode
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_FIELD_BYTES)
        first = {Access.ALONE: (_HOLD, _IN_PLACE), Access.HELD: (_HOLD,)}.get(access, ())
        for pragma in (*first, *_PRAGMAS):
            connection.execute(pragma).fetchall()
        undo.pop_all()
    return connection


def ensure_file(path: str) -> None:
    """Raise the error for damage if a pipe, a directory or a device is where a database should be.

    SQLite would wait for whoever opens the pipe at its other end, and say of the others that they can't be opened.
    """
    with contextlib.suppress(OSError):  # it says so itself
        if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - kept as text
            raise damage("no file is in its place")


def audit_to_read(connection: sqlite3.Connection) -> None:
    """Prove that the database is ours and can be read; raises ``sqlite3.Error``."""
    if "Cache" not in _audit_schema(connection):
        raise damage("there is no table of entries")


def audit(connection: sqlite3.Connection, *, settings: Collection[str], is_alone: bool = False) -> None:
    """Prove that the database is new or ours, can be written now, and holds no setting but `settings`.

    The caller closes the connection whatever happens, which also ends a transaction that failed.

    Raises
    ------
    sqlite3.Error
        See ``is_damage``: put it aside and start anew, or leave it for now.
    """
    connection.execute("PRAGMA auto_vacuum = FULL")  # has effect on a new file only, and must come first there
    if not is_alone:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    # Taken first, so that a database locked by a stopped process shows here, after our short time-out.
    connection.execute("BEGIN IMMEDIATE")
    objects = _audit_schema(connection)
    has_entries = "Cache" in objects
    if "Settings" in objects:
        _audit_settings(connection, settings, has_entries=has_entries)
    elif has_entries:
        raise damage("there are entries, but nobody counted them")
    connection.execute("COMMIT")


def _audit_schema(connection: sqlite3.Connection) -> set[str]:
    """Prove that the schema is ours, and return the names of what it holds."""
    # SECURITY: by its text. A trigger or index of a known name can do anything; and SQLite obeys the parsed text.
    objects = {
        (kind, name, table): text
        for kind, name, table, text in connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    }
    if not objects.items() <= _SCHEMA.items():
        raise damage("the schema holds what we did not make")
    return {name for _, name, _ in objects}


def _audit_settings(connection: sqlite3.Connection, settings: Collection[str], *, has_entries: bool) -> None:
    rows = connection.execute("SELECT key, value FROM Settings").fetchall()
    for name, value in rows:
        if name in COUNTERS and (type(value) is not int or value < 0):
            raise damage("a counter is no number")
        if name in COUNTERS and value > 0 and not has_entries:
            raise damage("entries were counted, but there are none")
    known = {*settings, *COUNTERS}
    # SECURITY: any other row would become an attribute of the cache, or a pragma on its connection.
    if any(name not in known for name, _ in rows):
        marks = ",".join("?" * len(known))
        connection.execute(f"DELETE FROM Settings WHERE key IS NULL OR key NOT IN ({marks})", tuple(known))  # noqa: S608 - marks only


def rewrite(directory: Path, timeout_s: float, *, change: Callable[[sqlite3.Connection], None]) -> None:
    """Change the database in memory and write it anew, for want of room to move its log into it.

    What it was goes before what it becomes is there, which is smaller: a kill in between costs the answers. The caller
    holds the directory's lock.

    Raises
    ------
    sqlite3.Error, OSError
        Others have it open, it is too large to be held in memory, or there is no room even then.
    """
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        with contextlib.closing(connect(str(directory), timeout_s, Access.HELD)) as connection:
            audit_to_read(connection)
            ((pages,),), ((page_bytes,),) = (
                connection.execute(f"PRAGMA {name}") for name in ("page_count", "page_size")
            )
            if pages * page_bytes > _LARGEST_REWRITE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            connection.backup(memory)
        change(memory)
        for name in DATABASE_FILES:
            with contextlib.suppress(FileNotFoundError):
                (directory / name).unlink()
        with contextlib.closing(connect(str(directory), timeout_s, Access.CREATE)) as connection:
            connection.execute("PRAGMA journal_mode = OFF").fetchall()
            memory.backup(connection)


def quarantine(directory: Path, *, now: float) -> Path:
    """Move the database aside into ``quarantine-<time>-<pid>/`` and return that; values are removed.

    One quarantine is kept, for whoever wants to know what happened. Other processes that have the old
    files open go on with them, unharmed, until they look. The caller holds the directory's lock.
    """
    remove_quarantine(directory)
    aside = directory / f"quarantine-{int(now)}-{os.getpid()}"
    aside.mkdir(mode=PRIVATE_DIRECTORY)
    # The database goes first: a log without its database is dropped by SQLite, the reverse is replayed.
    for name in DATABASE_FILES:
        with contextlib.suppress(FileNotFoundError):
            (directory / name).replace(aside / name)
    values = aside / "values"
    values.mkdir(mode=PRIVATE_DIRECTORY)
    for path in list(directory.iterdir()):
        if _is_shard(path.name):
            with contextlib.suppress(FileNotFoundError):
                path.replace(values / path.name)
    _remove_tree(values)
    return aside


def remove_quarantine(directory: Path) -> None:
    """Remove what was put aside; an ``OSError`` if the directory can't be read."""
    for path in list(directory.iterdir()):
        if _is_quarantine(path.name):
            _remove_tree(path)


def identity(directory: str) -> tuple[int, int] | None:
    """Return what tells one database file from another of the same name; None if there is none."""
    return file_identity(os.path.join(directory, DATABASE_NAME))  # noqa: PTH118 - see `connect`


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at `path` from another of the same name; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - asked often: a Path would double its cost
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _remove_tree(path: Path) -> None:
    # rmtree refuses a link and follows none inside, so nothing outside the directory is touched.
    shutil.rmtree(path, ignore_errors=True)


def _decode(text: bytes) -> str:
    """Decode a text column; a damaged one becomes another text, which no check accepts."""
    return text.decode("utf-8", "replace")
