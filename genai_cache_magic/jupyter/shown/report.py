"""A heading, a table and notes, as the mime bundle that a line command shows."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

Cells = tuple[str, ...]

OPEN: Final = '<div class="genai-cache mathjax_ignore tex2jax_ignore">'
"""What each piece of HTML of ours begins with. Front ends typeset what stands between two `$` of an output, which are
prices here, and what others named may hold any TeX: MathJax 3 and 2 leave alone what bears these classes."""

_long = re.compile(r"((?:[^\s-]|-(?![^\W\d_])){21,})")
"""Too much for a narrow column: a browser ends a line at blanks, and after a hyphen that letters follow."""

_piece = re.compile(r"[^/._:=,@&?-]{1,16}[/._:=,@&?-]{0,16}|[/._:=,@&?-]{1,16}")


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows; `header` names the columns, `numbers` those that hold numbers."""

    rows: tuple[Cells, ...]
    header: Cells
    numbers: frozenset[str] = field(default=frozenset(), repr=False)

    def as_text(self) -> str:
        """Return lines of columns, two blanks apart."""
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def as_html(self) -> str:
        """Return a table without script or raw text of others: front ends strip or distrust those.

        One that is too wide is scrolled by itself, by keyboard too; where that is stripped, with what is around it.
        """
        head = f"<thead>{self._html_row(self.header, 'th')}</thead>"
        rows = "\n".join(self._html_row(row, "td") for row in self.rows)  # each is a line of the saved file
        table = f"<table>{head}<tbody>\n{rows}\n</tbody></table>"
        return f'<div style="overflow-x: auto" tabindex="0">{table}</div>'

    def _html_row(self, cells: Cells, tag: str) -> str:
        # Jupyter's sheet puts every cell to the right, by a rule that an attribute of the cell itself doesn't undo.
        shown = (
            escape(cell) if name in self.numbers else f'<div align="left">{breakable(cell)}</div>'
            for name, cell in zip(self.header, cells, strict=True)
        )
        return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in shown)}</tr>"


@dataclass(frozen=True, slots=True)
class Report:
    """What one line command has to say; `picture` is HTML of our own making.

    `more` are further tables, each with its heading.
    """

    title: str
    table: Table | None = None
    notes: tuple[str, ...] = ()
    picture: str = field(default="", repr=False)
    more: tuple[tuple[str, Table], ...] = field(default=(), repr=False)

    def bundle(self) -> dict[str, str]:
        """Return ``text/plain`` and ``text/html``."""
        plain = [self.title, *([self.table.as_text()] if self.table and self.table.rows else []), *self.notes]
        for heading, table in self.more:
            plain += ["", heading, table.as_text()]
        html = [
            f"<p>{breakable(self.title)}</p>",
            self.picture,
            *([self.table.as_html()] if self.table and self.table.rows else []),
        ]
        return {
            "text/plain": "\n".join(plain),
            "text/html": f"{OPEN}{''.join(html)}{paragraphs(self.notes)}"
            f"{''.join(f'<p>{escape(heading)}</p>{table.as_html()}' for heading, table in self.more)}</div>",
        }


def paragraphs(lines: Sequence[str]) -> str:
    """Return each of `lines` as an HTML paragraph of its own."""
    return "".join(f"<p>{breakable(line)}</p>" for line in lines)


def breakable(text: str) -> str:
    """Return `text` as HTML in which a long word may end a line: by elements, since front ends strip styles."""
    pieces = (_piece.findall(one) if n % 2 else [one] for n, one in enumerate(_long.split(text)))
    return "".join("<wbr>".join(map(escape, each)) for each in pieces)
