"""In what two requests differ, as a few short lines for people to read."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.ignoring import spelled_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.ignoring import Step
    from genai_cache_magic.core.model import JsonValue, Request

MOST_PLACES: Final = 4
_WIDTH: Final = 88
_BEFORE: Final = 24
_ABSENT: Final = object()
_FIELDS: Final = ("model", "origin", "api_version", "form", "headers", "ignored", "rules", "via")


def diff_of(near: Request, own: Request) -> tuple[str, ...]:
    """Return how `own` differs from `near`: of each place its name, and what stands there in either."""
    lines: list[str] = []
    for place, before, after in islice(_places(near, own), MOST_PLACES + 1):
        if len(lines) >= 3 * MOST_PLACES:
            return (*lines, "...")
        lines.append(place)
        at = _begin(before, after)
        lines += [
            f"{sign} {_short(value, at)}" for sign, value in (("-", before), ("+", after)) if value is not _ABSENT
        ]
    return tuple(lines)


def diff_of_previews(near: str, own: str) -> tuple[str, ...]:
    """Return how the beginnings of two prompts differ, where no more is known of them."""
    if near == own or not (near and own):
        return ()
    at = _begin(near, own)
    return (f"- {_short(near, at)}", f"+ {_short(own, at)}")


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
    same = next(
        (n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    return max(0, same - _BEFORE)


def _short(value: object, at: int) -> str:
    text = value if isinstance(value, str) else dumps(value).decode()
    shown = "".join(sign if sign.isprintable() else " " for sign in text[at : at + _WIDTH])
    return f"{'…' if at else ''}{shown}{'…' if at + _WIDTH < len(text) else ''}"
