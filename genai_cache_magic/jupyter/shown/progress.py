"""How far a cell is that runs."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from genai_cache_magic.events import SERVED, Outcome

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a running cell is.

    Attributes
    ----------
    done, in_flight
        Numbers of calls.
    expected
        Number of calls that it is likely to make, from when it ran before; 0 if unknown.
    spent
        So far [USD]; None is unknown.
    eta_s
        Time that is left [s]; None is unknown.
    """

    done: int
    in_flight: int
    expected: int
    spent: Decimal | None
    eta_s: float | None

    @classmethod
    def of(cls, scope: CellScope, *, expected: int, elapsed_s: float) -> Progress:
        """Return how far `scope` is, `elapsed_s` [s] after it began; it made `expected` calls when it ran before."""
        calls = scope.calls
        done = [call for call in calls if call.outcome is not Outcome.OPEN]
        prices = [call.spent_usd for call in done if call.outcome not in SERVED]
        known = [price for price in prices if price is not None]
        rest = expected - len(done)
        return cls(
            done=len(done),
            in_flight=len(calls) - len(done),
            expected=max(expected, len(calls)) if expected else 0,
            spent=None if prices and not known else sum(known, Decimal(0)),
            eta_s=elapsed_s / len(done) * rest if done and rest > 0 else None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as a member of a live report."""
        spent = None if self.spent is None else f"{self.spent:f}"
        known = {"expected": self.expected or None, "eta_s": None if self.eta_s is None else round(self.eta_s, 1)}
        told = {name: value for name, value in known.items() if value is not None}
        return {"done": self.done, "in_flight": self.in_flight, "spent_usd": spent, **told}
