"""Which rules would join two requests: noise told from meaning, purely.

`joining` compares two requests that are at hand. Where one is long gone, `without_noise` has left the keys that it
would have had, and `joining_keys` compares those: so entries can be compared though nobody kept what was asked.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import canonical_bytes, dumps
from genai_cache_magic.core.ignoring import SHIPPED, ignoring, parsed_path, rules_of
from genai_cache_magic.core.json_paths import Step, spelled_path
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from genai_cache_magic.core.model import JsonObject, JsonValue, KeySpace, Request

MOST_CHARS: Final = 50_000
"""Requests with longer texts are not looked at for noise [characters]."""

_DIGITS: Final = 16
_MOST_AT_ONCE: Final = 2  # of rules that find noise in one request; beyond, single ones, pairs, and all together
_MOST_PLACES: Final = 3
_NOTES: Final = re.compile(
    r"(?i)(?:.*[_-])?(?:id|uuid|guid|nonce|session|trace|span|run|timestamp|created|created_at|time|request)"
    r"|.*(?:Id|ID|Uuid|At)"
)


def joining(one: JsonObject, other: JsonObject, rules: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the fewest rules under which two bodies are one; none if they are, or if more than noise differs.

    Parameters
    ----------
    rules
        Those that are in force already, and were applied to both.
    """
    if dumps(one) == dumps(other):
        return ()
    names = tuple(name for name in SHIPPED if name not in set(rules))
    found = _fewest(one, other, names)
    if found:
        return found
    masked = [rules_of(names).masked(body) for body in (one, other)]
    places = list(itertools.islice(_differing(masked[0], masked[1]), _MOST_PLACES + 1))
    paths = tuple(sorted(spelled_path(place) for place in places if _is_note(place)))
    if not paths or len(places) > min(len(paths), _MOST_PLACES):
        return ()
    return _fewest(one, other, (*names, *paths))


def without_noise(
    request: Request, space: KeySpace, entry_id: Callable[[bytes], str], kept: Iterable[str] = ()
) -> dict[str, str]:
    """Return the keys that `request` would have under shipped rules that find noise in it: most often none.

    Parameters
    ----------
    entry_id
        Returns the entry id of canonical bytes.
    kept
        As for `ignoring`.

    Returns
    -------
    dict
        Rules, with ``+`` between -> 16 hex digits, by which `joining_keys` compares.
    """
    try:
        texts = _texts(request.body)
        found = _finding(texts) if sum(map(len, texts)) <= MOST_CHARS else []
        if not found:
            return {}
        bare, kept = replace(request, rules=()), tuple(kept)
        keys: dict[str, str] = {}
        for names in _sets(found):
            masked = ignoring(bare, names, kept)
            keyed = replace(masked, rules=(*request.rules, *masked.rules))
            keys["+".join(names)] = entry_id(canonical_bytes(keyed, space))[:_DIGITS]
    except UncacheableRequest:
        return {}
    return keys


def length_of(body: JsonObject) -> int:
    """Return how long all texts of a body are together [characters]."""
    return sum(map(len, _texts(body)))


def joining_keys(one: Mapping[str, str], other: Mapping[str, str]) -> tuple[str, ...]:
    """Return the fewest rules under which two requests have one key, from what `without_noise` said of each."""
    joined = [names for names, key in one.items() if other.get(names) == key]
    return tuple(min(joined, key=lambda names: (names.count("+"), names)).split("+")) if joined else ()


def _fewest(one: JsonObject, other: JsonObject, rules: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of `rules` without which two bodies would differ; none if they differ under all of them."""

    def are_one(some: tuple[str, ...]) -> bool:
        here = rules_of(some)
        return dumps(here.masked(one)) == dumps(here.masked(other))

    if not are_one(rules):
        return ()
    left = rules
    for rule in rules:
        fewer = tuple(r for r in left if r != rule)
        if fewer and are_one(fewer):
            left = fewer
    return left


def _sets(found: list[str]) -> Iterable[tuple[str, ...]]:
    sizes = {*range(1, min(len(found), _MOST_AT_ONCE) + 1), len(found)} - {0}
    return itertools.chain.from_iterable(itertools.combinations(found, size) for size in sorted(sizes))


def _finding(texts: list[str]) -> list[str]:
    """Return the shipped rules that find anything in `texts`."""
    return [rule.name for rule in rules_of(tuple(SHIPPED)).texts if any(map(rule.finds, texts))]


def _texts(value: JsonValue) -> list[str]:
    """Return the texts of a body, in no particular order."""
    found: list[str] = []
    pending = [value]
    for one in pending:  # which grows meanwhile
        if type(one) is str:
            found.append(one)
        elif type(one) is dict:
            pending += one.values()
        elif type(one) is list:
            pending += one
    return found


def _is_note(place: tuple[Step, ...]) -> bool:
    """Return whether a field is named like a note about the call, and not part of what is asked."""
    try:
        parsed_path(spelled_path(place))
    except ConfigurationError:
        return False
    name = next((step for step in reversed(place) if isinstance(step, str)), "")
    return _NOTES.fullmatch(name) is not None


def _differing(one: JsonValue, other: JsonValue, at: tuple[Step, ...] = ()) -> Iterable[tuple[Step, ...]]:
    """Yield the places in which two bodies of the same shape differ; where shapes do, the place of that."""
    if type(one) is dict and type(other) is dict and one.keys() == other.keys():
        for name, inner in one.items():
            yield from _differing(inner, other[name], (*at, name))
    elif type(one) is list and type(other) is list and len(one) == len(other):
        for n, (inner, theirs) in enumerate(zip(one, other, strict=True)):
            yield from _differing(inner, theirs, (*at, n))
    elif dumps(one) != dumps(other):
        yield at
