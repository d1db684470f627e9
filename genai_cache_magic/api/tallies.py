"""The part of a cache that counts: what its calls came to, and what its users count themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.ledger.usage import Period, checked_by, today

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.entries.team.counting import Counts
    from genai_cache_magic.ledger.usage import Booked, Ledger, UsageReport


class _Counting(Protocol):
    """What of a cache is needed here."""

    counts: Counts
    ledger: Ledger


class Tallies:
    """The part of a cache that counts."""

    def hincrby(self: _Counting, name: str, field: object, amount: int = 1) -> int:
        """Add `amount` to the count of `field` (a text, or a date) under `name`; return what it is then.

        Atomic among all who share the cache, a team included.

        Raises
        ------
        StoreUnavailable
            It could not be counted, or it is not known whether it was.
        """
        return self.counts.add(name, field, amount)

    def hgetall(
        self: _Counting,
        name: str,
        since: object = None,
        until: object = None,
        *,
        start: object = None,
        end: object = None,
    ) -> dict[str, int]:
        """Return the counts under `name`, sorted by field.

        Parameters
        ----------
        since, until
            Of what is counted by days: days as for `usage`, both included.
        start, end
            In their place: texts, or dates and moments, both included.

        Raises
        ------
        ConfigurationError
            A day is none, or both kinds of bounds are given.
        StoreUnavailable
            No count may be taken for none.
        """
        if since is None and until is None:
            return self.counts.read(name, start=start, end=end)
        if start is not None or end is not None:
            raise ConfigurationError("since and until are days, start and end are fields: give one kind of bounds")
        period = Period.of(since, until, today=today(self.ledger.books.now_ms()))
        # Without `until` no day is too late: whoever counts by local days may be a day ahead.
        return self.counts.read(name, start=period.since, end=None if until is None else period.until)

    def usage(
        self: _Counting,
        since: object = None,
        until: object = None,
        *,
        by: str | Iterable[str] = ("day", "model"),
        team: bool | None = None,
    ) -> UsageReport:
        """Return what the calls of this namespace came to: spent, saved, hits, misses, tokens.

        Parameters
        ----------
        since, until
            Days, both included: a date, ``"2026-05-31"``, ``"today"``, ``"yesterday"``, or an age such as ``"7d"``,
            the first of the last seven days. Without `since` from the first call on. Days are those of UTC, as on a
            provider's bill.
        by
            What tells one row from another: ``day``, ``model``, ``provider``, ``run``, ``person``, as names or as
            one text with commas.
        team
            Of all machines of the team, this one's sum beside, or of this one alone; None: the team's if there is one.

        Raises
        ------
        ConfigurationError
            A day or a name is none, or there is no team.
        StoreUnavailable
            The books can't be read.
        """
        return booked(self.ledger, since, until, team=team).by(checked_by(by))


def booked(ledger: Ledger, since: object, until: object, *, team: bool | None) -> Booked:
    """Return what `Tallies.usage` is told of, read at once for whatever is asked of it; raises as that."""
    if team and ledger.shared is None:
        raise ConfigurationError("there is no team here: name its tier as l2, or leave team out")
    period = Period.of(since, until, today=today(ledger.books.now_ms()))
    return ledger.booked(period, of_team=team is not False)
