"""Variables in the options of a magic: ``--run {name}`` and ``--tag $name``, as in IPython's own magics.

Only in options, and only when they are read: the body of a cell holds braces and dollars of its own. Unlike IPython,
which leaves what it doesn't know as it stands, an absent variable is an error, and a value stays one word.
"""

from __future__ import annotations

import re
import shlex
import string
import sys
from typing import TYPE_CHECKING, Any

from genai_cache_magic.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from IPython.core.interactiveshell import InteractiveShell

_OURS = ("IPython.", "genai_cache_magic.", "decorator")
_DOLLAR = re.compile(r"\$(\$|[A-Za-z_][\w.]*)")
_MARK = "\N{NULL}"
_FORMATTER = string.Formatter()
_NUMBERS = re.compile(r"(?<!\{)\{([0-9]+(?:,[0-9]*)?|,[0-9]+)\}(?!\})")  # a repeat of a pattern, and no variable
_MARKED = re.compile(rf"{_MARK}(\d+){_MARK}")


def expanded(line: str, shell: InteractiveShell) -> str:
    """Return `line` with its variables put in, each value within one word.

    ``{expression}`` may be any expression and have a format, ``$name`` a dotted name; ``{{``, ``}}`` and ``$$`` stand
    for one of them. In single quotes ``$`` is a dollar, and braces that hold no variable, or numbers, are braces. Names
    are those of the notebook and of the function that the magic is in.

    Raises
    ------
    ConfigurationError
        There is no such variable, or the expression fails.
    """
    if "{" not in line and "$" not in line and "}" not in line:
        return line
    values: list[str] = []
    names = _names(shell)
    marked = "".join(
        _marked_in_quotes(piece, names, values) if piece.startswith("'") else _marked(piece, names, values)
        for piece in _pieces(line)
    )
    try:
        words = shlex.split(marked)
    except ValueError:
        words = [marked]  # an open quote, which is spoken of where options are read
    return shlex.join(_MARKED.sub(lambda found: values[int(found[1])], word) for word in words)


def _pieces(line: str) -> list[str]:
    """Return `line` in pieces; what stands in single quotes, and in no expression, is a piece that begins with one."""
    pieces, start, depth, quote = [], 0, 0, ""
    for at, sign in enumerate(line):
        if quote:
            if sign == quote:
                quote = ""
                if sign == "'" and not depth:
                    pieces.append(line[start : at + 1])
                    start = at + 1
        elif sign in "'\"":
            quote = sign
            if sign == "'" and not depth:
                pieces.append(line[start:at])
                start = at
        elif sign in "{}":
            depth = max(0, depth + (1 if sign == "{" else -1))
    return [piece for piece in (*pieces, line[start:]) if piece]


def _marked_in_quotes(piece: str, names: Mapping[str, Any], values: list[str]) -> str:
    """Return `piece` with a mark for each value, or as it stands if it has none: single quotes hold texts."""
    kept = len(values)
    try:
        return _marked(_NUMBERS.sub(r"{{\1}}", piece).replace("$", "$$"), names, values)
    except ConfigurationError:
        del values[kept:]
        return piece


def _marked(line: str, names: Mapping[str, Any], values: list[str]) -> str:
    """Return `line` with a mark for each value, which is added to `values`: it may hold blanks and quotes."""

    def mark(value: str) -> str:
        values.append(value)
        return f"{_MARK}{len(values) - 1}{_MARK}"

    def dollar(found: re.Match[str]) -> str:
        if found[1] == "$":
            return mark("$")
        name = found[1].rstrip(".")
        return mark(str(_value(name, "$", names))) + found[1][len(name) :]

    parts = []
    try:
        pieces = list(_FORMATTER.parse(line))
    except ValueError as exc:
        raise ConfigurationError(f"{line}: {exc}; write {{{{ and }}}} for braces that are meant as such") from exc
    for text, field, spec, conversion in pieces:
        parts.append(_DOLLAR.sub(dollar, text))
        if field is not None:
            parts.append(mark(_formatted(field, spec or "", conversion, names)))
    return "".join(parts)


def _formatted(field: str, spec: str, conversion: Any, names: Mapping[str, Any]) -> str:
    """Return the text of ``{field!conversion:spec}``; what looks like a format may be the end of a slice."""
    if spec and field.count("[") > field.count("]"):
        field, spec = f"{field}:{spec}", ""
    value = _FORMATTER.convert_field(_value(field, "{", names), conversion)
    return str(_FORMATTER.format_field(value, spec))


def _value(expression: str, opening: str, names: Mapping[str, Any]) -> Any:
    shown = f"${expression}" if opening == "$" else f"{{{expression}}}"
    instead = f"$${expression}" if opening == "$" else f"{{{{{expression}}}}}"
    try:
        return eval(expression, dict(names))  # noqa: S307 - what the user wrote into a cell, as IPython does
    except NameError as exc:
        raise ConfigurationError(
            f"{shown}: there is no variable {exc.name}; set it in a cell that ran before, "
            f"or write {instead} for the text itself"
        ) from exc
    except (ArithmeticError, AttributeError, LookupError, SyntaxError, TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"{shown}: {type(exc).__name__}: {exc}; correct it, or write {instead} for the text itself"
        ) from exc


def _names(shell: InteractiveShell) -> dict[str, Any]:
    """Return the variables that a magic may name where it stands."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - as IPython finds them
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_OURS):
        frame = frame.f_back
    return {**shell.user_ns, **(frame.f_locals if frame is not None else {})}
