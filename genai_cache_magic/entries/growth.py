"""How fast what is kept here grows, and when its room is full: by what was fetched lately and what expires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_MS: Final = 86_400_000
_LATELY_DAYS: Final = 14
_FURTHEST_DAYS: Final = 365


class Crop(NamedTuple):
    """How many entries were fetched so many whole days ago, and have so many whole days left to live."""

    age_days: int
    left_days: int
    entries: int


@dataclass(frozen=True, slots=True)
class Growth:
    """What becomes of the room of a namespace on this machine.

    Attributes
    ----------
    size_bytes, limit_bytes
        What is taken now, and what there is.
    daily_bytes
        What is added in a day, by the last two weeks; None as long as nothing is older than a day.
    full_in_days
        When it will be full if it goes on like that and what expires is removed; None: not within a year, or not known.
    """

    size_bytes: int
    limit_bytes: int
    daily_bytes: int | None
    full_in_days: int | None


def growth(crops: Sequence[Crop], *, size_bytes: int, limit_bytes: int) -> Growth:
    """Return how what is kept grows. All of `crops` together takes `size_bytes`, each entry as much as any other."""
    count = sum(crop.entries for crop in crops)
    oldest = max((crop.age_days for crop in crops), default=0)
    if oldest < 1 or not count:
        return Growth(size_bytes, limit_bytes, None, None)
    days = min(_LATELY_DAYS, oldest)
    each = size_bytes / count
    daily = each * sum(crop.entries for crop in crops if crop.age_days < days) / days
    return Growth(size_bytes, limit_bytes, int(daily), _full_in_days(crops, each, daily, size_bytes, limit_bytes))


def _full_in_days(crops: Sequence[Crop], each: float, daily: float, size_bytes: float, limit_bytes: int) -> int | None:
    """Return the first day on which what is there, with what is added and without what expires by then, is too much."""
    leaving = [0.0] * (_FURTHEST_DAYS + 2)
    for crop in crops:
        leaving[min(max(0, crop.left_days), _FURTHEST_DAYS) + 1] += each * crop.entries
    # What is added lives as long as what is there does on the average: from then on as much goes as comes.
    lives = sum((crop.age_days + crop.left_days + 1) * crop.entries for crop in crops)
    life_days = lives / sum(crop.entries for crop in crops)
    there = size_bytes
    for day in range(_FURTHEST_DAYS + 1):
        there -= leaving[day]
        if there + daily * min(day, life_days) >= limit_bytes:
            return day
    return None
