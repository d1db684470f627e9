"""Numbers as people read them: calls, tokens and money."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from genai_cache_magic.core.options import Mode
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from genai_cache_magic.jupyter.summary import Amount, Row, Summary

_MAX_REASONS = 2
_AT_LEAST = "at least "


def in_words(summary: Summary) -> str:
    """Return the one line that stands under the cell."""
    parts = ["no model calls"]
    if summary.totals is not None:
        parts = [_counts(summary), _tokens(summary.totals), _money(summary.totals)]
    if summary.options.mode is not Mode.USE:
        parts.append(f"mode {summary.options.mode.value}")
    return " · ".join(parts)


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


def money(amount: Amount) -> str:
    """Return a sum of money; what is unknown is called so and never counts as nothing."""
    if amount.is_unknown:
        return "unknown"
    if amount.unknown:
        calls = "1 call" if amount.unknown == 1 else f"{amount.unknown:,} calls"
        return f"{_AT_LEAST}{dollars(amount.known)} (price of {calls} unknown)"
    return dollars(amount.known)


def tokens(amount: Amount) -> str:
    """Return a number of tokens."""
    if amount.is_unknown:
        return "unknown"
    at_least = _AT_LEAST if amount.unknown else ""
    return f"{at_least}{int(amount.known):,}"


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return ``1 miss`` or ``2 misses``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def _counts(summary: Summary) -> str:
    misses = counted(summary.misses, "miss", "misses")
    if summary.refused:
        misses += f" ({summary.refused:,} refused{_because(summary, Outcome.REFUSED, ': {}')})"
    bypassed = f"{summary.bypassed:,} bypassed{_because(summary, Outcome.BYPASS)}"
    parts = [counted(summary.hits, "hit"), misses, bypassed]
    if (summary.open or summary.unrecognised) and not (summary.hits or summary.misses or summary.bypassed):
        parts = []  # the rest says it all
    if summary.errors:
        parts.append(f"{counted(summary.errors, 'error')}{_because(summary, Outcome.ERROR)}")
    if summary.open:
        parts.append(f"{counted(summary.open, 'call')} still open, price unknown")
    parts += [
        f"{counted(count, 'request')} to {host} {'was' if count == 1 else 'were'} not recognised"
        for host, count in summary.unrecognised
    ]
    return ", ".join(parts)


def _because(summary: Summary, outcome: Outcome, form: str = " ({})") -> str:
    reasons = summary.reasons.get(outcome, ())
    if not reasons:
        return ""
    return form.format(", ".join([*reasons[:_MAX_REASONS], *["..."] * (len(reasons) > _MAX_REASONS)]))


def _tokens(total: Row) -> str:
    if total.input_tokens.is_unknown and total.output_tokens.is_unknown:
        return "tokens unknown"
    received = tokens(total.output_tokens)
    if total.input_tokens.unknown:
        received = received.removeprefix(_AT_LEAST)  # said once, of both
    return f"{tokens(total.input_tokens)} tokens in, {received} out"


def _money(total: Row) -> str:
    return f"spent {money(total.spent)}, saved {money(total.saved)}"
