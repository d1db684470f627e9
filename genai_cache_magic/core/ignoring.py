r"""What doesn't matter: rules that take noise out of the key, and never out of what is sent.

A rule is the name of a shipped one, an own regular expression (``re:build \d+``) or a JSON path into the body
(``$.metadata.run``). What it finds is a mark in the key, such as ``⟨uuid⟩``, and the rules in force are part of the
key: whoever has other rules, or none, has other keys. `spec/key.md` §2.8 is normative. Which rule would join two
requests is found in `core/noise.py`.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_cache_magic.core.json_paths import read_path, spelled_path
from genai_cache_magic.core.patterns import read_pattern
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest

if TYPE_CHECKING:
    from genai_cache_magic.core.json_paths import Step
    from genai_cache_magic.core.model import JsonObject, JsonValue, Request

NOTHING: Final = "none"
"""Written among rules, it takes back those that were set further out."""

OWN: Final = "re:"
"""How an own regular expression begins."""

MAX_RULES: Final = 32

_WINDOW_STEPS: Final = 1 << 18
"""What is searched between two looks at the clock costs no more [steps of the matcher]."""

_WINDOW: Final = 8192
"""The same for shipped rules, which cost little wherever they look [characters]."""

OPEN, _CLOSE = "\N{MATHEMATICAL LEFT ANGLE BRACKET}", "\N{MATHEMATICAL RIGHT ANGLE BRACKET}"
_HOME_OF_TEMP: Final = (
    r"(?:/private)?/var/folders/[0-9A-Za-z_+]{1,32}/[0-9A-Za-z_+]{1,64}/[TC]"
    r"|[A-Za-z]:(?:\\{1,4}|/)(?:[^\\/:*?\"<>|\n]{1,64}(?:\\{1,4}|/)){1,6}Temp"
)


class Shipped(NamedTuple):
    """A rule that comes with the package. A change of what it finds is a new `version`, which is part of the key.

    Attributes
    ----------
    width
        Length of the longest match [characters].
    hints
        Texts of which one is part of every match: where none is, nothing is searched.
    """

    version: int
    pattern: str
    width: int
    about: str
    hints: tuple[str, ...]


SHIPPED: Final = {
    "ipykernel": Shipped(
        1,
        r"ipykernel_[0-9]{1,10}(?:(?:\\{1,4}|/)[0-9]{1,20}\.py)?"
        r"|ipython-input-[0-9]{1,9}-[0-9a-f]{6,40}"
        r"|\b(?:In|Out) ?\[[0-9]{1,9}\]",
        80,
        "files and execution counts of a kernel: ipykernel_12345/678.py, In [12]",
        ("ipykernel_", "ipython-input-", "In[", "In [", "Out[", "Out ["),
    ),
    "iso-time": Shipped(
        1,
        r"(?<![0-9])[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
        r"(?: ?(?:Z|UTC|[+-][0-9]{2}:?[0-9]{2}))?(?![0-9])"
        r"|(?<![0-9])[0-9]{8}T[0-9]{6}(?:[.,][0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?(?![0-9])",
        48,
        "a day with its time: 2026-05-31T09:30:00.123+02:00",
        tuple(f"{sign}{digit}" for sign in "T " for digit in range(10)),
    ),
    "memory-address": Shipped(
        1,
        r"(?<=\bat )0[xX][0-9A-Fa-f]{4,16}(?![0-9A-Za-z_])|(?<![0-9A-Za-z_])0[xX][0-9A-Fa-f]{9,16}(?![0-9A-Za-z_])",
        18,
        "where an object lies: <Frame object at 0x7f3a5c0b1d90>",
        ("0x", "0X"),
    ),
    "temp-path": Shipped(
        1,
        rf"(?<![0-9A-Za-z_.~-])(?:(?:/private)?/(?:var/)?tmp|/dev/shm|(?P<own>{_HOME_OF_TEMP}))"
        r"(?:(?:\\{1,4}|/)(?:tmp[a-z0-9_]{8}(?![0-9A-Za-z_])|tmp\.[0-9A-Za-z]{6,12}(?![0-9A-Za-z_])"
        r"|pytest-of-[0-9A-Za-z_.-]{1,64}(?:\\{1,4}|/)pytest-(?:[0-9]{1,6}|current)(?![0-9A-Za-z_]))|(?(own)|(?!)))",
        1024,
        "names that are made up for temporary files: /tmp/tmpk3j9x_2q",
        ("tmp", "shm", "/var/folders/", "Temp"),
    ),
    "uuid": Shipped(
        1,
        r"(?<![0-9A-Fa-f])[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}(?![0-9A-Fa-f])",
        36,
        "random ids: 6fa459ea-ee8a-4ca4-894e-db77e160355e",
        ("-",),
    ),
}
"""The rules that have names."""

_HANDLES: Final = frozenset(
    ("cachedContent", "cached_content", "container", "conversation", "id", "role", "type", "uri", "url")
)
_HANDLE_ENDS: Final = ("_id", "Id", "_ids", "Ids", "_uri", "Uri", "_url", "Url")
_ASKED: Final = frozenset(
    {"contents", "file", "input", "inputs", "instances", "instructions", "messages", "prompt", "query", "requests"}
    | {"system", "systemInstruction", "system_instruction", "texts", "tools"}
)
_CARRIERS: Final = frozenset(("content", "input", "input_text", "parts", "text"))
_ORDINARY: Final = "The quick brown fox jumps over the lazy dog; what did it see, and why?"


@dataclass(frozen=True, slots=True)
class TextRule:
    """A rule about texts: what `regex` finds there is noise.

    Attributes
    ----------
    name
        What stands in marks.
    key
        What stands for the rule in keys.
    width
        Length of the longest match [characters].
    window
        How much is searched between two looks at the clock [characters].
    hints
        As of `Shipped`.
    """

    name: str
    key: str = field(repr=False)
    regex: re.Pattern[str] = field(repr=False)
    width: int
    window: int
    hints: tuple[str, ...] = field(repr=False, default=())

    def finds(self, text: str) -> bool:
        """Return whether there is any noise in `text`."""
        return self._may_find(text) and self.regex.search(text) is not None

    def _may_find(self, text: str) -> bool:
        return not self.hints or any(map(text.__contains__, self.hints))

    def spans(self, text: str, breathe: Callable[[TextRule], None]) -> list[tuple[int, int]]:
        """Return where noise stands in `text`, as one search of the whole would find it, `breathe` in between."""
        found: list[tuple[int, int]] = []
        breathe(self)
        at, end = 0, len(text) if self._may_find(text) else 0
        while at < end:
            edge = min(at + self.window, end)
            # No match that begins before the edge can see where this piece ends.
            for match in self.regex.finditer(text, at, min(edge + self.width + 1, end)):
                if match.start() >= edge:
                    break
                found.append(match.span())
            at = max(edge, found[-1][1] if found else 0)
            breathe(self)
        return found


class Rules:
    """Rules in force, sorted: what they find, and what stands for them in keys."""

    def __init__(self, texts: Iterable[TextRule], paths: Iterable[tuple[Step, ...]]) -> None:
        self.texts = tuple(sorted(texts, key=lambda rule: rule.key))
        self.paths = tuple(sorted(set(paths), key=spelled_path))
        self.keys = tuple(sorted([rule.key for rule in self.texts] + [spelled_path(path) for path in self.paths]))

    def masked(
        self, body: JsonObject, kept: Iterable[str] = (), *, breathe: Callable[[TextRule], None] = lambda _: None
    ) -> JsonObject:
        """Return `body` with marks in the place of noise; it shares with `body` what it leaves as it is.

        Parameters
        ----------
        kept
            JSON pointers (RFC 6901) to what no rule about texts changes: digests, and ids that origins gave out.
        breathe
            Is called with a rule now and then, while that rule is at work; what it raises ends the work.
        """
        protected: dict[Any, Any] = {}
        for pointer in kept:
            place = protected
            for step in pointer.split("/")[1:]:
                place = place.setdefault(step.replace("~1", "/").replace("~0", "~"), {})
            place[None] = True
        walk = _Walk(self.texts, breathe)
        return {
            name: walk.value(value, _below(self.paths, name), protected.get(name), is_handle=_is_handle(name))
            for name, value in body.items()
        }


@dataclass(frozen=True, slots=True, repr=False)
class _Walk:
    """One walk through a body."""

    texts: tuple[TextRule, ...]
    breathe: Callable[[TextRule], None]

    def value(
        self, value: JsonValue, paths: tuple[tuple[Step, ...], ...], kept: Any, *, is_handle: bool = False
    ) -> JsonValue:
        if () in paths:
            return f"{OPEN}path{_CLOSE}"
        if type(value) is str:
            return value if is_handle or (kept and None in kept) else self.text(value)
        if type(value) is list:
            return [
                self.value(item, _below(paths, i), kept and kept.get(str(i)), is_handle=is_handle)
                for i, item in enumerate(value)
            ]
        if type(value) is dict:
            return {
                name: self.value(item, _below(paths, name), kept and kept.get(name), is_handle=_is_handle(name))
                for name, item in value.items()
            }
        return value

    def text(self, text: str) -> str:
        found = [(start, end, n) for n, rule in enumerate(self.texts) for start, end in rule.spans(text, self.breathe)]
        if not found:
            return _escaped(text)
        out: list[str] = []
        at = 0
        for start, end, rules in _merged(sorted(found)):
            named = "+".join(self.texts[n].name for n in rules)
            out += (_escaped(text[at:start]), OPEN, named, _CLOSE)
            at = end
        out.append(_escaped(text[at:]))
        return "".join(out)


def checked_rules(given: object) -> tuple[str, ...]:
    """Return rules as they are written, sorted and each once; ``none`` stays, for `combined`.

    Raises
    ------
    ConfigurationError
        It is no list of rules, or one of them is wrong; the message names it, and what to write.
    """
    if given is None:
        return ()
    if not isinstance(given, Iterable) or isinstance(given, bytes | dict):
        raise ConfigurationError(f"ignore={given!r} is no list of rules: write ignore=({next(iter(SHIPPED))!r},)")
    spelled: set[str] = set()
    for text in (given,) if isinstance(given, str) else given:
        if type(text) is not str:
            raise ConfigurationError(f"ignore: the rule {text!r} is no text: {_known()}")
        names = text.split(",")
        named = names if set(names) <= {*SHIPPED, NOTHING} else [text]
        spelled.update(_spelled(one) for one in named)
    if len(spelled) > MAX_RULES:
        raise ConfigurationError(f"ignore: {len(spelled)} rules are given: at most {MAX_RULES} are allowed")
    return tuple(sorted(spelled))


def combined(*layers: Iterable[str]) -> tuple[str, ...]:
    """Return the rules of all `layers`, the outermost first: each adds to those before, but for one with ``none``."""
    found: set[str] = set()
    for layer in map(set, layers):
        found = (set() if NOTHING in layer else found) | (layer - {NOTHING})
    return tuple(sorted(found))


def rule_names(keys: Iterable[str]) -> tuple[str, ...]:
    """Return rules as they are written, of which these are the spellings in keys."""
    return tuple(name if (name := key.partition("/")[0]) in SHIPPED else key for key in keys)


def in_words(texts: Iterable[str]) -> str:
    """Return rules for people and for saved files: shipped ones by name, own ones by their number."""
    given = list(texts)
    named = [text for text in given if text in SHIPPED]
    own = sum(text.startswith(OWN) for text in given)
    paths = len(given) - len(named) - own
    counted = [(own, "own pattern"), (paths, "JSON path")]
    return ", ".join([*named, *(f"{n} {what}{'s' * (n > 1)}" for n, what in counted if n)])


@functools.lru_cache(maxsize=64)
def rules_of(texts: tuple[str, ...]) -> Rules:
    """Return the rules that `checked_rules` has passed, ready for use."""
    own = sorted(text for text in texts if text.startswith(OWN))
    return Rules(
        [_named(text) for text in texts if text in SHIPPED]
        + [_own(text, f"pattern-{n}") for n, text in enumerate(own, start=1)],
        [parsed_path(text) for text in texts if text.startswith("$")],
    )


def ignoring(
    request: Request, texts: tuple[str, ...], kept: Iterable[str] = (), *, is_late: Callable[[], bool] = lambda: False
) -> Request:
    """Return `request` as it is keyed where the rules `texts` are in force; itself if none are, or it is so already.

    Parameters
    ----------
    kept
        JSON pointers to ids in the body that no rule about texts may change, beside its media.
    is_late
        Tells whether this has taken too long.

    Raises
    ------
    UncacheableRequest
        It has. The call goes on uncached.
    """
    if not texts or request.rules:
        return request

    def breathe(rule: TextRule) -> None:
        if is_late():
            raise UncacheableRequest(
                f"the rule {rule.key.removeprefix(OWN)!r} of --ignore takes too long on a request of this size, so the "
                "call was sent uncached: give its repeats ends, or leave the rule out"
            )

    rules = rules_of(texts)
    body = rules.masked(request.body, (*request.media, *kept), breathe=breathe)
    return replace(request, body=body, rules=rules.keys)


def parsed_path(text: str) -> tuple[Step, ...]:
    """Return the steps of a JSON path; raises ``ConfigurationError`` also where it leads to what is asked."""
    steps = read_path(text)
    if not steps or _is_asked(steps):
        raise ConfigurationError(
            f"ignore: the rule {text!r} leaves out what is asked, and all questions would get one answer: name a field "
            f"beside it, or write what is noise there as {OWN}PATTERN"
        )
    return steps


def _spelled(text: str) -> str:
    """Return one rule as it is spelled; raises ``ConfigurationError``, which names it."""
    if text in SHIPPED or text == NOTHING:
        return text
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise ConfigurationError(f"ignore: the rule {text!r} holds half a character: write it as UTF-8")
    if text.startswith("$"):
        return spelled_path(parsed_path(text))
    if text.startswith(OWN):
        _check_own(text)
        return text
    close = difflib.get_close_matches(text, [*SHIPPED, NOTHING], n=1)
    raise ConfigurationError(f"ignore: {text!r} is no rule: " + (f"did you mean {close[0]}?" if close else _known()))


def _check_own(text: str) -> None:
    rule = _own(text, "pattern")
    left = list(_ORDINARY)
    for start, end in rule.spans(_ORDINARY, lambda _: None):
        left[start:end] = " " * (end - start)
    if 2 * sum(map(str.isalpha, left)) < sum(map(str.isalpha, _ORDINARY)):
        raise ConfigurationError(
            f"ignore: the rule {text!r} leaves out most of an ordinary sentence, and different questions would get one "
            "answer: write what stands around the noise, too"
        )


@functools.lru_cache(maxsize=256)
def _own(text: str, name: str) -> TextRule:
    try:
        pattern = read_pattern(text.removeprefix(OWN))
    except ConfigurationError as exc:
        raise ConfigurationError(f"ignore: the rule {text!r} can't be used: {exc}") from exc
    window = max(1, _WINDOW_STEPS // pattern.steps)
    return TextRule(name, text, pattern.regex, pattern.width, window)


@functools.lru_cache(maxsize=256)
def _named(name: str) -> TextRule:
    rule = SHIPPED[name]
    return TextRule(name, f"{name}/{rule.version}", re.compile(rule.pattern), rule.width, _WINDOW, rule.hints)


def _known() -> str:
    return f"known are {', '.join(SHIPPED)}; own ones are written {OWN}PATTERN, JSON paths $.NAME"


def _is_asked(steps: Sequence[Step]) -> bool:
    """Return whether a path leads to all that is asked, or to all of a message."""
    first, *rest = steps
    return (first is None or first in _ASKED) and all(s is None or isinstance(s, int) or s in _CARRIERS for s in rest)


def _is_handle(name: str) -> bool:
    return name in _HANDLES or name.endswith(_HANDLE_ENDS)


def _below(paths: tuple[tuple[Step, ...], ...], step: str | int) -> tuple[tuple[Step, ...], ...]:
    return tuple(path[1:] for path in paths if path[0] is None or path[0] == step) if paths else ()


def _escaped(text: str) -> str:
    """Return `text` so that nothing in it can pose as a mark."""
    return text.replace(OPEN, OPEN + OPEN) if OPEN in text else text


def _merged(found: list[tuple[int, int, int]]) -> list[tuple[int, int, list[int]]]:
    """Return places that do not overlap, each with the rules that found it, in their order."""
    merged: list[tuple[int, int, list[int]]] = []
    for start, end, rule in found:
        if merged and start < merged[-1][1]:
            first, last, rules = merged[-1]
            merged[-1] = (first, max(last, end), sorted({*rules, rule}))
        else:
            merged.append((start, end, [rule]))
    return merged
