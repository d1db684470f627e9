"""Where in the text of a JSON answer its lists and its counts stand, so that parts of it can be taken as they are.

Numbers that are read and written again may be spelled otherwise, and vectors are nearly all of such an answer: what is
cut out of its text is what its origin said. Strings and lists of plain numbers are passed over by built-ins, so that
megabytes take a few microseconds an item.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

Span: TypeAlias = tuple[int, int]
"""Where something begins and ends in the text."""

Path: TypeAlias = tuple[str, ...]
"""Names of objects within each other; ``*`` is any name."""

ANY_NAME: Final = "*"

_NEXT: Final = re.compile(rb'["\[\]{}]')
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_COLON: Final = re.compile(rb"[ \t\r\n]*:")
_COUNT: Final = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_OF_NUMBERS: Final = re.compile(rb"\[[ \t\r\n]*[-0-9]")
_OBJECT, _LIST = 0x7B, 0x5B
_CLOSES: Final = {0x7D: _OBJECT, 0x5D: _LIST}
_QUOTE: Final = 0x22


@dataclass(slots=True, repr=False)
class ListSpan:
    """A list in a text: what is between its brackets, and each of its items that is a string, a list or an object."""

    span: Span
    items: list[Span] = field(default_factory=list)


@dataclass(frozen=True, slots=True, repr=False)
class Anatomy:
    """What was looked for in `text`, each with its path."""

    text: bytes
    lists: dict[Path, ListSpan]
    counts: dict[Path, Span]

    def with_edits(self, edits: Iterable[tuple[Span, bytes]]) -> bytes:
        """Return the text with other bytes in the place of each span; spans don't overlap."""
        pieces, at = [], 0
        for (start, end), new in sorted(edits):
            pieces += [self.text[at:start], new]
            at = end
        return b"".join((*pieces, self.text[at:]))


@dataclass(frozen=True, slots=True, repr=False)
class Mould:
    """Knows texts that are alike but for what is in their one list, and for their counts, which follow it.

    It does not look into the list: it is for texts that were looked at as they were stored.
    """

    path: Path
    head: bytes
    tail: re.Pattern[bytes]
    counts: tuple[Path, ...]

    @classmethod
    def of(cls, found: Anatomy) -> Mould | None:
        """Return what knows texts like the one that was `found`; None if it has several lists, or counts before one."""
        if len(found.lists) != 1:
            return None
        ((path, one),) = found.lists.items()
        start, at = one.span
        counts = sorted(found.counts.items(), key=lambda count: count[1])
        tail = b""
        for _, (begin, end) in counts:
            if begin < at:
                return None
            tail += re.escape(found.text[at:begin]) + rb"(\d+)"
            at = end
        tail += re.escape(found.text[at:])
        return cls(path, found.text[:start], re.compile(tail), tuple(name for name, _ in counts))

    def cast(self, text: bytes) -> Anatomy | None:
        """Return the anatomy of a `text` that lists one item; None if it is not like the one that is known."""
        if not text.startswith(self.head):
            return None
        end = text.rfind(b"]")
        told = self.tail.fullmatch(text, end) if end > 0 else None
        if told is None:
            return None
        span = len(self.head), end
        counts = {name: told.span(number) for number, name in enumerate(self.counts, 1)}
        return Anatomy(text, {self.path: ListSpan(span, [span])}, counts)


def anatomy(text: bytes, lists: Collection[Path], counts: Collection[Path]) -> Anatomy | None:
    """Return where in `text` those `lists` stand that are there, and the numbers anywhere below `counts`.

    None if its brackets don't match, so that nothing can be told.
    """
    walk = _Walk(text, lists, counts)
    at = 0
    while (found := _NEXT.search(text, at)) is not None:
        at = walk.step(found.start())
        if at < 0:
            return None
    return None if walk.open else Anatomy(text, walk.lists, walk.counts)


@dataclass(slots=True, repr=False)
class _Frame:
    kind: int
    start: int
    path: Path
    is_within_list: bool
    wanted: ListSpan | None = None


class _Walk:
    """Goes through a text from bracket to bracket."""

    def __init__(self, text: bytes, lists: Collection[Path], counts: Collection[Path]) -> None:
        self.text = text
        self.open: list[_Frame] = []
        self.lists: dict[Path, ListSpan] = {}
        self.counts: dict[Path, Span] = {}
        self._wanted = lists
        self._roots = tuple(counts)
        self._key = ""

    def step(self, at: int) -> int:
        """Take the quote or bracket that stands at `at`; return where to go on, -1 if that can't be told."""
        what = self.text[at]
        if what == _QUOTE:
            return self._string(at)
        if what in _CLOSES:
            return self._close(at, _CLOSES[what])
        if what == _LIST and (end := self._end_of_numbers(at)) > 0:
            self._item(at, end)
            return end
        self._opened(at, what)
        return at + 1

    def _string(self, at: int) -> int:
        text = self.text
        end = text.find(b'"', at + 1) + 1
        if not end or text.find(b"\\", at, end) >= 0:
            whole = _STRING.match(text, at)
            if whole is None:
                return -1
            end = whole.end()
        frame = self.open[-1] if self.open else None
        if frame is not None and frame.kind == _OBJECT and not frame.is_within_list and _COLON.match(text, end):
            self._key = text[at + 1 : end - 1].decode("utf-8", "replace")
            self._note_count((*frame.path, self._key), end)
        else:
            self._item(at, end)
        return end

    def _note_count(self, path: Path, at: int) -> None:
        if any(path[: len(root)] == root for root in self._roots) and (number := _COUNT.match(self.text, at)):
            self.counts[path] = number.span(1)

    def _end_of_numbers(self, at: int) -> int:
        """Return where a list that holds plain numbers ends, 0 if this is none."""
        text = self.text
        if _OF_NUMBERS.match(text, at) is None:
            return 0
        end = text.find(b"]", at)
        is_plain = end > 0 and all(text.find(mark, at + 1, end) < 0 for mark in (b"[", b"{", b'"'))
        return end + 1 if is_plain else 0

    def _opened(self, at: int, kind: int) -> None:
        above = self.open[-1] if self.open else None
        is_within_list = above is not None and (above.is_within_list or above.kind == _LIST)
        path = () if above is None else above.path if is_within_list else (*above.path, self._key)
        frame = _Frame(kind, at, path, is_within_list)
        if kind == _LIST and not is_within_list and path not in self.lists and self._is_wanted(path):
            frame.wanted = self.lists[path] = ListSpan((at + 1, at + 1))
        self.open.append(frame)

    def _is_wanted(self, path: Path) -> bool:
        return any(
            len(path) == len(one) and all(theirs in {ANY_NAME, ours} for ours, theirs in zip(path, one, strict=True))
            for one in self._wanted
        )

    def _close(self, at: int, kind: int) -> int:
        if not self.open or self.open[-1].kind != kind:
            return -1
        frame = self.open.pop()
        if frame.wanted is not None:
            frame.wanted.span = frame.start + 1, at
        self._item(frame.start, at + 1)
        return at + 1

    def _item(self, start: int, end: int) -> None:
        if self.open and (wanted := self.open[-1].wanted) is not None:
            wanted.items.append((start, end))
