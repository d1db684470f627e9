"""What a request asks for, read from its parameters: each wrong one is refused by a sentence that names it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.entries.listing.results import Listing
from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.core.key import TagKind

MAX_PAGE = 500
MAX_ENTRIES = 10_000
PREFIX_DIGITS = 16
_MAX_OFFSET = 2**31
_MAX_TEXT = 500
_MAX_NAME = 40
_HEX = frozenset("0123456789abcdef")

_KINDS: Mapping[str, TagKind] = {"tag": "user", "run": "run", "model": "model", "person": "person", "cell": "cell"}
"""How a request calls a kind of tag -> what we call it."""

_CHOSEN = ("entries", "tag", "run", "model", "person", "older_than", "pattern")
_PLACE = ("namespace", "store")
_ALSO = (*_PLACE, "dry_run", "cell")

TAKEN: Mapping[str, tuple[str, ...]] = {
    "health": _PLACE,
    "stats": _PLACE,
    "usage": (*_PLACE, "since", "until", "by"),
    "entries": (*_PLACE, "offset", "limit", "search", *_KINDS),
    "entry": _PLACE,
    "body": _PLACE,
    "config": (),
    "doctor": ("namespace",),
    "live": (*_PLACE, "entries"),
    "explain": (*_PLACE, "entry", "outcome", "reason"),
    "invalidate": (*_CHOSEN, *_ALSO),
}
"""Answer -> the parameters that it knows; one that is misspelt must not answer another question."""


@dataclass(frozen=True, slots=True)
class Place:
    """Whose cache is meant: by `namespace`, empty for the configured one, and by the fingerprint that it must have."""

    namespace: str = ""
    store: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing."""

    listing: Listing = field(repr=False)
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What is to be made invalid: `by` is one of ``entries``, a kind of tag, ``older_than`` or ``pattern``."""

    by: str
    value: str = field(repr=False)
    entries: tuple[str, ...] = field(repr=False)
    dry_run: bool
    cell: str = field(repr=False, default="")

    @property
    def kind(self) -> TagKind | None:
        """The kind of tag that it names, if it names one."""
        return _KINDS.get(self.by)


def check_names(answer: str, names: Iterable[str]) -> None:
    """Refuse a parameter that `answer` doesn't know."""
    for name in names:
        if name not in TAKEN[answer]:
            known = f"use one of {', '.join(TAKEN[answer])}" if TAKEN[answer] else "there are none here"
            raise ConfigurationError(f"{name[:_MAX_NAME]!r} is no parameter of {answer}: {known}")


def place_of(given: Mapping[str, Any]) -> Place:
    """Return whose cache a request means."""
    store = _text(given, "store")
    if store and (len(store) != PREFIX_DIGITS or not _HEX.issuperset(store)):
        raise ConfigurationError(
            "store is no fingerprint of a cache: it has 16 hex digits, as reports and /stats give it"
        )
    return Place(_text(given, "namespace"), store)


def page_of(given: Mapping[str, Any]) -> Page:
    """Return which page a request asks for."""
    tags = tuple((kind, value) for name, kind in _KINDS.items() if (value := _text(given, name)))
    listing = Listing(_text(given, "search"), tags)
    return Page(listing, _whole(given, "offset", 0, 0, _MAX_OFFSET), _whole(given, "limit", 50, 1, MAX_PAGE))


def selection_of(given: Mapping[str, Any]) -> Selection:
    """Return what a request wants to be made invalid. It is a dry run unless it says that it is none."""
    unknown = sorted(set(given) - {*_CHOSEN, *_ALSO})
    if unknown:
        raise ConfigurationError(f"{unknown[0]} is nothing that can be chosen by: use one of {', '.join(_CHOSEN)}")
    chosen = [name for name in _CHOSEN if given.get(name) is not None]
    if len(chosen) != 1:
        got = " and ".join(chosen) or "nothing"
        raise ConfigurationError(f"invalidate wants one of {', '.join(_CHOSEN)}, and got {got}")
    dry_run = given.get("dry_run", True)
    if not isinstance(dry_run, bool):
        raise ConfigurationError("dry_run is true (count, change nothing) or false")
    (by,) = chosen
    if by == "entries":
        return Selection(by, "", entries_of(given), dry_run, _text(given, "cell"))
    value = _text(given, by)
    if not value:
        raise ConfigurationError(f"{by} is empty: write what to choose by")
    return Selection(by, value, (), dry_run)


def entries_of(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the entries that a request names."""
    entries = given.get("entries")
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise ConfigurationError(f"entries is a list of at most {MAX_ENTRIES:,} beginnings of entry ids")
    return tuple(dict.fromkeys(prefix_of(entry) for entry in entries))


def prefix_of(entry: object) -> str:
    """Return the beginning of an entry's id."""
    if not isinstance(entry, str) or not PREFIX_DIGITS <= len(entry) <= 4 * PREFIX_DIGITS or not _HEX.issuperset(entry):
        raise ConfigurationError(f"an entry is named by the first {PREFIX_DIGITS} hex digits of its id")
    return entry


def _text(given: Mapping[str, Any], name: str) -> str:
    value = given.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise ConfigurationError(f"{name} is a text of at most {_MAX_TEXT} characters")
    return value


def _whole(given: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = given.get(name, default)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(most)):
        value = int(value)
    if type(value) is not int or not least <= value <= most:
        raise ConfigurationError(f"{name} is a whole number from {least:,} to {most:,}")
    return value
