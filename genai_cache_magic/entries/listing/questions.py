"""Questions to the catalogue's rows: how many, which, and which is nearest. Nothing here opens an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.noise import joining_keys
from genai_cache_magic.entries.listing.holdings import Kept
from genai_cache_magic.entries.rows import PART_BYTES, ROW, SWEPT, present_rows, row_of, split
from genai_cache_magic.stores.disk.faults import damage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator, Sequence

    from genai_cache_magic.core.key import TagKind
    from genai_cache_magic.core.model import Metadata
    from genai_cache_magic.entries.rows import Row, Rows, View

_LIVE = "gone IN (0, 4) AND root = :root AND label > x'' AND ver >= :floor AND expires_ms > :now"
_LIVE_ELSEWHERE = "gone = 4 AND root = :root AND label > x'' AND ver >= :floor AND expires_ms > :now"
_DEAD_ELSEWHERE = "gone = 4 AND NOT (root = :root AND ver >= :floor AND expires_ms > :now)"
_LIVE_TAG = "tag = :tag AND root = :root AND ver >= :floor AND expires_ms > :now"

# The index has a label before the counter: without them one by one, what is below a floor is looked for among all rows.
_LABELS = (
    "WITH RECURSIVE found(label) AS ("
    "SELECT min(label) FROM entry INDEXED BY entry_live WHERE gone = 0 AND root = :root UNION ALL "
    "SELECT (SELECT min(label) FROM entry INDEXED BY entry_live WHERE gone = 0 AND root = :root"
    " AND label > found.label) FROM found WHERE label IS NOT NULL"
    ") SELECT label FROM found WHERE label IS NOT NULL"
)
"""The labels of the rows whose entries are here: a step in the index for each, and there are as many as models."""

_CARRYING = (
    f"SELECT t.n, e.id FROM (SELECT n FROM tag WHERE {_LIVE_TAG} AND n > :after ORDER BY n LIMIT :limit) t"
    " JOIN entry e ON e.n = t.n"
)
_NEW_CARRYING = _CARRYING.replace("root = :root", "root = (SELECT no FROM root WHERE root = :root)")
"""The same by one statement: it is asked before each search for what is near, and mostly for nothing."""

_BUT_DEAD = " AND n NOT IN temp.dead"
"""As `_note_dead` has found them, within this transaction: compared where they are, and not one by one in Python."""

_RARE = 500
"""A digest that more rows share says nothing about which of them is near."""

_SAME_CELL = 2_000
_OPENED = 50
"""How many of the nearest are looked at for one that differs by noise alone."""
_NEWEST = 500


class Questions:
    """What listings and invalidations ask. Every method may raise ``StoreUnavailable``.

    A row is live if `_LIVE` says so and no record of a tag or an entry has made it invalid since rows were last swept.
    """

    def __init__(self, rows: Rows, *, tag: Callable[[TagKind, str], bytes]) -> None:
        self._rows = rows
        self._tag = tag

    def count(self, view: View) -> int:
        """Return how many entries are live."""
        return self.count_carrying(view, None)[1]

    def count_carrying(self, view: View, tag: bytes | None) -> tuple[int, int]:
        """Return how many live entries carry `tag`, and how many are live in all."""

        def work(db: sqlite3.Connection) -> tuple[int, int]:
            dead = _note_dead(db, view)
            bounds = _bounds(db, view, tag=tag)
            elsewhere = f"SELECT count(*) FROM entry INDEXED BY entry_live WHERE {_LIVE_ELSEWHERE}"
            ((shared,),) = db.execute(elsewhere, bounds)
            alive = present_rows(db) - _count_not_live(db, bounds) + int(shared) - dead
            if tag is None:
                return 0, alive
            ((carrying,),) = db.execute(f"SELECT count(*) FROM tag WHERE {_LIVE_TAG}{_BUT_DEAD}", bounds)
            return int(carrying), alive

        return self._rows.state.read(work)

    def by_label(self, view: View) -> list[tuple[str, int, int, int]]:
        """Return of each model, or surface, how many entries are live, and when the first and last were stored [ms]."""
        statement = (
            "SELECT label, count(*), min(created_ms) AS first_ms, max(created_ms) AS last_ms"
            f" FROM entry WHERE {_LIVE.replace('gone IN (0, 4)', 'gone = :gone')}{_BUT_DEAD} GROUP BY label"
        )

        def work(db: sqlite3.Connection) -> list[Any]:
            _note_dead(db, view)
            bounds = _bounds(db, view)
            # One by one they come in the order of their labels; both at once would have to be sorted.
            return [row for gone in (0, 4) for row in db.execute(statement, {**bounds, "gone": gone})]

        counted: dict[bytes, tuple[int, int, int]] = {}
        for label, count, first, last in self._rows.state.read(work):
            before = counted.get(label, (0, first, last))
            counted[label] = before[0] + count, min(before[1], first), max(before[2], last)
        return [(self._rows.label(label), *found) for label, found in counted.items()]

    def by_tag(self, view: View) -> list[tuple[bytes, int]]:
        """Return of each keyed tag how many live entries carry it."""
        live = _LIVE_TAG.removeprefix("tag = :tag AND ")

        def work(db: sqlite3.Connection) -> list[tuple[bytes, int]]:
            _note_dead(db, view)
            statement = f"SELECT tag, count(*) AS present FROM tag WHERE {live}{_BUT_DEAD} GROUP BY tag"
            return db.execute(statement, _bounds(db, view)).fetchall()

        return self._rows.state.read(work)

    def holdings(self, view: View) -> tuple[dict[int, Kept], list[tuple[int, bytes]]]:
        """Return the live entries by row; and every tag of a row."""
        labels = f"SELECT n, id, label, created_ms, expires_ms FROM entry WHERE {_LIVE}{_BUT_DEAD}"
        tagged = f"SELECT n, tag FROM tag WHERE {_LIVE_TAG.removeprefix('tag = :tag AND ')}{_BUT_DEAD}"

        def work(db: sqlite3.Connection) -> tuple[list[Any], list[tuple[int, bytes]]]:
            _note_dead(db, view)
            bounds = _bounds(db, view)
            return db.execute(labels, bounds).fetchall(), db.execute(tagged, bounds).fetchall()

        entries, tags = self._rows.state.read(work)
        return {n: Kept(EntryId(raw.hex()), *rest) for n, raw, *rest in entries}, tags

    def ids(self, view: View, *, tags: Sequence[bytes] = (), before_ms: int | None = None) -> set[EntryId]:
        """Return the live entries that carry one of `tags`, or that were stored before a time [ms]."""

        def work(db: sqlite3.Connection) -> set[EntryId]:
            _note_dead(db, view)
            found: list[tuple[bytes]] = []
            if before_ms is not None:
                bounds = {**_bounds(db, view), "before": before_ms}
                found += db.execute(f"SELECT id FROM entry WHERE {_LIVE}{_BUT_DEAD} AND created_ms < :before", bounds)
            for tag in tags:
                carrying = f"SELECT n FROM tag WHERE {_LIVE_TAG}{_BUT_DEAD}"
                statement = f"SELECT e.id FROM ({carrying}) t JOIN entry e ON e.n = t.n"
                found += db.execute(statement, _bounds(db, view, tag=tag))
            return {EntryId(raw.hex()) for (raw,) in found}

        return self._rows.state.read(work)

    def untagged(self, view: View, label: bytes) -> set[EntryId]:
        """Return the live entries that are counted under a label and don't carry it as a tag.

        So it is with values that release 0.1 has set; where there are none, two counts say so.
        """
        counted = f"{_LIVE} AND label = :tag{_BUT_DEAD}"
        tagged = f"SELECT n FROM tag WHERE {_LIVE_TAG}{_BUT_DEAD}"

        def work(db: sqlite3.Connection) -> set[EntryId]:
            _note_dead(db, view)
            bounds = _bounds(db, view, tag=label)
            ((listed,),) = db.execute(f"SELECT count(*) FROM entry WHERE {counted}", bounds)
            ((carrying,),) = db.execute(f"SELECT count(*) FROM ({tagged})", bounds)
            if listed <= carrying:
                return set()
            found = db.execute(f"SELECT id FROM entry WHERE {counted} AND n NOT IN ({tagged})", bounds)
            return {EntryId(raw.hex()) for (raw,) in found}

        return self._rows.state.read(work)

    def carrying(self, view: View, tag: bytes, *, after: int, limit: int) -> list[tuple[int, EntryId]]:
        """Return live entries that carry `tag` and whose rows have a number above `after`, in its order.

        What a record has made invalid and no sweep has dealt with may be among them.
        """
        generations = view.generations
        bounds = {"root": generations.root, "floor": generations.floor, "now": view.now_ms, "tag": tag}
        found = self._rows.state.rows(_NEW_CARRYING, {**bounds, "after": after, "limit": limit})
        return [(n, EntryId(raw.hex())) for n, raw in found]

    def all_carrying(self, view: View, tag: bytes) -> tuple[list[int], list[bytes]]:
        """Return what `carrying` does of all entries: the numbers of their rows, and their ids as bytes."""

        def work(db: sqlite3.Connection) -> tuple[list[int], list[bytes]]:
            cursor = db.cursor()
            cursor.row_factory = None  # types are looked at below: to check row by row takes longer than to read
            bounds = {**_bounds(db, view, tag=tag), "after": -1, "limit": -1}
            found = cursor.execute(_CARRYING, bounds).fetchall()
            numbers, ids = [n for n, _ in found], [raw for _, raw in found]
            if not (set(map(type, numbers)) <= {int} and set(map(type, ids)) <= {bytes}):
                raise damage("a row holds no id")
            return numbers, ids

        return self._rows.state.read(work)

    def names(self, view: View, *, only_keys: bool = False) -> list[tuple[EntryId, str]]:
        """Return the live entries, the newest first, and their names.

        A value's name is its key; a call's is its model, ``:`` and the start of its id.
        """
        keyed = " AND key IS NOT NULL" if only_keys else ""
        statement = f"SELECT id, label, key FROM entry WHERE {_LIVE}{_BUT_DEAD}{keyed} ORDER BY n DESC"

        def work(db: sqlite3.Connection) -> list[Any]:
            _note_dead(db, view)
            return db.execute(statement, _bounds(db, view)).fetchall()

        named = []
        models: dict[bytes, str] = {}
        for raw, label, sealed in self._rows.state.read(work):
            entry_id = EntryId(raw.hex())
            if sealed is not None:
                if (key := self._rows.key(raw, sealed)) is not None:
                    named.append((entry_id, key))
                continue
            if label not in models:
                models[label] = self._rows.label(label)
            named.append((entry_id, f"{models[label]}:{entry_id[:12]}"))
        return named

    def dead(self, view: View, limit: int) -> list[int]:
        """Return the numbers of some rows that look alive in the table and are not, as this document says."""

        def work(db: sqlite3.Connection) -> list[int]:
            bounds = {**_bounds(db, view), "limit": limit}
            found: set[int] = set()
            elsewhere: _Condition = ("entry INDEXED BY entry_live", (_DEAD_ELSEWHERE, {}))
            for table, condition in (*_left_out(bounds), elsewhere, *_records(db, view, bounds)):
                statement = f"SELECT n FROM {table} WHERE {condition[0]} LIMIT :limit"
                found.update(n for (n,) in db.execute(statement, {**bounds, **condition[1]}))
                if len(found) >= limit:
                    break
            return list(found)

        return self._rows.state.read(work)

    def starting_with(self, view: View, prefix: str) -> list[EntryId]:
        """Return the live entries whose id starts with a few hex digits."""
        bounds = (bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f")))
        statement = f"{ROW} WHERE e.id BETWEEN ? AND ? AND +e.gone IN (0, 4)"
        found = self._rows.state.read(lambda db: db.execute(statement, bounds).fetchall())
        rows = (row_of(*row) for row in found)
        return [row.entry_id for row in rows if not row.is_hidden and view.is_live(row.entry_id, row.header)]

    def live(self, view: View) -> Iterator[tuple[Row, Metadata]]:
        """Yield the live entries and what is known of them, in the order in which they were stored."""
        after = 0
        while rows := self._rows.page(after):
            after = rows[-1].n
            first = rows[0].n
            statement = "SELECT n, sealed, parts FROM detail WHERE n BETWEEN ? AND ?"
            found = self._rows.state.read(lambda db: db.execute(statement, (first, after)).fetchall())  # noqa: B023 - run at once
            details = {n: detail for n, *detail in found}
            for row in rows:
                if row.n in details and not row.is_hidden and view.is_live(row.entry_id, row.header):
                    metadata = self._rows.opened(row.entry_id, *details[row.n])
                    if metadata is not None:
                        yield row, metadata

    def traces(self, prefix: str) -> list[EntryId]:
        """Return the entries whose id starts with a few hex digits, whatever has become of them."""
        bounds = (bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f")))
        statement = f"{ROW} WHERE e.id BETWEEN ? AND ?"
        found = self._rows.state.read(lambda db: db.execute(statement, bounds).fetchall())
        return [row.entry_id for row in (row_of(*one) for one in found) if not row.is_hidden]

    def nearest(
        self, view: View, own: Metadata, *, beside: EntryId | None = None, before: int | None = None
    ) -> tuple[Row, Metadata] | None:
        """Return the live entry whose request differs in the fewest parts from `own`, and what is known of it.

        Entries of the same cell are nearer than any other, and among the nearest those that differ by noise alone.
        Only rows `before` that number count. Looked at are those that share a rare part, the newest of
        the cell and the newest of all; whatever else there is shares only what hundreds share.
        """
        digests = {bytes.fromhex(digest) for digest in own.components.values()}
        surface = own.components.get("surface", "")
        if not surface:
            return None

        def work(db: sqlite3.Connection) -> tuple[set[int], list[tuple[int, bytes, bytes]]]:
            newest = f"SELECT n FROM tag WHERE tag = ? ORDER BY n DESC LIMIT {_SAME_CELL}"
            in_cell = {n for (n,) in db.execute(newest, (self._tag("cell", own.cell),))} if own.cell else set()
            numbers = set(in_cell)
            for digest in digests:
                sharing = db.execute(f"SELECT n FROM part WHERE digest = ? LIMIT {_RARE + 1}", (digest,)).fetchall()
                numbers.update(n for (n,) in sharing if len(sharing) <= _RARE)
            numbers.update(n for (n,) in db.execute(f"SELECT n FROM detail ORDER BY n DESC LIMIT {_NEWEST}"))
            wanted = ",".join(map(str, numbers))
            return in_cell, db.execute(f"SELECT n, parts, sealed FROM detail WHERE n IN ({wanted})").fetchall()

        in_cell, found = self._rows.state.read(work)
        mine = bytes.fromhex(surface)
        ranked = []
        for n, parts, sealed in found:
            theirs = split(parts, PART_BYTES)
            if mine in theirs and (before is None or n < before):
                shared = len(digests.intersection(theirs))
                ranked.append((n not in in_cell, len(digests) + len(theirs) - 2 * shared, -n, sealed, parts))
        first: tuple[Row, Metadata] | None = None
        opened = 0
        for _, _, place, sealed, parts in sorted(ranked):
            n = -place
            (row,) = self._rows.numbered(n) or (None,)
            if row is None or row.entry_id == beside or not view.is_live(row.entry_id, row.header):
                continue
            metadata = self._rows.opened(row.entry_id, sealed, parts)
            opened += 1
            if metadata is not None and joining_keys(own.without_noise, metadata.without_noise):
                return row, metadata
            first = first or (None if metadata is None else (row, metadata))
            if first is not None and (not own.without_noise or opened >= _OPENED):
                break
        return first


def _note_dead(db: sqlite3.Connection, view: View) -> int:
    """Let `_BUT_DEAD` leave out what `_LIVE` takes for alive although a record of a tag or entry has made it invalid.

    Returns how many rows that are.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS dead (n INTEGER PRIMARY KEY)")
    db.execute("DELETE FROM temp.dead")
    bounds = _bounds(db, view)
    for table, (condition, values) in _records(db, view, bounds):
        live = _LIVE_TAG if table == "tag" else _LIVE
        statement = f"INSERT OR IGNORE INTO temp.dead SELECT n FROM {table} WHERE {condition} AND {live}"
        db.execute(statement, {**bounds, **values})
    ((count,),) = db.execute("SELECT count(*) FROM temp.dead")
    return int(count)


_Condition: TypeAlias = "tuple[str, tuple[str, dict[str, Any]]]"
"""A table, a condition on its rows, and the values that it compares with."""


def _records(db: sqlite3.Connection, view: View, bounds: dict[str, Any]) -> Iterator[_Condition]:
    """Yield what the records of tags and entries make invalid, of those that no complete sweep has dealt with."""
    generations = view.generations
    marks = db.execute("SELECT value FROM mark WHERE name = ?", (SWEPT,)).fetchall()
    done = int.from_bytes(marks[0][0][16:]) if marks and marks[0][0][:16] == generations.root else -1
    if bounds["root"] < 0:
        return  # nothing is stored under this root
    for tag, ver in generations.tags.items():
        if ver > done:
            yield "tag", ("tag = :tag AND ver < :ver", {"tag": tag, "ver": ver})
    for entry_id, record in generations.entries.items():
        if record.ver > done:
            yield (
                "entry",
                ("id = :id AND ver < :ver AND gone IN (0, 4)", {"id": bytes.fromhex(entry_id), "ver": record.ver}),
            )


def _left_out(bounds: dict[str, Any]) -> Iterator[_Condition]:
    """Yield what of the rows whose entries are there `_LIVE` leaves out: few, as a rule, and so fast to find."""
    yield "entry INDEXED BY entry_live", ("gone = 0 AND root < :root", {})
    yield "entry INDEXED BY entry_live", ("gone = 0 AND root > :root", {})
    yield "entry INDEXED BY entry_expiry", ("gone = 0 AND root = :root AND expires_ms <= :now AND ver >= :floor", {})
    if bounds["floor"]:
        yield (
            "entry INDEXED BY entry_live",
            (f"gone = 0 AND root = :root AND label IN ({_LABELS}) AND ver < :floor", {}),
        )


def _count_not_live(db: sqlite3.Connection, bounds: dict[str, Any]) -> int:
    """Return how many rows whose entries are there are not among `_LIVE`."""
    live = "gone = 0 AND root = :root AND expires_ms > :now AND ver >= :floor"
    hidden: _Condition = ("entry INDEXED BY entry_live", (f"{live} AND label = x''", {}))
    doomed: _Condition = ("entry INDEXED BY entry_live", ("gone < 0", {}))
    count = 0
    for table, (condition, _) in (*_left_out(bounds), hidden, doomed):
        ((found,),) = db.execute(f"SELECT count(*) FROM {table} WHERE {condition}", bounds)
        count += int(found)
    return count


def _bounds(db: sqlite3.Connection, view: View, *, tag: bytes | None = None) -> dict[str, Any]:
    """Return what `_LIVE` and `_LIVE_TAG` compare with."""
    generations = view.generations
    roots = db.execute("SELECT no FROM root WHERE root = ?", (generations.root,)).fetchall()
    return {"root": roots[0][0] if roots else -1, "floor": generations.floor, "now": view.now_ms, "tag": tag}
