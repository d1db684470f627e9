"""What calls came to between two days, added up by day, model, run or whoever is asked for."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.estimates import NO_PAST, Past
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.ledger import BY
from genai_cache_magic.ledger.accounts import DAY_MS, Sums, usd
from genai_cache_magic.settings.units import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.ledger.accounts import Account, Accounts
    from genai_cache_magic.ledger.books import Books
    from genai_cache_magic.ledger.shared_books import SharedBooks

_EPOCH: Final = date(1970, 1, 1)
_DAY_S: Final = 86_400
_PAST_DAYS: Final = 30
"""How far back calls tell what those to come may be like."""
_PAST_GOOD_S: Final = 5.0
"""How long the books are not read again for that [s]."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What some calls came to. What was not asked for is empty: without ``by="run"`` a row is of all runs.

    Attributes
    ----------
    day
        In UTC, as on a provider's bill; None for all days together.
    misses
        Calls that the model answered although the cache was asked; refused ones included.
    spent_usd, saved_usd
        What is known of it [USD]; of `spent_unknown` and `saved_unknown` calls the price is not known.
    input_tokens, cached_input_tokens, output_tokens
        Of the calls that a model was asked; the second is part of the first.
    saved_input_tokens, saved_output_tokens
        Of the hits, and of the similar ones.
    similar
        Calls that got the answer to another question, much alike: no hits, and no misses.
    """

    day: date | None = None
    model: str = ""
    provider: str = ""
    run: str = ""
    person: str = field(repr=False, default="")
    spent_usd: Decimal = Decimal(0)
    saved_usd: Decimal = Decimal(0)
    spent_unknown: int = 0
    saved_unknown: int = 0
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
    similar: int = 0

    def as_json(self, by: Iterable[str] = BY) -> dict[str, Any]:
        """Return plain values: what tells the row from others, and its numbers; money is a decimal text [USD]."""
        said = {name: getattr(self, name) for name in by}
        if "day" in said:
            said["day"] = None if self.day is None else self.day.isoformat()
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in BY}
        return {**said, **{name: f"{n:f}" if isinstance(n, Decimal) else n for name, n in numbers.items()}}


@dataclass(frozen=True, slots=True)
class TeamPart:
    """How a report of a whole team came about.

    Attributes
    ----------
    machines
        How many machines it covers, this one included. Each directory that a cache lies in counts as one.
    here
        What the calls of this machine came to.
    known_at
        When the team was last asked for all of it; None if it never was.
    trouble
        Why the team could not be asked for all of it now; empty if it was.
    ignored
        Why pages of the team's ledger were left out, in words.
    """

    machines: int
    here: UsageRow
    known_at: datetime | None = None
    trouble: str = field(default="", repr=False)
    ignored: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "machines": self.machines,
            "here": self.here.as_json(()),
            "known_at": None if self.known_at is None else self.known_at.isoformat(timespec="seconds"),
            "trouble": self.trouble,
            "ignored": list(self.ignored),
        }


@dataclass(frozen=True, slots=True)
class UsageReport:
    """The rows between two days, both included, and their sum.

    Attributes
    ----------
    since
        None: from the first call on.
    by
        What tells one row from another.
    team
        How the numbers of all machines came about; None if they are of this machine alone.
    """

    namespace: str
    since: date | None
    until: date
    by: tuple[str, ...]
    rows: tuple[UsageRow, ...]
    total: UsageRow
    team: TeamPart | None = None

    def as_json(self) -> dict[str, Any]:
        """Return plain values, for scripts and the notebook's sidebar."""
        return {
            "namespace": self.namespace,
            "since": None if self.since is None else self.since.isoformat(),
            "until": self.until.isoformat(),
            "by": list(self.by),
            "rows": [row.as_json(self.by) for row in self.rows],
            "total": self.total.as_json(()),
            "team": None if self.team is None else self.team.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Period:
    """Days, both included; `since` None is from the first call on."""

    since: date | None
    until: date

    @classmethod
    def of(cls, since: object, until: object, *, today: date) -> Period:
        """Return the days that `since` and `until` mean.

        Raises
        ------
        ConfigurationError
            One of them is no day, or the first is later than the last.
        """
        last = today if until is None else day_of(until, today, name="until")
        first = None if since is None else day_of(since, today, name="since")
        if first is not None and first > last:
            raise ConfigurationError(f"since {first} is later than until {last}: exchange them, or name both")
        return cls(first, last)

    @staticmethod
    def number(day: date) -> int:
        """Return how accounts count `day`: from 1970-01-01 on."""
        return max(0, (day - _EPOCH).days)


def day_of(given: object, today: date, *, name: str) -> date:
    """Return the day that somebody means by a date, ``today``, ``yesterday`` or an age such as ``7d``.

    ``7d`` is the first of the last seven days, of which today is the last.

    Raises
    ------
    ConfigurationError
        It is none of these; the message names `name`.
    """
    if isinstance(given, datetime):
        return (given if given.tzinfo is None else given.astimezone(UTC)).date()
    if isinstance(given, date):
        return given
    text = str(given).strip()
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    try:
        return date.fromisoformat(text)
    except ValueError:
        pass
    try:
        age_s = parse_duration(text)
    except ConfigurationError as exc:
        allowed = "a date such as 2026-05-31, today, yesterday, or an age such as 7d"
        raise ConfigurationError(f"{name}={text!r} is no day: write {allowed}") from exc
    return today - timedelta(days=max(0, -(-age_s // _DAY_S) - 1))


def checked_by(by: object) -> tuple[str, ...]:
    """Return what rows are told apart by, given as names or as one text with commas.

    Raises
    ------
    ConfigurationError
        One of them is none.
    """
    given = by.split(",") if isinstance(by, str) else [str(name) for name in by]  # type: ignore[attr-defined]
    names = tuple(dict.fromkeys(name.strip() for name in given if name.strip()))
    for name in names:
        if name not in BY:
            raise ConfigurationError(f"by={name!r}: write one or more of {', '.join(BY)}, with commas between")
    return names


@dataclass(frozen=True, slots=True)
class Booked:
    """What the books held at one moment of the calls of some days: all that is asked of it is told of the same calls.

    Attributes
    ----------
    here, others
        The accounts of this machine, and those of the others of its team.
    team
        How these came about; None if only this machine's are there.
    """

    namespace: str
    period: Period
    here: list[tuple[Account, Sums]] = field(repr=False)
    others: list[tuple[Account, Sums]] = field(repr=False, default_factory=list)
    team: TeamPart | None = None

    @property
    def of_this_machine(self) -> Booked:
        """The same without the team's."""
        return Booked(self.namespace, self.period, self.here)

    def by(self, by: tuple[str, ...]) -> UsageReport:
        """Return what calls came to, told apart by these names."""
        found = [*self.here, *self.others]
        groups: dict[tuple[str | int, ...], Sums] = {}
        for account, sums in found:
            groups.setdefault(tuple(getattr(account, name) for name in by), Sums()).add(sums)
        rows = [_row(dict(zip(by, key, strict=True)), sums) for key, sums in groups.items()]
        rows.sort(key=lambda row: (row.day or _EPOCH, -row.spent_usd, -row.saved_usd, *(getattr(row, b) for b in by)))
        days = self.period
        return UsageReport(self.namespace, days.since, days.until, by, tuple(rows), _total(found), self.team)


class Ledger:
    """The books of one namespace, and what is asked of them.

    Parameters
    ----------
    shared
        What ties them to those of a team; None where this machine works alone.
    """

    def __init__(self, namespace: str, accounts: Accounts, books: Books, shared: SharedBooks | None = None) -> None:
        self._namespace = namespace
        self.accounts = accounts
        self.books = books
        self.shared = shared
        if shared is not None:
            books.added = shared.poke
        self._past: tuple[float, dict[str, Past]] | None = None  # replaced as a whole, so needs no lock

    def usage(self, period: Period, by: tuple[str, ...], *, of_team: bool = False) -> UsageReport:
        """Return what the calls of `period` came to, on this machine or in all; raises ``StoreUnavailable``."""
        return self.booked(period, of_team=of_team).by(by)

    def booked(self, period: Period, *, of_team: bool = False) -> Booked:
        """Return the calls of `period` as they are in the books now; raises ``StoreUnavailable``."""
        self.books.flush()
        first, last = (period.number(period.since) if period.since else 0), period.number(period.until)
        found = self.accounts.between(first, last)
        found += [(account, sums) for account, sums in self.books.unwritten().items() if first <= account.day <= last]
        if not of_team or self.shared is None:
            return Booked(self._namespace, period, found)
        others, learnt = self.shared.usage.between(first, last)
        team = TeamPart(1 + len(others), _total(found), _moment(learnt.known_at_ms), learnt.trouble, learnt.ignored)
        return Booked(self._namespace, period, found, [row for rows in others.values() for row in rows], team)

    def prune(self) -> None:
        """Remove from the team's tier what has expired there; raises ``StoreUnavailable``."""
        if self.shared is not None:
            self.shared.prune()

    def past(self, model: str) -> Past:
        """Return what calls of `model` came to in the last weeks, of its dated versions too; nothing if unreadable."""
        now_s = time.monotonic()
        if self._past is None or now_s - self._past[0] > _PAST_GOOD_S:
            self._past = now_s, self._all_past()
        named = re.compile(rf"{re.escape(model)}([-@]\d{{4}}[\d-]*)?")
        found = [one for name, one in self._past[1].items() if named.fullmatch(name)]
        return Past(*(sum(column) for column in zip(*found, strict=True))) if model and found else NO_PAST

    def _all_past(self) -> dict[str, Past]:
        last = self.books.today()
        try:
            rows = self.accounts.between(max(0, last - _PAST_DAYS), last)
        except StoreUnavailable:
            return {}
        by_model: dict[str, Sums] = {}
        for account, sums in rows:
            by_model.setdefault(account.model, Sums()).add(sums)
        return {model: _past(sums) for model, sums in by_model.items()}

    def close(self) -> None:
        """Add what waits; may be called twice."""
        with ExitStack() as each:
            if self.shared is not None:
                each.callback(self.shared.close)
            each.callback(self.books.close)


def _past(sums: Sums) -> Past:
    # Of what went past the cache no price is known: those are no unknown prices of answers.
    unknown = max(0, sums.spent_unknown - sums.bypassed - sums.unrecognised)
    priced = max(0, sums.misses - unknown)
    return Past(sums.misses, sums.output_tokens, priced, usd(sums.spent) if priced else Decimal(0))


def today(now_ms: int) -> date:
    """Return the day of `now_ms` [ms since the epoch], in UTC."""
    return _EPOCH + timedelta(days=now_ms // DAY_MS)


def _total(found: Iterable[tuple[Account, Sums]]) -> UsageRow:
    total = Sums()
    for _, sums in found:
        total.add(sums)
    return _row({}, total)


def _moment(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _row(names: dict[str, Any], sums: Sums) -> UsageRow:
    if "day" in names:
        names["day"] = _EPOCH + timedelta(days=names["day"])
    counts = {f.name: getattr(sums, f.name) for f in fields(sums) if f.name not in ("spent", "saved")}
    return UsageRow(**names, **counts, spent_usd=usd(sums.spent), saved_usd=usd(sums.saved))
