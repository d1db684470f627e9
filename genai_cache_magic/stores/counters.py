"""Counters over documents: a table of counts under each name, changed by comparing and swapping it as a whole.

What a store with counters of its own does natively, any ``Document`` can do this way, a file and a blob included.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from typing import TYPE_CHECKING

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.host import chance
from genai_cache_magic.stores.base import LARGEST_COUNT, LARGEST_DOCUMENT, Counted
from genai_cache_magic.stores.keys import check_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.base import Document

_PATIENCE_S = 8.0
"""How long others may be faster [s]."""


class DocumentCounters:
    """Counters in documents. A ``Counters``; safe to share between threads and processes, as its documents are.

    Parameters
    ----------
    document
        Returns the document of a name: ``count-`` and 64 hex digits.
    """

    def __init__(self, document: Callable[[str], Document]) -> None:
        self._document = document
        self._lock = threading.Lock()  # threads of this process don't race each other for a document

    def add(self, name: str, field: str, amount: int, label: bytes) -> int:
        """Add `amount` to a count and return what it is then."""
        return self.add_within(name, field, amount, label, at_most=LARGEST_COUNT)[1]

    def add_within(self, name: str, field: str, amount: int, label: bytes, *, at_most: int) -> tuple[bool, int]:
        """Add `amount` unless the count would be more than `at_most` then; return whether, and what it is then."""
        document = self._of(name, field)
        give_up_at = time.monotonic() + _PATIENCE_S
        with self._lock:
            while time.monotonic() < give_up_at:
                before = document.load()
                counts = _decoded(before)
                known = counts.get(field)
                count = (known.count if known else 0) + amount
                if abs(count) > LARGEST_COUNT:
                    raise ValueError("the count would leave the range of 64 bits")
                if count > at_most:
                    return False, count - amount
                counts[field] = Counted(count, known.label if known else label)
                if document.replace(_encoded(counts), expected=before):
                    return True, count
                time.sleep(chance.uniform(0, 0.01))  # another process was faster
        raise StoreUnavailable("a count changes faster than it can be written: try again")

    def read(self, name: str) -> dict[str, Counted]:
        """Return the counts under `name`, by field."""
        return _decoded(self._of(name, name).load())

    def _of(self, name: str, field: str) -> Document:
        check_key(name)
        check_key(field)
        return self._document(f"count-{name}")


def _encoded(counts: dict[str, Counted]) -> bytes:
    table = {field: [one.count, base64.b64encode(one.label).decode()] for field, one in counts.items()}
    blob = json.dumps(table, separators=(",", ":")).encode()
    if len(blob) > LARGEST_DOCUMENT:
        raise StoreUnavailable("there are more counts under one name than a document holds: use a name for each month")
    return blob


def _decoded(blob: bytes | None) -> dict[str, Counted]:
    """Return the counts that were written; what can be none of ours counts as none."""
    try:
        table = json.loads(blob or b"{}")
        counts = {field: Counted(count, base64.b64decode(label)) for field, (count, label) in table.items()}
    except (ValueError, TypeError, AttributeError, RecursionError, binascii.Error):
        return {}
    return {field: one for field, one in counts.items() if type(one.count) is int and abs(one.count) <= LARGEST_COUNT}
