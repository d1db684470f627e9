"""Ids that origins gave out, and what they stand for: small sealed rows beside the entries, in no listing.

A row lies under a keyed digest of the origin and the id, so nobody who lists the store learns either. It has the birth,
the tags and the time to live of the entry that it came with, so it becomes invalid with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import GIVEN_ID, Entry, Metadata, Response
from genai_cache_magic.entries.entries import Found

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import EntryId, Header, Request
    from genai_cache_magic.entries.entries import Entries
    from genai_cache_magic.entries.keys import Keys
    from genai_cache_magic.events import Event

_LABEL: Final = b"genai-cache given id 1\0"


class GivenIds:
    """What the ids of one namespace's origins stand for. Safe to share between threads."""

    def __init__(self, entries: Entries, keys: Keys) -> None:
        self._entries = entries
        self._keys = keys

    def meaning(self, request: Request, given: str, *, tell: Callable[[Event], None]) -> str:
        """Return what `given` stands for at the origin of `request`; empty if that is unknown. Never raises."""
        found = self._entries.find(self._row(request, given), ttl_s=None, tell=tell)
        return found.response.body.decode() if isinstance(found, Found) else ""

    def learn(self, request: Request, given: str, meaning: str, header: Header) -> None:
        """Note that the origin of `request` gave out `given` for what `meaning` says.

        Raises
        ------
        EntryUndecodable, StoreUnavailable
            It can't be kept: the id stays unknown.
        """
        row = Entry(header, Metadata(surface=GIVEN_ID), Response(0, (), meaning.encode()))
        self._entries.fill(self._row(request, given), row)

    def _row(self, request: Request, given: str) -> EntryId:
        # Of the same length and label, no request and no value can have this id.
        return entry_id(_LABEL + dumps([request.origin, request.machine, given]), self._keys.id_key)
