"""Spent and saved by day, as a picture of a few hundred bytes that needs no script and no library.

It has the text's own colour, filled for what was spent and drawn in outline for what was saved, so that it is read in
dark and light, in print, and by who sees no colours. A front end that strips it leaves the table, which says the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.spending import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_WIDTH: Final = 640
_HEIGHT: Final = 120
_TOP: Final = 16
_FOOT: Final = 18
_MOST_DAYS: Final = 92


@dataclass(slots=True)
class DayBar:
    """One day [USD]."""

    day: date
    spent: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)


def bars(found: Sequence[DayBar], *, last: date) -> str:
    """Return an ``<svg>`` of the days until `last`, empty if there is nothing to be drawn.

    Days without calls are drawn as such; of a long time the last three months are.
    """
    by_day = {bar.day: bar for bar in found if 0 <= (last - bar.day).days < _MOST_DAYS}
    highest = max((max(bar.spent, bar.saved) for bar in by_day.values()), default=Decimal(0))
    if highest <= 0:
        return ""
    first = min(by_day)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    step = min(_WIDTH / len(days), 48.0)
    drawn = [_day(by_day.get(day) or DayBar(day), n * step, step, highest) for n, day in enumerate(days)]
    width, base = round(step * len(days)), _TOP + _HEIGHT
    label = f"Spent and saved by day, {first} to {last}; at most {dollars(highest)} on one day"
    texts = (
        _text(0, _TOP - 5, f"{dollars(highest)} \N{BLACK SQUARE} spent \N{WHITE SQUARE} saved"),
        _text(0, base + _FOOT - 4, f"{first}" if first == last else f"{first} \N{EN DASH} {last}"),
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" fill="currentColor"'
        f' stroke="currentColor" viewBox="0 0 {max(width, 200)} {base + _FOOT}" width="{max(width, 200)}"'
        f' height="{base + _FOOT}"><path d="M0 {base}.5H{width}" stroke-opacity=".5"/>{"".join(drawn)}{"".join(texts)}'
        "</svg>"
    )


def _day(bar: DayBar, left: float, step: float, highest: Decimal) -> str:
    if not (bar.spent or bar.saved):
        return ""
    half = step * 0.4
    said = f"{bar.day}: spent {dollars(bar.spent)}, saved {dollars(bar.saved)}"
    spent = _bar(left + step * 0.1, half, bar.spent / highest, 'stroke="none"')
    saved = _bar(left + step * 0.1 + half, half, bar.saved / highest, 'fill="none"')
    return f"<g><title>{escape(said)}</title>{spent}{saved}</g>"


def _bar(left: float, width: float, share: Decimal, how: str) -> str:
    if share <= 0:
        return ""
    height = max(1.0, float(share) * _HEIGHT)
    return (
        f'<rect x="{left:.1f}" y="{_TOP + _HEIGHT - height:.1f}" width="{max(width - 1, 1):.1f}"'
        f' height="{height:.1f}" {how}/>'
    )


def _text(left: float, base: float, text: str) -> str:
    return f'<text x="{left:g}" y="{base:g}" stroke="none" font-size="11">{escape(text)}</text>'
