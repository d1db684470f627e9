"""``shared.db``: what a machine has told its team, and what it last knew of what others have told.

All of it can be made anew: what was told is told again, and comes to the same; what others told is in the tier.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.ledger.pages import Place

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from genai_cache_magic.entries.state import Columns
    from genai_cache_magic.events import Event

_SCHEMA: Final = (
    (
        "CREATE TABLE told (grp BLOB NOT NULL, name BLOB NOT NULL, digest BLOB NOT NULL, serial INTEGER NOT NULL,"
        " revision BLOB NOT NULL, PRIMARY KEY (grp, name)) WITHOUT ROWID"
    ),
    (
        "CREATE TABLE page (grp BLOB NOT NULL, name BLOB NOT NULL, revision BLOB NOT NULL, serial INTEGER NOT NULL,"
        " day INTEGER NOT NULL, blob BLOB NOT NULL, PRIMARY KEY (grp, name))"
    ),
    "CREATE TABLE asked (grp BLOB PRIMARY KEY, at_ms INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE head (run BLOB PRIMARY KEY, last INTEGER NOT NULL, calls INTEGER NOT NULL, title BLOB NOT NULL)",
    "CREATE TABLE pin (run BLOB PRIMARY KEY, serial INTEGER NOT NULL, state INTEGER NOT NULL, title BLOB NOT NULL)",
)
_COLUMNS: Final[Columns] = MappingProxyType(
    {
        **dict.fromkeys(("grp", "name", "digest", "revision", "blob", "run", "title"), bytes),
        **dict.fromkeys(("serial", "day", "at_ms", "last", "calls"), range(2**62)),
        "state": range(1, 5),
    }
)


@dataclass(frozen=True, slots=True)
class Told:
    """What was last told under a name."""

    digest: bytes = field(repr=False)
    serial: int
    revision: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """A page of somebody's as it was last seen whole."""

    revision: str = field(repr=False)
    serial: int
    blob: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a run of this machine stood: the number of its last row, how many it had, and its line, sealed."""

    last: int
    calls: int
    title: bytes = field(repr=False)


class PinState(IntEnum):
    """What became of a pin of this machine."""

    MADE = 1
    TOLD = 2
    REMOVED = 3
    DOUBTED = 4


@dataclass(frozen=True, slots=True)
class Pin:
    """A pinned run: the serial that the team knows it by, or the time at which it was made or removed here [µs]."""

    serial: int
    state: PinState
    title: bytes = field(repr=False)


class KnownPages:
    """The file. Safe to share between threads and processes; every method may raise ``StoreUnavailable``.

    Parameters
    ----------
    path
        ``shared.db``.
    """

    def __init__(
        self, path: Path, *, ensure: Callable[[], None] = lambda: None, tell: Callable[[Event], None] = lambda _: None
    ) -> None:
        self.file = StateFile(path, _SCHEMA, columns=_COLUMNS, ensure=ensure, tell=tell, part="ledger")

    def told(self, group: str) -> dict[str, Told]:
        """Return what this machine has told in a group, by name."""
        rows = self.file.read(
            lambda db: db.execute(
                "SELECT name, digest, serial, revision FROM told WHERE grp = ?", (bytes.fromhex(group),)
            ).fetchall()
        )
        return {name.hex(): Told(digest, serial, revision.decode()) for name, digest, serial, revision in rows}

    def note_told(self, group: str, told: Mapping[str, Told], removed: Collection[str] = ()) -> None:
        """Note what was told, and what was removed."""
        key = bytes.fromhex(group)

        def work(db: sqlite3.Connection) -> None:
            db.executemany(
                "INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?, ?)",
                [(key, bytes.fromhex(n), one.digest, one.serial, one.revision.encode()) for n, one in told.items()],
            )
            db.executemany("DELETE FROM told WHERE grp = ? AND name = ?", [(key, bytes.fromhex(n)) for n in removed])

        self.file.write(work)

    def forget_told(self) -> None:
        """Forget all that was told, so that it is told again; the serials go on."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("UPDATE told SET digest = x''")
            db.execute("DELETE FROM head")

        self.file.write(work)

    def forget_ledger(self, writer: str) -> None:
        """Forget all that a ledger has told that is here no more; `writer` tells from now on."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM told")
            db.execute("DELETE FROM head")
            db.execute("INSERT OR REPLACE INTO mark VALUES ('writer', ?)", (writer.encode(),))

        self.file.write(work)

    def pages(self, groups: Iterable[str]) -> dict[Place, Known]:
        """Return the pages that are known of some groups."""

        def work(db: sqlite3.Connection) -> dict[Place, Known]:
            found = {}
            for group in groups:
                wanted = "SELECT name, revision, serial, blob FROM page WHERE grp = ?"
                for name, revision, serial, blob in db.execute(wanted, (bytes.fromhex(group),)):
                    found[Place(group, name.hex())] = Known(revision.decode(), serial, blob)
            return found

        return self.file.read(work)

    def note_pages(self, pages: Mapping[Place, Known], *, day: int) -> None:
        """Note pages, each in the place of what was known of it."""
        rows = [
            (bytes.fromhex(place.group), bytes.fromhex(place.name), one.revision.encode(), one.serial, day, one.blob)
            for place, one in pages.items()
        ]
        self.file.write(lambda db: db.executemany("INSERT OR REPLACE INTO page VALUES (?, ?, ?, ?, ?, ?)", rows))

    def note_asked(self, groups: Iterable[str], at_ms: int, *, before_day: int) -> None:
        """Note that the tier was asked for all of some groups; forget pages that did not change since `before_day`."""
        rows = [(bytes.fromhex(group), at_ms) for group in groups]

        def work(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO asked VALUES (?, ?)", rows)
            db.execute("DELETE FROM page WHERE day < ?", (before_day,))

        self.file.write(work)

    def asked_at_ms(self, groups: Iterable[str]) -> int | None:
        """Return when the tier was last asked for all of these groups [ms]; None if it never was for one."""
        keys = [bytes.fromhex(group) for group in groups]

        def work(db: sqlite3.Connection) -> list[int]:
            one = "SELECT at_ms FROM asked WHERE grp = ?"
            return [at_ms for key in keys for (at_ms,) in db.execute(one, (key,)).fetchall()]

        found = self.file.read(work)
        return min(found) if found and len(found) == len(keys) else None

    def heads(self) -> dict[bytes, Head]:
        """Return where the runs stood when they were last told."""
        rows = self.file.read(lambda db: db.execute("SELECT run, last, calls, title FROM head").fetchall())
        return {run: Head(last, calls, title) for run, last, calls, title in rows}

    def note_heads(self, heads: Mapping[bytes, Head]) -> None:
        """Note where runs stood."""
        rows = [(run, head.last, head.calls, head.title) for run, head in heads.items()]
        self.file.write(lambda db: db.executemany("INSERT OR REPLACE INTO head VALUES (?, ?, ?, ?)", rows))

    def pins(self) -> dict[bytes, Pin]:
        """Return what is known of pinned runs, by their labels."""
        rows = self.file.read(lambda db: db.execute("SELECT run, serial, state, title FROM pin").fetchall())
        return {run: Pin(serial, PinState(state), title) for run, serial, state, title in rows}

    def note_pin(self, run: bytes, pin: Pin | None, *, instead_of: Pin | None = None) -> None:
        """Note a pin, or none any more; only if `instead_of` is still what is known, where that is given."""

        def work(db: sqlite3.Connection) -> None:
            if instead_of is not None:
                rows = db.execute("SELECT serial, state FROM pin WHERE run = ?", (run,)).fetchall()
                if rows != [(instead_of.serial, instead_of.state)]:
                    return
            if pin is None:
                db.execute("DELETE FROM pin WHERE run = ?", (run,))
            else:
                row = run, pin.serial, int(pin.state), pin.title
                db.execute("INSERT OR REPLACE INTO pin VALUES (?, ?, ?, ?)", row)

        self.file.write(work)

    def forget_pins(self) -> None:
        """Take no pin as told any more: whoever has one sees whether the tier still has it."""
        told, doubted = int(PinState.TOLD), int(PinState.DOUBTED)
        self.file.write(lambda db: db.execute("UPDATE pin SET state = ? WHERE state = ?", (doubted, told)))

    def close(self) -> None:
        """Give up the file; may be called twice."""
        self.file.close()
