"""Model calls that were recognised a moment ago, by all that decides what they are: the same one is known at once.

Recognising is a pure function of what is sent, of the configuration, and of what was uploaded under our eyes. So what
it came to is remembered with the configuration it came of, by the first and the last: whole, not by a digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

T = TypeVar("T")

_OVERHEAD_BYTES: Final = 4096
"""Headers, and objects beside the body [bytes], roughly."""

_PARSED: Final = 4
"""A body as it was sent, and parsed, takes about so many times its bytes."""


class Remembered(Generic[T]):
    """The calls recognised last, up to a number of bytes. Safe to share between threads: each operation is atomic.

    Parameters
    ----------
    limit_bytes
        Room for requests in plain text, in this process's memory [bytes]; 0 keeps none.
    """

    __slots__ = ("_calls", "_limit_bytes", "_size_bytes")

    def __init__(self, limit_bytes: int = 0) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._calls: dict[Hashable, T] = {}

    def __repr__(self) -> str:
        return f"<{len(self._calls)} calls>"

    def get(self, asked: Hashable) -> T | None:
        """Return what `asked` was recognised to be, None if that is not remembered."""
        return self._calls.get(asked)

    def keep(self, asked: Hashable, call: T, body_bytes: int) -> None:
        """Remember what `asked` is, whose body has this size [bytes]; where room is short, all others are forgotten."""
        size = _OVERHEAD_BYTES + _PARSED * body_bytes
        if self._size_bytes + size > self._limit_bytes:
            self.clear()
        if size <= self._limit_bytes:
            self._calls[asked] = call
            self._size_bytes += size

    def clear(self) -> None:
        """Forget all."""
        self._calls.clear()
        self._size_bytes = 0
