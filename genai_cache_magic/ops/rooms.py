"""How much room a namespace takes in each tier, against what there is, and when that will be full."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.api.team.line import REDIS, container_at, kind_of, redis_at
from genai_cache_magic.entries.growth import growth
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.entries.listing.holdings import Limited
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.rooms import Room


FEW = 2_000
"""So many answers are counted in the team's tiers without being asked for."""


@dataclass(frozen=True, slots=True)
class TierRoom:
    """What a namespace takes in one tier.

    Attributes
    ----------
    entries, size_bytes
        How many answers lie there, and what they take [bytes].
    beside_bytes
        What else the namespace has there: documents, ledger, runs [bytes].
    used_bytes, limit_bytes
        What all who use it take, and what there is [bytes]; None: not known, or without a limit.
    daily_bytes, full_in_days
        As of a ``Growth``.
    limited
        What has a limit of its own.
    """

    name: str
    entries: int
    size_bytes: int
    beside_bytes: int
    used_bytes: int | None
    limit_bytes: int | None
    daily_bytes: int | None
    full_in_days: int | None
    limited: tuple[Limited, ...] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def rooms_of(cache: Cache, settings: Settings) -> tuple[tuple[TierRoom, ...], str]:
    """Return what `look` does or nothing and why that can't be told."""
    try:
        return look(cache, settings), ""
    except (ConfigurationError, StoreUnavailable) as exc:
        return (), f"what the team's tier takes can't be told: {exc}"


def look(cache: Cache, settings: Settings) -> tuple[TierRoom, ...]:
    """Return what the namespace takes on this machine, and in each of the team's tiers.

    Every key there is counted, so it takes the longer the more there is.

    Raises
    ------
    StoreUnavailable
        One of them can't be asked.
    ConfigurationError
        One can't be used as it is set.
    """
    limits = settings.limits.by_name()
    found = [_here(cache, settings, limits)]
    if cache.team is not None:
        found += [_told(cache, name, room, sizes, limits) for name, room, sizes in _there(settings, cache.namespace)]
    return tuple(found)


def _here(cache: Cache, settings: Settings, limits: Mapping[tuple[str, str], int]) -> TierRoom:
    sizes = cache.catalogue.sizes()
    stock = cache.catalogue.stock(sizes, limits)
    taken = cache.stats().size_bytes
    grown = cache.insight.growth(taken)
    return TierRoom(
        "L1",
        len(sizes),
        taken,
        0,
        taken,
        settings.size_limit,
        grown.daily_bytes,
        grown.full_in_days,
        stock.limited,
    )


def _there(settings: Settings, namespace: str) -> Iterator[tuple[str, Room, Mapping[str, int]]]:
    """Ask each of the tiers; what is large lies in the container, under a name that the Redis knows."""
    pointed: Mapping[str, str] = {}
    for url in sorted((one.get_secret_value() for one in settings.l2), key=lambda url: kind_of(url) != REDIS):
        if kind_of(url) == REDIS:
            from genai_cache_magic.stores.redis import room as redis_room

            with closing(redis_at(settings, url)) as redis:
                room = redis_room.room_of(redis, namespace)
            pointed = room.pointed
            yield room.name, room, room.sizes
        else:
            from genai_cache_magic.stores.azure import room as azure_room

            with closing(container_at(settings, url)) as container:
                room = azure_room.room_of(container, namespace, limit_bytes=settings.limits.container)
            large = {key: room.large[name] for key, name in pointed.items() if name in room.large}
            yield room.name, room, {**room.sizes, **large}


def _told(
    cache: Cache, name: str, room: Room, sizes: Mapping[str, int], limits: Mapping[tuple[str, str], int]
) -> TierRoom:
    stock = cache.catalogue.stock(sizes, limits)
    taken = sum(sizes.values())
    daily, full_in_days = None, None
    used = taken + room.beside_bytes if room.used_bytes is None else room.used_bytes
    if stock.size_bytes:
        # What others take stays as it is, as far as anyone here knows.
        left = used - stock.size_bytes
        limit = (room.limit_bytes or 0) - left if room.limit_bytes else _WITHOUT
        grown = growth(stock.crops, size_bytes=stock.size_bytes, limit_bytes=limit)
        daily, full_in_days = grown.daily_bytes, grown.full_in_days
    return TierRoom(
        name,
        len(sizes),
        taken,
        room.beside_bytes,
        room.used_bytes,
        room.limit_bytes,
        daily,
        full_in_days,
        stock.limited,
    )


_WITHOUT = 2**62
"""More than anybody has [bytes]."""
