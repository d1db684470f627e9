"""What can still be read of a damaged SQLite file: whole rows of tables that are to the letter our own."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Rescued = Mapping[str, "tuple[list[tuple[Any, ...]], bool]"]
"""The rows of each table, in the order of its key, and whether that is all of them."""

_TABLE: Final = re.compile(r"CREATE TABLE (\w+) \((\w+) ")


def readable(path: Path, schema: Sequence[str]) -> Rescued:
    """Return what can be read of the tables of `schema`, whose first column is their key, in the file at `path`."""
    keys = {match[1]: match[2] for statement in schema if (match := _TABLE.match(statement))}
    nothing: Rescued = {table: ([], False) for table in keys}
    with contextlib.suppress(sqlite3.Error, OSError):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA trusted_schema = OFF")
            # SECURITY: what another schema makes of a name, such as a view, is never run.
            found = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'table'").fetchall()
            ours = {sql for (sql,) in found}.intersection(schema)
            tables = [match[1] for sql in ours if (match := _TABLE.match(sql))]
            return {**nothing, **{table: _rows(connection, table, keys[table]) for table in tables}}
    return nothing


def _rows(connection: sqlite3.Connection, table: str, key: str) -> tuple[list[tuple[Any, ...]], bool]:
    """Return the rows before the first page that can't be read, and those after the last one."""
    # NOT INDEXED: an index may be what is damaged.
    ascending, is_whole = _until_damage(connection, f"SELECT * FROM {table} NOT INDEXED ORDER BY {key}")  # noqa: S608
    if is_whole:
        return ascending, True
    descending, _ = _until_damage(connection, f"SELECT * FROM {table} NOT INDEXED ORDER BY {key} DESC")  # noqa: S608
    known = {row[0] for row in ascending}
    return [*ascending, *(row for row in reversed(descending) if row[0] not in known)], False


def _until_damage(connection: sqlite3.Connection, statement: str) -> tuple[list[tuple[Any, ...]], bool]:
    rows: list[tuple[Any, ...]] = []
    try:
        rows.extend(_each(connection, statement))
    except (sqlite3.Error, OverflowError, UnicodeDecodeError):
        return rows, False
    return rows, True


def _each(connection: sqlite3.Connection, statement: str) -> Iterator[tuple[Any, ...]]:
    with contextlib.closing(connection.execute(statement)) as cursor:
        yield from cursor
