"""Names of entries as they are shown, and as they are typed again."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

SHOWN_DIGITS: Final = 12
"""Of an id of 64 hex digits: enough to tell a million of them apart."""

_MARK: Final = "…"
_id = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_REST: Final = "[0-9a-f]" * (64 - SHOWN_DIGITS)
_cut = re.compile(rf"(?<![0-9a-f])([0-9a-f]{{{SHOWN_DIGITS}}}){_MARK}")


def short_name(name: str) -> str:
    """Return `name` with the start alone of each id in it, as of a key that `Cache.key_for` made, and a mark."""
    return _id.sub(lambda found: f"{found[0][:SHOWN_DIGITS]}{_MARK}", name)


def fits(name: str, pattern: str) -> bool:
    """Return whether `name` matches a shell pattern; what `short_name` left of an id stands for all of it."""
    # A name may have such a mark of its own: then it is nothing else that is meant.
    return fnmatchcase(name, pattern) or (_MARK in pattern and fnmatchcase(name, _cut.sub(rf"\1{_REST}", pattern)))
