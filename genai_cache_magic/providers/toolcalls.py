"""Ids inside a conversation, by the order in which they appear (`spec/key.md` §2.5).

Frameworks and servers make random ids for tool calls and messages, so that no later turn would ever be
met again. Dropping them would let the results of two calls change places; numbers keep who answers whom.

An id that a text of the request names as well is no matter of order: whoever exchanges two such ids asks something
else. It stays.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject

_SHORT: Final = 3
"""An id of so many characters or fewer is a part of words by chance: it is named where it is a word by itself."""

_WORD: Final = re.compile(r"[^\W_]+")
_ESCAPE: Final = re.compile(r"\\(?:u[0-9a-f]{4}|.)")

_LOOKED_THROUGH: Final = 1 << 26
"""So many characters are looked through for one id after the other; what is more is looked through for all at once."""

_MOST_WINDOWS: Final = 1 << 24
"""So many pieces of a text are compared with ids; in what has more, all ids stay."""


class Renumbering:
    """One request's ids, numbered ``#0``, ``#1``, ... in order of first appearance; what stays is behind ``=``.

    Every text in a place of ids is replaced, so a literal ``#0`` can't meet a number. Two bodies become
    equal only if one is the other with ids consistently renamed that occur nowhere else in them.
    """

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: list[tuple[JsonObject, str, str]] = []

    def apply(self, holder: JsonObject, field: str) -> None:
        """Take the id out of ``holder[field]``, if there is one, until `finish` puts what it becomes in its place."""
        value = holder.get(field)
        if type(value) is str:
            self._places.append((holder, field, value))
            holder[field] = ""

    def finish(self, body: JsonObject) -> None:
        """Put into each place what its id becomes, in place; `body` is the whole request.

        Raises
        ------
        UncacheableRequest
            `body` holds something that JSON can't say.
        """
        if not self._places:
            return
        named = _named({value for _, _, value in self._places}, dumps(body).decode())
        numbers: dict[str, str] = {}
        for holder, field, value in self._places:
            if value in named:
                holder[field] = f"={value}"
            else:
                holder[field] = numbers.setdefault(value, f"#{len(numbers)}")


def _named(ids: set[str], text: str) -> set[str]:
    """Return those of `ids` that occur in `text`, the JSON of a request without them. An empty one occurs in any."""
    short = {value for value in ids if len(value) <= _SHORT and value.isalnum()}
    words = short.intersection(_WORD.findall(_ESCAPE.sub(" ", text))) if short else short
    return words | _contained(ids - short, text)


def _contained(ids: set[str], text: str) -> set[str]:
    spelt = {value: dumps(value).decode()[1:-1] for value in ids}
    if len(ids) * len(text) <= _LOOKED_THROUGH:
        return {value for value, needle in spelt.items() if needle in text}
    lengths = {len(needle) for needle in spelt.values()}
    if len(lengths) * len(text) > _MOST_WINDOWS:
        return ids
    found = _occurring(set(spelt.values()), lengths, text)
    return {value for value, needle in spelt.items() if needle in found}


def _occurring(needles: set[str], lengths: Iterable[int], text: str) -> set[str]:
    """Return those of `needles`, which have these `lengths`, that occur in `text`, in one pass for each length."""
    found: set[str] = set()
    for length in lengths:
        found |= needles.intersection(text[at : at + length] for at in range(len(text) - length + 1))
    return found
