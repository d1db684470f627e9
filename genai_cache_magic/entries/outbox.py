"""What is still to be told to the team: invalidations and new entries, safe from a killed kernel.

``outbox.db`` holds sealed entries and keyed ids only, and evicts nothing. Invalidations go first, in the order they
were made, and are never dropped. An entry goes only while it would still be served, and takes the place of nothing
valid.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import Change, decode_change
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from genai_cache_magic.events import Event

_SCHEMA = (
    "CREATE TABLE pending_change (number INTEGER PRIMARY KEY, change BLOB NOT NULL)",
    "CREATE TABLE pending_entry (number INTEGER PRIMARY KEY, id BLOB NOT NULL, envelope BLOB NOT NULL)",
    "CREATE INDEX pending_entry_id ON pending_entry (id)",
)
_ID_BYTES = 32
_DROP_MISSHAPEN = f"""
DELETE FROM pending_entry WHERE typeof(id) <> 'blob' OR length(id) <> {_ID_BYTES} OR typeof(envelope) <> 'blob'
"""  # noqa: S608 - a constant
_LAST_NUMBER = 1 << 62


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry that waits, under its number in the queue."""

    number: int
    entry_id: EntryId = field(repr=False)
    envelope: bytes = field(repr=False)


class Outbox:
    """The queue of one machine for one namespace. Safe to share between threads and processes.

    Every method may raise ``StoreUnavailable``.

    Parameters
    ----------
    path
        ``outbox.db``, or None for memory.
    tell
        Hears of a file that was lost or damaged.
    """

    def __init__(self, path: Path | None, *, tell: Callable[[Event], None] = lambda _: None) -> None:
        self._file = StateFile(path, _SCHEMA, tell=tell)

    def add_entries(self, envelopes: Mapping[EntryId, bytes]) -> None:
        """Queue entries, each in place of an older one of the same id; all of them or none."""
        rows = [(bytes.fromhex(entry_id), envelope) for entry_id, envelope in envelopes.items()]

        def work(db: sqlite3.Connection) -> None:
            # Before the older ones go: theirs may be the highest there is, and a clock can be set back.
            number = _next_number(db, "SELECT max(number) FROM pending_entry")
            db.executemany("DELETE FROM pending_entry WHERE id = ?", [row[:1] for row in rows])
            numbered = [(number + place, *row) for place, row in enumerate(rows)]
            db.executemany("INSERT INTO pending_entry VALUES (?, ?, ?)", numbered)

        if rows:
            self._file.write(work)

    def has_entry(self, entry_id: EntryId) -> bool:
        """Return whether an entry of that id waits."""
        key = bytes.fromhex(entry_id)
        return bool(
            self._file.read(lambda db: db.execute("SELECT 1 FROM pending_entry WHERE id = ?", (key,)).fetchall())
        )

    def entries(self, limit: int, limit_bytes: int = 4 * 1024**2) -> list[Waiting]:
        """Return of the entries that wait longest up to `limit`, and up to about `limit_bytes` of them [bytes]."""
        statement = "SELECT number, id, envelope FROM pending_entry ORDER BY number LIMIT ?"

        def work(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            rows, size_bytes = [], 0
            with contextlib.closing(db.execute(statement, (limit,))) as cursor:
                while size_bytes < limit_bytes and (row := cursor.fetchone()):
                    rows.append(row)
                    size_bytes += len(row[2]) if isinstance(row[2], bytes) else 0
            return rows

        rows = self._file.read(work)
        if any(
            type(key) is not bytes or len(key) != _ID_BYTES or type(envelope) is not bytes for _, key, envelope in rows
        ):
            self._file.write(lambda db: db.execute(_DROP_MISSHAPEN))  # somebody else wrote them: no entry of ours
            rows = self._file.read(work)
        return [Waiting(number, EntryId(key.hex()), envelope) for number, key, envelope in rows]

    def put_last(self, number: int) -> None:
        """Let an entry that could not be told wait behind all others, so that it holds none of them up."""

        def work(db: sqlite3.Connection) -> None:
            last = _next_number(db, "SELECT max(number) FROM pending_entry")
            db.execute("UPDATE pending_entry SET number = ? WHERE number = ?", (last, number))

        self._file.write(work)

    def drop_entries(self, numbers: Iterable[int]) -> None:
        """Take entries off the queue; one that was queued anew meanwhile has another number and stays."""
        rows = [(number,) for number in numbers]
        if rows:
            self._file.write(lambda db: db.executemany("DELETE FROM pending_entry WHERE number = ?", rows))

    def add_change(self, change: Change) -> None:
        """Queue an invalidation."""

        def work(db: sqlite3.Connection) -> None:
            number = _next_number(db, "SELECT max(number) FROM pending_change")
            db.execute("INSERT INTO pending_change VALUES (?, ?)", (number, change.encode()))

        self._file.write(work)

    def changes(self) -> list[tuple[int, Change]]:
        """Return the invalidations that wait, oldest first, each under its number."""
        rows = self._file.read(lambda db: db.execute("SELECT number, change FROM pending_change").fetchall())
        found = []
        for number, blob in sorted(rows):
            try:
                found.append((number, decode_change(blob)))
            except (EntryUndecodable, TypeError):
                # It named something that can't be known any more. Everything may have been meant.
                found.append((number, Change(0, new_root=hashlib.sha256(repr(blob).encode()).digest()[:16])))
        return found

    def drop_changes(self, numbers: Iterable[int]) -> None:
        """Take published invalidations off the queue."""
        rows = [(number,) for number in numbers]
        if rows:
            self._file.write(lambda db: db.executemany("DELETE FROM pending_change WHERE number = ?", rows))

    def count(self) -> tuple[int, int]:
        """Return how many invalidations and how many entries wait."""
        rows = self._file.read(
            lambda db: db.execute(
                "SELECT (SELECT count(*) FROM pending_change), (SELECT count(*) FROM pending_entry)"
            ).fetchall()
        )
        changes, entries = rows[0]
        return changes, entries

    def close(self) -> None:
        """Give up the file; may be called twice."""
        self._file.close()


def _next_number(db: sqlite3.Connection, highest: str) -> int:
    """Return a number above all that wait, and above those of before: a number stands for one row for ever."""
    # One that is beyond all clocks is none of ours, and would leave no room above it.
    found = db.execute(f"{highest} WHERE number < {_LAST_NUMBER}").fetchone()[0]
    return max(time.time_ns(), (found or 0) + 1)
