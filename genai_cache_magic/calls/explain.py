"""Why a call was no hit: what became of its answer, and what differs from the nearest other request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.calls.keeping import STORES_NOTHING
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.policy import STORE_KINDS
from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.core.model import Metadata
    from genai_cache_magic.entries.catalogue import Catalogue
    from genai_cache_magic.events import CallRecord

_ABSENT = "not in the cache"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one call was no hit, and which parts of its request differ from the nearest stored one."""

    outcome: Outcome
    reason: str
    model: str
    differs: tuple[str, ...] = field(default=())


def explain(catalogue: Catalogue, scope: CellScope) -> tuple[Explanation, ...]:
    """Say of each call of `scope` that was no hit why.

    What differs from the nearest other entry is said only where the same request was not there.
    """
    explained = []
    for call in scope.calls:
        if call.outcome is Outcome.HIT:
            continue
        is_new = call.outcome is Outcome.MISS and not call.reason
        entry_id = EntryId(call.entry_id)
        own = catalogue.known(entry_id) if is_new else None
        differs = nearest_difference(catalogue, own, beside=entry_id) if own else call.differs
        explained.append(Explanation(call.outcome, _why(call), call.model, differs))
    return tuple(explained)


def _why(call: CallRecord) -> str:
    """Return the reason in a record as a sentence that stands by itself, with the way out where there is one."""
    if call.outcome is Outcome.REFUSED:
        kind = next((kind for kind in STORE_KINDS if call.reason.endswith(kind)), "")
        return f"not stored: {call.reason}" + (f"; --store {kind} keeps it" if kind else "")
    if call.reason == STORES_NOTHING:
        return f"{_ABSENT}; {call.reason}"
    return call.reason or _ABSENT


def nearest_difference(catalogue: Catalogue, own: Metadata, *, beside: EntryId | None = None) -> tuple[str, ...]:
    """Return the names of the components in which a request differs from the nearest valid entry, `beside` aside."""
    near = catalogue.nearest(own, beside=beside)
    return () if near is None else differing(own, near)


def differing(own: Metadata, near: Metadata) -> tuple[str, ...]:
    """Return the names of the components in which two requests differ; of a list, the items that do."""
    names = {**own.components, **near.components}
    found = sorted(name for name in names if own.components.get(name) != near.components.get(name))
    lists = {name.partition("[")[0] for name in found if name.endswith("]")}
    return tuple(name for name in found if name not in lists)
