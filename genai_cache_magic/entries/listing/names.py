"""Names of entries as they are shown, and as they are typed again."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import Final

SHOWN_DIGITS: Final = 12
"""Of an id of 64 hex digits: enough to tell a million of them apart."""

SHOWN_CHARS: Final = 80
"""Of a name: a key may be a whole prompt, and makes no table wider than that."""

_MARK: Final = "…"
_id = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_REST: Final = "[0-9a-f]" * (64 - SHOWN_DIGITS)
_cut = re.compile(rf"(?<![0-9a-f])([0-9a-f]{{{SHOWN_DIGITS}}}){_MARK}")


def short_name(name: str) -> str:
    """Return the start of `name`, and of each id in it, as of a key that `Cache.key_for` made, and a mark."""
    short = _id.sub(lambda found: f"{found[0][:SHOWN_DIGITS]}{_MARK}", name)
    return short if len(short) <= SHOWN_CHARS else f"{short[: SHOWN_CHARS - 1]}{_MARK}"


def fits(name: str, pattern: str) -> bool:
    """Return whether `name` matches a shell pattern, or is shown so: what `short_name` left of it stands for it all."""
    if fnmatchcase(name, pattern):
        return True
    # A name may have such a mark of its own: then it is nothing else that is meant.
    return _MARK in pattern and (short_name(name) == pattern or fnmatchcase(name, _cut.sub(rf"\1{_REST}", pattern)))
