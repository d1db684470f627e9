"""How a cache is used, in a database beside its books: reads of entries, reasons of misses, latencies.

All of it is counted behind, from the records that the books have added up: a killed kernel may forget its last half
second. Ids are keyed as everywhere, models keyed and sealed. What is kept is bounded: days are forgotten after three
months, entries by how long nobody has asked for them.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from contextlib import suppress
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import orjson

from genai_cache_magic.core.policy import Why
from genai_cache_magic.errors import DecryptionError
from genai_cache_magic.events import Outcome, Tier
from genai_cache_magic.ledger.accounts import DAY_MS, MISSES, counted_money

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.crypto.columns import ColumnSeal
    from genai_cache_magic.entries.state import Columns, StateFile
    from genai_cache_magic.events import CallRecord

KEPT_DAYS: Final = 92
MOST_ENTRIES: Final = 50_000
"""Of so many entries is known how often they were read."""

_PRUNE_EVERY: Final = 256
_MOST: Final = 2**62
_ID_BYTES: Final = 32
_STEPS: Final = 4
"""Latencies are told apart to a fourth of an octave: 9 % up or down."""

_LONGEST_US: Final = 1e15
_MOST_SAMPLES: Final = 1_000
_BEGAN: Final = "began"


class Measure(IntEnum):
    """What is counted, by buckets."""

    L1 = 1
    """Latencies of hits, by tier, and of calls that a model answered; by `latency_bucket`."""
    L2 = 2
    FILE = 3
    MODEL = 4
    WHY = 10
    """Misses, by the place of their reason in `REASONS`."""
    EXPIRED = 11
    """Misses of what had expired, by how old it was: the place in `AGES_H`."""
    SAMPLE = 12
    """Answers that were stored, by which of a request's samples they are."""


REASONS: Final = (
    *("new", "evicted", "expired", "invalidated", "cleared", "refreshed", "damaged", "unsuited", "unconfirmed"),
    *("refused", "other"),
)
"""Why a model was asked. ``new``: nothing was known; ``evicted``: it had been stored, and was gone."""

AGES_H: Final = (1, 2, 4, 8, 12, 24, 48, 72, 168, 336, 720, 1440, 2160, 4320, 8760)
"""Up to which ages what had expired is told apart [h]; what is older has the place behind the last."""

_TIERS: Final = {Tier.L1: Measure.L1, Tier.L2: Measure.L2, Tier.FILE: Measure.FILE}
_BY_BEGINNING: Final = (
    *(("expired", "expired"), ("cleared", "cleared"), ("invalidated", "invalidated")),
    *((Why.REFRESH.value, "refreshed"), (Why.DAMAGED.value, "damaged"), (Why.UNSUITED.value, "unsuited")),
    (Why.UNCONFIRMED.value, "unconfirmed"),
)

SCHEMA: Final = (
    (
        "CREATE TABLE entry_use (id BLOB PRIMARY KEY, filled_ms INTEGER NOT NULL, used_ms INTEGER NOT NULL,"
        " reads INTEGER NOT NULL, saved INTEGER NOT NULL) WITHOUT ROWID"
    ),
    "CREATE INDEX entry_use_time ON entry_use (used_ms)",
    "CREATE INDEX entry_use_reads ON entry_use (reads)",
    (
        "CREATE TABLE measured (day INTEGER NOT NULL, label BLOB NOT NULL, measure INTEGER NOT NULL,"
        " bucket INTEGER NOT NULL, count INTEGER NOT NULL, spent INTEGER NOT NULL, unknown INTEGER NOT NULL,"
        " PRIMARY KEY (day, label, measure, bucket)) WITHOUT ROWID"
    ),
    "CREATE TABLE model (label BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID",
)
_ADD: Final = (
    "INSERT INTO measured VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
    " ON CONFLICT (day, label, measure, bucket) DO UPDATE SET"
    f" count = min(count + excluded.count, {_MOST}), unknown = min(unknown + excluded.unknown, {_MOST}),"
    f" spent = max({-_MOST}, min(spent + excluded.spent, {_MOST}))"
)
_WHOLE = range(_MOST + 1)
_SIGNED = range(-_MOST, _MOST + 1)
COLUMNS: Final[Columns] = MappingProxyType(
    {
        **dict.fromkeys(("id", "label", "sealed", "value"), bytes),
        **dict.fromkeys(("filled_ms", "used_ms", "reads", "count", "unknown"), _WHOLE),
        **dict.fromkeys(("spent", "saved"), _SIGNED),
        "day": range(3_000_000),
        "measure": range(100),
        "bucket": range(10_000),
    }
)
"""What the columns hold."""


class Measured(NamedTuple):
    """So many calls of a model fell into a bucket; what is known of what they cost [1e-12 USD]."""

    model: str
    measure: int
    bucket: int
    calls: int
    spent: int
    unknown: int


class EntryUse(NamedTuple):
    """How often an entry was read on this machine, and what that saved, as far as it is known [1e-12 USD]."""

    entry_id: str
    reads: int
    saved: int

    def __repr__(self) -> str:
        """Leave the id out."""
        return f"<EntryUse {self.reads} reads>"


_Key: TypeAlias = "tuple[int, str, int, int]"
"""Day, model, measure and bucket."""


class Statistics:
    """The counts of one namespace. Every method may raise ``StoreUnavailable``.

    Parameters
    ----------
    keyed
        Returns a digest that nobody without a key can compute, bytes, shape (16,).
    """

    def __init__(self, file: StateFile, seal: ColumnSeal, *, keyed: Callable[[bytes], bytes]) -> None:
        self.file = file
        self._seal = seal
        self._keyed = keyed
        self._added = 0

    def add(self, noted: Iterable[tuple[int, CallRecord]]) -> None:
        """Count calls that have come to their end, each at its time [ms since the epoch], all of them or none."""
        calls = [(at_ms, call) for at_ms, call in noted if call.outcome is Outcome.HIT or call.outcome in MISSES]

        def work(db: sqlite3.Connection) -> None:
            first_ms = min(at_ms for at_ms, _ in calls)
            db.execute("INSERT OR IGNORE INTO mark VALUES (?, ?)", (_BEGAN, max(0, first_ms).to_bytes(8)))
            self._add_measured(db, self._counted(db, calls))
            if self._added % _PRUNE_EVERY == 0:
                _prune(db, max(at_ms for at_ms, _ in calls) // DAY_MS)

        if calls:
            self.file.write(work)
            self._added += 1

    @staticmethod
    def _counted(db: sqlite3.Connection, calls: list[tuple[int, CallRecord]]) -> dict[_Key, list[int]]:
        """Note what entries were read and filled; return calls, what they cost, and of how many that is unknown."""
        found: dict[_Key, list[int]] = {}
        uses: dict[bytes, list[int]] = {}
        for at_ms, call in calls:
            raw = None if call.tier is Tier.FILE else _raw(call.entry_id)  # a run file names requests, no entries
            if raw is not None and raw not in uses:
                known = db.execute("SELECT filled_ms, used_ms, reads, saved FROM entry_use WHERE id = ?", (raw,))
                uses[raw] = list((known.fetchall() or [(0, 0, 0, 0)])[0])
            use = [0, 0, 0, 0] if raw is None else uses[raw]
            is_hit = call.outcome is Outcome.HIT
            amount = counted_money(call.saved_usd if is_hit else call.spent_usd)
            for measure, bucket in _measures(call, at_ms, use[0]):
                sums = found.setdefault((max(0, at_ms) // DAY_MS, call.model, measure, bucket), [0, 0, 0])
                sums[0] += 1
                if not is_hit:
                    sums[1] += amount or 0
                    sums[2] += amount is None
            _note_use(use, at_ms, call, amount or 0)
        db.executemany("INSERT OR REPLACE INTO entry_use VALUES (?, ?, ?, ?, ?)", [(r, *u) for r, u in uses.items()])
        return found

    def _add_measured(self, db: sqlite3.Connection, found: Mapping[_Key, list[int]]) -> None:
        labels = {model: self._label(db, model) for model in {model for _, model, _, _ in found}}
        rows = [
            (day, labels[model], measure, bucket, *(max(-_MOST, min(amount, _MOST)) for amount in sums))
            for (day, model, measure, bucket), sums in found.items()
        ]
        db.executemany(_ADD, rows)

    def _label(self, db: sqlite3.Connection, model: str) -> bytes:
        title = orjson.dumps(model.encode("utf-8", "replace").decode())
        label = self._keyed(hashlib.sha256(b"model" + title).digest())
        if not db.execute("SELECT 1 FROM model WHERE label = ?", (label,)).fetchall():
            sealed = self._seal.seal(title, place=b"statistics model" + label)
            db.execute("INSERT INTO model VALUES (?, ?)", (label, sealed))
        return label

    def between(self, first: int, last: int) -> list[Measured]:
        """Return what was counted on some days, the last one included, the days added up."""

        def work(db: sqlite3.Connection) -> tuple[dict[bytes, bytes], list[Any]]:
            rows = db.execute(
                "SELECT label, measure, bucket, count, spent, unknown FROM measured WHERE day BETWEEN ? AND ?",
                (first, last),
            )
            return dict(db.execute("SELECT label, sealed FROM model").fetchall()), rows.fetchall()

        sealed, rows = self.file.read(work)
        names = {label: self._opened(label, sealed.get(label, b"")) for label in {row[0] for row in rows}}
        added: dict[tuple[str, int, int], Counter[str]] = defaultdict(Counter)
        for label, measure, bucket, count, spent, unknown in rows:
            added[names[label], measure, bucket].update(count=count, spent=spent, unknown=unknown)
        return [Measured(*key, n["count"], n["spent"], n["unknown"]) for key, n in added.items()]

    def most_read(self, limit: int) -> list[EntryUse]:
        """Return the entries that were read most often."""
        statement = "SELECT id, reads, saved FROM entry_use WHERE reads > 0 ORDER BY reads DESC LIMIT ?"
        found = self.file.read(lambda db: db.execute(statement, (limit,)).fetchall())
        return [EntryUse(raw.hex(), reads, saved) for raw, reads, saved in found]

    def read_ids(self) -> tuple[set[str], int | None]:
        """Return the entries that were read, and since when that is noted of all [ms since the epoch].

        None: nothing was noted yet.
        """

        def work(db: sqlite3.Connection) -> tuple[list[Any], list[Any], list[Any]]:
            count = db.execute("SELECT count(*) AS count, min(used_ms) AS used_ms FROM entry_use").fetchall()
            began = db.execute("SELECT value FROM mark WHERE name = ?", (_BEGAN,)).fetchall()
            return db.execute("SELECT id FROM entry_use WHERE reads > 0").fetchall(), count, began

        ids, ((count, oldest_ms),), began = self.file.read(work)
        since_ms = int.from_bytes(began[0][0]) if began else None
        if since_ms is not None and count >= MOST_ENTRIES // 2:  # older ones may have been forgotten
            since_ms = max(since_ms, oldest_ms)
        return {raw.hex() for (raw,) in ids}, since_ms

    def close(self) -> None:
        """Give up the database; may be called twice."""
        self.file.close()

    def _opened(self, label: bytes, sealed: bytes) -> str:
        with suppress(DecryptionError, ValueError):
            return str(orjson.loads(self._seal.open(sealed, place=b"statistics model" + label)))
        return ""


def latency_bucket(latency_s: float) -> int:
    """Return in which bucket a latency falls: the fourths of octaves above 1 µs."""
    return max(0, round(_STEPS * math.log2(min(max(1.0, latency_s * 1e6), _LONGEST_US))))


def latency_of(bucket: int) -> float:
    """Return the latency that a bucket stands for [s]."""
    return float(2.0 ** (bucket / _STEPS) / 1e6)


def _measures(call: CallRecord, at_ms: int, filled_ms: int) -> list[tuple[Measure, int]]:
    """Return what is counted of a call, and the buckets, by when its entry was last filled here (0: never)."""
    latency = latency_bucket(call.latency_s)
    if call.outcome is Outcome.HIT:
        return [] if call.tier is None else [(_TIERS[call.tier], latency)]
    why = _reason(call, is_known=filled_ms > 0)
    found = [(Measure.MODEL, latency), (Measure.WHY, REASONS.index(why))]
    if why == "expired" and filled_ms:
        age_h = (at_ms - filled_ms) / 3_600_000
        found.append((Measure.EXPIRED, next((n for n, edge in enumerate(AGES_H) if age_h < edge), len(AGES_H))))
    if call.stored:
        found.append((Measure.SAMPLE, min(call.sample, _MOST_SAMPLES)))
    return found


def _reason(call: CallRecord, *, is_known: bool) -> str:
    if call.outcome is Outcome.REFUSED:
        return "refused"
    for beginning, why in _BY_BEGINNING:
        if call.reason.startswith(beginning):
            return why
    if call.outcome is Outcome.STALE:
        return "other"
    return "evicted" if is_known else "new"


def _note_use(use: list[int], at_ms: int, call: CallRecord, saved: int) -> None:
    """Note in `use` (filled, used [ms], reads, saved) what `call` did with its entry."""
    at_ms = max(0, at_ms)
    use[1] = max(use[1], at_ms)
    if call.outcome is Outcome.HIT:
        use[2] = min(use[2] + 1, _MOST)
        use[3] = max(-_MOST, min(use[3] + saved, _MOST))
    elif call.stored:
        use[0] = at_ms


def _prune(db: sqlite3.Connection, today: int) -> None:
    """Forget days long past, and of the entries those that nobody has asked for longest."""
    db.execute("DELETE FROM measured WHERE day < ?", (today - KEPT_DAYS,))
    ((count,),) = db.execute("SELECT count(*) AS count FROM entry_use").fetchall()
    if count > MOST_ENTRIES:
        db.execute(
            "DELETE FROM entry_use WHERE id IN (SELECT id FROM entry_use ORDER BY used_ms DESC LIMIT -1 OFFSET ?)",
            (MOST_ENTRIES // 2,),
        )


def _raw(entry_id: str) -> bytes | None:
    """Return an entry's id as bytes, shape (32,); None for none, as of a call that no entry answers."""
    with suppress(ValueError):
        raw = bytes.fromhex(entry_id)
        if len(raw) == _ID_BYTES:
            return raw
    return None
