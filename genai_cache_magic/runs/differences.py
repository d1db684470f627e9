"""What tells one request from another, in the words of its parts; never what is in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.runs.lines import RecordedCall

_SHOWN = 5


def differing_parts(one: JsonObject, other: JsonObject) -> tuple[str, ...]:
    """Return the parts in which two requests differ, such as ``body.messages[3]``."""
    mine, theirs = _parts(one), _parts(other)
    return tuple(sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name)))


def nearest(form: JsonObject, calls: Iterable[RecordedCall]) -> tuple[str, ...] | None:
    """Return in which parts the nearest recorded request of the same kind differs; None if there is none."""
    found = [
        differing_parts(form, call.request)
        for call in calls
        if call.request is not None and call.surface == form["surface"]
    ]
    return min(found, key=len, default=None)


def in_words(differs: tuple[str, ...] | None) -> str:
    """Return the end of a sentence that says in what the nearest one differs."""
    if not differs:
        return ""
    more = ", ..." if len(differs) > _SHOWN else ""
    return f": the nearest call there differs in {', '.join(differs[:_SHOWN])}{more}"


def _parts(form: JsonObject) -> dict[str, JsonValue]:
    parts = {name: value for name, value in form.items() if name != "body"}
    body = form.get("body")
    if type(body) is not dict:
        return {**parts, "body": body}
    for name, value in body.items():
        if type(value) is list and value and all(type(item) is dict for item in value):
            parts |= {f"body.{name}[{n}]": item for n, item in enumerate(value)}
        else:
            parts[f"body.{name}"] = value
    return parts
