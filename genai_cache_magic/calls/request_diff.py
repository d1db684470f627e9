"""In what two requests differ, as a few short lines for people to read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.json_paths import spelled_path
from genai_cache_magic.core.masking import without_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.json_paths import Step
    from genai_cache_magic.core.model import JsonValue, Request

MOST_PLACES: Final = 4
_WIDTH: Final = 88
_BEFORE: Final = 24
_ABSENT: Final = object()
_MORE: Final = "..."
_PLAIN: Final = (bool, int, float, type(None))
_FIELDS: Final = ("model", "origin", "api_version", "form", "headers", "ignored", "rules", "via")


def diff_of(near: Request, own: Request) -> tuple[str, ...]:
    """Return how `own` differs from `near`: of each place its name, and what stands there in either.

    SECURITY: it holds words of prompts: never to be saved unasked.
    """
    lines: list[str] = []
    for place, *values in _some(near, own):
        before, after = map(_masked, values)  # before they are cut, which hides what they are
        at = _begin(before, after)
        lines.append(place)
        lines += [
            f"{sign} {_short(value, at)}" for sign, value in (("-", before), ("+", after)) if value is not _ABSENT
        ]
    return tuple(lines)


def outline_of(near: Request, own: Request) -> tuple[str, ...]:
    """Return the same, a line each, without any word of a prompt: where texts part, and numbers and switches."""
    return tuple(
        place if place == _MORE else f"{place}: {_outlined(before, after)}" for place, before, after in _some(near, own)
    )


def diff_of_previews(near: str, own: str) -> tuple[str, ...]:
    """Return how the beginnings of two prompts differ, where no more is known of them; with words, as `diff_of`."""
    if near == own or not (near and own):
        return ()
    before, after = _masked(near), _masked(own)
    at = _begin(before, after)
    return (f"- {_short(before, at)}", f"+ {_short(after, at)}")


def outline_of_previews(near: str, own: str) -> tuple[str, ...]:
    """Return the same without words."""
    return () if near == own or not (near and own) else (f"the beginning of the prompt: {_outlined(near, own)}",)


def _some(near: Request, own: Request) -> list[tuple[str, object, object]]:
    """Return the first places that differ, and as the last one that there are more."""
    found = list(islice(_places(near, own), MOST_PLACES + 1))
    return [*found[:MOST_PLACES], (_MORE, _ABSENT, _ABSENT)] if len(found) > MOST_PLACES else found


def _outlined(before: object, after: object) -> str:
    if before is _ABSENT or after is _ABSENT:
        return "differs" if before is after else "was not there" if before is _ABSENT else "is not there any more"
    if isinstance(before, str) and isinstance(after, str):
        same = _same(before, after)
        behind = _same(before[same:][::-1], after[same:][::-1])
        longer = max(len(before), len(after))
        parted = longer - same - behind
        differ = (
            f"{parted:,} character of {longer:,} differs"
            if parted == 1
            else f"{parted:,} characters of {longer:,} differ"
        )
        return f"{differ}, from character {same + 1:,} on"
    if isinstance(before, _PLAIN) and isinstance(after, _PLAIN):
        return f"{dumps(before).decode()}, now {dumps(after).decode()}"
    return "differs"


def _places(near: Request, own: Request) -> Iterator[tuple[str, object, object]]:
    for name in _FIELDS:
        before, after = getattr(near, name), getattr(own, name)
        if before != after:
            # SECURITY: what a header or a route holds may be a credential's digest, or name this machine.
            is_named = name in {"model", "api_version", "form", "rules", "ignored"}
            yield (name, before, after) if is_named else (name, _ABSENT, _ABSENT)
    yield from _below(near.body, own.body, ())


def _below(one: JsonValue, other: JsonValue, at: tuple[Step, ...]) -> Iterator[tuple[str, object, object]]:
    if type(one) is dict and type(other) is dict:
        for name in sorted(one.keys() | other.keys()):
            if name in one and name in other:
                yield from _below(one[name], other[name], (*at, name))
            else:
                yield _name((*at, name)), one.get(name, _ABSENT), other.get(name, _ABSENT)
    elif type(one) is list and type(other) is list:
        for n, (inner, theirs) in enumerate(zip(one, other, strict=False)):
            yield from _below(inner, theirs, (*at, n))
        yield from ((_name((*at, n)), one[n], _ABSENT) for n in range(len(other), len(one)))
        yield from ((_name((*at, n)), _ABSENT, other[n]) for n in range(len(one), len(other)))
    elif dumps(one) != dumps(other):
        yield _name(at), one, other


def _name(at: Iterable[Step]) -> str:
    return f"body{spelled_path(tuple(at))[1:]}"


def _begin(before: object, after: object) -> int:
    """Return from where on two texts are worth showing."""
    if not (isinstance(before, str) and isinstance(after, str)) or max(len(before), len(after)) <= _WIDTH:
        return 0
    return max(0, _same(before, after) - _BEFORE)


def _same(before: str, after: str) -> int:
    """Return how long the beginning is that two texts have in common [characters]."""
    parting = (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    return next(parting, min(len(before), len(after)))


def _masked(value: object) -> object:
    return without_credentials(value) if isinstance(value, str) else value


def _short(value: object, at: int) -> str:
    text = value if isinstance(value, str) else dumps(value).decode()
    shown = "".join(sign if sign.isprintable() else " " for sign in text[at : at + _WIDTH])
    return f"{'…' if at else ''}{shown}{'…' if at + _WIDTH < len(text) else ''}"
