"""What stands in the place of what: a sign, a person or a word that was changed, whatever is said around it.

Pure, a part of `vectors/guard.py`. A word between the same two neighbours was put in the place of another one: "is it
open until noon", "please answer briefly: is it open from noon".
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_RUN = re.compile(r"[^\w\s]+")
_WORD_BEFORE, _WORD_AFTER = re.compile(r"(\w+)([^\S\n]?)\Z"), re.compile(r"([^\S\n]?)(\w+)")
_NEAR_BY = 32
"""A longer word is no operand."""
_FACE = re.compile(r"[:;=8]['^-]?[()\[\]|/\\]+")
_OPERATORS, _OTHER_SIGNS = frozenset("*/&|~^<>=+"), frozenset("\\@#%{}[]")
_BREAK = re.compile(r"[.?!;:\n]+(?=\s|\Z)")
_EDGE = ""
_MOST_WORDS = 2
"""So many words at most are put in the place of others: of more, nobody knows what they stand for."""


def signs(text: str) -> list[tuple[str, str, str]]:
    """Return what is neither a word nor ordinary punctuation, in its order; of operators, what they stand between.

    A model reads a sign that it doesn't know as any other that it doesn't know: two texts with either are 1.0 alike.
    """
    found = []
    for match in _RUN.finditer(text):
        run = match.group().rstrip(".,;:?!") or match.group()
        before, after = text[max(0, match.start() - _NEAR_BY) : match.start()], text[match.end() :][:_NEAR_BY]
        left, right = _operands(before, after)
        is_alone = not before or before[-1].isspace()
        if any(one in _OPERATORS for one in run) or (run == "-" and len(left) == len(right) == 1):
            found.append((left, run, right))
        elif any(one in _OTHER_SIGNS or unicodedata.category(one)[0] == "S" for one in run) or _FACE.search(run):
            found.append(("", run, ""))
        elif is_alone and ((run == "!" and right) or not run.strip(".")):
            found.append(("", run, right if run == "!" else ""))
    return found


def _operands(before: str, after: str) -> tuple[str, str]:
    """Return what an operator stands between: what it touches, or what stands beside it on either side."""
    left, right = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
    is_glued = bool(left and not left[2]), bool(right and not right[1])
    takes_both = is_glued[0] == is_glued[1]
    first = left[1].casefold() if left and (is_glued[0] or (takes_both and right)) else ""
    second = right[2].casefold() if right and (is_glued[1] or (takes_both and left)) else ""
    return first, second


def persons(words: Sequence[str], person_of: Mapping[str, str]) -> list[str]:
    """Return of whom a text speaks, in its order; who is spoken of twice in a row counts once."""
    found: list[str] = []
    for person in (person_of[word] for word in words if word in person_of):
        if found[-1:] != [person]:
            found.append(person)
    return found


@dataclass(frozen=True, slots=True, repr=False)
class Places:
    """Finds words that stand between the same neighbours as others.

    Attributes
    ----------
    words
        Returns the words of a text.
    plain
        Returns a word as it is compared: the one that stands for it, without its ending.
    free
        Words that may come and go.
    alike
        Of those, the ones that may stand in the place of others: each with the one that stands for them.
    weak
        Words between which anything may stand: these, prepositions, and the edge of a sentence.
    """

    words: Callable[[str], Sequence[str]]
    plain: Callable[[str], str]
    free: frozenset[str]
    alike: Mapping[str, str]
    weak: frozenset[str]

    def changed(self, one: str, other: str) -> bool:
        """Tell whether something else stands in the place of a word."""
        ours, theirs = self._by_place(one), self._by_place(other)
        words = set(map(self.plain, self.words(one))), set(map(self.plain, self.words(other)))
        for place in ours.keys() & theirs.keys():
            if ours[place] & theirs[place]:
                continue
            pairs = ((a, b) for a in ours[place] for b in theirs[place])
            if any(self._differ(place, a, b, words) for a, b in pairs):
                return True
        return False

    def _by_place(self, text: str) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
        """Return what stands in each place; a place is the words before and after it, two at the end of a sentence."""
        found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for sentence in _BREAK.split(text):
            said = [_EDGE, *self.words(sentence), _EDGE]
            for place, middle in _cut(said):
                found.setdefault(place, set()).add(middle)
        return found

    def _differ(
        self, place: tuple[str, ...], one: tuple[str, ...], other: tuple[str, ...], words: tuple[set[str], set[str]]
    ) -> bool:
        if not set(one).isdisjoint(other):
            return False  # something was said beside, or the place is a shorter one
        are_free = [self.free.issuperset(middle) for middle in (one, other)]
        if all(are_free):
            return len(one) == len(other) == 1 and self._class_of(one[0], place) != self._class_of(other[0], place)
        is_mixed = not self.free.isdisjoint((*one, *other))
        is_sure = len(place) > len(("left", "right")) and len(one) == len(other) == 1
        if self.weak.issuperset(place) or (is_mixed and not is_sure):
            return False  # put in other words, as a rule
        ours, theirs = map(self.plain, one), map(self.plain, other)
        # What stands elsewhere in the other text was moved.
        return any(word not in words[1] for word in ours) and any(word not in words[0] for word in theirs)

    def _class_of(self, word: str, place: tuple[str, ...]) -> str:
        """Return what stands for a word that may come and go; how do I, how can I: the same."""
        return "do" if word in _MODAL and not _OPEN.isdisjoint(place) else self.alike.get(word, word)


_OPEN = frozenset({"how", "where", "who", "whom", "when"})
_MODAL = frozenset({"do", "does", "did", "can", "could", "should", "would", "to"})


def _cut(said: Sequence[str]) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Yield each place with what stands there; `said` begins and ends with an edge."""
    padded = (_EDGE, *said, _EDGE)
    for size in range(1, _MOST_WORDS + 1):
        for at in range(2, len(said) + 1 - size):
            middle = padded[at : at + size]
            before, left, right, after = *padded[at - 2 : at], *padded[at + size : at + size + 2]
            if left and right:
                yield (left, right), middle
                yield (before, left, _EDGE, right, after), middle
            elif left and before:
                yield (before, left, _EDGE), middle
            elif right and after:
                yield (_EDGE, right, after), middle
