"""What a budget has come to, and money as people read it."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

_CENT = Decimal("0.01")


class Spending(NamedTuple):
    """What a budget has come to [USD].

    `reserved_usd` is set aside for calls on their way; `stopped` calls were not made; `unknown` ones were made whose
    price nobody knows, and count as what they were expected to cost. Of a run's budget it is one scope's own part.
    """

    limit_usd: Decimal
    spent_usd: Decimal = Decimal(0)
    reserved_usd: Decimal = Decimal(0)
    stopped: int = 0
    unknown: int = 0
    run: str = ""

    def in_words(self) -> str:
        """Return the sentence that stands under a cell."""
        said = [f"{in_cents(self.spent_usd)} spent"]
        if self.reserved_usd:
            said.append(f"{in_cents(self.reserved_usd)} reserved for calls on their way")
        if self.unknown:
            calls = "1 call" if self.unknown == 1 else f"{self.unknown:,} calls"
            said[0] += f" ({calls} of unknown price in it as reserved)"
        if self.stopped:
            said.append("stopped 1 call" if self.stopped == 1 else f"stopped {self.stopped:,} calls")
        whose = f" for all of run {self.run}, of which here" if self.run else ""
        return f"budget {in_cents(self.limit_usd)}{whose}: {', '.join(said)}"


def dollars(amount: Decimal) -> str:
    """Return `amount` [USD] with the digits that matter at its size: ``$0.000123``, ``$0.0123``, ``$12.30``."""
    if amount == 0:
        return "$0"
    size = abs(amount)
    if size >= 1:
        return f"${amount:,.2f}"
    digits = 4 if size >= Decimal("0.001") else 2 - size.adjusted()
    text = f"{amount.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"
    return f"${text if digits == 4 else text.rstrip('0')}"  # noqa: PLR2004 - the digits of the line above


def in_cents(amount: Decimal) -> str:
    """Return `amount` [USD] as `dollars` does, but whole cents as such: ``$0.50``."""
    return f"${amount:,.2f}" if amount and amount == amount.quantize(_CENT) else dollars(amount)
