"""Why an entry is not served, in words: from its row, whether the entry itself is still there or not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.policy import Fetch, Why
from genai_cache_magic.entries.rows import Gone
from genai_cache_magic.stores.disk.record import CLOCK_STEP_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.core.model import EntryId, Header
    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.rows import Name, Row, View

EVICTED: Final = "evicted to make room (size_limit says how much there is)"
"""Why an entry is not there that nothing has made invalid."""


def absence(row: Row, *, now_ms: int) -> Fetch:
    """Return why the store hands out nothing of what `row` stands for, and nothing has made it invalid."""
    if row.header.created_ms > now_ms + CLOCK_STEP_S * 1000:  # a store on disk takes it for expired
        day = f"{datetime.fromtimestamp(row.header.created_ms / 1000, UTC):%Y-%m-%d}"
        return Fetch(Why.EXPIRED, f"stored on {day}, when this machine's clock was ahead of what it says now")
    return Fetch(Why.ABSENT, EVICTED)


def reason(
    row: Row,
    view: View,
    *,
    ttl_s: int | None,
    scope_tags: Iterable[bytes],
    name: Callable[[bytes], Name | None],
) -> Fetch | None:
    """Return why what `row` stands for is not served; None if all that is known is that it isn't there.

    Parameters
    ----------
    ttl_s, scope_tags
        What the caller asks for: its explicit time to live [s], and the tags that its scope names.
    name
        Says what a keyed tag stands for.
    """
    header, generations = row.header, view.generations
    if header.birth.root != generations.root or header.birth.ver < generations.floor:
        return Fetch(Why.INVALIDATED, "cleared")
    tag = _invalidating_tag(generations, header, scope_tags)
    if tag is not None:
        return Fetch(Why.INVALIDATED, f"invalidated by {_words(name(tag))}")
    if row.gone is Gone.INVALIDATED or _is_replaced(generations, row.entry_id, header):
        return Fetch(Why.INVALIDATED, "invalidated by itself, or refreshed away")
    limit_s = header.ttl_s if ttl_s is None else min(header.ttl_s, ttl_s)
    expires_ms = header.created_ms + limit_s * 1000
    if expires_ms <= view.now_ms or row.gone is Gone.EXPIRED:
        return Fetch(Why.EXPIRED, f"expired on {datetime.fromtimestamp(expires_ms / 1000, UTC):%Y-%m-%d}")
    return None


def _invalidating_tag(generations: Generations, header: Header, scope_tags: Iterable[bytes]) -> bytes | None:
    records = generations.tags
    hits = [tag for tag in (*header.tags, *scope_tags) if header.birth.ver < records.get(tag, 0)]
    return max(hits, key=lambda tag: records[tag], default=None)


def _is_replaced(generations: Generations, entry_id: EntryId, header: Header) -> bool:
    record = generations.entries.get(entry_id)
    return record is not None and header.birth.ver < record.ver


def _words(name: Name | None) -> str:
    if name is None:
        return "a tag"
    # A person's name has no place in a saved notebook.
    return name.kind if name.kind == "person" else f"{'tag' if name.kind == 'user' else name.kind} {name.name}"
