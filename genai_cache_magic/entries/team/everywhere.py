"""Entries found here, and what is not here with the team, in one round."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.entries.entries import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.policy import Fetch
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.team.tier import Team
    from genai_cache_magic.events import Event


def find_everywhere(
    entries: Entries, team: Team | None, ids: Iterable[EntryId], *, tell: Callable[[Event], None]
) -> tuple[dict[EntryId, Found | Fetch], tuple[str, ...]]:
    """Return what is found under each of `ids`, and in words why the team could not be asked for some of them."""
    wanted = list(dict.fromkeys(ids))
    found: dict[EntryId, Found | Fetch] = {}
    if team is None or team.is_fresh:
        found = entries.find_many(wanted, tell=tell)
    missing = [entry_id for entry_id in wanted if not isinstance(found.get(entry_id), Found)]
    if team is None or not missing:
        return found, ()
    looked = team.looked_up(missing)
    troubles = tuple(dict.fromkeys(one.trouble for one in looked.values() if one.trouble))
    if not found:
        found = entries.find_many(looked, tell=tell)
    for entry_id, one in looked.items():
        if one.envelope is not None and not isinstance(found[entry_id], Found):
            found[entry_id] = entries.take_in(entry_id, one.envelope, ttl_s=None, tell=tell, is_call=False)
    return found, troubles
