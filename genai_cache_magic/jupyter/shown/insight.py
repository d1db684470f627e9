"""How a cache is used, and advice, as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.entries.listing.names import short_name
from genai_cache_magic.jupyter.shown.report import Report, Table
from genai_cache_magic.jupyter.shown.summary import Amount
from genai_cache_magic.jupyter.shown.words import counted, money
from genai_cache_magic.settings.units import rounded_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genai_cache_magic.api.insight import Statistics
    from genai_cache_magic.entries.growth import Growth
    from genai_cache_magic.entries.listing.results import Stats
    from genai_cache_magic.ledger.advice import Advice
    from genai_cache_magic.ops.rooms import TierRoom

_WHY: Final = {
    "new": "not in the cache",
    "evicted": "evicted to make room",
    "expired": "expired",
    "invalidated": "invalidated",
    "cleared": "cleared",
    "refreshed": "mode refresh",
    "damaged": "damaged",
    "unsuited": "lacked what was asked for",
    "unconfirmed": "not confirmed by the team",
    "refused": "not to be stored",
    "other": "other",
}
"""Why a model was asked -> the words for it."""

_HERE: Final = "L1"
_LARGE_LOG_BYTES: Final = 1_000_000
_HOLDINGS: Final = 20
_NUMBERS: Final = frozenset({"answers", "size", "calls", "spent", "p50", "p90", "p99", "reads", "saved", "would save"})


def hit_line(found: Statistics) -> str:
    """Return the hit rate in one sentence."""
    since = f"since {found.since}" if found.since else "in all"
    if found.hit_rate is None:
        return f"no calls {since}"
    said = f"{found.hit_rate:.0%} of calls were hits {since}: {counted(found.hits, 'hit')}, "
    said += counted(found.misses, "miss", "misses")
    if found.samples_per_request is not None and max(found.samples) > 0:
        said += f"; {found.samples_per_request:.1f} samples of a request, at most {max(found.samples) + 1:,}"
    return said


def holdings_note(found: Statistics) -> tuple[str, ...]:
    """Return what to write where it was not counted what is kept of which model, tag and run."""
    return () if found.holdings is not None else ("what is kept of each model, tag and run: --holdings counts it",)


def tables(found: Statistics) -> tuple[tuple[str, Table], ...]:
    """Return the tables that have rows, each with its heading."""
    made = (
        ("why models were asked", Table(_reasons(found), ("why", "calls", "spent"), _NUMBERS)),
        ("how long calls took", Table(_latencies(found), ("answered by", "calls", "p50", "p90", "p99"), _NUMBERS)),
        ("answers that are read most", Table(_popular(found), ("answer", "tags", "reads", "saved"), _NUMBERS)),
        ("what is kept", Table(_holdings(found), ("of", "name", "answers", "size"), _NUMBERS)),
    )
    return tuple((heading, table) for heading, table in made if table.rows)


def advice_report(found: Sequence[Advice]) -> Report:
    """Return the advice, a line each."""
    rows = tuple(
        (one.says, money(Amount(one.saved_usd, one.unknown, one.calls)) if one.about != "unread" else "", one.write)
        for one in found
    )
    if not rows:
        return Report("nothing was seen that could be otherwise")
    title = f"{counted(len(rows), 'thing')} could be otherwise; nothing was changed"
    return Report(title, Table(rows, ("seen", "would save", "write"), _NUMBERS))


def growth_note(found: Growth) -> tuple[str, ...]:
    """Return a sentence on how what is kept here grows, and when it will have filled its room; none if nobody knows."""
    if not found.daily_bytes:
        return ()
    grows, limit = f"{rounded_size(found.daily_bytes)} are added in a day", rounded_size(found.limit_bytes)
    if found.full_in_days is None:
        return (f"{grows}: {limit} last for a year and more",)
    if found.full_in_days == 0:
        return (f"{grows}: {limit} are full, and what was stored first goes",)
    return (f"{grows}: {limit} are full in {counted(found.full_in_days, 'day')}, and then what was stored first goes",)


def log_note(found: Stats) -> tuple[str, ...]:
    """Return a sentence on what the database's log takes, where that is much."""
    if found.log_bytes < _LARGE_LOG_BYTES:
        return ()
    return (f"the database's log takes {rounded_size(found.log_bytes)} more until no kernel has it open",)


def room_notes(found: Iterable[TierRoom]) -> tuple[str, ...]:
    """Return a sentence on each of the team's tiers, and on all that has a limit of its own: L1's are told apart."""
    notes: list[str] = []
    for room in found:
        if room.name != _HERE:
            notes.append(_room_note(room))
        for one in room.limited:
            grown = one.growth
            taken = f"{rounded_size(grown.size_bytes)} of {rounded_size(grown.limit_bytes)}"
            takes = f"{counted(one.entries, 'answer')}, {taken}"
            full = 0 if grown.size_bytes >= grown.limit_bytes else grown.full_in_days
            notes.append(f"{one.kind} {one.name} in {room.name}: {takes}{_forecast(grown.daily_bytes, full)}")
    return tuple(notes)


def _room_note(room: TierRoom) -> str:
    takes = f"{room.name}: {counted(room.entries, 'answer')}, {rounded_size(room.size_bytes)}"
    takes += f" and {rounded_size(room.beside_bytes)} beside them" if room.beside_bytes else ""
    full = room.full_in_days
    if room.limit_bytes:
        used = room.size_bytes + room.beside_bytes if room.used_bytes is None else room.used_bytes
        takes += f"; {rounded_size(used)} of {rounded_size(room.limit_bytes)} are taken"
        full = 0 if used >= room.limit_bytes else full
    return takes + _forecast(room.daily_bytes, full)


def _forecast(daily_bytes: int | None, full_in_days: int | None) -> str:
    grows = f"; {rounded_size(daily_bytes)} are added in a day" if daily_bytes else ""
    if full_in_days is None:
        return grows
    when = f"full in {counted(full_in_days, 'day')}" if full_in_days else "full"
    return f"{grows}: {when}" if grows else f"; {when}"


def _reasons(found: Statistics) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (_WHY[one.why], f"{one.calls:,}", money(Amount(one.spent_usd, one.unknown, one.calls))) for one in found.reasons
    )


def _latencies(found: Statistics) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (one.tier, f"{one.calls:,}", *map(_seconds, (one.p50_s, one.p90_s, one.p99_s))) for one in found.latencies
    )


def _popular(found: Statistics) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (short_name(one.name), ", ".join(one.tags), f"{one.reads:,}", dollars(one.saved_usd)) for one in found.popular
    )


def _holdings(found: Statistics) -> tuple[tuple[str, ...], ...]:
    kept = (found.holdings or ())[:_HOLDINGS]
    return tuple((one.kind, one.name, f"{one.entries:,}", rounded_size(one.size_bytes)) for one in kept)


def _seconds(latency_s: float) -> str:
    if latency_s >= 1:
        return f"{latency_s:.1f} s"
    return f"{latency_s * 1e3:.0f} ms" if latency_s >= 0.01 else f"{latency_s * 1e3:.1f} ms"  # noqa: PLR2004 - three digits are enough
