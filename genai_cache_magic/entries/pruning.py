"""What is left in a shared tier of what was invalidated: the entries are removed, and then the records of it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import PRUNED
from genai_cache_magic.stores.base import SupportsCheck

if TYPE_CHECKING:
    from genai_cache_magic.core.validity import Generations
    from genai_cache_magic.entries.entries import Entries

_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many entries were removed from a shared tier, and how many records of invalidations from its document.

    `orphans` are values that lay there and could not be found any more.
    """

    entries: int
    records: int
    orphans: int = 0


def prune(shared: Entries, *, lowest: int | None) -> Pruned:
    """Remove from a tier what is invalid, and the records that nothing depends on any more.

    Parameters
    ----------
    shared
        The entries of the tier; their document was seen a moment ago.
    lowest
        The lowest birth of what this machine has itself; None if it has nothing.

    Raises
    ------
    StoreUnavailable
        The tier can't be asked; what was done until then is sound.
    """
    live = shared.generations
    births = [live.published().ver] if lowest is None else [lowest]
    removed = orphans = 0
    unread: set[EntryId] = set()
    keys = shared.store.scan()
    while batch := [EntryId(key) for key in islice(keys, _BATCH)]:
        found = shared.places.audit(batch)
        removed += found.removed
        unread |= found.unread
        births += [] if found.lowest is None else [found.lowest]
    if isinstance(shared.store, SupportsCheck):
        report = shared.store.check()
        removed += report.removed_rows  # what has expired, where a service removes nothing by itself
        orphans = report.removed_files
    now_ms = shared.now_ms()
    before = live.published()
    outlived = {entry_id: record for entry_id, record in before.due(now_ms=now_ms).items() if entry_id not in unread}

    def how(generations: Generations) -> Generations:
        return generations.pruned(lowest=min(births), outlived=outlived, now_ms=now_ms)

    after = live.change(how)
    return Pruned(removed, max(0, _count(before) - _count(after)), orphans)


def _count(generations: Generations) -> int:
    return len(generations.tags) + len(generations.entries) - (PRUNED in generations.entries)
