"""The calls of named runs, a row each: what was asked and answered, as digests, and what it cost.

A call is known by its cell, its request and its sample, so that a run that is executed again is the same run. What a
cell does not ask any more when it is executed again is no part of the run any more. All of a row is sealed.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from decimal import Decimal, InvalidOperation
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.errors import DecryptionError, UncacheableRequest
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.crypto.columns import ColumnSeal

SCHEMA: Final = (
    (
        "CREATE TABLE run_call (n INTEGER PRIMARY KEY, run BLOB NOT NULL, ident BLOB NOT NULL UNIQUE,"
        " sealed BLOB NOT NULL)"
    ),
    "CREATE INDEX run_call_run ON run_call (run, n)",
)
IMPORTED: Final = "imported"
"""The outcome of a call that came from a file: it is this machine's alone, and never told."""
IMPORTED_SIMILAR: Final = "imported, similar"

_PART_BYTES: Final = 8
_MONEY: Final = ("spent_usd", "saved_usd")
_MOST: Final = 2**62
_LONGEST_TEXT: Final = 10_000
_LONGEST_AMOUNT: Final = 60


@dataclass(frozen=True, slots=True)
class RunCall:
    """One answered call of a run.

    Attributes
    ----------
    passing
        Which execution of its cell asked it.
    digest, sample
        Its request as a run file names it, and which of its answers this is.
    content
        SHA-256 of what was answered, in hex.
    parts
        A keyed digest of each part of the request, by its name.
    at_ms
        When it was answered, by the clock of the team's tier where there is one [ms since the epoch]; 0 where unknown.
    not_stored
        Why its answer lay in no entry when it came, in words; empty where it did.
    """

    run: str
    cell: str = field(repr=False)
    passing: str = field(repr=False)
    digest: str
    sample: int
    entry_id: str = field(repr=False)
    surface: str
    model: str
    outcome: str
    asked: str
    content: str
    day: int
    input_tokens: int | None = None
    cached_input_tokens: int = 0
    output_tokens: int | None = None
    spent_usd: Decimal | None = None
    saved_usd: Decimal | None = None
    person: str = field(repr=False, default="")
    surroundings: Mapping[str, str] = field(repr=False, default_factory=dict)
    parts: Mapping[str, str] = field(repr=False, default_factory=dict)
    at_ms: int = 0
    not_stored: str = field(repr=False, default="")

    @property
    def is_similar(self) -> bool:
        """Whether it got the answer to another question, much alike."""
        return self.outcome in {Outcome.SIMILAR.value, IMPORTED_SIMILAR}

    @property
    def is_imported(self) -> bool:
        """Whether it came from a file."""
        return self.outcome in {IMPORTED, IMPORTED_SIMILAR}

    def as_fields(self) -> dict[str, Any]:
        """Return it as JSON keeps it: money is a decimal text."""
        fields = asdict(self)
        for name in _MONEY:
            fields[name] = None if fields[name] is None else f"{fields[name]:f}"
        return fields

    @classmethod
    def of_fields(cls, given: Any) -> RunCall:
        """Return the call that `as_fields` has written; what a newer version has written beside is left out.

        Raises
        ------
        ValueError
            It is none: a field is missing, of another type, or beyond what it can be.
        """
        if type(given) is not dict:
            raise ValueError("no call")
        kept = {name: given[name] for name in _KINDS if name in given}
        for name, value in kept.items():
            if not _KINDS[name](value):
                raise ValueError(f"no {name}")
        for name in _MONEY:
            kept[name] = None if kept.get(name) is None else Decimal(kept[name])
        try:
            return cls(**kept)
        except TypeError:
            raise ValueError("a part of a call is missing") from None


def _is_text(value: Any) -> bool:
    return type(value) is str and len(value) <= _LONGEST_TEXT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _is_table(value: Any) -> bool:
    return type(value) is dict and all(_is_text(one) for pair in value.items() for one in pair)


def _is_money(value: Any) -> bool:
    if value is None:
        return True
    with suppress(ValueError):
        read_amount(value)
        return True
    return False


def read_amount(value: Any) -> Decimal:
    """Return an amount of money as strangers may have written it [USD]; raises ``ValueError`` for what is none.

    One of a million digits could be neither added to another nor shown.
    """
    if type(value) is str and len(value) <= _LONGEST_AMOUNT:
        with suppress(InvalidOperation):
            amount = Decimal(value)
            if amount.is_finite() and abs(amount.adjusted()) <= _LONGEST_AMOUNT:
                return amount
    raise ValueError("no amount")


_KINDS: Final[Mapping[str, Callable[[Any], bool]]] = MappingProxyType(
    {
        **dict.fromkeys(
            ("run", "cell", "passing", "digest", "entry_id", "surface", "model", "outcome", "asked", "content"),
            _is_text,
        ),
        **dict.fromkeys(("person", "not_stored"), _is_text),
        **dict.fromkeys(("sample", "day", "cached_input_tokens", "at_ms"), _is_count),
        **dict.fromkeys(("input_tokens", "output_tokens"), lambda value: value is None or _is_count(value)),
        **dict.fromkeys(_MONEY, _is_money),
        **dict.fromkeys(("surroundings", "parts"), _is_table),
    }
)


@dataclass(frozen=True, slots=True)
class RunNote:
    """A call that ended, as it is noted; what takes time of it is done when it is written."""

    call: RunCall
    form: JsonObject | None = field(repr=False)
    response: Response = field(repr=False)

    def row(self, keyed: Callable[[bytes], bytes]) -> tuple[bytes, bytes, bytes]:
        """Return the run's label, the call's identity, and the call as JSON."""
        call = self.call
        parts = dict(call.parts)
        if self.form is not None:
            with suppress(UncacheableRequest):
                parts = {name: _part(keyed, name, value) for name, value in parts_of(self.form).items()}
        content = hashlib.sha256(self.response.body).hexdigest()
        fields = {**call.as_fields(), "parts": parts, "content": content}
        ident = keyed(_digest(["call", call.run, call.cell, call.digest, call.sample]))
        return run_label(call.run, keyed), ident, orjson.dumps(fields)


def run_label(run: str, keyed: Callable[[bytes], bytes]) -> bytes:
    """Return what stands for the name of a run: bytes, shape (16,)."""
    return keyed(_digest(["run", run]))


def add_rows(
    db: sqlite3.Connection, notes: Iterable[RunNote], seal: ColumnSeal, keyed: Callable[[bytes], bytes]
) -> None:
    """Note calls, each in the place of what was noted of it before."""
    for note in notes:
        label, ident, text = note.row(keyed)
        sealed = seal.seal(text, place=b"run" + ident)
        db.execute("INSERT OR REPLACE INTO run_call (run, ident, sealed) VALUES (?, ?, ?)", (label, ident, sealed))


def read_rows(db: sqlite3.Connection, label: bytes | None, seal: ColumnSeal) -> list[RunCall]:
    """Return the calls of one run, or of all, in the order in which they were last noted."""
    where = "" if label is None else " WHERE run = ?"
    rows = db.execute(
        f"SELECT ident, sealed FROM run_call{where} ORDER BY n",  # noqa: S608 - constants
        () if label is None else (label,),
    ).fetchall()
    return current(call for ident, sealed in rows if (call := _opened(ident, sealed, seal)) is not None)


def remove_run(db: sqlite3.Connection, label: bytes) -> int:
    """Forget a run; return how many calls it had."""
    return db.execute("DELETE FROM run_call WHERE run = ?", (label,)).rowcount


def heads(db: sqlite3.Connection) -> dict[bytes, tuple[int, int]]:
    """Return, of each run by its label, the number of its last row and how many it has: either changes with it."""
    found = db.execute("SELECT run, max(n), count(*) FROM run_call GROUP BY run").fetchall()
    return {label: (last, count) for label, last, count in found}


def merged(calls: Iterable[RunCall]) -> list[RunCall]:
    """Return what a run is whose calls several machines have noted, in the order in which they were asked last.

    Of a cell the last execution counts, whoever has made it, and of what was asked twice what came last.
    """
    found = {(call.run, call.cell, call.digest, call.sample): call for call in _in_time(calls)}
    return current(_in_time(found.values()))


def _in_time(calls: Iterable[RunCall]) -> list[RunCall]:
    return sorted(calls, key=lambda call: call.at_ms)


def current(calls: Iterable[RunCall]) -> list[RunCall]:
    """Return those that the last execution of their cell has asked; what has no cell stays."""
    found = list(calls)
    latest = {(call.run, call.cell): call.passing for call in found}
    return [call for call in found if not call.cell or latest[call.run, call.cell] == call.passing]


def parts_of(form: JsonObject) -> dict[str, Any]:
    """Return the parts of a request by name, the items of lists of objects one by one."""
    parts: dict[str, Any] = {name: value for name, value in form.items() if name != "body"}
    body = form.get("body")
    if type(body) is not dict:
        return {**parts, "body": body}
    for name, value in body.items():
        if type(value) is list and value and all(type(item) is dict for item in value):
            parts |= {f"body.{name}[{n}]": item for n, item in enumerate(value)}
        else:
            parts[f"body.{name}"] = value
    return parts


def _part(keyed: Callable[[bytes], bytes], name: str, value: Any) -> str:
    return keyed(hashlib.sha256(dumps(["part", name, value])).digest())[:_PART_BYTES].hex()


def _digest(value: list[Any]) -> bytes:
    return hashlib.sha256(orjson.dumps([str(v).encode("utf-8", "replace").decode() for v in value])).digest()


def _opened(ident: bytes, sealed: bytes, seal: ColumnSeal) -> RunCall | None:
    """Return the call of a row; None for one that another key has sealed, or another version."""
    with suppress(DecryptionError, ValueError):
        return RunCall.of_fields(orjson.loads(seal.open(sealed, place=b"run" + ident)))
    return None
