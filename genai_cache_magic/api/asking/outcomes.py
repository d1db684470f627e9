"""What requests would come to, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - of fields
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Warmed:
    """What became of requests.

    Attributes
    ----------
    hits, stored
        How many were in the cache before, or equal to one that was asked now, and how many are in it since.
    not_stored
        Asked, and their answer may not be stored.
    failed
        Refused by their origin, or never answered.
    left
        Not asked, since the budget was at its end, or somebody interrupted.
    spent_usd
        What it has cost [USD]; None if a price is unknown.
    stopped_by
        What ended it early, in words; empty if nothing did.
    errors
        The first errors, by the line of their request.
    left_out
        How many more of a run file can't be asked again, by the reason.
    """

    hits: int
    stored: int
    not_stored: int
    failed: int
    left: int
    spent_usd: Decimal | None
    stopped_by: str = field(repr=False, default="")
    errors: tuple[str, ...] = field(repr=False, default=())
    left_out: Mapping[str, int] = field(repr=False, default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD], null where it is unknown."""
        counts = {name: getattr(self, name) for name in ("hits", "stored", "not_stored", "failed", "left")}
        spent = None if self.spent_usd is None else f"{self.spent_usd:f}"
        said = {"stopped_by": self.stopped_by, "errors": list(self.errors), "left_out": dict(self.left_out)}
        return {**counts, "spent_usd": spent, **said}


@dataclass(frozen=True, slots=True)
class Submitted:
    """What of requests was submitted to a provider's batch API.

    Attributes
    ----------
    hits
        How many are in the cache, or equal to another one.
    submitted, pending
        How many were submitted now, and how many are in a batch that was submitted before.
    left
        How many were not, since the budget was at its end.
    most_usd
        What the submitted ones may cost at most, as far as prices are known [USD].
    batches
        What the provider calls the new batches.
    stopped_by
        Why some are left, in words.
    left_out
        How many more of a run file can't be asked again, by the reason.
    """

    hits: int
    submitted: int
    pending: int
    left: int
    most_usd: Decimal
    batches: tuple[str, ...] = field(repr=False, default=())
    stopped_by: str = field(repr=False, default="")
    left_out: Mapping[str, int] = field(repr=False, default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD]."""
        counts = {name: getattr(self, name) for name in ("hits", "submitted", "pending", "left")}
        said = {"stopped_by": self.stopped_by, "left_out": dict(self.left_out)}
        return {**counts, "most_usd": f"{self.most_usd:f}", "batches": list(self.batches), **said}


@dataclass(frozen=True, slots=True)
class Collected:
    """What became of batches.

    Attributes
    ----------
    batches
        Those that are done with, and no longer noted.
    waiting
        Those that are at work, and those of which it can't be told yet whether they were taken.
    stored, hits, not_stored
        How many answers are in the cache since, were there before, and may not be stored.
    failed
        How many requests have no answer; they are asked again the next time.
    spent_usd
        What the answers that were not there before have cost [USD]; None if a price is unknown.
    errors
        The first errors, by the line of their request.
    """

    batches: tuple[str, ...] = field(repr=False, default=())
    waiting: tuple[str, ...] = field(repr=False, default=())
    stored: int = 0
    hits: int = 0
    not_stored: int = 0
    failed: int = 0
    spent_usd: Decimal | None = Decimal(0)
    errors: tuple[str, ...] = field(repr=False, default=())

    def as_json(self) -> dict[str, Any]:
        """Return plain values; money is a decimal text [USD], null where it is unknown."""
        counts = {name: getattr(self, name) for name in ("stored", "hits", "not_stored", "failed")}
        spent = None if self.spent_usd is None else f"{self.spent_usd:f}"
        ids = {"batches": list(self.batches), "waiting": list(self.waiting)}
        return {**ids, **counts, "spent_usd": spent, "errors": list(self.errors)}
