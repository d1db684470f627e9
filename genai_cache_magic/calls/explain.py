"""Why a call was no hit: what became of its answer, and what differs from the nearest other request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.model import Metadata
    from genai_cache_magic.entries.catalogue import Catalogue, Listed


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call was no hit, and which parts of its request differ from the nearest stored one."""

    outcome: Outcome
    reason: str
    model: str
    differs: tuple[str, ...] = field(default=())


def explain(catalogue: Catalogue, scope: CellScope) -> tuple[Explanation, ...]:
    """Say of each call of `scope` that was no hit why, and what differs from the nearest other entry."""
    listed = list(catalogue.items())
    mine = {item.entry_id: item for item in listed}
    explained = []
    for call in scope.calls:
        if call.outcome is Outcome.HIT:
            continue
        own = mine.get(call.entry_id)  # type: ignore[call-overload]  # a record holds the id as plain text
        others = [item for item in listed if item.entry_id != call.entry_id]
        differs = nearest_difference(own.metadata, others) if own else ()
        reason = call.reason or "not in the cache"
        explained.append(Explanation(call.outcome, reason, call.model, differs))
    return tuple(explained)


def nearest_difference(own: Metadata, others: list[Listed]) -> tuple[str, ...]:
    """Return the names of the components in which a request differs from the nearest of `others`.

    Entries of the same cell are nearer than any other.
    """
    candidates = [item for item in others if item.metadata.surface == own.surface and item.metadata.components]
    if not candidates:
        return ()

    def distance(item: Listed) -> tuple[bool, int]:
        return item.metadata.cell != own.cell, len(_differing(own, item.metadata))

    return _differing(own, min(candidates, key=distance).metadata)


def _differing(a: Metadata, b: Metadata) -> tuple[str, ...]:
    names = {**a.components, **b.components}
    return tuple(sorted(name for name in names if a.components.get(name) != b.components.get(name)))
