"""A heading, a table and notes, as the mime bundle that a line command shows."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Texts in rows; `header` names the columns, or is empty."""

    rows: tuple[Cells, ...]
    header: Cells = ()

    def as_text(self) -> str:
        """Return lines of columns, two blanks apart."""
        lines = [self.header, *self.rows] if self.header else list(self.rows)
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def as_html(self) -> str:
        """Return a table without style, script or raw text of others: front ends strip or distrust those."""
        head = f"<thead>{_html_row(self.header, 'th')}</thead>" if self.header else ""
        rows = "\n".join(_html_row(row, "td") for row in self.rows)  # each is a line of the saved file
        return f"<table>{head}<tbody>\n{rows}\n</tbody></table>"


@dataclass(frozen=True, slots=True)
class Report:
    """What one line command has to say."""

    title: str
    table: Table | None = None
    notes: tuple[str, ...] = ()

    def bundle(self) -> dict[str, str]:
        """Return ``text/plain`` and ``text/html``."""
        plain = [self.title, *([self.table.as_text()] if self.table and self.table.rows else []), *self.notes]
        html = [f"<p>{escape(self.title)}</p>", *([self.table.as_html()] if self.table and self.table.rows else [])]
        return {
            "text/plain": "\n".join(plain),
            "text/html": f'<div class="genai-cache">{"".join(html)}{paragraphs(self.notes)}</div>',
        }


def paragraphs(lines: Sequence[str]) -> str:
    """Return each of `lines` as an HTML paragraph of its own."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def _html_row(cells: Cells, tag: str) -> str:
    return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>"
