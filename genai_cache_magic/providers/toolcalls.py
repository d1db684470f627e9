"""Ids inside a conversation, by the order in which they appear (`spec/key.md` §2.5).

Frameworks and servers make random ids for tool calls and messages, so that no later turn would ever be
met again. Dropping them would let the results of two calls change places; numbers keep who answers whom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject


class Renumbering:
    """One request's ids, numbered ``#0``, ``#1``, ... in order of first appearance.

    Every text in a place of ids is replaced, so a literal ``#0`` can't meet a number. Two bodies become
    equal only if one is the other with its ids consistently renamed.
    """

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}

    def apply(self, holder: JsonObject, field: str) -> None:
        """Replace the id in ``holder[field]``, if there is one, in place."""
        value = holder.get(field)
        if type(value) is str:
            number = self._numbers.get(value)
            if number is None:
                number = self._numbers[value] = f"#{len(self._numbers)}"
            holder[field] = number
