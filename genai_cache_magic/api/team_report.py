"""What a report for a team is made of: the numbers of `usage`, `stats` and `optimize`, of the same calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.api.tallies import booked

if TYPE_CHECKING:
    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.api.insight import Statistics
    from genai_cache_magic.ledger.advice import Advice
    from genai_cache_magic.ledger.usage import UsageReport

PERSON: Final = "person"
_BY: Final = ("day", "model", "run")


@dataclass(frozen=True, slots=True)
class Facts:
    """All of a report.

    Attributes
    ----------
    usage
        What tells rows apart (``day``, ``model``, ``run``, and ``person`` if that was asked for) -> what calls came to.
    used
        How the cache was used on this machine.
    advice
        What could be otherwise on this machine; nothing was changed.
    """

    usage: dict[str, UsageReport]
    used: Statistics = field(repr=False)
    advice: tuple[Advice, ...] = field(repr=False)

    @property
    def whole(self) -> UsageReport:
        """The usage whose sum is that of all calls."""
        return self.usage["day"]

    def as_json(self) -> dict[str, Any]:
        """Return plain values, as the commands of the same names do."""
        return {
            "usage": {by: found.as_json() for by, found in self.usage.items()},
            "stats": self.used.as_json(),
            "advice": [one.as_json() for one in self.advice],
        }


def facts_of(
    cache: Cache, since: object, until: object = None, *, team: bool | None = None, has_persons: bool = False
) -> Facts:
    """Ask `cache` for all of it: what calls came to, once for all tables, so that none has a call that another lacks.

    Latencies and reasons are counted apart and a moment later, also by other processes: these may be a call behind.

    Parameters
    ----------
    since, until, team
        As of `Cache.usage`.
    has_persons
        Whether people are told apart: nobody is named unless somebody asks for it.

    Raises
    ------
    ConfigurationError, StoreUnavailable
        As `Cache.usage`.
    """
    by = (*_BY, PERSON) if has_persons else _BY
    found = booked(cache.ledger, since, until, team=team)
    used, advice = cache.insight.both(found.of_this_machine)
    return Facts({name: found.by((name,)) for name in by}, used, advice)
