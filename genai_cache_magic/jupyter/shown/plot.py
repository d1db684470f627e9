"""Spent and saved by day, as a picture of a few hundred bytes that needs no script and no library.

Filled for what was spent and drawn in outline for what was saved, it is read in dark and light, in print, and by who
sees no colours. A page of ours holds the ``<svg>``, in the text's own colour. A notebook holds it as an image, with its
words beside it: of an ``<svg>`` in an untrusted notebook front ends leave the words alone, in a heap. What strips
images leaves the table, which says the same.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.calls.spending import dollars

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_WIDTH: Final = 640
_HEIGHT: Final = 120
_GREY: Final = "#808080"
"""Stands out from white and from what dark themes have, 3.9 and 4.8 to 1: an image does not know the theme."""
_MOST_DAYS: Final = 92


@dataclass(slots=True)
class DayBar:
    """One day [USD]."""

    day: date
    spent: Decimal = Decimal(0)
    saved: Decimal = Decimal(0)


class Plot(NamedTuple):
    """An ``<svg>``, what it is called, and its key in words; all empty if there is nothing to be drawn."""

    svg: str = ""
    label: str = ""
    said: str = ""

    def as_image(self) -> str:
        """Return it as an ``<img>`` that holds its data itself, and its key below."""
        if not self.svg:
            return ""
        data = b64encode(self.svg.replace("currentColor", _GREY).encode()).decode()
        image = f'<img alt="{escape(self.label)}" src="data:image/svg+xml;base64,{data}">'
        return f"{image}<p>{escape(self.said)}</p>"


def bars(found: Sequence[DayBar], *, last: date) -> Plot:
    """Return the days until `last`.

    Days without calls are drawn as such; of a long time the last three months are.
    """
    by_day = {bar.day: bar for bar in found if 0 <= (last - bar.day).days < _MOST_DAYS}
    highest = max((max(bar.spent, bar.saved) for bar in by_day.values()), default=Decimal(0))
    if highest <= 0:
        return Plot()
    first = min(by_day)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    step = min(_WIDTH / len(days), 48.0)
    drawn = [_day(by_day.get(day) or DayBar(day), n * step, step, highest) for n, day in enumerate(days)]
    width = round(step * len(days))
    span = f"{first}" if first == last else f"{first} \N{EN DASH} {last}"
    label = f"Spent and saved by day, {span}; at most {dollars(highest)} on one day"
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(label)}" fill="currentColor"'
        f' stroke="currentColor" viewBox="0 -1 {width} {_HEIGHT + 2}" width="{width}" height="{_HEIGHT + 2}">'
        f'<path d="M0 {_HEIGHT}.5H{width}" stroke-opacity=".5"/>{"".join(drawn)}</svg>'
    )
    said = f"{span}: \N{BLACK SQUARE} spent, \N{WHITE SQUARE} saved, at most {dollars(highest)} on one day"
    return Plot(svg, label, said)


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
        f'<rect x="{left:.1f}" y="{_HEIGHT - height:.1f}" width="{max(width - 1, 1):.1f}" height="{height:.1f}" {how}/>'
    )
