"""JSON paths of rules, as far as they lead to places and filter nothing: ``$.metadata.run``, ``$.messages[*].name``.

The notation is that of RFC 9535, without slices, descendants and expressions.
"""

from __future__ import annotations

import json
import re
from typing import Final, TypeAlias

from genai_cache_magic.errors import ConfigurationError

Step: TypeAlias = "str | int | None"
"""A step of a JSON path: a name, a place in a list, or None for every one."""

_STEP: Final = re.compile(
    r"\.([A-Za-z_][A-Za-z0-9_-]{0,199})|\.(\*)|\[(\*)\]|\[([0-9]{1,6})\]"
    r"|\[(?:'([^'\\]{1,200})'|(\"(?:[^\"\\]|\\.){1,200}\"))\]"
)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,199}")


def read_path(text: str) -> tuple[Step, ...]:
    """Return the steps of a JSON path: names, places, and None for ``*``.

    Raises
    ------
    ConfigurationError
        It is none that is known here.
    """
    steps: list[Step] = []
    at = 1
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None:
            raise ConfigurationError(
                f"ignore: the rule {text!r} is no JSON path at character {at + 1}: write it like $.metadata.run, "
                "$.messages[*].name or $['a name'], without filters"
            )
        steps.append(_step(found))
        at = found.end()
    return tuple(steps)


def _step(found: re.Match[str]) -> Step:
    name, _, _, place, quoted, spelled = found.groups()
    if place is not None:
        return int(place)
    try:
        return name or quoted or (None if spelled is None else str(json.loads(spelled)))
    except ValueError:
        raise ConfigurationError(f"ignore: {spelled} is no name in a JSON path: write it as JSON has it") from None


def spelled_path(steps: tuple[Step, ...]) -> str:
    """Return a JSON path in the one spelling that it has in keys."""
    return "$" + "".join(map(_spelled_step, steps))


def _spelled_step(step: Step) -> str:
    if step is None:
        return "[*]"
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if _PLAIN_NAME.fullmatch(step) else f"[{json.dumps(step, ensure_ascii=False)}]"
