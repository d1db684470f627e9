"""From the text of a cell to the text that IPython runs: pure, so that it may be applied any number of times.

IPython hands the body of an ordinary cell magic over as a string, which loses top-level ``await``, line
numbers, and the display of the last expression. So only the magic's own line is replaced, by a call that
opens the scope when the cell runs; the body stays what it was, where it was.
"""

from __future__ import annotations

import ast
import inspect
import re
from typing import TYPE_CHECKING, NamedTuple

from genai_cache_magic.jupyter.arguments import asks_for_help

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "llm_cache"
BEGIN = "begin"
AWAIT_UNDER = "await-under"

HIDES_AWAIT = frozenset({"capture", "lprun", "memit", "prun", "time", "timeit"})
"""Cell magics that run their body as Python, in a way that top-level ``await`` doesn't survive."""

_CELL_MAGIC = re.compile(r"%%(?P<name>\S*[^\s?])(?=\s|$)[ \t]*(?P<line>.*)")


class CellMagic(NamedTuple):
    """A ``%%name line`` that opens a cell or stands below another such line.

    Attributes
    ----------
    start, end
        Indices of its first line and of the line after it; further apart where our own magic is continued.
    """

    name: str
    line: str
    start: int
    end: int

    def __repr__(self) -> str:
        return f"<CellMagic {self.name}>"


class CellTransform:
    """Replace ``%%llm_cache options`` at the head of a cell by the call that opens its scope.

    For IPython's `input_transformers_cleanup`. Stateless.
    """

    # IPython leaves such transformers out when it asks whether a cell is complete. Without this, a terminal
    # would see one finished line of Python after `%%llm_cache` and run it before the body is typed.
    has_side_effects = True

    def __call__(self, lines: list[str]) -> list[str]:
        """Return `lines` with the head replaced; every other line keeps its place and its text.

        IPython takes an interrupt of a transform for one of its own: no cell runs, and none ends. So it is the cell
        that is interrupted, as soon as it runs.
        """
        try:
            return self._replaced(lines)
        except KeyboardInterrupt:
            return ["raise KeyboardInterrupt\n"]

    def _replaced(self, lines: list[str]) -> list[str]:
        head = _cell_magic(lines, 0)
        if head is None:
            return lines
        if head.name == NAME:
            return _open_here(lines, head)
        return _check_outer(lines, head)


def _open_here(lines: list[str], head: CellMagic) -> list[str]:
    if asks_for_help(head.line):  # who asks what can be written has not written it yet: nothing runs, nothing is spent
        return [*lines[: head.start], _call("help") + "\n", *["\n"] * (len(lines) - head.start - 1)]
    calls = [_call(f"{BEGIN} {head.line}".rstrip())]
    hiding = _hides_await(lines, head)
    if hiding:
        calls.insert(0, _call(f"{AWAIT_UNDER} {hiding}"))
    result = [*lines[: head.start], "; ".join(calls) + "\n", *["\n"] * (head.end - head.start - 1)]
    inner = _cell_magic(lines, head.end)
    if inner is None:
        return [*result, *lines[head.end :]]
    # IPython looks for a cell magic in the first line only, so the one below is ours to spell out.
    return [*result, *lines[head.end : inner.start], _run_below(inner, lines)]


def _run_below(inner: CellMagic, lines: Sequence[str]) -> str:
    """Return what IPython makes of a cell magic: its body as a string."""
    body = "".join(lines[inner.end :])
    return f"get_ipython().run_cell_magic({inner.name!r}, {inner.line!r}, {body!r})\n"


def _check_outer(lines: list[str], head: CellMagic) -> list[str]:
    """Put the check for a hidden ``await`` before ``%%time`` and its like, where they stand above ours."""
    is_cell_magic = head.start == 0  # below a comment it is none for IPython, which will say so
    hiding = _hides_await(lines, head) if is_cell_magic and head.name in HIDES_AWAIT else ""
    if not hiding:
        return lines
    return [f"{_call(f'{AWAIT_UNDER} {hiding}')}; {_run_below(head, lines)}"]


def _hides_await(lines: Sequence[str], head: CellMagic) -> str:
    """Return the magic that hides top-level ``await`` from IPython below `head`, empty if none does."""
    names, end = [head.name], head.end
    while (below := _cell_magic(lines, end)) and below.name in HIDES_AWAIT | {NAME}:
        names.append(below.name)
        end = below.end
    if NAME not in names or names == [NAME] or not has_top_level_await(lines[end:]):
        return ""
    # `%%capture` is the mildest: a terminal, where no event loop is running, can do it.
    return next((name for name in names if name not in {NAME, "capture"}), "capture")


def has_top_level_await(lines: Sequence[str]) -> bool:
    """Whether `lines` can only run as a coroutine; IPython's own syntax is understood."""
    text = "".join(lines)
    if "await" not in text and "async" not in text:
        return False
    from IPython.core.inputtransformer2 import TransformerManager

    source = TransformerManager().transform_cell(text)  # type: ignore[no-untyped-call]
    try:
        code = compile(source, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except (SyntaxError, ValueError):
        return False  # IPython will say so, better
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _cell_magic(lines: Sequence[str], start: int) -> CellMagic | None:
    """Return the cell magic that is the first thing in `lines[start:]` but blanks and comments."""
    index = next((i for i in range(start, len(lines)) if not _is_blank(lines[i])), None)
    match = None if index is None else _CELL_MAGIC.match(_text(lines[index]))
    if index is None or match is None or match["line"].strip() in {"?", "??"}:
        return None
    parts, end = [match["line"]], index + 1
    while match["name"] == NAME and parts[-1].endswith("\\") and end < len(lines):
        parts[-1] = parts[-1][:-1]
        parts.append(_text(lines[end]))
        end += 1
    return CellMagic(match["name"], " ".join(part.strip() for part in parts).strip(), index, end)


def _is_blank(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _text(line: str) -> str:
    return line.rstrip("\r\n")


def _call(line: str) -> str:
    return f"get_ipython().run_line_magic({NAME!r}, {line!r})"
