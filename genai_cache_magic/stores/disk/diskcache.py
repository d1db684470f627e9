"""`diskcache`, restricted to 32-byte keys and bytes, on a database that ``audit`` has passed.

SECURITY: `diskcache` unpickles what a row says is pickled, follows the file names that rows give, and obeys
settings kept in the same database (CVE-2025-69872; ``JSONDisk`` does not close it). Here keys are 32 raw bytes,
values are records (``record.py``) in a row or in a file (``files.py``), and anything else is damage: a miss.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import diskcache
from diskcache.core import MODE_BINARY, MODE_RAW, UNKNOWN

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.host import chance
from genai_cache_magic.stores.disk.database import Access, Closer, connect
from genai_cache_magic.stores.disk.faults import damage
from genai_cache_magic.stores.disk.files import ValueFiles, key_bounds
from genai_cache_magic.stores.disk.record import HEADER_BYTES, Flaw, pack, unpack
from genai_cache_magic.stores.disk.rows import ROW, Rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

FOREIGN_ERRORS = (sqlite3.Error, OSError, diskcache.Timeout, UnicodeDecodeError)
"""What the methods of ``BytesCache`` raise; the last when a message of SQLite quotes a damaged schema."""

_ROW_OF = "SELECT rowid, mode, filename, size, value FROM Cache WHERE key = ? AND raw = 1"
_EXPIRED = "SELECT rowid, filename FROM Cache WHERE expire_time < ? ORDER BY expire_time LIMIT ?"
_OLDEST = "SELECT rowid, filename, ifnull(size, 0) + ifnull(length(value), 0) FROM Cache ORDER BY store_time"
_MALFORMED = (
    "SELECT rowid, filename FROM Cache WHERE typeof(key) != 'blob' OR length(key) != 32 OR raw IS NOT 1"
    " OR typeof(expire_time) != 'real' OR typeof(size) != 'integer' OR mode NOT IN (1, 2)"
)
_NAMED = "SELECT 1 FROM Cache WHERE key BETWEEN ? AND ? AND filename = ? LIMIT 1"


@dataclass(frozen=True, slots=True)
class DiskConfig:
    """How a ``DiskStore`` behaves.

    Parameters
    ----------
    size_limit_bytes
        Room for the database and the value files [bytes], at least 1 MiB. Beyond it what was stored longest
        ago goes first; a value that alone exceeds it is not kept.
    min_file_bytes
        Values from this size on are kept in files of their own [bytes].
    busy_timeout_s
        How long to wait for another process's write [s].
    open_timeout_s
        How long to wait while another process opens or rebuilds the database [s].
    orphan_age_s
        How old a value file that no row names must be before it counts as left by a killed writer [s].
    """

    size_limit_bytes: int = 1 << 30
    min_file_bytes: int = 1 << 15
    busy_timeout_s: float = 1.0
    open_timeout_s: float = 5.0
    orphan_age_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.size_limit_bytes < 1 << 20:
            raise ConfigurationError(
                f"size_limit_bytes is {self.size_limit_bytes}; a cache on disk needs at least {1 << 20} (1 MiB)"
            )

    def settings(self) -> dict[str, int | str]:
        """Return every setting that `diskcache` knows, so that none is taken from the database."""
        return {
            "statistics": 0,
            "tag_index": 0,
            "eviction_policy": "least-recently-stored",
            "size_limit": self.size_limit_bytes,
            "cull_limit": 10,
            "sqlite_auto_vacuum": 1,
            "sqlite_cache_size": 1 << 13,
            "sqlite_journal_mode": "wal",
            "sqlite_mmap_size": 0,
            "sqlite_synchronous": 1,
            "disk_min_file_size": self.min_file_bytes,
            "disk_pickle_protocol": 0,
        }


class BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Keys of 32 bytes and values of bytes, neither ever pickled, in rows and in ``ValueFiles``."""

    def __init__(self, directory: str, **settings: int) -> None:
        super().__init__(directory, **settings)
        self.files = ValueFiles(directory)

    def put(self, key: object) -> tuple[bytes, bool]:
        """Return the column values of a key."""
        if type(key) is not bytes or len(key) != 32:  # noqa: PLR2004 - half of 64 hex digits
            raise TypeError("a key on disk is 32 bytes")
        return key, True

    def get(self, key: object, raw: object) -> bytes | None:
        """Return the key of a row, or None if the row is none of ours."""
        return key if type(key) is bytes and raw == 1 else None

    def store(self, value: object, read: bool, key: object = UNKNOWN) -> tuple[int, int, str | None, bytes | None]:  # noqa: FBT001 - diskcache's signature
        """Return size, mode, file name and value columns of a record, after writing its file if it is large."""
        if type(value) is not bytes or type(key) is not bytes or read:
            raise TypeError("a value on disk is bytes")
        if len(value) < self.min_file_size:
            return 0, MODE_RAW, None, value
        name = self.files.new_name(key)
        self.files.write(name, value)
        return len(value), MODE_BINARY, name, None

    def fetch(self, mode: object, filename: object, value: object, read: object) -> bytes | None:  # noqa: ARG002 - diskcache's signature
        """Return the value of a row that holds it; files are read by ``record``, which knows their size."""
        return value if mode == MODE_RAW and type(value) is bytes else None

    def remove(self, file_path: object) -> None:
        """Remove a value file; a name of another shape is left alone, whatever it points to."""
        self.files.remove(file_path)


class BytesCache(Rows, diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """A `diskcache` whose database ``audit`` has just passed; every statement of ours is here.

    Methods let errors of SQLite, the file system and `diskcache` through; ``DiskStore`` maps them.
    """

    _txn_id: int | None  # diskcache's: the thread that runs a transaction

    def __init__(
        self, directory: str, config: DiskConfig, clock: Callable[[], float], access: Access = Access.WRITE
    ) -> None:
        self._busy_timeout_s = config.busy_timeout_s
        self._access = access
        Rows.__init__(self, directory, clock)
        settings = {**config.settings(), **({"sqlite_journal_mode": "memory"} if access is Access.ALONE else {})}
        # diskcache would put variables into a path once more, or make another directory than the one that was checked.
        diskcache.Cache.__init__(self, os.sep, timeout=config.busy_timeout_s, disk=BytesDisk, **settings)
        self._disk.files = self.files

    @property
    def _directory(self) -> str:
        return self.place

    @_directory.setter
    def _directory(self, directory: str) -> None:
        """Leave what diskcache makes of a path."""

    @property
    def _con(self) -> sqlite3.Connection:
        """The connection of this thread in this process: one that a fork brought along is not used."""
        local = self._local
        pid = os.getpid()
        if getattr(local, "pid", None) != pid:
            self.close()
            local.pid = pid
        connection: sqlite3.Connection | None = getattr(local, "con", None)
        if connection is None:
            # SECURITY: pragmas come from our code; diskcache would run those it finds in the database.
            connection = local.con = connect(self.place, self._busy_timeout_s, self._access)
            local.closer = Closer(connection)
        return connection

    @property
    def _sql_retry(self) -> Callable[..., sqlite3.Cursor]:
        """Wait as long as any statement does; diskcache would spin for 60 s."""
        return self._con.execute

    @contextlib.contextmanager
    def _transact(self, retry: bool = False, filename: str | None = None) -> Iterator[tuple[Any, Any]]:  # noqa: FBT001, FBT002 - diskcache's signature
        """Run a transaction; unless it commits, remove the value file written for it and leave nothing begun."""
        with contextlib.ExitStack() as undo:
            undo.callback(self._disk.remove, filename)
            # Also after an interrupt: a transaction left open would lock out every other process.
            undo.callback(self.drop_connection)
            with super()._transact(retry, filename) as transaction:
                yield transaction
            undo.pop_all()

    def drop_connection(self) -> None:
        """Close this thread's connection, which rolls back whatever was begun; the next use opens another."""
        if self._txn_id == threading.get_ident():
            self._txn_id = None
        self.close()

    def write(self, key: bytes, blob: bytes, ttl_s: float) -> None:
        """Keep `blob`, and make room for it."""
        if ttl_s <= 0 or len(blob) + HEADER_BYTES > self.size_limit:
            self.remove_many([key])
            return
        now = self._clock()
        record = pack(key, blob, stored_at=now, expires_at=now + ttl_s)
        # diskcache counts from time.time(); the column then holds `expires_at` of our clock.
        self.set(key, record, expire=now + ttl_s - time.time())

    def write_many_if(self, puts: Sequence[tuple[bytes, bytes, float, object]]) -> list[bool]:
        """Keep each value of `puts` (key, value, time to live, revision) if its key still has that revision.

        No revision stands for no value that can be read. All in one transaction; returns which had it.
        """
        with contextlib.ExitStack() as unwritten:
            rows = [self._columns(*put[:3], unwritten) for put in puts]
            with self._transact() as (sql, cleanup):
                done = [
                    self._replace_if(sql, cleanup, key, revision, columns)
                    for (key, _, _, revision), columns in zip(puts, rows, strict=True)
                ]
                self._cull(time.time(), sql, cleanup, max(self.cull_limit, len(puts)))
            unwritten.pop_all()
        return done

    def _columns(
        self, key: bytes, blob: bytes, ttl_s: float, unwritten: contextlib.ExitStack
    ) -> tuple[Any, ...] | None:
        """Return the columns that keep `blob`, None if it is not to be kept; its file, if it has one, is written."""
        if ttl_s <= 0 or len(blob) + HEADER_BYTES > self.size_limit:
            return None
        now = self._clock()
        record = pack(key, blob, stored_at=now, expires_at=now + ttl_s)
        size, mode, filename, value = self._disk.store(record, read=False, key=key)
        unwritten.callback(self._disk.remove, filename)
        return now + ttl_s, None, size, mode, filename, value

    def _replace_if(
        self, sql: Any, cleanup: Any, key: bytes, revision: object, columns: tuple[Any, ...] | None
    ) -> bool:
        """Write a row in place of what has `revision`, or (no columns) remove that; return whether it was there."""
        rows = sql(_ROW_OF, (key,)).fetchall()
        found = self._intact(key, *rows[0][1:]) if rows else None
        if (found and found[1]) != revision:
            cleanup(columns and columns[4])
            return False
        if columns is None:
            _delete(sql, cleanup, [(rowid, name) for rowid, _, name, *_ in rows])
        elif rows:
            cleanup(rows[0][2])
            self._row_update(rows[0][0], time.time(), columns)
        else:
            self._row_insert(key, True, time.time(), columns)  # noqa: FBT003 - diskcache's signature
        return True

    def remove_many(self, keys: Iterable[bytes]) -> set[bytes]:
        """Remove `keys` in one transaction, and return those that were there and had not expired."""
        statement = "SELECT rowid, filename, expire_time > ? FROM Cache WHERE key = ? AND raw = 1"
        removed = set()
        with self._transact() as (sql, cleanup):
            for key in keys:
                rows = sql(statement, (self._clock(), key)).fetchall()
                _delete(sql, cleanup, [row[:2] for row in rows])
                if any(row[2] for row in rows):
                    removed.add(key)
        return removed

    def repair(self) -> int:
        """Remove rows of a shape that we don't write and rows that expired; correct the counters; return how many.

        Raises
        ------
        sqlite3.DatabaseError
            The database as a whole is damaged.
        """
        if self._con.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)]:
            raise damage("quick_check found damage")
        with self._transact() as (sql, cleanup):
            doomed = sql(_MALFORMED).fetchall() + sql(_EXPIRED, (self._clock(), -1)).fetchall()
            _delete(sql, cleanup, doomed)
            for name, actual in (("count", "COUNT(*)"), ("size", "ifnull(SUM(size), 0)")):
                sql(f"UPDATE Settings SET value = (SELECT {actual} FROM Cache) WHERE key = '{name}'")  # noqa: S608 - constants
        return len(doomed)

    def evict(self, room_bytes: int) -> None:
        """Remove what was stored longest ago, as much as takes up `room_bytes`."""
        with self._transact() as (sql, cleanup):
            _delete(sql, cleanup, _oldest(sql, room_bytes))

    def sweep(self, orphan_age_s: float, at_most: int | None) -> int:
        """Remove value files that no row names, as killed writers leave them; return how many."""
        return self.files.sweep(
            self._is_named,
            before=self._clock() - orphan_age_s,
            at_most=at_most,
            first_shard=chance.randrange(256),
        )

    def _is_named(self, name: str) -> bool:
        return bool(self._con.execute(_NAMED, (*key_bounds(name), name)).fetchall())

    def _discard_if_damaged(self, key: bytes) -> None:
        """Remove the row of `key`, unless another process has put a good value meanwhile or holds the lock."""
        with contextlib.suppress(diskcache.Timeout), self._transact() as (sql, cleanup):
            for row in sql(ROW, (key,)).fetchall():
                if unpack(key, self._record(*row), now=self._clock()) is Flaw.DAMAGED:
                    cleanup(row[1])
                    sql("DELETE FROM Cache WHERE key = ? AND raw = 1", (key,))

    def _cull(self, now: float, sql: Any, cleanup: Any, limit: int | None = None) -> None:  # noqa: ARG002 - diskcache's signature
        """Evict a few rows that expired, then those stored longest ago until the rest fits."""
        _delete(sql, cleanup, sql(_EXPIRED, (self._clock(), limit or self.cull_limit)).fetchall())
        excess_bytes = self.volume() - self.size_limit
        if excess_bytes > 0:
            _delete(sql, cleanup, _oldest(sql, excess_bytes))


def evict(connection: sqlite3.Connection, room_bytes: int) -> list[object]:
    """Delete the rows stored longest ago, as many as take up `room_bytes`; return the names of their files."""
    names: list[object] = []
    _delete(connection.execute, names.append, _oldest(connection.execute, room_bytes))
    return names


def _oldest(sql: Any, excess_bytes: int) -> list[tuple[Any, ...]]:
    """Return (rowid, file name) of what was stored longest ago, as many as take up `excess_bytes`."""
    oldest = []
    with contextlib.closing(sql(_OLDEST)) as cursor:
        while excess_bytes > 0 and (row := cursor.fetchone()):
            oldest.append(row[:2])
            excess_bytes -= row[2]
    return oldest


def _delete(sql: Any, cleanup: Any, rows: list[tuple[Any, ...]]) -> None:
    """Delete `rows`, given as (rowid, file name), and have their files removed after the commit."""
    for rowid, filename in rows:
        sql("DELETE FROM Cache WHERE rowid = ?", (rowid,))
        cleanup(filename)
