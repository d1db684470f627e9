"""Answers to questions that are much alike: which calls may get one.

What is alike is found elsewhere (`api/similar.py`); whether the answer that was found may be served is judged as that
of any call. `design/0019-semantic.md` says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from genai_cache_magic.core.options import Mode, Samples

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.alike import Similar
    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.core.model import EntryId, Header
    from genai_cache_magic.entries.entries import Found

_MODES: Final = frozenset({Mode.USE, Mode.READ})
"""A replay answers what was asked; a run file records that; a refresh wants another answer."""
_STORING: Final = frozenset({Mode.USE, Mode.REFRESH, Mode.RECORD})


class Likens(Protocol):
    """Finds answers to similar questions. Neither method raises: trouble is told to the scope, once."""

    def look(
        self,
        lead: Lead,
        find: Callable[[EntryId], Found | None],
        deliver: Callable[[Similar | None], None],
    ) -> None:
        """Look for an answer to a question like that of `lead`, and `deliver` it, or None, from another thread.

        `find` returns the answer under an entry id if it may be served to `lead`.
        """

    def learn(self, lead: Lead, entry_id: EntryId, header: Header) -> None:
        """Note what `lead` asked, and that its answer, which has this `header`, lies under `entry_id`."""


def may_be_similar(lead: Lead) -> bool:
    """Tell whether `lead` may get the answer to another question: not where others wait for it already."""
    return lead.scope.options.mode in _MODES and lead.flight is None and _is_compared(lead)


def may_be_learnt(lead: Lead) -> bool:
    """Tell whether others may find the answer to `lead` by what it asks: not where nothing is to be stored."""
    options = lead.scope.options
    if options.semantic is None:
        return False  # asked of every hit, and nearly always so
    return options.sends and options.mode in _STORING and _is_compared(lead)


def _is_compared(lead: Lead) -> bool:
    options = lead.scope.options
    is_plain = lead.batch is None and not lead.is_part and lead.sample == 0 and not lead.call.refused
    return options.semantic is not None and is_plain and options.samples is Samples.SAME
