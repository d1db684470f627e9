"""``state.db``: what a machine remembers of a namespace beside its entries, in SQLite.

Nothing here decides what is valid, and all but the marks can be made anew from the entries. Every column that says
something about a call is keyed or sealed by who writes it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from genai_cache_magic.entries.rescue import Rescued, readable
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Event, Trouble
from genai_cache_magic.host import create_private
from genai_cache_magic.stores.disk.database import Closer, connect_file, ensure_file, file_identity
from genai_cache_magic.stores.disk.faults import damage, describe, is_damage

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_MARKS = "CREATE TABLE mark (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"
_ASIDE = ".damaged"
_SALVAGED = ".salvaged"
"""Ends the name of an empty file beside one that was put aside: all that could be read of that is in the new one."""
_LOGS = ("-wal", "-shm")
_BESIDE = ("", *_LOGS)
_RETRY_S = 5.0
_PRIMARY = 0xFF  # the low byte of an extended result code is its primary code, sqlite.org/rescode.html
_NOT_WRITABLE = frozenset(
    {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_PERM}
)


Columns = Mapping[str, type[bytes] | range]
"""What columns hold, by name: bytes, or whole numbers of a range. NULL is for the schema to forbid."""


class StateFile:
    """A small SQLite database that the processes of a machine share, or (no path) one in memory.

    A file that is damaged or not of this shape is put aside, one that was removed or replaced is noticed at the
    next use; both times it starts empty, and `tell` hears of it. Where it can't be written it is read as it is, and
    where it can't be read either a database in memory stands in, until a later use finds it well again. Safe to share
    between threads and by forked children. Every method raises ``StoreUnavailable`` for trouble around the file.

    Parameters
    ----------
    schema
        The statements that make its tables and indexes, beside the one of the marks.
    columns
        What those hold; a row that holds anything else was edited, and the file counts as damaged.
    ensure
        Called before the file is opened: makes its directory again if somebody removed it.
    part
        What `tell` is told to be concerned.
    busy_timeout_s
        How long to wait for another process's write [s].
    salvage
        Called with the rows of each table that can still be read in a file that was put aside, and with the new one,
        in which they are kept; returns what to say of them, if anything.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        path: Path | None,
        schema: tuple[str, ...] = (),
        *,
        columns: Columns = MappingProxyType({}),
        ensure: Callable[[], None] = lambda: None,
        tell: Callable[[Event], None] = lambda _: None,
        part: str = "catalogue",
        busy_timeout_s: float = 1.0,
        salvage: Callable[[Rescued, sqlite3.Connection], str] | None = None,
    ) -> None:
        self._path = None if path is None else os.fspath(path)
        self._schema = (_MARKS, *schema)
        self._columns = columns
        self._ensure = ensure
        self._tell = tell
        self._part = part
        self._busy_timeout_s = busy_timeout_s
        self._salvage = salvage
        # Re-entrant: a collection in the middle of a statement may end a call, and note its answer.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None  # guarded by _lock, like the next four
        self._closer: Closer | None = None
        self._identity: tuple[int, int] | None = None
        self._retry_at: float | None = None  # [s, monotonic]; the file could not be opened to write
        self._is_closed = False
        self._taken = 0  # how many connections there were; under _lock
        self._left_behind: list[object] = []  # of a parent: closing them here would disturb its locks

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns, within one snapshot."""
        return self._run(work, "BEGIN")

    def rows(self, statement: str, values: tuple[object, ...] | Mapping[str, object]) -> list[tuple[Any, ...]]:
        """Return the rows of one statement that reads: it needs no transaction to see one state of the file."""
        return self._run(lambda db: db.execute(statement, values).fetchall(), "")

    def stamp(self) -> tuple[int, int, int]:
        """Return what is another one once anything was written, here or by another process; asking takes no query.

        The first number alone is another one where the file may be another, whose rows are numbered anew.
        """
        # All of it under the lock: it says nothing of a connection that another thread takes meanwhile.
        return self._run(lambda db: (self._taken, *db.execute("PRAGMA data_version").fetchone(), db.total_changes), "")

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return what `work` returns; what it changed is kept as a whole, or not at all."""
        return self._run(work, "BEGIN IMMEDIATE")

    def mark(self, name: str) -> bytes | None:
        """Return the value noted under `name`."""
        return self.read(lambda db: _noted(db, name))

    def set_mark(self, name: str, value: bytes, *, gives_way: Callable[[bytes | None], bool] = lambda _: True) -> None:
        """Note `value` under `name`, in place of what was noted there, if that `gives_way` (None: nothing was)."""

        def work(db: sqlite3.Connection) -> None:
            if gives_way(_noted(db, name)):
                db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, value))

        self.write(work)

    def remove_mark(self, name: str) -> None:
        """Note nothing under `name` any more."""
        self.write(lambda db: db.execute("DELETE FROM mark WHERE name = ?", (name,)))

    def close(self) -> None:
        """Give up the connection; may be called twice."""
        with self._own_lock():
            self._is_closed = True
            self._drop()

    def _run(self, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
        with self._own_lock():
            try:
                try:
                    return _transact(self._open(), work, begin)
                except (sqlite3.Error, OSError) as error:
                    self._drop()
                    self._raise_unless_damage(error)
                self._put_aside()
                try:
                    return _transact(self._open(), work, begin)
                except (sqlite3.Error, OSError) as error:
                    self._drop()
                    raise StoreUnavailable(f"{self._path} can't be made anew: {describe(error)}") from error
            except BaseException as error:
                self._let_go_after(error)
                raise

    def _let_go_after(self, error: BaseException) -> None:
        """Close the file after an interrupt, whose traceback may keep rows in the middle of being read.

        As long as they are, this connection sees the file as it was then, and may not write. What is in memory has no
        other writer, and would be lost.
        """
        if not isinstance(error, Exception) and self._path is not None and self._retry_at is None:
            self._drop()

    def _own_lock(self) -> threading.RLock:
        """Return the lock of this process: after a fork it may be held by a thread that was left behind."""
        if self._pid != os.getpid():
            self._left_behind.append(self._closer)
            self._pid, self._lock, self._connection = os.getpid(), threading.RLock(), None
            self._closer = None
        return self._lock

    def _open(self) -> sqlite3.Connection:
        """Return a connection to the file that bears the name now; the caller holds the lock."""
        if self._is_closed:
            raise StoreUnavailable(f"{self._path or 'the state'} was closed")
        if self._connection is not None and (self._connection.in_transaction or self._is_in_place()):
            return self._connection
        is_lost = self._connection is not None and self._retry_at is None
        self._drop()
        self._retry_at = None
        if self._path is None:
            return self._take(self._prepared(_in_memory()))
        try:
            self._ensure()
            self._identity = file_identity(self._path)  # by which damage that is found while it is opened is put aside
            connection = self._prepared(connect_file(self._path, self._busy_timeout_s), "PRAGMA journal_mode = WAL")
        except (sqlite3.Error, OSError) as error:
            if not _can_not_write(error):
                raise
            connection = self._second_best(self._path)
        except StoreUnavailable:
            connection = self._second_best(self._path)
        self._take(connection)
        self._identity = file_identity(self._path)
        if is_lost:
            self._tell(_lost(self._part, f"{self._path} was removed or replaced: it starts anew"))
        return connection

    def _is_in_place(self) -> bool:
        if self._retry_at is not None:
            return time.monotonic() < self._retry_at
        return self._path is None or file_identity(self._path) == self._identity

    def _second_best(self, path: str) -> sqlite3.Connection:
        """Return a connection to what can't be written now: to read it, or one to a stand-in in memory."""
        self._retry_at = time.monotonic() + _RETRY_S
        for access in ("mode=ro", "mode=ro&immutable=1"):
            with contextlib.suppress(sqlite3.Error, OSError):
                ensure_file(path)
                uri = f"{Path(path).absolute().as_uri()}?{access}"
                return self._prepared(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False))
        return self._prepared(_in_memory())

    def _prepared(self, connection: sqlite3.Connection, *pragmas: str) -> sqlite3.Connection:
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA temp_store = MEMORY")
            for pragma in pragmas:
                connection.execute(pragma).fetchall()
            said = _transact(connection, self._make_or_audit, "BEGIN IMMEDIATE" if pragmas else "BEGIN")
            self._note_salvaged(connection)
            if said:
                self._tell(Trouble(self._part, "StateLost", said))
            if self._columns:
                connection.row_factory = partial(_checked, self._columns)
            undo.pop_all()
        return connection

    def _make_or_audit(self, connection: sqlite3.Connection) -> str:
        """Make the tables if there are none; return what is to be said of it."""
        # SECURITY: nothing that somebody else put into the schema is ever run.
        found = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
        if not found:
            for statement in self._schema:
                connection.execute(statement)
            return self._salvaged(connection)
        if found != set(self._schema):
            raise damage("the schema is not of this version")
        return ""

    def _salvaged(self, connection: sqlite3.Connection) -> str:
        """Take what can be read of a file that was put aside into the one that takes its place; say of what.

        With its tables, at once: who is killed before leaves an empty file, and the next one does it.
        """
        aside = self._unread_aside(connection)
        return self._salvage(readable(aside, self._schema), connection) if self._salvage and aside else ""

    def _unread_aside(self, connection: sqlite3.Connection) -> Path | None:
        """Return the file that was put aside, if there is one of which nothing was taken yet."""
        aside = Path((self._path or "") + _ASIDE)
        if self._salvage is None or not aside.is_file() or _beside(aside, _SALVAGED).exists():
            return None
        is_file = bool(connection.execute("PRAGMA database_list").fetchone()[2])
        return aside if is_file else None

    def _note_salvaged(self, connection: sqlite3.Connection) -> None:
        """Note that what could be read of a file that was put aside is in this one, for good.

        Who removes this one later begins anew: what was in the damaged one may have been told to others long ago.
        """
        aside = self._unread_aside(connection)
        if aside is None:
            return
        with contextlib.suppress(sqlite3.Error, OSError):  # or whoever opens it next does
            # On the disk first: after a power failure the note might be there, and what was only in the log gone.
            ((is_busy, in_log, moved),) = connection.execute("PRAGMA wal_checkpoint").fetchall()
            if not is_busy and in_log == moved:
                os.close(create_private(_beside(aside, _SALVAGED)))

    def _take(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        self._connection, self._closer = connection, Closer(connection)
        self._taken += 1
        return connection

    def _drop(self) -> None:
        self._connection = self._closer = None  # which closes it

    def _raise_unless_damage(self, error: Exception) -> None:
        if not is_damage(error) or self._path is None:
            raise StoreUnavailable(f"{self._path or 'the state'} can't be used now: {describe(error)}") from error

    def _put_aside(self) -> None:
        path = Path(self._path or "")
        there = file_identity(str(path))
        if there is None or self._identity not in {None, there}:
            return  # another process was faster: what bears the name now is its new one, and no damage was found in it
        aside = path.with_name(path.name + _ASIDE)
        try:
            # First what tells of an older one: its log would be taken for the log of what takes its place.
            for suffix in (_SALVAGED, *_LOGS):
                _beside(aside, suffix).unlink(missing_ok=True)
            for suffix in _BESIDE:
                with contextlib.suppress(FileNotFoundError):
                    _beside(path, suffix).replace(_beside(aside, suffix))
        except OSError as error:
            raise StoreUnavailable(f"{path} is damaged and can't be put aside: {describe(error)}") from error
        what = f"{path} was damaged, or of another version, and starts anew; what it was is kept as {aside.name}"
        self._tell(_lost(self._part, what))


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _noted(db: sqlite3.Connection, name: str) -> bytes | None:
    rows = db.execute("SELECT value FROM mark WHERE name = ?", (name,)).fetchall()
    return rows[0][0] if rows and type(rows[0][0]) is bytes else None


def _checked(columns: Columns, cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `row`, unless a column of it holds what it can't: SQLite keeps any type in any column."""
    for column, value in zip(cursor.description, row, strict=True):
        kind = columns.get(column[0])
        if kind is None or value is None:
            continue
        is_well = type(value) is int and value in kind if isinstance(kind, range) else type(value) is kind
        if not is_well:
            raise damage(f"a row holds no {column[0]}")
    return row


def _can_not_write(error: Exception) -> bool:
    """Return whether another way of opening may help: it is the place that fails, not its content nor a lock."""
    code = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, OSError) or (not is_damage(error) and code & _PRIMARY in _NOT_WRITABLE)


def _in_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)


def _transact(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], T], begin: str) -> T:
    if not begin or connection.in_transaction:
        return work(connection)
    try:
        # Within: an interrupt while it waits for a lock is raised when it has it.
        connection.execute(begin)
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        # Also after an interrupt: a transaction left open would lock out every other process.
        _roll_back(connection)
        raise
    return result


def _roll_back(connection: sqlite3.Connection) -> None:
    with contextlib.suppress(sqlite3.Error):
        connection.execute("ROLLBACK")


def _lost(part: str, message: str) -> Trouble:
    return Trouble(part, "StateLost", f"{message}; answers are not concerned")
