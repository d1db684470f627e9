"""What tells one request from another, in the words of its parts; never what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.ledger.run_rows import parts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.runs.lines import RecordedCall

_SHOWN = 5


def differing_parts(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the parts in which two requests differ, such as ``body.messages[3]``."""
    return tuple(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)))


def nearest(form: JsonObject, calls: Iterable[RecordedCall]) -> tuple[tuple[str, ...], JsonObject] | None:
    """Return the nearest recorded request of the same kind, after the parts in which it differs; None if none is."""
    mine = parts_of(form)
    found = [
        (differing_parts(mine, parts_of(call.request)), call.request)
        for call in calls
        if call.request is not None and call.surface == form["surface"]
    ]
    return min(found, key=lambda one: len(one[0]), default=None)


def in_words(differs: tuple[str, ...] | None) -> str:
    """Return the end of a sentence that says in what the nearest one differs."""
    if not differs:
        return ""
    more = ", ..." if len(differs) > _SHOWN else ""
    return f": the nearest call there differs in {', '.join(differs[:_SHOWN])}{more}"
