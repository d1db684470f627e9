"""The quickest hits: the answer is in this process's memory, and nobody else is asked about the call.

The desk decides of each call what is to be done about it, which may be a lot. Of one that was asked here before, in the
same way, whose answer is at hand and still valid, there is nothing left to decide. It is judged as always: whatever
can't be told here at once is left to the desk, which begins anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_cache_magic.calls.steps import Answered
from genai_cache_magic.calls.telling import told_of
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.errors import EntryUndecodable

if TYPE_CHECKING:
    from genai_cache_magic.calls.keeping import Keeper
    from genai_cache_magic.calls.scope import CellScope
    from genai_cache_magic.calls.telling import Teller
    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.core.options import Options
    from genai_cache_magic.entries.entries import Entries, Found
    from genai_cache_magic.entries.team.tier import Team
    from genai_cache_magic.providers.base import ModelCall

_MODES: Final = frozenset({Mode.USE, Mode.READ, Mode.RECORD, Mode.REPLAY})


def _is_plain(options: Options) -> bool:
    """Tell whether nothing is done about a call of a scope with these `options` before its answer is looked for."""
    return (
        options.mode in _MODES
        and options.samples is Samples.SAME  # else its number is taken
        and not options.ignore  # what is noise is taken out of its key
        and options.semantic is None  # its question is noted
    )


class AtHand:
    """Answers from memory what can be answered at once. Safe to share between threads."""

    def __init__(self, entries: Entries, keeper: Keeper, teller: Teller, team: Team | None) -> None:
        self._entries = entries
        self._keeper = keeper
        self._teller = teller
        self._team = team
        self._plain: Options | None = None  # the last options that were; replaced as a whole, so needs no lock

    def answer(self, call: ModelCall, scope: CellScope, started: float) -> Answered | None:
        """Return the answer to `call`, which is recorded; None if there is more to it."""
        options = scope.options
        if options is not self._plain:
            if not _is_plain(options):
                return None
            self._plain = options
        if call.follows or call.division is not None:
            return None  # what it goes on from is looked up first; it may be asked item by item
        entry_id = self._keeper.known_id(call, options.salt)
        if entry_id is None or (self._team is not None and not self._team.is_fresh):
            return None
        found = self._entries.known(entry_id, options.ttl_s, self._keeper.keyed_tags(options.tags))
        if found is None:
            return None
        told: _Told | None = found.told
        if told is None or told.ids is not call.ids:
            told = _told(call, entry_id, found)
            if told is None:
                return None
            found.told = told
        self._teller.at_hand(told.record, scope, started)
        return told.answered


class _Told(NamedTuple):
    """What each hit of a call on an answer comes to, but for the time that it takes.

    Attributes
    ----------
    ids
        The call's own, by which it is known again.
    record
        What is told of it.
    """

    ids: dict[Any, EntryId]
    record: tuple[object, ...]
    answered: Answered

    def __repr__(self) -> str:
        return "<what is told of a hit>"


def _told(call: ModelCall, entry_id: EntryId, found: Found) -> _Told | None:
    """Return what is told of a hit, if the answer is what `call` gets, as it was received; else None.

    What can't be read is the desk's to tell.
    """
    try:
        if found.sealed.account().asked != call.wants.asked:
            return None
        record = told_of(call, entry_id, found)
    except EntryUndecodable:
        return None
    return _Told(call.ids, record, Answered(found.response, found.tier, 0, entry_id))
