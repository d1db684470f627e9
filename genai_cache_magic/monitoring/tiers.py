"""How the team's tiers are, as far as this process knows: nobody is asked for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLOSED: Final = "closed"
CIRCUITS: Final = {CLOSED: 0, "half-open": 1, "open": 2}
"""State of a breaker -> the number that stands for it."""


@dataclass(frozen=True, slots=True)
class TierState:
    """One tier.

    Attributes
    ----------
    circuit
        The state of its breaker, one of `CIRCUITS`.
    invalidations, entries
        How many wait to be told to the team; None: that could not be read.
    """

    circuit: str = CLOSED
    invalidations: int | None = None
    entries: int | None = None

    @property
    def is_away(self) -> bool:
        """Whether it is not asked now."""
        return self.circuit != CLOSED

    @property
    def waiting(self) -> int | None:
        """How many of both wait."""
        if self.invalidations is None or self.entries is None:
            return None
        return self.invalidations + self.entries


Tiers: TypeAlias = "Callable[[], Sequence[TierState]]"
