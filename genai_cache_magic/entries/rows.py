"""The rows of the catalogue: what is stored in a namespace, without opening it.

A row is written before its entry and removed after it, so that whatever is killed in between, there is a row for
every entry; a row too many is found by counting. Rows say what there is, never what is valid: that is judged by the
generation document, here as everywhere. Ids, tags and digests are keyed; all else that tells of a call is sealed.
"""

from __future__ import annotations

import enum
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import orjson

from genai_cache_magic.core.frame import decode_metadata, encode_metadata
from genai_cache_magic.core.model import GIVEN_ID, QUESTION, EntryId, Header, Metadata, Stamp
from genai_cache_magic.entries.growth import DAY_MS, Crop
from genai_cache_magic.errors import DecryptionError, EntryUndecodable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.crypto.columns import ColumnSeal
    from genai_cache_magic.entries.state import Columns, StateFile

SCHEMA = (
    "CREATE TABLE root (no INTEGER PRIMARY KEY, root BLOB NOT NULL UNIQUE)",
    (
        "CREATE TABLE entry (n INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, root INTEGER NOT NULL,"
        " ver INTEGER NOT NULL, created_ms INTEGER NOT NULL, expires_ms INTEGER NOT NULL, label BLOB NOT NULL,"
        " tags BLOB NOT NULL, key BLOB, gone INTEGER NOT NULL)"
    ),
    "CREATE INDEX entry_expiry ON entry (gone, expires_ms)",
    "CREATE INDEX entry_live ON entry (gone, root, label, ver, expires_ms, created_ms)",
    "CREATE TABLE detail (n INTEGER PRIMARY KEY, parts BLOB NOT NULL, sealed BLOB NOT NULL)",
    # What decides whether a row is alive stands beside its tag: counting a tag reads one stretch of one table.
    (
        "CREATE TABLE tag (tag BLOB NOT NULL, n INTEGER NOT NULL, root INTEGER NOT NULL, ver INTEGER NOT NULL,"
        " expires_ms INTEGER NOT NULL, PRIMARY KEY (tag, n)) WITHOUT ROWID"
    ),
    "CREATE TABLE part (digest BLOB NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (digest, n)) WITHOUT ROWID",
    "CREATE TABLE tally (present INTEGER NOT NULL, last INTEGER NOT NULL)",
    "CREATE TABLE name (tag BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID",
)

_WHOLE = range(2**62)
_TIMES_MS = range(253_402_300_800_000)  # to the end of the year 9999: no date is later
COLUMNS: Final[Columns] = MappingProxyType(
    {
        **dict.fromkeys(("id", "digest", "key", "label", "parts", "sealed", "tag", "tags", "value"), bytes),
        **dict.fromkeys(("last", "n", "no", "ver"), _WHOLE),
        **dict.fromkeys(("created_ms", "first_ms", "last_ms"), _TIMES_MS),
        "expires_ms": _WHOLE,
        "present": range(-(2**62), 2**62),
        "gone": range(-1, 5),
    }
)
"""What the columns hold."""

_COLUMNS = "e.n, e.id, r.root, e.ver, e.created_ms, e.expires_ms, e.tags, e.gone, e.label = x''"
# CROSS: the rows first, found by what is asked of them; and `+` keeps an index of all rows out of it.
ROW = f"SELECT {_COLUMNS} FROM entry e CROSS JOIN root r ON r.no = e.root"
_INSERT = (
    "INSERT INTO entry (n, id, root, ver, created_ms, expires_ms, label, tags, key, gone)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
SWEPT = "swept"
_COMPLETE = "complete"
_TAG_BYTES = 16
PART_BYTES = 8
_PAGE = 1_000
_KEPT_GONE = 20_000
"""How many rows of what is gone are kept, to say why it is."""

_TELLING = ("body.", "header.")  # how the components are named by which a call finds those that are near it
_HIDDEN = frozenset({GIVEN_ID, QUESTION})


Noted: TypeAlias = "tuple[EntryId, Header, Metadata]"


class Gone(enum.IntEnum):
    """Why a row's entry is not in the store any more."""

    DOOMED = -1
    """It is, but nobody can be served it any more."""
    HERE = 0
    EXPIRED = 1
    INVALIDATED = 2
    VANISHED = 3
    ELSEWHERE = 4
    """It never was, or is not any more: a team's tier has it."""


class Name(NamedTuple):
    """What a keyed tag stands for."""

    kind: TagKind
    name: str


@dataclass(frozen=True, slots=True)
class _New:
    """What is written of an entry: keyed or sealed, all of it."""

    raw: bytes = field(repr=False)
    header: Header
    label: bytes = field(repr=False)
    key: bytes | None = field(repr=False)
    sealed: bytes = field(repr=False)
    parts: bytes = field(repr=False)
    telling: set[bytes] = field(repr=False)
    names: Mapping[bytes, Name] = field(repr=False)
    found_by: tuple[bytes, ...] = field(repr=False)


class Row(NamedTuple):
    """One row: its number, which no two rows ever share, and what decides whether its entry is valid."""

    n: int
    entry_id: EntryId
    header: Header
    gone: Gone
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class View:
    """What rows are judged by: the generation document, and the wall clock [ms since the epoch]."""

    generations: Generations
    now_ms: int

    def is_live(self, entry_id: EntryId, header: Header) -> bool:
        """Return whether an entry would be served to a caller who asks for nothing special."""
        age_ms = self.now_ms - header.created_ms
        return age_ms < header.ttl_s * 1000 and self.generations.is_valid(entry_id, header)


class Rows:
    """The rows of one namespace in its state file. Every method may raise ``StoreUnavailable``.

    Parameters
    ----------
    tag
        Returns the keyed tag of a kind and a name.
    """

    def __init__(self, state: StateFile, seal: ColumnSeal, *, tag: Callable[[TagKind, str], bytes]) -> None:
        self.state = state
        self._seal = seal
        self._tag = tag

    # Writing

    def record(
        self, noted: Iterable[Noted], *, judged: Stamp | None = None, gone: Gone = Gone.HERE, are_new: bool = False
    ) -> list[EntryId]:
        """Note entries that are about to be stored, each in place of what was noted under its id.

        Where they `are_new`, or ``ELSEWHERE``, which says that the team has them, what is here keeps its row: returned
        is of what. All were `judged` to be valid by that state of the document, or (None) may be invalid: what was
        invalidated since, and swept before there was a row, is to be swept again.
        """
        rows = [self._new(*one) for one in noted]

        def work(db: sqlite3.Connection) -> list[bytes]:
            _sweep_again_since(db, judged)
            return [r.raw for r in rows if not self._write(db, r, gone, keeps=are_new or gone is Gone.ELSEWHERE)]

        return [EntryId(raw.hex()) for raw in self.state.write(work)] if rows else []

    def _new(self, entry_id: EntryId, header: Header, metadata: Metadata) -> _New:
        """Return what is written of an entry."""
        raw = bytes.fromhex(entry_id)
        # The digests stand beside, where they can be compared: among what is sealed only their names.
        components = metadata.components
        named = encode_metadata(metadata, components=dict.fromkeys(components, ""))
        key = metadata.key.encode("utf-8", "surrogatepass")
        # A row that no listing shows has no label: it stands for an entry that only other entries are found by.
        is_hidden = metadata.surface in _HIDDEN
        return _New(
            raw,
            header,
            label=b"" if is_hidden else self._tag("model", metadata.label),
            key=self._seal.seal(key, place=b"key" + raw) if key else None,
            sealed=self._seal.seal(named, place=b"detail" + raw),
            parts=bytes.fromhex("".join(components.values())),
            telling={bytes.fromhex(components[name]) for name in components if name.startswith(_TELLING)},
            names={} if is_hidden else self._names(metadata),
            found_by=_found_by(header, metadata, self._tag),
        )

    def _write(self, db: sqlite3.Connection, new: _New, is_gone: Gone, *, keeps: bool) -> bool:
        """Write a row, unless there is one of something that is here and it `keeps` that; return whether."""
        header = new.header
        there = db.execute("SELECT n, tags, gone FROM entry WHERE id = ?", (new.raw,)).fetchall()
        if keeps and any(gone <= Gone.HERE for _, _, gone in there):
            return False
        db.execute("INSERT OR IGNORE INTO root (root) VALUES (?)", (header.birth.root,))
        ((root,),) = db.execute("SELECT no FROM root WHERE root = ?", (header.birth.root,))
        added = int(is_gone is Gone.HERE)
        for n, tags, gone in there:
            added -= gone <= Gone.HERE
            _strip(db, n, tags)
            db.execute("DELETE FROM entry WHERE n = ?", (n,))
        expires_ms = header.created_ms + header.ttl_s * 1000
        n = _tally(db, added, is_new=True)
        validity = (n, new.raw, root, header.birth.ver, header.created_ms, expires_ms)
        db.execute(_INSERT, (*validity, new.label, b"".join(header.tags), new.key, is_gone))
        db.execute("INSERT INTO detail VALUES (?, ?, ?)", (n, new.parts, new.sealed))
        db.executemany(
            "INSERT INTO tag VALUES (?, ?, ?, ?, ?)",
            [(tag, n, root, header.birth.ver, expires_ms) for tag in new.found_by],
        )
        db.executemany("INSERT INTO part VALUES (?, ?)", [(digest, n) for digest in new.telling])
        self._note_names(db, new.names)
        return True

    def mark_gone(self, rows: Iterable[int], why: Gone) -> None:
        """Note that the entries of these rows are not in the store any more, or are doomed.

        What is elsewhere is not removed from here, so it is not doomed: it is gone at once.
        """
        numbers = list(rows)
        statement = f"SELECT tags, gone FROM entry WHERE n = ? AND (gone <= 0 OR gone = {Gone.ELSEWHERE:d})"

        def work(db: sqlite3.Connection) -> None:
            for n in numbers:
                for tags, gone in db.execute(statement, (n,)).fetchall():
                    if gone != Gone.DOOMED:
                        _strip(db, n, tags)
                    is_doomed_elsewhere = gone == Gone.ELSEWHERE and why is Gone.DOOMED
                    said = Gone.INVALIDATED if is_doomed_elsewhere else why
                    db.execute("UPDATE entry SET gone = ?, key = NULL WHERE n = ?", (said, n))
                    if why > Gone.HERE >= gone:
                        _tally(db, -1)

        self.state.write(work)

    def forget_long_gone(self) -> None:
        """Remove rows of what has been gone for longest."""
        self.state.write(
            lambda db: db.execute(
                "DELETE FROM entry WHERE n IN (SELECT n FROM entry WHERE gone BETWEEN 1 AND 3"
                " ORDER BY n DESC LIMIT -1 OFFSET ?)",
                (_KEPT_GONE,),
            )
        )

    def remember_name(self, kind: TagKind, name: str) -> None:
        """Note what a tag that somebody invalidates stands for."""
        self.state.write(lambda db: self._note_names(db, {self._tag(kind, name): Name(kind, name)}))

    def _names(self, metadata: Metadata) -> dict[bytes, Name]:
        named: list[tuple[TagKind, str]] = [("user", tag) for tag in metadata.tags]
        named += [("run", metadata.run), ("cell", metadata.cell), ("person", metadata.person)]
        named += [("model", metadata.label)]
        return {self._tag(kind, name): Name(kind, name) for kind, name in named if name}

    def _note_names(self, db: sqlite3.Connection, names: Mapping[bytes, Name]) -> None:
        for tag, name in names.items():
            if not db.execute("SELECT 1 FROM name WHERE tag = ?", (tag,)).fetchall():
                sealed = self._seal.seal(orjson.dumps(list(name)), place=b"name" + tag)
                db.execute("INSERT INTO name VALUES (?, ?)", (tag, sealed))

    # Reading

    def find(self, entry_id: EntryId) -> Row | None:
        """Return the row of an entry, whether it is still there or not."""
        found = self.state.rows(f"{ROW} WHERE e.id = ?", (bytes.fromhex(entry_id),))
        return row_of(*found[0]) if found else None

    def noted(self, entry_ids: Iterable[EntryId]) -> list[EntryId]:
        """Return those ids whose rows say that there is an entry, doomed or not."""
        raws = [bytes.fromhex(entry_id) for entry_id in entry_ids]
        statement = "SELECT id FROM entry WHERE id = ? AND gone <= 0"
        if len(raws) == 1:
            return [EntryId(raw.hex()) for (raw,) in self.state.rows(statement, (raws[0],))]

        def work(db: sqlite3.Connection) -> list[EntryId]:
            return [EntryId(raw.hex()) for raw in raws if db.execute(statement, (raw,)).fetchall()]

        return self.state.read(work)

    def metadata(self, entry_id: EntryId) -> Metadata | None:
        """Return what is known of an entry that is there, or with the team."""
        raw = bytes.fromhex(entry_id)
        statement = (
            "SELECT d.sealed, d.parts FROM entry e JOIN detail d ON d.n = e.n WHERE e.id = ? AND e.gone IN (0, 4)"
        )
        found = self.state.read(lambda db: db.execute(statement, (raw,)).fetchall())
        return self.opened(entry_id, *found[0]) if found else None

    def name(self, tag: bytes) -> Name | None:
        """Return what a keyed tag stands for, if it was ever noted."""
        found = self.state.read(lambda db: db.execute("SELECT sealed FROM name WHERE tag = ?", (tag,)).fetchall())
        try:
            return Name(*orjson.loads(self._seal.open(found[0][0], place=b"name" + tag))) if found else None
        except (DecryptionError, TypeError, ValueError):
            return None

    def is_complete(self) -> bool:
        """Return whether there was a row for every entry at some time; from then on each entry makes its own."""
        return self.state.mark(_COMPLETE) is not None

    def set_complete(self) -> None:
        """Note that there is a row for every entry."""
        self.state.set_mark(_COMPLETE, b"1")

    def present(self) -> int:
        """Return how many rows stand for entries that should be in the store, valid or not."""
        return self.state.read(present_rows)

    def present_ids(self) -> dict[bytes, tuple[int, int]]:
        """Return the raw ids of those rows, with their numbers and when they expire [ms]."""
        statement = "SELECT id, n, expires_ms FROM entry WHERE gone <= 0"
        found = self.state.read(lambda db: db.execute(statement).fetchall())
        return {raw: (n, expires_ms) for raw, n, expires_ms in found}

    def crops(self, now_ms: int) -> list[Crop]:
        """Return how many of those rows are how old, and have how long left."""
        statement = (
            "SELECT max(0, :now - created_ms) / :day, max(0, expires_ms - :now) / :day, count(*) FROM entry"
            " WHERE gone <= 0 GROUP BY 1, 2"
        )
        asked = {"now": now_ms, "day": DAY_MS}
        return [Crop(*row) for row in self.state.read(lambda db: db.execute(statement, asked).fetchall())]

    def known(self) -> dict[bytes, tuple[int, Gone]]:
        """Return the raw ids of what is here, doomed or not, and of what is elsewhere, with their rows' numbers."""
        statement = f"SELECT id, n, gone FROM entry WHERE gone <= 0 OR gone = {Gone.ELSEWHERE:d}"
        found = self.state.read(lambda db: db.execute(statement).fetchall())
        return {raw: (n, Gone(gone)) for raw, n, gone in found}

    def has_any(self) -> bool:
        """Return whether there is a row of anything that is here or elsewhere."""
        statement = f"SELECT 1 FROM entry WHERE gone <= 0 OR gone = {Gone.ELSEWHERE:d} LIMIT 1"
        return bool(self.state.read(lambda db: db.execute(statement).fetchall()))

    def page(self, after: int) -> list[Row]:
        """Return the next rows, after number `after`, whose entries are there and not doomed, or with the team."""
        statement = f"{ROW} WHERE +e.gone IN (0, 4) AND e.n > ? ORDER BY e.n LIMIT {_PAGE}"
        return [row_of(*row) for row in self.state.read(lambda db: db.execute(statement, (after,)).fetchall())]

    def doomed(self, limit: int) -> list[Row]:
        """Return some of the rows whose entries are to be removed."""
        statement = f"{ROW} WHERE e.gone = {Gone.DOOMED:d} LIMIT {limit:d}"
        return [row_of(*row) for row in self.state.read(lambda db: db.execute(statement).fetchall())]

    def numbered(self, n: int) -> list[Row]:
        """Return the row of a number, none or one."""
        return [row_of(*row) for row in self.state.read(lambda db: db.execute(f"{ROW} WHERE e.n = ?", (n,)).fetchall())]

    def swept(self) -> Stamp | None:
        """Return up to which document all that is invalid was removed."""
        value = self.state.mark(SWEPT)
        return _swept(value) if value is not None else None

    def set_swept(self, generations: Generations) -> None:
        """Note that all that this document makes invalid was removed."""
        self.state.set_mark(SWEPT, _swept_value(generations.stamp))

    def key(self, raw: bytes, sealed: bytes) -> str | None:
        """Return the key that a value was set under, None if it is damaged."""
        with suppress(DecryptionError):
            return self._seal.open(sealed, place=b"key" + raw).decode("utf-8", "surrogatepass")
        return None

    def label(self, tag: bytes) -> str:
        """Return the model, or surface, that a keyed tag stands for."""
        name = self.name(tag)
        return name.name if name else "?"

    def opened(self, entry_id: EntryId, sealed: bytes, parts: bytes) -> Metadata | None:
        """Return what a row's detail holds, None if it is damaged."""
        try:
            found = decode_metadata(self._seal.open(sealed, place=b"detail" + bytes.fromhex(entry_id)))
            digests = (part.hex() for part in split(parts, PART_BYTES))
            return replace(found, components=dict(zip(found.components, digests, strict=True)))
        except (DecryptionError, EntryUndecodable, ValueError):
            return None


def _sweep_again_since(db: sqlite3.Connection, judged: Stamp | None) -> None:
    """Lower what was swept to a state of the document (None: any) by which rows are added that no sweep has seen."""
    for (value,) in db.execute("SELECT value FROM mark WHERE name = ?", (SWEPT,)).fetchall():
        swept = _swept(value)
        if judged is None:
            db.execute("DELETE FROM mark WHERE name = ?", (SWEPT,))
        elif swept.root == judged.root and swept.ver > judged.ver:
            db.execute("UPDATE mark SET value = ? WHERE name = ?", (_swept_value(judged), SWEPT))


def _swept(value: bytes) -> Stamp:
    return Stamp(value[:16], int.from_bytes(value[16:]))


def _swept_value(stamp: Stamp) -> bytes:
    return stamp.root + stamp.ver.to_bytes(8)


def split(joined: bytes, size: int) -> list[bytes]:
    """Return the pieces of a column that joins pieces of one size [bytes]."""
    return [joined[at : at + size] for at in range(0, len(joined), size)]


def present_rows(db: sqlite3.Connection) -> int:
    """Return the tally of rows whose entries should be in the store."""
    rows = db.execute("SELECT present FROM tally").fetchall()
    return int(rows[0][0]) if rows else 0


def _tally(db: sqlite3.Connection, change: int, *, is_new: bool = False) -> int:
    """Correct the tally, and return the highest number that a row has ever had: a new one, if asked for."""
    # Not SQLite's own numbers: it gives that of a removed row again, and whoever has it in hand would mean another.
    if not db.execute("UPDATE tally SET present = present + ?, last = last + ?", (change, is_new)).rowcount:
        db.execute("INSERT INTO tally VALUES (?, ?)", (change, is_new))
    ((last,),) = db.execute("SELECT last FROM tally")
    return int(last)


def row_of(  # noqa: PLR0913, PLR0917 - the columns of `ROW`
    n: int, raw: bytes, root: bytes, ver: int, created_ms: int, expires_ms: int, tags: bytes, gone: int, hidden: int
) -> Row:
    """Return the row that its columns stand for."""
    header = Header(Stamp(root, ver), created_ms, (expires_ms - created_ms) // 1000, tuple(split(tags, _TAG_BYTES)))
    return Row(n, EntryId(raw.hex()), header, Gone(gone), bool(hidden))


def _found_by(header: Header, metadata: Metadata, tag: Callable[[TagKind, str], bytes]) -> tuple[bytes, ...]:
    """Return the tags by which an entry is found: of a question the one of its kind, which its metadata name."""
    if metadata.surface == QUESTION:
        return (tag("vectors", metadata.model),)
    return () if metadata.surface == GIVEN_ID else header.tags


def _strip(db: sqlite3.Connection, n: int, tags: bytes) -> None:
    """Remove all of a row but the row itself."""
    db.executemany("DELETE FROM tag WHERE tag = ? AND n = ?", [(tag, n) for tag in split(tags, _TAG_BYTES)])
    for (parts,) in db.execute("SELECT parts FROM detail WHERE n = ?", (n,)).fetchall():
        db.executemany("DELETE FROM part WHERE digest = ? AND n = ?", [(p, n) for p in split(parts, PART_BYTES)])
    db.execute("DELETE FROM detail WHERE n = ?", (n,))
