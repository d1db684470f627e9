"""What Tab offers in a line of the magic: options, their values, commands. Nothing is opened for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from IPython.core.completer import SimpleCompletion, context_matcher

from genai_cache_magic.core.ignoring import NOTHING, SHIPPED
from genai_cache_magic.core.options import Mode, Samples
from genai_cache_magic.core.policy import STORE_KINDS
from genai_cache_magic.jupyter.grammar import COMMANDS, option_strings
from genai_cache_magic.jupyter.transform import NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from IPython.core.completer import CompletionContext, SimpleMatcherResult

VALUES: Mapping[str, tuple[str, ...]] = {
    "--mode": tuple(Mode),
    "--samples": tuple(Samples),
    "--store": STORE_KINDS,
    "--ignore": (*SHIPPED, NOTHING),
    "--ttl": ("1h", "1d", "7d", "30d"),
    "--older-than": ("1d", "7d", "30d"),
}

_LINE = re.compile(rf"\s*(?P<escape>%%?){NAME}\s+(?P<rest>.*)")


def matcher(known: Mapping[str, Iterable[str]]) -> Any:
    """Return a matcher for IPython's completer that offers `known` values beside the fixed ones."""

    @context_matcher()  # type: ignore[untyped-decorator]
    def llm_cache_matcher(context: CompletionContext) -> SimpleMatcherResult:
        found = candidates(_magic_line(context), known)
        if found is None:
            return {"completions": []}
        fragment, words = found
        return {
            "completions": [SimpleCompletion(text=word, type="param") for word in words],
            "matched_fragment": fragment,
            "suppress": True,
            "ordered": True,
        }

    return llm_cache_matcher


def candidates(line: str, known: Mapping[str, Iterable[str]]) -> tuple[str, list[str]] | None:
    """Return the unfinished word at the end of `line` and what it may become; None if `line` is not ours."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    *before, fragment = re.split(r"\s+", match["rest"])
    command = "" if match["escape"] == "%%" else (before[0] if before else None)
    if command is None:
        return fragment, _beginning(fragment, COMMANDS)
    options = option_strings(command)
    if before and options.get(before[-1]):
        return fragment, _beginning(fragment, [*VALUES.get(before[-1], ()), *sorted(known.get(before[-1], ()))])
    return fragment, _beginning(fragment, options)


def _beginning(fragment: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(fragment)]


def _magic_line(context: CompletionContext) -> str:
    """Return the line up to the cursor, with the lines before it that it continues."""
    lines = context.full_text.split("\n")
    text, index = context.text_until_cursor, context.cursor_line
    while index > 0 and lines[index - 1].endswith("\\"):
        index -= 1
        text = f"{lines[index][:-1]} {text}"
    return text
