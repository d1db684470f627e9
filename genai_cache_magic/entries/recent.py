"""Answers that this process opened a moment ago: reading them again costs no look-up and no opening.

Nothing is decided here. The generation document and the time to live judge an answer from here just as
one from the store, so an invalidation anywhere on this machine counts at the very next call.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from genai_cache_magic import host

if TYPE_CHECKING:
    from genai_cache_magic.core.model import EntryId, Response

_ENTRY_OVERHEAD_BYTES = 2048
"""Headers, metadata and objects beside the body [bytes], roughly."""


class HasResponse(Protocol):
    """What is kept here: it knows the answer's size."""

    @property
    def response(self) -> Response:
        """The opened answer."""


T = TypeVar("T", bound=HasResponse)


class Recent(Generic[T]):
    """The answers opened last, up to a number of bytes. Safe to share between threads.

    Parameters
    ----------
    limit_bytes
        Room for answers in plain text, in this process's memory [bytes]; 0 keeps none.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._lock = host.process_lock()
        self._found: OrderedDict[EntryId, T] = OrderedDict()  # changed under _lock, oldest first
        self._size_bytes = 0  # guarded by _lock

    def get(self, entry_id: EntryId) -> T | None:
        """Return what was opened for `entry_id`, still to be judged; None if it is not here."""
        found = self._found.get(entry_id)
        if found is not None:
            try:  # without the lock: each operation is atomic
                self._found.move_to_end(entry_id)
            except KeyError:
                return None  # forgotten in between
        return found

    def keep(self, entry_id: EntryId, found: T) -> None:
        """Keep an opened answer, and let go of the oldest where room is short."""
        self.forget(entry_id)
        if _size_bytes(found) > self._limit_bytes:
            return
        with self._lock:
            self._found[entry_id] = found
            self._size_bytes += _size_bytes(found)
            while self._size_bytes > self._limit_bytes:
                _, oldest = self._found.popitem(last=False)
                self._size_bytes -= _size_bytes(oldest)

    def forget(self, entry_id: EntryId) -> None:
        """Let go of one answer."""
        with self._lock:
            found = self._found.pop(entry_id, None)
            if found is not None:
                self._size_bytes -= _size_bytes(found)

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._found.clear()
            self._size_bytes = 0


def _size_bytes(found: HasResponse) -> int:
    return len(found.response.body) + _ENTRY_OVERHEAD_BYTES
