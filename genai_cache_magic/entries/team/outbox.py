"""What is still to be told to the team: invalidations, values that were set, new entries. Safe from a killed kernel.

``outbox.db`` holds sealed entries and keyed ids only, and evicts nothing. Invalidations go first, in the order they
were made, and are never dropped. An entry goes only while it would still be served, and takes the place of nothing
valid, unless it was set, and later than that. A value that was set while the team was away takes the place of what was
there before, and of nothing later.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import Change, decode_change
from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.errors import EntryUndecodable, StoreUnavailable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from genai_cache_magic.entries.rescue import Rescued
    from genai_cache_magic.events import Event

_SCHEMA = (
    "CREATE TABLE pending_change (number INTEGER PRIMARY KEY, change BLOB NOT NULL)",
    "CREATE TABLE pending_entry (number INTEGER PRIMARY KEY, id BLOB NOT NULL, envelope BLOB NOT NULL)",
    "CREATE INDEX pending_entry_id ON pending_entry (id)",
)
_ID_BYTES = 32
# Values, and which entries were set, are marks, and no table or column: each version takes a schema that is not to the
# letter its own for damage.
_SET_NAME = "set entry 1 "
_SET_NAMES = (_SET_NAME, f"{_SET_NAME}g")  # an id is hex digits
_VALUE_NAME = "set value 1 "
_VALUE_NAMES = (_VALUE_NAME, f"{_VALUE_NAME}g")
_HEX_ID = re.compile("[0-9a-f]{64}")
_READ_ENTRIES = "SELECT number, id, envelope FROM pending_entry WHERE id = ?"
_READ_MARKS = "SELECT name, value FROM mark WHERE name IN (?, ?)"
_READ_VALUES = "SELECT name, value FROM mark WHERE name >= ? AND name < ? ORDER BY name"
_VALUE_HEAD = struct.Struct(">QQ32s")
_DROP_MISSHAPEN = f"""
DELETE FROM pending_entry WHERE typeof(id) <> 'blob' OR length(id) <> {_ID_BYTES} OR typeof(envelope) <> 'blob'
"""  # noqa: S608 - a constant
_DROP_SETS = f"""
DELETE FROM mark WHERE name IN (SELECT '{_SET_NAME}' || lower(hex(id)) FROM pending_entry WHERE number = ?)
"""  # noqa: S608 - a constant
# An older version takes entries off the queue and leaves their marks.
_DROP_STRAY_SETS = """
DELETE FROM mark WHERE name >= ? AND name < ? AND NOT EXISTS (SELECT 1 FROM pending_entry)
"""
_LAST_NUMBER = 1 << 62


@dataclass(frozen=True, slots=True)
class Waiting:
    """An entry that waits, under its number in the queue; `is_set` says that its caller set it, whatever was there."""

    number: int
    entry_id: EntryId = field(repr=False)
    envelope: bytes = field(repr=False)
    is_set: bool = False


@dataclass(frozen=True, slots=True)
class SetValue:
    """A value that was set while the team was away, under its number in the queue (0: it is still to be queued).

    Attributes
    ----------
    envelope
        As it lies here. Its birth is what was known of the team's document when it was set.
    replaced
        SHA-256 of what lay here before; zeros for nothing.
    set_ms
        A time that the tier's clock had come to by then [ms since the epoch]; 0 is unknown.
    """

    entry_id: EntryId = field(repr=False)
    envelope: bytes = field(repr=False)
    replaced: bytes = field(repr=False, default=bytes(32))
    set_ms: int = 0
    number: int = 0

    @property
    def digest(self) -> bytes:
        """Return the SHA-256 of what lies here."""
        return hashlib.sha256(self.envelope).digest()


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
        self._file = StateFile(path, _SCHEMA, tell=tell, part="queue", salvage=_salvage)

    def add_entries(self, envelopes: Mapping[EntryId, bytes]) -> None:
        """Queue entries, each in place of an older one of the same id; all of them or none."""
        if envelopes:
            self._file.write(lambda db: _add_entries(db, envelopes, are_set=False))

    def begin(self, envelopes: Mapping[EntryId, bytes]) -> Callable[[Iterable[EntryId]], None]:
        """As `add_entries`, of what is set with the team's knowledge: in place of values that wait, too.

        What is returned takes some of them off the queue, if they wait as they are, and what gave way to those waits
        again, where nothing else does: it may lie here still, and nobody else would hear of it. It never raises.
        """
        entries: dict[EntryId, list[tuple[Any, ...]]] = {}
        marks: dict[EntryId, list[tuple[Any, ...]]] = {}

        def work(db: sqlite3.Connection) -> None:
            for one in envelopes:
                entries[one] = db.execute(_READ_ENTRIES, (bytes.fromhex(one),)).fetchall()
                marks[one] = db.execute(_READ_MARKS, (_SET_NAME + one, _VALUE_NAME + one)).fetchall()
            _add_entries(db, envelopes, are_set=True)
            db.executemany("DELETE FROM mark WHERE name = ?", [(_VALUE_NAME + one,) for one in envelopes])

        def withdraw(entry_ids: Iterable[EntryId]) -> None:
            ids = list(entry_ids)

            def take_back(db: sqlite3.Connection) -> None:
                for one in ids:
                    _take_back(db, one, envelopes[one], entries[one], marks[one])

            with contextlib.suppress(StoreUnavailable):
                self._file.write(take_back)

        self._file.write(work)
        return withdraw

    def add_begun(self, envelopes: Mapping[EntryId, bytes]) -> None:
        """Queue again what has begun and does not wait any more, since it was told meanwhile; all of it or none.

        One of the same id that was set since waits in its place, and stays: it lies here, or takes its own off.
        """
        missing = self._missing(envelopes)

        def work(db: sqlite3.Connection) -> None:
            again = {one: envelope for one, envelope in missing.items() if not _is_set_waiting(db, one)}
            _add_entries(db, again, are_set=True)

        if missing:
            self._file.write(work)

    def _missing(self, envelopes: Mapping[EntryId, bytes]) -> dict[EntryId, bytes]:
        """Return those of `envelopes` that do not wait as they are."""
        statement = "SELECT 1 FROM pending_entry WHERE id = ? AND envelope = ?"

        def work(db: sqlite3.Connection) -> dict[EntryId, bytes]:
            return {
                one: envelope
                for one, envelope in envelopes.items()
                if db.execute(statement, (bytes.fromhex(one), envelope)).fetchone() is None
            }

        return self._file.read(work) if envelopes else {}

    def add_values(self, values: Iterable[SetValue]) -> None:
        """Queue values that were set, each in place of one of the same key; all of them or none."""
        rows = list(values)

        def work(db: sqlite3.Connection) -> None:
            for value in rows:
                name = _VALUE_NAME + value.entry_id
                before = _value(db.execute("SELECT name, value FROM mark WHERE name = ?", (name,)).fetchone())
                # What was set here over a value that waits is set over what that one replaced.
                is_next = before is not None and before.digest == value.replaced
                replaced = before.replaced if before is not None and is_next else value.replaced
                number = max(time.time_ns(), before.number + 1 if before is not None else 0)
                head = _VALUE_HEAD.pack(number, value.set_ms, replaced)
                db.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", (name, head + value.envelope))

        if rows:
            self._file.write(work)

    def value_ids(self) -> frozenset[EntryId]:
        """Return the ids of the values that wait."""
        statement = "SELECT name FROM mark WHERE name >= ? AND name < ?"
        rows = self._file.read(lambda db: db.execute(statement, _VALUE_NAMES).fetchall())
        return frozenset(EntryId(name.removeprefix(_VALUE_NAME)) for (name,) in rows)

    def values(
        self, limit: int, limit_bytes: int = 4 * 1024**2, *, without: Collection[EntryId] = ()
    ) -> list[SetValue]:
        """Return up to `limit` of the values that wait, but for some, and up to about `limit_bytes` of them [bytes]."""

        def work(db: sqlite3.Connection) -> tuple[list[SetValue], list[tuple[str]]]:
            found: list[SetValue] = []
            misshapen, size_bytes = [], 0
            with contextlib.closing(db.execute(_READ_VALUES, _VALUE_NAMES)) as cursor:
                while size_bytes < limit_bytes and len(found) < limit and (row := cursor.fetchone()):
                    value = _value(row)
                    if value is None:
                        misshapen.append(row[:1])
                    elif value.entry_id not in without:
                        found.append(value)
                        size_bytes += len(value.envelope)
            return found, misshapen

        found, misshapen = self._file.read(work)
        if misshapen:  # somebody else wrote them: no value of ours
            self._file.write(lambda db: db.executemany("DELETE FROM mark WHERE name = ?", misshapen))
        return found

    def settle_values(self, settled: Iterable[SetValue], queued: Mapping[EntryId, bytes]) -> Collection[EntryId]:
        """Take values off the queue, and queue those of them that are to be told as entries: all at once.

        One that was set anew meanwhile stays, and what it replaced is not told. Returns which are.
        """
        rows = list(settled)

        def work(db: sqlite3.Connection) -> Collection[EntryId]:
            told = {}
            for value in rows:
                name = _VALUE_NAME + value.entry_id
                now = _value(db.execute("SELECT name, value FROM mark WHERE name = ?", (name,)).fetchone())
                if now is not None and now.number == value.number:
                    db.execute("DELETE FROM mark WHERE name = ?", (name,))
                    if value.entry_id in queued:
                        told[value.entry_id] = queued[value.entry_id]
            _add_entries(db, told, are_set=True)
            return told.keys()

        return self._file.write(work) if rows else ()

    def drop_values(self, values: Iterable[SetValue]) -> None:
        """Take values off the queue, whatever their numbers; one that was set anew meanwhile stays."""
        rows = list(values)

        def work(db: sqlite3.Connection) -> None:
            for value in rows:
                name = _VALUE_NAME + value.entry_id
                now = _value(db.execute("SELECT name, value FROM mark WHERE name = ?", (name,)).fetchone())
                if now is not None and now.envelope == value.envelope:
                    db.execute("DELETE FROM mark WHERE name = ?", (name,))

        if rows:
            self._file.write(work)

    def has_entry(self, entry_id: EntryId) -> bool:
        """Return whether an entry of that id waits."""
        key = bytes.fromhex(entry_id)
        return bool(
            self._file.read(lambda db: db.execute("SELECT 1 FROM pending_entry WHERE id = ?", (key,)).fetchall())
        )

    def envelope(self, entry_id: EntryId) -> bytes | None:
        """Return the entry of that id that waits, None if none does."""
        key = bytes.fromhex(entry_id)
        statement = "SELECT envelope FROM pending_entry WHERE id = ?"
        rows = self._file.read(lambda db: db.execute(statement, (key,)).fetchall())
        return rows[0][0] if rows and type(rows[0][0]) is bytes else None

    def entries(self, limit: int, limit_bytes: int = 4 * 1024**2) -> list[Waiting]:
        """Return of the entries that wait longest up to `limit`, and up to about `limit_bytes` of them [bytes]."""
        statement = (
            "SELECT number, id, envelope, EXISTS (SELECT 1 FROM mark WHERE name = ? || lower(hex(id))) "
            "FROM pending_entry ORDER BY number LIMIT ?"
        )

        def work(db: sqlite3.Connection) -> list[tuple[Any, ...]]:
            rows, size_bytes = [], 0
            with contextlib.closing(db.execute(statement, (_SET_NAME, limit))) as cursor:
                while size_bytes < limit_bytes and (row := cursor.fetchone()):
                    rows.append(row)
                    size_bytes += len(row[2]) if isinstance(row[2], bytes) else 0
            return rows

        rows = self._file.read(work)
        if any(
            type(key) is not bytes or len(key) != _ID_BYTES or type(envelope) is not bytes
            for _, key, envelope, _ in rows
        ):
            self._file.write(lambda db: db.execute(_DROP_MISSHAPEN))  # somebody else wrote them: no entry of ours
            rows = self._file.read(work)
        return [Waiting(number, EntryId(key.hex()), envelope, bool(is_set)) for number, key, envelope, is_set in rows]

    def put_last(self, number: int) -> None:
        """Let an entry that could not be told wait behind all others, so that it holds none of them up."""

        def work(db: sqlite3.Connection) -> None:
            last = _next_number(db, "SELECT max(number) FROM pending_entry")
            db.execute("UPDATE pending_entry SET number = ? WHERE number = ?", (last, number))

        self._file.write(work)

    def put_anew(self, envelopes: Mapping[int, bytes]) -> Collection[int]:
        """Let entries wait in another envelope, behind all others; return the numbers of which one still waited."""

        def work(db: sqlite3.Connection) -> Collection[int]:
            last = _next_number(db, "SELECT max(number) FROM pending_entry")
            statement = "UPDATE pending_entry SET number = ?, envelope = ? WHERE number = ?"
            return [
                number
                for place, (number, envelope) in enumerate(envelopes.items())
                if db.execute(statement, (last + place, envelope, number)).rowcount
            ]

        return self._file.write(work) if envelopes else ()

    def drop_entries(self, numbers: Iterable[int]) -> None:
        """Take entries off the queue; one that was queued anew meanwhile has another number and stays."""
        rows = [(number,) for number in numbers]

        def work(db: sqlite3.Connection) -> None:
            db.executemany(_DROP_SETS, rows)
            db.executemany("DELETE FROM pending_entry WHERE number = ?", rows)
            db.execute(_DROP_STRAY_SETS, _SET_NAMES)

        if rows:
            self._file.write(work)

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
        """Return how many invalidations and how many entries wait, values that were set among them."""
        rows = self._file.read(
            lambda db: db.execute(
                "SELECT (SELECT count(*) FROM pending_change), (SELECT count(*) FROM pending_entry), "
                "(SELECT count(*) FROM mark WHERE name >= ? AND name < ?)",
                _VALUE_NAMES,
            ).fetchall()
        )
        changes, entries, values = rows[0]
        return changes, entries + values

    def close(self) -> None:
        """Give up the file; may be called twice."""
        self._file.close()


def _salvage(rescued: Rescued, db: sqlite3.Connection) -> str:
    """Queue again what could be read of a damaged queue, under its numbers; return what is said of it."""
    changes, entries = rescued["pending_change"][0], rescued["pending_entry"][0]
    values = [row for row in rescued["mark"][0] if _value(row) is not None]
    sets = [row for row in rescued["mark"][0] if _is_set(*row)]
    shaped = [row for row in entries if _is_entry(*row)]
    db.executemany("INSERT OR IGNORE INTO pending_change VALUES (?, ?)", [row for row in changes if None not in row])
    db.executemany("INSERT OR IGNORE INTO pending_entry VALUES (?, ?, ?)", shaped)
    db.executemany("INSERT OR IGNORE INTO mark VALUES (?, ?)", values + sets)
    told = f"{len(changes)} invalidations and {len(shaped) + len(values)} entries could be read"
    if all(is_whole for _, is_whole in rescued.values()):
        return f"of a damaged queue of what is still to be told to the team {told}, which is all of it: they wait on"
    return (
        f"of a damaged queue of what is still to be told to the team {told}, and wait on; the rest is lost: "
        "invalidate once more what you have invalidated while the team could not be reached"
    )


def _is_entry(number: object, key: object, envelope: object) -> bool:
    return type(number) is int and type(key) is bytes and len(key) == _ID_BYTES and type(envelope) is bytes


def _is_set(name: object, value: object) -> bool:
    is_named = type(name) is str and name.startswith(_SET_NAME)
    return is_named and value == b"" and bool(_HEX_ID.fullmatch(str(name).removeprefix(_SET_NAME)))


def _add_entries(db: sqlite3.Connection, envelopes: Mapping[EntryId, bytes], *, are_set: bool) -> None:
    rows = [(bytes.fromhex(entry_id), envelope) for entry_id, envelope in envelopes.items()]
    # Before the older ones go: theirs may be the highest there is, and a clock can be set back.
    number = _next_number(db, "SELECT max(number) FROM pending_entry")
    db.executemany("DELETE FROM pending_entry WHERE id = ?", [row[:1] for row in rows])
    numbered = [(number + place, *row) for place, row in enumerate(rows)]
    db.executemany("INSERT INTO pending_entry VALUES (?, ?, ?)", numbered)
    if are_set:
        marks = [(_SET_NAME + entry_id, b"") for entry_id in envelopes]
        db.executemany("INSERT OR REPLACE INTO mark VALUES (?, ?)", marks)
    else:
        db.executemany("DELETE FROM mark WHERE name = ?", [(_SET_NAME + entry_id,) for entry_id in envelopes])


def _is_set_waiting(db: sqlite3.Connection, entry_id: EntryId) -> bool:
    """Return whether an entry waits that was set."""
    mark = db.execute(_READ_MARKS, (_SET_NAME + entry_id,) * 2).fetchone()
    return mark is not None and db.execute(_READ_ENTRIES, (bytes.fromhex(entry_id),)).fetchone() is not None


def _take_back(
    db: sqlite3.Connection, entry_id: EntryId, envelope: bytes, entries: list[Any], marks: list[Any]
) -> None:
    """Take off an entry that waits as it is; where nothing else does then, these rows of it wait again."""
    key, value_name = bytes.fromhex(entry_id), _VALUE_NAME + entry_id
    db.execute("DELETE FROM pending_entry WHERE id = ? AND envelope = ?", (key, envelope))
    if db.execute(_READ_ENTRIES, (key,)).fetchone() or db.execute(_READ_MARKS, (value_name, value_name)).fetchone():
        return
    db.execute("DELETE FROM mark WHERE name = ?", (_SET_NAME + entry_id,))
    db.executemany("INSERT INTO pending_entry VALUES (?, ?, ?)", entries)
    db.executemany("INSERT INTO mark VALUES (?, ?)", marks)


def _value(row: tuple[Any, ...] | None) -> SetValue | None:
    """Return the value that a mark holds; None if there is none, or it is not of our shape."""
    name, blob = row or ("", None)
    if type(name) is not str:  # of a damaged file
        return None
    entry_id = name.removeprefix(_VALUE_NAME)
    if type(blob) is not bytes or len(blob) <= _VALUE_HEAD.size or not _HEX_ID.fullmatch(entry_id):
        return None
    number, set_ms, replaced = _VALUE_HEAD.unpack_from(blob)
    return SetValue(EntryId(entry_id), blob[_VALUE_HEAD.size :], replaced, set_ms, number)


def _next_number(db: sqlite3.Connection, highest: str) -> int:
    """Return a number above all that wait, and above those of before: a number stands for one row for ever."""
    # One that is beyond all clocks is none of ours, and would leave no room above it.
    found = db.execute(f"{highest} WHERE number < {_LAST_NUMBER}").fetchone()[0]
    return max(time.time_ns(), (found or 0) + 1)
