r"""Own regular expressions that can't hold a call up: a part of Python's syntax, whose cost is known beforehand.

Python's `re` may take years for a text that nearly matches, and nothing can stop it meanwhile. So a pattern is read
here, not there: repeats have ends, what it costs to try it in one place is counted, and too much is refused.
``\d``, ``\w``, ``\s`` and ``\b`` know ASCII alone, so that every Python finds the same. `spec/key.md` §2.8 is
normative.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from genai_cache_magic.errors import ConfigurationError

MAX_PATTERN: Final = 500
"""Length of a pattern [characters]."""

OPEN_REPEAT: Final = 256
"""How often a repeat without an end repeats at most."""

MAX_WIDTH: Final = 262_144
"""Length of the longest match [characters]."""

MAX_STEPS: Final = 1 << 18
"""What trying a pattern in one place may cost, in the worst case [steps of the matcher]."""

_OTHER: Final = 128  # stands for every character beyond ASCII
_ALL: Final = frozenset(range(_OTHER + 1))
_NONE: Final[frozenset[int]] = frozenset()
_DIGIT: Final = frozenset(map(ord, "0123456789"))
_WORD: Final = _DIGIT | frozenset(map(ord, "_abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
_SPACE: Final = frozenset(map(ord, " \t\n\r\f\v"))
_CLASSES: Final = {
    "d": _DIGIT,
    "w": _WORD,
    "s": _SPACE,
    "D": _ALL - _DIGIT,
    "W": _ALL - _WORD,
    "S": _ALL - _SPACE,
}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_HEX_DIGITS: Final = {"x": 2, "u": 4}
_REPEAT: Final = re.compile(r"([*+?])|\{([0-9]{0,5})(,?)([0-9]{0,5})\}")
_DEEPEST: Final = 20


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern that was read.

    Attributes
    ----------
    regex
        What finds it: its repeats have ends.
    width
        Length of its longest match [characters].
    steps
        What trying it in one place costs at most [steps of the matcher].
    """

    regex: re.Pattern[str] = field(repr=False)
    width: int
    steps: int


class _Cost(NamedTuple):
    """What trying a part costs: in how many ways it can match from one place, and the steps of trying them all."""

    ways: int
    steps: int


@dataclass(frozen=True, slots=True, repr=False)
class _Node:
    """A part of a pattern: one character, or nothing but a place, or a sequence, a choice or a repeat of parts.

    Attributes
    ----------
    text
        As it is given to `re`.
    chars
        The ASCII codes that one character may have, and 128 for any other; None for what is no character.
    first
        What it may begin with; all for a place, which looks at what stands around it.
    """

    text: str
    least: int
    most: int
    chars: frozenset[int] | None = None
    first: frozenset[int] = _ALL
    kind: str = "char"
    parts: tuple[_Node, ...] = ()
    repeat: tuple[int, int] = (1, 1)


def read_pattern(text: str) -> Pattern:
    """Read a pattern.

    Raises
    ------
    ConfigurationError
        It is none, uses what is not allowed here, matches nothing at all, or could take too long; what to write
        instead is said.
    """
    if not 0 < len(text) <= MAX_PATTERN:
        raise ConfigurationError(f"a pattern has 1 to {MAX_PATTERN} characters, this one has {len(text)}")
    flags, source = (re.IGNORECASE, text[4:]) if text.startswith("(?i)") else (re.NOFLAG, text)
    reader = _Reader(source, ignores_case=bool(flags))
    node = reader.choice(0)
    if reader.rest:
        raise ConfigurationError(f"the ) at character {reader.at + 1} closes nothing: write \\) for itself")
    if node.least == 0:
        raise ConfigurationError("it matches where nothing stands: let it begin with what has to be there")
    cost = _cost(node, _NONE)
    if cost.steps > MAX_STEPS:
        raise ConfigurationError(
            "it could take too long on a text that nearly matches: give its repeats ends, such as {1,20}, or part them "
            "by a character that they don't match"
        )
    if node.most > MAX_WIDTH:
        raise ConfigurationError(f"it may match more than {MAX_WIDTH:,} characters: {node.most:,}")
    try:
        regex = re.compile(node.text, re.ASCII | re.MULTILINE | flags)
    except (re.error, OverflowError, RecursionError) as exc:
        raise ConfigurationError(f"it is no regular expression ({exc})") from exc
    return Pattern(regex, node.most, cost.steps)


class _Reader:
    """Reads a pattern from left to right."""

    def __init__(self, text: str, *, ignores_case: bool) -> None:
        self.at = 0
        self._text = text
        self._ignores_case = ignores_case

    @property
    def rest(self) -> str:
        return self._text[self.at :]

    def choice(self, depth: int) -> _Node:
        """Read what stands between ``|``."""
        if depth > _DEEPEST:
            raise ConfigurationError(f"its groups stand more than {_DEEPEST} deep in each other")
        parts = [self._sequence(depth)]
        while self.rest.startswith("|"):
            self.at += 1
            parts.append(self._sequence(depth))
        if len(parts) == 1:
            return parts[0]
        least, most = min(p.least for p in parts), max(p.most for p in parts)
        first = frozenset().union(*(p.first for p in parts))
        text = "|".join(p.text for p in parts)
        return _Node(f"(?:{text})", least, most, None, first, "choice", tuple(parts))

    def _sequence(self, depth: int) -> _Node:
        parts: list[_Node] = []
        while self.rest and self.rest[0] not in "|)":
            parts.append(self._repeated(self._atom(depth)))
        text = "".join(p.text for p in parts)
        least, most = sum(p.least for p in parts), sum(p.most for p in parts)
        return _Node(text, least, most, None, _first(parts, _NONE), "sequence", tuple(parts))

    def _repeated(self, node: _Node) -> _Node:
        found = _REPEAT.match(self._text, self.at)
        if found is None or found[0] == "{,}" or found[0] == "{}":
            return node
        if node.most == 0:
            raise ConfigurationError(f"{found[0]} at character {self.at + 1} repeats no character: remove it")
        self.at = found.end()
        lazy = "?" if self.rest.startswith("?") else ""
        self.at += len(lazy)
        if _REPEAT.match(self._text, self.at):
            raise ConfigurationError(
                f"the repeat at character {self.at + 1} follows another: put a group around that one"
            )
        low, high = _ends(found)
        if low > high:
            raise ConfigurationError(f"{found[0]} ends before it begins")
        text = node.text if node.kind == "char" else f"(?:{node.text})"
        text = f"{text}{{{low},{high}}}{lazy}"
        return _Node(text, low * node.least, high * node.most, None, node.first, "repeat", (node,), (low, high))

    def _atom(self, depth: int) -> _Node:
        char = self._text[self.at]
        self.at += 1
        if char == "(":
            return self._group(depth)
        if char == "[":
            return self._class()
        if char == "\\":
            return self._escape()
        if char == ".":
            return _char(".", _ALL - {ord("\n")})
        if char in "^$":
            return _Node(char, 0, 0, kind="place")
        if char in "*+?":
            raise ConfigurationError(f"{char} at character {self.at} repeats nothing: write \\{char} for itself")
        return self._literal(char)

    def _group(self, depth: int) -> _Node:
        if self.rest.startswith("?:"):
            self.at += 2
        elif self.rest.startswith("?"):
            raise ConfigurationError(
                f"(?... at character {self.at} is not known here: groups are (...) and (?:...), and (?i) may begin it"
            )
        node = self.choice(depth + 1)
        if not self.rest.startswith(")"):
            raise ConfigurationError("a group is not closed: write \\( for a bracket itself")
        self.at += 1
        return (
            node
            if node.kind == "choice"
            else _Node(f"(?:{node.text})", node.least, node.most, None, node.first, "sequence", (node,))
        )

    def _escape(self) -> _Node:
        char, meaning = self._escaped()
        if char is not None:
            return self._literal(char)
        if meaning in "bB":
            return _Node(f"\\{meaning}", 0, 0, kind="place")
        return _char(f"\\{meaning}", _CLASSES[meaning])

    def _escaped(self) -> tuple[str | None, str]:
        r"""Return the character that stands behind ``\``, or None and the letter of a class or a place."""
        if not self.rest:
            raise ConfigurationError("it ends in a \\: write \\\\ for itself")
        char = self._text[self.at]
        self.at += 1
        if char in _CONTROLS:
            return _CONTROLS[char], ""
        if char in _HEX_DIGITS:
            digits = self.rest[: _HEX_DIGITS[char]]
            if len(digits) != _HEX_DIGITS[char] or not set(digits) <= set("0123456789abcdefABCDEF"):
                raise ConfigurationError(f"\\{char} wants {_HEX_DIGITS[char]} hexadecimal digits")
            self.at += len(digits)
            return chr(int(digits, 16)), ""
        if char in _CLASSES or char in "bB":
            return None, char
        if char.isascii() and char.isalnum():
            raise ConfigurationError(f"\\{char} is not known here: write \\d \\w \\s \\b \\n \\t, or \\ before a sign")
        return char, ""

    def _class(self) -> _Node:
        is_not = self.rest.startswith("^")
        self.at += is_not
        chars: frozenset[int] = _NONE
        spelled: list[str] = []
        begin = self.at
        while not self.rest.startswith("]") or self.at == begin:
            low, meaning = self._member()
            if low is None:
                if meaning in "bB":
                    raise ConfigurationError(f"\\{meaning} is no character of a class")
                chars |= _CLASSES[meaning]
                spelled.append(f"\\{meaning}")
                continue
            high = low
            if self.rest.startswith("-") and self.rest[1:2] not in ("", "]"):
                self.at += 1
                last, meaning = self._member()
                if last is None or last < low:
                    raise ConfigurationError(f"a range of a class, from {low!r}, ends before it begins")
                high = last
            chars |= _range(low, high)
            spelled.append(_spelled(low) if low == high else f"{_spelled(low)}-{_spelled(high)}")
        self.at += 1
        text = f"[{'^' if is_not else ''}{''.join(spelled)}]"
        folded = self._folded(chars)
        # What is not in a class may still be another character beyond ASCII.
        return _char(text, (_ALL - chars) | {_OTHER} if is_not else folded)

    def _member(self) -> tuple[str | None, str]:
        if not self.rest:
            raise ConfigurationError("a class is not closed: write \\[ for a bracket itself")
        char = self._text[self.at]
        self.at += 1
        return self._escaped() if char == "\\" else (char, "")

    def _literal(self, char: str) -> _Node:
        return _char(_spelled(char), self._folded(_range(char, char)))

    def _folded(self, chars: frozenset[int]) -> frozenset[int]:
        if not self._ignores_case:
            return chars
        others = {ord(chr(c).swapcase()) for c in chars if c != _OTHER}
        return chars | {c for c in others if c < _OTHER}


def _ends(found: re.Match[str]) -> tuple[int, int]:
    """Return how often a repeat repeats, at least and at most."""
    sign, low, comma, high = found.groups()
    if sign is not None:
        return (int(sign == "+"), 1 if sign == "?" else OPEN_REPEAT)
    first = int(low or 0)
    if not comma:
        return first, first
    return first, int(high) if high else max(first, OPEN_REPEAT)


def _char(text: str, chars: frozenset[int]) -> _Node:
    return _Node(text, 1, 1, chars, chars)


def _range(low: str, high: str) -> frozenset[int]:
    ends = ord(low), ord(high)
    return frozenset(range(ends[0], min(ends[1], _OTHER - 1) + 1)) | ({_OTHER} if ends[1] >= _OTHER else _NONE)


def _spelled(char: str) -> str:
    return char if char.isalnum() and char.isascii() else f"\\U{ord(char):08x}"


def _first(parts: list[_Node] | tuple[_Node, ...], follow: frozenset[int]) -> frozenset[int]:
    """Return what may stand at the beginning of `parts`, or of what follows where all of them may be empty."""
    first: frozenset[int] = _NONE
    for part in parts:
        first |= part.first
        if part.least > 0:
            return first
    return first | follow


def _cost(node: _Node, follow: frozenset[int]) -> _Cost:
    """Return what trying `node` costs where `follow` is what may stand behind it; none of that is the end of it all.

    A repeat of characters of which none may follow it ends in one way: every other one fails at the next character.
    """
    if node.kind in {"char", "place"}:
        return _Cost(1, 1)
    if node.kind == "choice":
        costs = [_cost(part, follow) for part in node.parts]
        ways = max(c.ways for c in costs) if _are_apart(node.parts) else sum(c.ways for c in costs)
        return _bounded(ways, sum(c.steps for c in costs))
    if node.kind == "sequence":
        ways, steps = 1, 0
        for n, part in enumerate(node.parts):
            one = _cost(part, _first(node.parts[n + 1 :], follow))
            steps += ways * one.steps
            ways = min(ways * one.ways, MAX_STEPS + 1)
        return _bounded(ways, steps)
    (inner,), (low, high) = node.parts, node.repeat
    if inner.chars is not None:
        return _Cost(1 if inner.chars.isdisjoint(follow) else high - low + 1, high)
    one = _cost(inner, follow | inner.first)
    if one.ways == 1 and inner.least > 0 and inner.first.isdisjoint(follow):
        return _bounded(1, high * one.steps)
    ways, steps, paths = int(low == 0), 0, 1
    for count in range(1, high + 1):
        steps += paths * one.steps
        paths = min(paths * one.ways, MAX_STEPS + 1)
        ways += paths if count >= low else 0
        if steps > MAX_STEPS:
            break
    return _bounded(ways, steps)


def _are_apart(parts: tuple[_Node, ...]) -> bool:
    """Return whether the next character tells which of `parts` it can be."""
    seen: frozenset[int] = _NONE
    for part in parts:
        if part.least == 0 or not part.first.isdisjoint(seen):
            return False
        seen |= part.first
    return True


def _bounded(ways: int, steps: int) -> _Cost:
    return _Cost(max(1, min(ways, MAX_STEPS + 1)), max(1, min(steps, MAX_STEPS + 1)))
