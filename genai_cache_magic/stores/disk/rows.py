"""The rows of a disk tier as they are read: by whoever may also write them, or where nobody can."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from genai_cache_magic.stores.disk.database import Access, Closer, connect, identity
from genai_cache_magic.stores.disk.faults import damage
from genai_cache_magic.stores.disk.files import ValueFiles
from genai_cache_magic.stores.disk.record import REVISION_BYTES, Flaw, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_ROW, IN_FILE = 1, 2  # diskcache's MODE_RAW and MODE_BINARY
_BATCH_KEYS = 500
_LARGEST_COUNTER = 1 << 50

ROW = "SELECT mode, filename, size, value FROM Cache WHERE key = ? AND raw = 1"
_ROWS = "SELECT key, mode, filename, size, value FROM Cache WHERE raw = 1 AND key IN ({marks})"
_KEYS = (
    "SELECT key FROM Cache WHERE key BETWEEN ? AND ? AND key > ? AND raw = 1 AND expire_time > ? ORDER BY key LIMIT ?"
)

_SIZES = "SELECT key, ifnull(size, 0) + ifnull(length(value), 0) FROM Cache WHERE raw = 1"


class Rows(ABC):
    """Reads a database that ``audit`` has passed, through a connection for each thread.

    Methods let errors of SQLite and the file system through; ``DiskStore`` maps them.
    """

    def __init__(self, directory: str, clock: Callable[[], float]) -> None:
        self.place = directory
        self.files = ValueFiles(directory)
        self._clock = clock
        self.identity = identity(directory)
        self._page_bytes = 0  # of this file, which keeps it; 0 until it was asked

    @property
    @abstractmethod
    def _con(self) -> sqlite3.Connection:
        """The connection of this thread in this process."""

    @abstractmethod
    def drop_connection(self) -> None:
        """Close this thread's connection; the next use opens another."""

    def is_in_place(self) -> bool:
        """Return whether our file still bears the database's name."""
        return self.identity is not None and identity(self.place) == self.identity

    def read(self, key: bytes) -> bytes | None:
        """Return the value of `key`; remove it if it is damaged."""
        row = None
        for row in self._versions(key):
            blob = unpack(key, self._record(*row), now=self._clock())
            if type(blob) is bytes:
                return blob
            if blob is Flaw.EXPIRED:
                return None
        if row is not None:
            self._discard_if_damaged(key)
        return None

    def read_many(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """Return the values of those `keys` that are there."""
        found: dict[bytes, bytes] = {}
        for key, *row in self._rows_of(keys):
            unpacked = unpack(key, self._record(*row), now=self._clock())
            blob = self.read(key) if unpacked is Flaw.DAMAGED else unpacked
            if type(blob) is bytes:
                found[key] = blob
        return found

    def read_revisions(self, keys: list[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
        """Return what `read_revision` does of those `keys` that are there."""
        found = {}
        for key, *row in self._rows_of(keys):
            # A value file that is gone may have been replaced since: then one more look tells.
            intact = self._intact(key, *row) or self.read_revision(key)
            if intact is not None:
                found[key] = intact
        return found

    def _rows_of(self, keys: list[bytes]) -> Iterator[tuple[Any, ...]]:
        """Yield key and columns of the rows of `keys`, read by one statement if SQLite takes that many."""
        con = self._con
        most = con.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER)
        for start in range(0, len(keys), most):
            batch = keys[start : start + most]
            rows = con.execute(_ROWS.format(marks=",".join("?" * len(batch))), batch).fetchall()
            yield from (row for row in rows if type(row[0]) is bytes)

    def read_revision(self, key: bytes) -> tuple[bytes, bytes] | None:
        """Return the value of `key` and what tells it from every other, or None as `read` does."""
        return next((found for row in self._versions(key) if (found := self._intact(key, *row)) is not None), None)

    def _versions(self, key: bytes) -> Iterator[tuple[object, ...]]:
        """Yield the row of `key`, and again if it was replaced since: a value file vanishes under its reader then."""
        seen = None
        while (rows := self._con.execute(ROW, (key,)).fetchall()) and rows[0] != seen:
            seen = rows[0]
            yield seen

    def _intact(self, key: bytes, *row: object) -> tuple[bytes, bytes] | None:
        """Return the value of a row and its revision, or None if it is expired or damaged."""
        record = self._record(*row)
        blob = unpack(key, record, now=self._clock())
        return (blob, record[:REVISION_BYTES]) if type(blob) is bytes and record is not None else None

    def keys_after(self, bounds: tuple[bytes, bytes], last: bytes) -> list[bytes]:
        """Return the next keys within `bounds` that follow `last` and have not expired; none at the end."""
        rows = self._con.execute(_KEYS, (*bounds, last, self._clock(), _BATCH_KEYS)).fetchall()
        return [row[0] for row in rows]

    def move_log(self) -> None:
        """Move SQLite's log into the database, as far as that can be done now."""
        with contextlib.suppress(sqlite3.Error):
            self._con.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def sizes(self) -> list[tuple[bytes, int]]:
        """Return the room that each value takes, in the database or in a file [bytes]."""
        rows = self._con.execute(_SIZES).fetchall()
        return [(key, size) for key, size in rows if type(key) is bytes and type(size) is int]

    def volume(self) -> int:
        """Return the room taken by the database's pages and the value files [bytes]."""
        if not self._page_bytes:
            ((self._page_bytes,),) = self._con.execute("PRAGMA page_size").fetchall()
        ((pages,),) = self._con.execute("PRAGMA page_count").fetchall()
        return int(pages) * self._page_bytes + self.counter("size")

    def counter(self, name: str) -> int:
        """Return what triggers counted in the database: "count" of rows, "size" of value files [bytes]."""
        rows = self._con.execute("SELECT value FROM Settings WHERE key = ?", (name,)).fetchall()
        value = rows[0][0] if rows else None
        if type(value) is not int or not 0 <= value < _LARGEST_COUNTER:
            raise damage("a counter is no plausible number")
        return value

    def _record(self, mode: object, filename: object, size: object, value: object) -> bytes | None:
        """Return the record that a row's columns stand for, or None if they are damaged or its file is gone."""
        # SECURITY: two modes of five. The others would decode text or run pickle.
        if mode == IN_ROW:
            return value if type(value) is bytes else None
        return self.files.read(filename, size) if mode == IN_FILE else None

    @abstractmethod
    def _discard_if_damaged(self, key: bytes) -> None:
        """Remove the row of `key`, where rows can be removed."""


class ReadOnlyRows(Rows):
    """The rows of a database that can't be written now.

    Attributes
    ----------
    reason
        Why, and what to do, in sentences.
    lacks_room
        Whether it may be for want of room.
    """

    def __init__(self, directory: str, timeout_s: float, clock: Callable[[], float], access: Access) -> None:
        super().__init__(directory, clock)
        self.reason = ""
        self.lacks_room = False
        self._timeout_s = timeout_s
        self._access = access
        self._local = threading.local()

    @property
    def _con(self) -> sqlite3.Connection:
        local, pid = self._local, os.getpid()
        connection: sqlite3.Connection | None = getattr(local, "con", None)
        if connection is None or local.pid != pid:
            connection = connect(self.place, self._timeout_s, self._access)
            local.con, local.pid, local.closer = connection, pid, Closer(connection)
        return connection

    def drop_connection(self) -> None:
        """Close this thread's connection; the next use opens another."""
        self._local.con = self._local.closer = None

    def _discard_if_damaged(self, key: bytes) -> None:
        """Leave it."""
