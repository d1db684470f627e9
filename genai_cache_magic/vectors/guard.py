"""Whether two texts that look alike may share an answer: pure, and careful rather than kind.

Similarity alone is not safe. An embedding puts "is it safe" and "is it not safe" closer together than two ways to ask
the same, so whatever turns a meaning is compared as such: numbers, dates, units, negations, names, quoted and coded
text, languages, and words of which another of their kind would say something else (`guard_words.toml`). What is left
are texts that differ in ordinary words. If these are few, and all else stands in its place, somebody has changed a word
on purpose; if they are many, somebody has put it in other words.

A wrong "no" costs one call of the model, a wrong "yes" is an answer to another question.
"""

from __future__ import annotations

import functools
import re
import tomllib
import unicodedata
from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_CHARACTERS = 4_000
"""Of longer texts nobody says that they mean the same: one word among thousands can decide."""
_LONG = 4
"""A unit of fewer letters is one only after a number: `in`, `a`, `min`."""
_SIGNS = frozenset("%$\u20ac\u00a3\u00a5\u20b9")
_SURE = 2
"""By how many of its commonest words a language has to be ahead of the next."""
_OTHER_WORDS = 0.6
"""Where so much of the ordinary words is shared, a word that differs was changed on purpose."""

_CONTRACTED = ("n't", "n\u2019t")
"""The end of an English negation."""
_MINUS = "\u2212"
_QUOTED = re.compile(
    r"\"([^\"]*)\"|\u201c([^\u201d]*)\u201d|\u201e([^\u201c\u201d]*)[\u201c\u201d]|\u00ab([^\u00bb]*)\u00bb"
    r"|\u2018([^\u2019]*)\u2019|(?<!\w)'([^']+)'(?!\w)|\u300c([^\u300d]*)\u300d|`+([^`]*)`+"
)
_CODE = re.compile(
    r"(?<![\w-])-{1,2}[^\W\d_][\w-]*"
    r"|https?://\S+|\S+@\S+\.\w+|\w*[a-z][A-Z]\w*|\w+(?:_\w+)+|\w+\(.*?\)|[\w.-]*[/\\][\w./\\-]+|\w+\.\w+(?:\.\w+)*"
    r"|[<>=!+*/%^&|~#@$\\{}\[\];:]+|\b[A-Z]{2,}\b|\b\w*\d\w*[a-zA-Z]\w*\b"
)
_NUMBER = re.compile(r"[-\u2212]?\d+(?:[.,:/]\d+)*")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[%$\u20ac\u00a3\u00a5\u20b9\u00b0]")
_SENTENCE_END = re.compile(r"[.!?:\n]\s*$")
_SCRIPTS = (
    "LATIN",
    "CYRILLIC",
    "GREEK",
    "ARABIC",
    "HEBREW",
    "DEVANAGARI",
    "THAI",
    "HANGUL",
    "HIRAGANA",
    "KATAKANA",
    "CJK",
)


@dataclass(frozen=True, slots=True, repr=False)
class _Known:
    """The words of `guard_words.toml`; a dictionary names of each word the one that stands for its line."""

    numbers: frozenset[str]
    dates: frozenset[str]
    negations: frozenset[str]
    prefixes: frozenset[str]
    names: frozenset[str]
    free: frozenset[str]
    units: dict[str, str]
    synonyms: dict[str, str]
    tenses: dict[str, str]
    opposites: list[frozenset[str]]
    languages: dict[str, frozenset[str]]


@functools.cache
def _known() -> _Known:
    data: dict[str, Any] = tomllib.loads(files(__package__).joinpath("guard_words.toml").read_text(encoding="utf-8"))

    def first_of(name: str) -> dict[str, str]:
        return {word: line.split()[0] for line in data[name].splitlines() for word in line.split()}

    return _Known(
        **{
            name: frozenset(data[name].split())
            for name in ("numbers", "dates", "negations", "prefixes", "names", "free")
        },
        units=first_of("units"),
        synonyms=first_of("synonyms"),
        tenses=first_of("tenses"),
        opposites=[frozenset(line.split()) for line in data["opposites"].splitlines()],
        languages={name: frozenset(words.split()) for name, words in data["languages"].items()},
    )


def differs(one: str, other: str) -> str | None:
    """Return in a few words why two texts may not share an answer; None if nothing speaks against it."""
    if one == other:
        return None
    if max(len(one), len(other)) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS:,} characters"
    one, other = (unicodedata.normalize("NFKC", text) for text in (one, other))
    for what, read in _ASPECTS:
        if read(one) != read(other):
            return what
    tenses = _tenses(one), _tenses(other)
    if all(tenses) and tenses[0] != tenses[1]:
        return "another time"
    return _changed_names(one, other) or _changed_words(one, other)


def _quoted(text: str) -> list[str]:
    return ["".join(filter(None, groups)) for groups in _QUOTED.findall(text)]


def _coded(text: str) -> Counter[str]:
    return Counter(found.rstrip(".,;:!?") for found in _CODE.findall(_QUOTED.sub(" ", text)) if found.rstrip(".,;:!?"))


def _numbers(text: str) -> list[str]:
    written = [(found.start(), found.group().replace(_MINUS, "-")) for found in _NUMBER.finditer(text)]
    named = [(at, word) for at, word in _words_at(text) if word in _known().numbers]
    return [value for _, value in sorted(written + named)]


def _dates(text: str) -> list[str]:
    return [word for word in _words(text) if word in _known().dates]


def _units(text: str) -> list[str]:
    # A number and its unit may be written as one: 5km.
    words = _words(re.sub(r"(?<=\d)(?=[^\W\d_])", " ", text))
    return [
        _known().units[word]
        for before, word in zip(["", *words], words, strict=False)
        if word in _known().units
        and (len(word) >= _LONG or word in _SIGNS or before.isdigit() or before in _known().numbers)
    ]


def _negations(text: str) -> int:
    return sum(word in _known().negations or word.endswith(_CONTRACTED) for word in _words(text))


def _tenses(text: str) -> set[str]:
    """Return of what time a text speaks, as far as its auxiliary verbs say so."""
    known = _known().tenses
    words = [word.replace("\u2019", "'") for word in _words(text)]
    ends = ["'" + word.rpartition("'")[2] for word in words if "'" in word]
    return {known[word] for word in (*words, *ends, *(word.removesuffix("n't") for word in words)) if word in known}


def _scripts(text: str) -> set[str]:
    found = set()
    for letter in filter(str.isalpha, text):
        name = unicodedata.name(letter, "")
        found.add(next((script for script in _SCRIPTS if name.startswith(script)), "other"))
    return found


def _language(text: str) -> str:
    words = set(_words(text))
    hits = sorted(((len(words & common), language) for language, common in _known().languages.items()), reverse=True)
    return hits[0][1] if hits[0][0] >= hits[1][0] + _SURE else ""


_ASPECTS: tuple[tuple[str, Callable[[str], object]], ...] = (
    ("other quoted text", _quoted),
    ("other code or identifiers", _coded),
    ("other numbers", _numbers),
    ("other dates or times", _dates),
    ("other units", _units),
    ("a negation", _negations),
    ("another script", _scripts),
)


def _changed_names(one: str, other: str) -> str | None:
    """Names are those with a capital inside a sentence, and those that are known; both texts have them in one order."""
    words = set(_words(one)), set(_words(other))
    for text, theirs in ((one, words[1]), (other, words[0])):
        if any(name not in theirs for name in _capitalised(text)):
            return "other names"
    names = _known().names.union(_capitalised(one), _capitalised(other))
    if [w for w in _words(one) if w in names] != [w for w in _words(other) if w in names]:
        return "other names"
    languages = {_language(one), _language(other)} - {""}
    return "another language" if len(languages) > 1 else None


def _capitalised(text: str) -> list[str]:
    found = []
    for match in _WORD.finditer(text):
        word = match.group()
        is_first = match.start() == 0 or _SENTENCE_END.search(text[: match.start()]) is not None
        if word[0].isupper() and word != "I" and not is_first:
            found.append(word.casefold())
    return found


def _changed_words(one: str, other: str) -> str | None:
    """Compare what is left: ordinary words, without their endings."""
    if any(a and b and a != b for a, b in zip(_opposites(one), _opposites(other), strict=True)):
        return "words of opposite meaning"
    ours, theirs = _content(one), _content(other)
    removed, added = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
    for word in removed:
        if any(_are_opposites(word, another) for another in added):
            return "words of opposite meaning"
    if not removed and not added:
        return None if ours == theirs else "another order of words"
    counts = Counter(ours), Counter(theirs)
    common = counts[0] & counts[1]
    if not common:
        return "no word in common"
    # Whatever was said around them; of a word that is repeated nobody knows which one is which.
    once = {word for word in common if counts[0][word] == counts[1][word] == 1}
    if [word for word in ours if word in once] != [word for word in theirs if word in once]:
        return "another order of words"
    # Both among those that say something, and among all: of five words one is much, and four stand in their place.
    is_near = _shared(ours, theirs) >= _OTHER_WORDS
    is_swapped = bool(removed and added) and _shared(_words(one), _words(other)) >= _OTHER_WORDS
    is_one = removed.total() == added.total() == 1  # however few they are: all else stands in its place
    return "a word was changed" if is_one or is_near or is_swapped else None


def _shared(ours: Sequence[str], theirs: Sequence[str]) -> float:
    return (Counter(ours) & Counter(theirs)).total() / max(len(ours), len(theirs), 1)


def _opposites(text: str) -> list[Counter[str]]:
    words = Counter(_words(text))
    words["not"] += sum(count for word, count in words.items() if word.endswith(_CONTRACTED))
    return [Counter({word: words[word] for word in group if words[word]}) for group in _known().opposites]


def _are_opposites(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return long.endswith(short) and long.removesuffix(short) in _known().prefixes


def _content(text: str) -> list[str]:
    return [_stem(_known().synonyms.get(word, word)) for word in _words(text) if word not in _known().free]


def _stem(word: str) -> str:
    for ending in ("ings", "ing", "edly", "ied", "ies", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:  # noqa: PLR2004 - shorter ones are other words
            return word.removesuffix(ending)
    return word


def _words(text: str) -> Sequence[str]:
    return [word for _, word in _words_at(text)]


def _words_at(text: str) -> list[tuple[int, str]]:
    """Return the words in lower case, and where they stand; of scripts without spaces, each character."""
    found = []
    for match in _WORD.finditer(text):
        word = match.group().casefold()
        if any(_is_unspaced(letter) for letter in word):
            found += [(match.start() + place, letter) for place, letter in enumerate(word)]
        elif "-" in word:
            at = match.start()
            for part in word.split("-"):
                found.append((at, part))
                at += len(part) + 1
        else:
            found.append((match.start(), word))
    return found


def _is_unspaced(letter: str) -> bool:
    return "\u0e00" <= letter <= "\u0e7f" or "\u3040" <= letter <= "\u9fff"
