"""A question as it is compared with others, and what was found for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from genai_cache_magic.core.model import EntryId
    from genai_cache_magic.entries.entries import Found

_PREVIEW_CHARS: Final = 80


@dataclass(frozen=True, slots=True)
class Question:
    """What of a call is compared with others.

    Attributes
    ----------
    frame
        A keyed digest of all else in its request: questions of two frames never meet.
    text
        The last text that a user wrote.
    vector
        Its embedding, bytes, float32.
    """

    frame: str = field(repr=False)
    text: str = field(repr=False)
    vector: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class Similar:
    """The answer to another question, which may be served, and how alike that question is."""

    similarity: float
    text: str = field(repr=False)
    entry_id: EntryId = field(repr=False)
    found: Found = field(repr=False)

    @property
    def shown(self) -> str:
        """How alike, as people read it; what is only nearly the same never reads as 1."""
        return f"{min(int(self.similarity * 100) / 100, 0.99):.2f}"

    @property
    def preview(self) -> str:
        """How the other question begins."""
        return " ".join(self.text[: 2 * _PREVIEW_CHARS].split())[:_PREVIEW_CHARS]
