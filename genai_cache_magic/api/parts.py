"""What a cache is made of."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from genai_cache_magic.calls import recalling

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.api.insight import Insight
    from genai_cache_magic.api.similar import Questions
    from genai_cache_magic.calls.explain import Explainer
    from genai_cache_magic.calls.steps import Begins
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.entries.listing.catalogue import Catalogue
    from genai_cache_magic.entries.permits import Permits
    from genai_cache_magic.entries.state import StateFile
    from genai_cache_magic.entries.team.counting import Counts
    from genai_cache_magic.entries.team.tier import Team
    from genai_cache_magic.ledger.usage import Ledger
    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.runs.runs import Runs
    from genai_cache_magic.stores.base import Document


@dataclass(frozen=True, slots=True)
class CacheParts:
    """What a cache is made of.

    `directory` is where it lies, below `root`, both empty in memory, and `ttl_s` its default [s]; `ignore` are the
    configured rules about noise, and `person` is who asks. `is_superseded` tells whether another process has begun
    the directory anew, with other keys. `place` tells apart stores that one key opens; empty where no other process
    can reach the store. `file` returns a file by its name, beside the entries; None in memory.
    """

    entries: Entries
    keys: Keys
    calls: Begins
    catalogue: Catalogue
    origins: Origins
    ttl_s: int
    state: StateFile
    ledger: Ledger
    runs: Runs = field(repr=False)
    explainer: Explainer = field(repr=False)
    counts: Counts = field(repr=False)
    insight: Insight = field(repr=False)
    questions: Questions = field(repr=False)
    ignore: tuple[str, ...] = field(repr=False, default=())
    person: str = field(repr=False, default="")
    directory: str = ""
    root: str = ""
    is_superseded: Callable[[], bool] = field(default=lambda: False, repr=False)
    team: Team | None = None
    permits: Permits | None = field(default=None, repr=False)
    place: str = field(default="", repr=False)
    file: Callable[[str], Document] | None = field(default=None, repr=False)


def close_parts(parts: CacheParts) -> None:
    """Give up what `parts` hold, all of it whatever comes of each; may be called twice."""
    with contextlib.ExitStack() as each:  # the last one is closed first
        each.callback(recalling.let_go)
        each.callback(parts.state.close)
        each.callback(parts.origins.remembered.clear)
        each.callback(parts.entries.close)
        each.callback(parts.questions.close)
        if parts.permits is not None:
            each.callback(parts.permits.close)
        if parts.team is not None:
            each.callback(parts.team.close)
        each.callback(parts.ledger.close)
        each.callback(parts.catalogue.close)
