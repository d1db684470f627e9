"""Explanations as people read them: a table, and below it what differs and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.jupyter.shown.report import Report, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genai_cache_magic.calls.explain import Explanation

_DIGITS: Final = 16
_MOST_LINES: Final = 40


def explained(title: str, found: Sequence[Explanation], *, shows_text: bool = False) -> Report:
    """Return a row for each call, its differences, with words of prompts only if `shows_text`, and each advice once."""
    rows = tuple(
        (str(one.number or ""), one.entry[:_DIGITS], one.model, one.reason, ", ".join(one.differs)) for one in found
    )
    notes: list[str] = []
    advice: dict[str, list[str]] = {}
    for one in found:
        lines = one.diff if shows_text else one.outline
        if lines and len(notes) < _MOST_LINES:
            name = f"call {one.number}" if one.number else f"call {one.entry}"
            notes += [f"{name} beside {one.nearest}:", *(f"  {line}" for line in lines)]
        if one.advice:
            advice.setdefault(one.advice, []).append(str(one.number or one.entry))
    notes += [f"call {', '.join(calls)}: {text}" for text, calls in advice.items()]
    return Report(title, Table(rows, ("call", "entry", "model", "why", "differs in")), tuple(notes))
