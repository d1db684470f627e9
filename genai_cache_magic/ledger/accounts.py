"""The accounts of a namespace in its database: one a day for each model, provider, run and person.

Sums are whole numbers, so that adding them in another order, or in another process, comes to the same. Who is meant
by an account is keyed and sealed; how much it comes to is not. A batch is added as a whole and once, however often it
is tried: its writer's number is noted beside the sums.
"""

from __future__ import annotations

import hashlib
import operator
import os
from contextlib import suppress
from dataclasses import dataclass, field, fields
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from genai_cache_magic.errors import DecryptionError
from genai_cache_magic.events import SERVED, Outcome
from genai_cache_magic.ledger import run_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from genai_cache_magic.crypto.columns import ColumnSeal
    from genai_cache_magic.entries.state import Columns, StateFile
    from genai_cache_magic.events import CallRecord
    from genai_cache_magic.ledger.run_rows import RunCall, RunNote

DAY_MS: Final = 86_400_000
_MOST: Final = 2**62
_MOST_AT_ONCE: Final = 2**61
_DIGITS: Final = 12
"""Money is counted in whole 10^-12 USD."""

_KEPT_DAYS: Final = 30
"""For how long the last number of a writer that is gone is remembered."""

_LEDGER: Final = "ledger"
_LEDGER_BYTES: Final = 16

MISSES: Final = frozenset({Outcome.MISS, Outcome.STALE, Outcome.REFUSED})


class Account(NamedTuple):
    """Whose calls are added up; `day` counts from 1970-01-01, in UTC as on a provider's bill."""

    day: int
    provider: str
    model: str
    run: str
    person: str

    def __repr__(self) -> str:
        """Leave the person out."""
        return f"<Account {self.day} {self.model}>"


@dataclass(slots=True)
class Sums:
    """What calls come to.

    Attributes
    ----------
    misses
        Calls that the model answered although the cache was asked; refused ones included.
    input_tokens, cached_input_tokens, output_tokens
        Of the calls that a model was asked, as far as they are known; the second is part of the first.
    saved_input_tokens, saved_output_tokens
        Of hits, and of answers to similar questions.
    spent, saved
        What is known of them [1e-12 USD].
    spent_unknown, saved_unknown
        Number of calls whose price is not known.
    similar
        Calls that got the answer to another question, much alike: no hits, and no misses.
    """

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    errors: int = 0
    unrecognised: int = 0
    input_tokens: int = 0
    cached_input_tokens: int = 0
    output_tokens: int = 0
    saved_input_tokens: int = 0
    saved_output_tokens: int = 0
    spent: int = 0
    saved: int = 0
    spent_unknown: int = 0
    saved_unknown: int = 0
    similar: int = 0

    def add_call(self, call: CallRecord) -> None:
        """Add one call that has come to its end."""
        outcome = call.outcome
        if outcome in SERVED:
            self.hits += outcome is Outcome.HIT
            self.similar += outcome is Outcome.SIMILAR
            self.saved_input_tokens += _bounded(call.input_tokens)
            self.saved_output_tokens += _bounded(call.output_tokens)
            self._add_money("saved", call.saved_usd)
            return
        self.misses += outcome in MISSES
        self.bypassed += outcome is Outcome.BYPASS
        self.errors += outcome is Outcome.ERROR
        self.unrecognised += outcome is Outcome.UNRECOGNISED
        self.input_tokens += _bounded(call.input_tokens)
        self.cached_input_tokens += _bounded(call.cached_input_tokens)
        self.output_tokens += _bounded(call.output_tokens)
        self._add_money("spent", call.spent_usd)
        if call.saved_usd:  # a batch of which a part was known
            self._add_money("saved", call.saved_usd)

    def _add_money(self, name: str, amount: Decimal | None) -> None:
        whole = counted_money(amount)
        if whole is None:
            name, whole = f"{name}_unknown", 1
        setattr(self, name, getattr(self, name) + whole)

    def add(self, other: Sums) -> None:
        """Add what others came to."""
        for name in COUNTED:
            setattr(self, name, min(getattr(self, name) + getattr(other, name), _MOST))

    @property
    def values(self) -> tuple[int, ...]:
        """The numbers, in the order of `COUNTED`."""
        counted: tuple[int, ...] = _COUNTS_OF(self)
        if min(counted) >= -_MOST and max(counted) <= _MOST:
            return counted
        return tuple(max(-_MOST, min(count, _MOST)) for count in counted)


def counted_money(amount: Decimal | None) -> int | None:
    """Return an amount [USD] as it is counted [1e-12 USD], None if it is not known."""
    whole = None if amount is None or not amount.is_finite() else round(amount.scaleb(_DIGITS))
    # Millions for one call: whoever says so means something else.
    return None if whole is None or abs(whole) >= _MOST_AT_ONCE else whole


COUNTED: Final = tuple(field.name for field in fields(Sums))
_COUNTS_OF: Final = operator.attrgetter(*COUNTED)


def usd(amount: int) -> Decimal:
    """Return an amount of `Sums` in [USD]."""
    return Decimal(amount).scaleb(-_DIGITS).normalize() if amount else Decimal(0)


_SUMS = ", ".join(f"{name} INTEGER NOT NULL" for name in COUNTED)
SCHEMA: Final = (
    (
        f"CREATE TABLE account (day INTEGER NOT NULL, label BLOB NOT NULL, {_SUMS},"
        " PRIMARY KEY (day, label)) WITHOUT ROWID"
    ),
    "CREATE TABLE owner (label BLOB PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID",
    *run_rows.SCHEMA,
    "CREATE TABLE writer (id BLOB PRIMARY KEY, number INTEGER NOT NULL, day INTEGER NOT NULL) WITHOUT ROWID",
)
_WHOLE = range(_MOST + 1)
_SIGNED = range(-_MOST, _MOST + 1)
COLUMNS: Final[Columns] = MappingProxyType(
    {
        **dict.fromkeys(("ident", "label", "run", "sealed", "value", "id"), bytes),
        **dict.fromkeys(COUNTED, _WHOLE),
        "spent": _SIGNED,  # a bill may be a credit
        "saved": _SIGNED,
        "day": range(3_000_000),  # to the year 9999 and beyond
        "number": _WHOLE,
    }
)
"""What the columns hold."""

_ADD: Final = (
    f"INSERT INTO account (day, label, {', '.join(COUNTED)}) VALUES (?, ?{', ?' * len(COUNTED)})"  # noqa: S608 - constants
    " ON CONFLICT (day, label) DO UPDATE SET "
    # Below the bounds: a sum beyond 64 bits would turn into a float.
    + ", ".join(f"{name} = max({-_MOST}, min({name} + excluded.{name}, {_MOST}))" for name in COUNTED)
)

_NOTE_WRITER: Final = (
    "INSERT INTO writer VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET number = excluded.number, day = excluded.day"
    " WHERE excluded.number > number"
)
"""Notes a batch by its writer's number, unless that was done: then no row is changed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is added as a whole, under a number that its writer gives to nothing else."""

    number: int
    sums: Mapping[Account, Sums] = field(repr=False)
    notes: Sequence[RunNote] = field(repr=False, default=())


class Accounts:
    """The accounts in their database. Every method may raise ``StoreUnavailable``.

    Parameters
    ----------
    keyed
        Returns a digest that nobody without a key can compute, bytes, shape (16,).
    """

    def __init__(self, file: StateFile, seal: ColumnSeal, *, keyed: Callable[[bytes], bytes]) -> None:
        self.file = file
        self._seal = seal
        self._keyed = keyed

    def add(self, writer: bytes, batch: Batch, *, day: int) -> None:
        """Add `batch`, unless that was done before."""

        def work(db: sqlite3.Connection) -> None:
            if db.execute(_NOTE_WRITER, (writer, batch.number, day)).rowcount < 1:
                return  # it was added before
            if batch.number == 1:
                db.execute("DELETE FROM writer WHERE day < ?", (day - _KEPT_DAYS,))
            for account, sums in batch.sums.items():
                label, title = self._named(account)
                if not db.execute("SELECT 1 FROM owner WHERE label = ?", (label,)).fetchall():
                    sealed = self._seal.seal(title, place=b"owner" + label)
                    db.execute("INSERT INTO owner VALUES (?, ?)", (label, sealed))
                db.execute(_ADD, (account.day, label, *sums.values))
            run_rows.add_rows(db, batch.notes, self._seal, self._keyed)

        self.file.write(work)

    def between(self, first: int, last: int) -> list[tuple[Account, Sums]]:
        """Return the accounts of some days, the last one included; one that can't be opened has no names."""
        wanted = f"SELECT day, label, {', '.join(COUNTED)} FROM account WHERE day BETWEEN ? AND ?"  # noqa: S608 - as above

        def work(db: sqlite3.Connection) -> tuple[list[tuple[bytes, bytes]], list[Any]]:
            owners = db.execute("SELECT label, sealed FROM owner").fetchall()
            return owners, db.execute(wanted, (first, last)).fetchall()

        owners, rows = self.file.read(work)
        sealed = dict(owners)
        titles: dict[bytes, tuple[str, ...]] = {}
        found = []
        for day, label, *values in rows:
            if label not in titles:
                titles[label] = self._opened(label, sealed.get(label, b""))
            found.append((Account(day, *titles[label]), Sums(*values)))
        return found

    def marks(self, first: int, *, days: int) -> dict[int, tuple[float, ...]]:
        """Return, of each `days` days since `first`, what changes whenever one of their calls is counted.

        By the number of those days: a day divided by `days`.
        """
        counts = ", ".join(
            f"total({name})" for name in ("hits", "similar", "misses", "bypassed", "errors", "unrecognised")
        )
        wanted = f"SELECT day / {days:d}, count(*), {counts} FROM account WHERE day >= ? GROUP BY 1"  # noqa: S608 - constants
        return {page: tuple(rest) for page, *rest in self.file.read(lambda db: db.execute(wanted, (first,)).fetchall())}

    def ledger_id(self) -> str:
        """Return what tells this ledger from all others, 32 hex digits: as long as its file lives."""
        known = self.file.mark(_LEDGER)
        if known is None or len(known) != _LEDGER_BYTES:
            made = os.urandom(_LEDGER_BYTES)
            self.file.set_mark(_LEDGER, made, gives_way=lambda there: there is None or len(there) != _LEDGER_BYTES)
            known = self.file.mark(_LEDGER) or made
        return known.hex()

    def calls_of_runs(self, run: str | None = None) -> list[RunCall]:
        """Return the calls of a run, or of all runs, in the order in which they were last noted."""
        label = None if run is None else self.label_of_run(run)
        return self.file.read(lambda db: run_rows.read_rows(db, label, self._seal))

    def heads_of_runs(self) -> dict[bytes, tuple[int, int]]:
        """Return, of each run by its label, two numbers of which one changes with it."""
        return self.file.read(run_rows.heads)

    def calls_of_label(self, label: bytes) -> list[RunCall]:
        """Return the calls of the run of that label, as `calls_of_runs`."""
        return self.file.read(lambda db: run_rows.read_rows(db, label, self._seal))

    def label_of_run(self, run: str) -> bytes:
        """Return what stands for the name of a run: bytes, shape (16,)."""
        return run_rows.run_label(run, self._keyed)

    def replace_run(self, run: str, notes: Sequence[RunNote]) -> None:
        """Put these calls in the place of all that was noted of a run."""

        def work(db: sqlite3.Connection) -> None:
            run_rows.remove_run(db, self.label_of_run(run))
            run_rows.add_rows(db, notes, self._seal, self._keyed)

        self.file.write(work)

    def _named(self, account: Account) -> tuple[bytes, bytes]:
        title = orjson.dumps([part.encode("utf-8", "replace").decode() for part in account[1:]])
        return self._keyed(hashlib.sha256(title).digest()), title

    def _opened(self, label: bytes, sealed: bytes) -> tuple[str, ...]:
        with suppress(DecryptionError, ValueError):
            parts = orjson.loads(self._seal.open(sealed, place=b"owner" + label))
            if type(parts) is list and len(parts) == len(Account._fields) - 1:
                return tuple(map(str, parts))
        return ("", "", "", "")


def _bounded(count: int | None) -> int:
    """Return a number of tokens; what no model ever read or wrote counts as nothing."""
    return count if count is not None and 0 <= count < _MOST_AT_ONCE else 0
