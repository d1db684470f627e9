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
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from genai_cache_magic.vectors.guard_places import Places, persons, signs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
_RAISED = re.compile("[\u00b2\u00b3\u00b9\u2070-\u207b]+")
_FRACTION = re.compile("(?<=\\d)[\u00bc-\u00be\u2150-\u215e]")
_SOME = re.compile(r"\ba (few|little)\b", re.IGNORECASE)
_WITHOUT = re.compile(
    r"\b(?:other than|apart from|aside from|rather than|free of|far from)\b|\u306a\u3044|\u307e\u305b\u3093"
    r"|[\u4e0d\u6ca1\u6c92\u65e0\u7121\u672a\u975e\uc54a\uc5c6]|\u0e44\u0e21\u0e48"
)
"""Negations of more than a word, or of less."""
_POLITE = re.compile(
    r"(?:(?<![^.?!,;:\n])|(?<=[.?!,;:\n] ))(?:please )?(?:(?:can|could|would|will) you (?:please |kindly )?)?"
    r"(?:(?:tell|show|give|help|teach|let|explain|describe)(?: to)? (?:me|us)\b(?: know)?)?(?= \w)|\bthank you\b",
    re.IGNORECASE,
)
"""How a question may begin without another person in it."""
_DOES = re.compile(
    r"\b(who|what)\s+(?!(?:is|are|was|were|do|does|did|can|could|should|would|will|may|might|must|has|have|had)\b)(\w+)"
)
_DONE = re.compile(r"\b(who|what)\s+(?:do|does|did)\b")
_ROOT = 4
"""A word that is shorter without its ending or its beginning is another one."""
_QUOTED = re.compile(
    r"\"([^\"]*)\"|\u201c([^\u201c\u201d]*)\u201d|\u201e([^\u201c-\u201e]*)[\u201c\u201d]|\u00ab([^\u00ab\u00bb]*)\u00bb"
    r"|\u2018([^\u2019]*)\u2019|(?<!\w)'([^']+)'(?!\w)|\u300c([^\u300d]*)\u300d|`+([^`]*)`+"
)
# Each piece begins where a word does, and so is tried once for a word, however long that is.
_CODE = re.compile(
    r"(?<![\w-])-{1,2}[^\W\d_][\w-]*"
    r"|https?://\S+|(?<![^\s@])[^\s@]+@[^\s@]+\.\w+|(?<!\w)(?:\w*[a-z][A-Z]\w*|\w+_\w+|\w+\([^)\n]{0,200}\))"
    r"|(?<![\w.-])[\w.-]*[/\\][\w./\\-]+|(?<!\w)(?:\w+\.\w+(?:\.\w+)*|\.[^\W\d_]\w*)"
    r"|[<>=!+*/%^&|~#@$\\{}\[\];:]+|\b[A-Z]{2,}\b|(?<!\w)[^\W\d]*\d\w*?[a-zA-Z]\w*"
)
_NUMBER = re.compile(r"[-\u2212]?\d+(?:[.,:/]\d+)*")
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[%$\u20ac\u00a3\u00a5\u20b9\u00b0]")
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
    persons: dict[str, str]
    alike: dict[str, str]
    weak: frozenset[str]
    loose: frozenset[str]
    turning: frozenset[str]
    conditions: frozenset[str]
    cased: frozenset[str]
    endings: dict[str, frozenset[str]]
    opposites: list[frozenset[str]]
    either: list[frozenset[str]]
    languages: dict[str, frozenset[str]]


@functools.cache
def _known() -> _Known:
    text = files(__package__).joinpath("guard_words.toml").read_text(encoding="utf-8")
    data: dict[str, Any] = tomllib.loads(_normal(text))  # as texts are compared, or a word would never be met

    def first_of(name: str) -> dict[str, str]:
        return {word: line.split()[0] for line in data[name].splitlines() for word in line.split()}

    weak = frozenset(["", *data["free"].split(), *data["prepositions"].split()])
    return _Known(
        weak=weak,
        loose=weak.union(first_of("persons"), data["asking"].split()) - {""},
        **{
            name: frozenset(data[name].split())
            for name in ("numbers", "dates", "negations", "prefixes", "names", "free", "conditions", "cased", "turning")
        },
        units=first_of("units"),
        synonyms=first_of("synonyms"),
        tenses=first_of("tenses"),
        persons=first_of("persons"),
        alike=first_of("alike"),
        endings={first: frozenset(others.split()) for first, others in data["endings"].items()},
        opposites=[frozenset(line.split()) for line in data["opposites"].splitlines()],
        either=[frozenset(line.split()) for line in data["either"].splitlines()],
        languages={name: frozenset(words.split()) for name, words in data["languages"].items()},
    )


def differs(one: str, other: str) -> str | None:
    """Return in a few words why two texts may not share an answer; None if nothing speaks against it."""
    if one == other:
        return None
    if max(len(one), len(other)) > MAX_CHARACTERS:
        return f"longer than {MAX_CHARACTERS:,} characters"
    one, other = _normal(one), _normal(other)
    if max(len(one), len(other)) > 2 * MAX_CHARACTERS:
        return "characters that stand for many"
    for what, read in _ASPECTS:
        if read(one) != read(other):
            return what
    tenses = _tenses(one), _tenses(other)
    if all(tenses) and tenses[0] != tenses[1]:
        return "another time"
    return _changed_names(one, other) or _changed_words(one, other) or _changed_places(one, other)


def _normal(text: str) -> str:
    """Return a text with one spelling of each character; 2\u00b2 is not 22, and 1\u00bd not 11/2."""
    text = _RAISED.sub(lambda found: f"^{found.group()}", text)
    text = _SOME.sub(r"some\1", text)  # a few are some, and few are hardly any
    text = _FRACTION.sub(lambda found: f" {found.group()}", text)
    return unicodedata.normalize("NFKC", text).replace("\u2044", "/")


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
    negated = sum(word in _known().negations or word.endswith(_CONTRACTED) for word in _words(text))
    return negated + len(_WITHOUT.findall(text.casefold()))


def _conditions(text: str) -> frozenset[str]:
    return _known().conditions.intersection(_words(text))


def _letters(text: str) -> Counter[str]:
    """Return what is called by a letter: plan b, hepatitis c; a and i are words."""
    return Counter(
        word for word in _words(text) if len(word) == 1 and word.isascii() and word.isalpha() and word not in "ai"
    )


def _signs(text: str) -> list[tuple[str, str, str]]:
    return signs(_QUOTED.sub(" ", text))


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
    ("another condition", _conditions),
    ("other signs", _signs),
    ("another letter", _letters),
    ("another script", _scripts),
)


def _changed_names(one: str, other: str) -> str | None:
    """Names are those with a capital inside a sentence, and those that are known; both texts have them in one order."""
    words = set(_words(one)), set(_words(other))
    for text, theirs in ((one, words[1]), (other, words[0])):
        if any(name not in theirs for name in _capitalised(text)):
            return "other names"
    if _cased(one) and _cased(other) and _cased(one) != _cased(other):
        return "other names"
    names = _known().names.union(_capitalised(one), _capitalised(other))
    if [w for w in _words(one) if w in names] != [w for w in _words(other) if w in names]:
        return "other names"
    languages = {_language(one), _language(other)} - {""}
    return "another language" if len(languages) > 1 else None


def _cased(text: str) -> set[str]:
    """Return those words inside sentences that are another one with a capital, as they are written: polish, May."""
    return {word for word, is_first in _placed(text) if not is_first and word.casefold() in _known().cased}


def _capitalised(text: str) -> list[str]:
    return [word.casefold() for word, is_first in _placed(text) if word[0].isupper() and word != "I" and not is_first]


def _placed(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each word, and whether a sentence begins with it."""
    for match in _WORD.finditer(text):
        before = text[: match.start()]
        said = before.rstrip()
        yield match.group(), not said or said[-1] in ".!?:" or "\n" in before[len(said) :]


def _changed_words(one: str, other: str) -> str | None:
    """Compare what is left: ordinary words, without their endings."""
    if _are_opposites(one, other):
        return "words of opposite meaning"
    ours, theirs = _content(one), _content(other)
    removed, added = Counter(ours) - Counter(theirs), Counter(theirs) - Counter(ours)
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
    """Tell whether a word turns the meaning: by itself, by its beginning or ending, or that of the word beside it."""
    if any(a and b and a != b for a, b in zip(_opposites(one), _opposites(other), strict=True)):
        return True
    words = set(_words(one)), set(_words(other))
    if any(words[0] & group and words[1] & group and not words[0] & words[1] & group for group in _known().either):
        return True
    ours, theirs = words[0] - words[1], words[1] - words[0]
    begun, ended = (_begun(ours), _begun(theirs)), (_ended(ours), _ended(theirs))
    return (
        any(begun[0][root] != begun[1][root] for root in begun[0].keys() & begun[1].keys())
        or any(_turn(ended[0][root], ended[1][root]) for root in ended[0].keys() & ended[1].keys())
        or _is_turning(one, other)
        or _is_turning(other, one)
    )


def _turn(ours: set[str], theirs: set[str]) -> bool:
    """Tell whether an ending turns a word that has another of these."""
    known = _known().endings
    return any(b in known.get(a, ()) or a in known.get(b, ()) for a in ours for b in theirs)


def _is_turning(one: str, other: str) -> bool:
    """Tell whether a word of both is something else in one of them: gluten, and gluten free."""
    ours, theirs = _words(one), set(_words(other))
    pairs = (pair for two in pairwise(ours) for pair in (two, two[::-1]))
    return any(word in _known().turning and word not in theirs and beside in theirs for word, beside in pairs)


def _begun(words: set[str]) -> dict[str, set[str]]:
    """Return of each root with what words of these it begins."""
    found: dict[str, set[str]] = {}
    for word in map(_stem, words):
        for beginning in ("", *_known().prefixes):
            if word.startswith(beginning) and len(word) - len(beginning) >= _ROOT:
                found.setdefault(word.removeprefix(beginning), set()).add(beginning)
    return found


def _ended(words: set[str]) -> dict[str, set[str]]:
    """Return of each root with what words of these it ends."""
    endings = {ending for pair in _known().endings.items() for ending in (pair[0], *pair[1])}
    found: dict[str, set[str]] = {}
    for word in (word if word.endswith("ss") else word.removesuffix("s") for word in words):
        for ending in endings:
            if word.endswith(ending) and len(word) - len(ending) >= _ROOT - 1:
                found.setdefault(word.removesuffix(ending), set()).add(ending)
    return found


def _changed_places(one: str, other: str) -> str | None:
    """Compare of whom is spoken, who does something to whom, and what stands between the same words."""
    one, other = _POLITE.sub(" ", one), _POLITE.sub(" ", other)
    ours, theirs = (persons(_words(text), _known().persons) for text in (one, other))
    content = [Counter(word for word in _content(text) if word not in _known().persons) for text in (one, other)]
    is_put_otherwise = bool(content[0] - content[1] and content[1] - content[0])
    if ours and theirs and ours != theirs and not is_put_otherwise:
        return "another person"
    if _is_turned(one.casefold(), other.casefold()) or _is_turned(other.casefold(), one.casefold()):
        return "another order of words"
    places = Places(_words, _plain, _known().loose, _known().alike, _known().weak)
    return "a word was changed" if places.changed(one, other) else None


def _is_turned(one: str, other: str) -> bool:
    """Tell whether one text asks who does what, and the other to whom it is done: who owns it, who does it own."""
    asked = _DONE.findall(other)
    done = {word.removesuffix("s") for word in _words(other)}
    return any(
        who in asked and word not in _known().free and (who == "who" or word.removesuffix("s") in done)
        for who, word in _DOES.findall(one)
    )


def _content(text: str) -> list[str]:
    return [_plain(word) for word in _words(text) if word not in _known().free]


def _plain(word: str) -> str:
    """Return the word that stands for this one and others like it, without its ending."""
    return _stem(_known().synonyms.get(word, word))


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
