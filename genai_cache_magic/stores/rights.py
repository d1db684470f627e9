"""What a backend lets us do: all, or read alone, as its user says or a refused write shows."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable, WriteRefused, WritesUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

_PAUSE_S: Final = 60.0
"""After a refused write, none is tried for so long [s]: then rights may have been given."""
_AGAIN: Final = "{name} takes what is written from here again: answers are shared from now on"


class Rights:
    """Whether a backend is written to. Safe to share between threads.

    Parameters
    ----------
    name
        The backend, as shown in messages.
    is_reader
        Whether its user says that it may only be read: then no write is tried.
    reads
        Reads something, and raises ``StoreUnavailable`` if that is refused too: so a credential that is wrong is told
        from one that lacks a right. Without it nothing is found out.
    tell
        Hears, in words and once, that writing was found to be refused, and when it is not any more; called without a
        lock held.
    clock
        Seconds that never run backwards.
    """

    def __init__(
        self,
        name: str = "",
        *,
        is_reader: bool = False,
        reads: Callable[[], object] | None = None,
        tell: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._reads = reads
        self._tell = tell
        self._clock = clock
        self._lock = host.process_lock()
        self._is_reader = is_reader  # guarded by _lock where it is set
        self._tries_at = math.inf  # when a write is tried again [s]; guarded by _lock where it is set
        self._reason = "role is Cache.Reader" if is_reader else ""
        self._is_withheld = False  # whether it stores nothing just now, of anybody; guarded by _lock where it is set

    @property
    def is_reader(self) -> bool:
        """Whether nothing is written, as far as is known."""
        return self._is_reader

    @property
    def is_tried(self) -> bool:
        """Whether the next write is tried: it may be, or was refused so long ago that it may be by now."""
        return not self._is_reader or self._clock() >= self._tries_at

    @property
    def says(self) -> str:
        """What people have to know of it, in a sentence; empty where everything may be done."""
        if not self._is_reader:
            return ""
        return (
            f"{self._name} is only read ({self._reason}): what is new or refreshed here stays on this machine, and "
            "nothing can be invalidated; `genai-cache access check` says what would be needed for more"
        )

    def ensure_tried(self) -> None:
        """Raise ``WriteRefused`` unless the next write is tried. Costs microseconds, and asks nobody."""
        if not self.is_tried:
            raise self._refusal()

    def begin(self, *, is_decisive: bool) -> None:
        """Begin a write; raises ``WriteRefused`` if it is not tried. Costs microseconds, and asks nobody.

        Of those that come once it is time to try again, one that is decisive is tried (as for `refused`).
        """
        if not self._is_reader:
            return
        with self._lock:
            if not (self.is_tried and (is_decisive or not self.is_reader)):
                raise self._refusal()
            self._tries_at = self._clock() + _PAUSE_S

    def allowed(self) -> None:
        """Take note that something was written of what a reader may not write."""
        if not self._is_reader:
            return
        with self._lock:
            is_news, self._is_reader = self._is_reader, False
            self._reason = ""
        if is_news:
            self._tell(_AGAIN.format(name=self._name))

    def stored(self) -> None:
        """Take note that something new lies there: one that stores nothing also carries out a write that puts nothing.

        Such as one on a condition that is not met, or a lease that is extended.
        """
        if not self._is_withheld:
            return
        with self._lock:
            is_news, self._is_withheld = self._is_withheld, False
        if is_news:
            self._tell(_AGAIN.format(name=self._name))

    def withheld(self, error: WritesUnavailable) -> None:
        """Take note that the backend stores nothing just now, whoever asks."""
        with self._lock:
            is_news, self._is_withheld = not self._is_withheld, True
        if is_news:
            self._tell(f"{error}; until then what is new here waits on this machine, and what is there is still read")

    def _refusal(self) -> WriteRefused:
        return WriteRefused(
            f"{self._name} is only read ({self._reason}): for that the role Cache.Writer is needed; "
            "`genai-cache access grant` prints how to give it"
        )

    def refused(self, error: Exception, *, is_decisive: bool) -> WriteRefused | None:
        """Return what to raise for a refused write, None where reading is refused too.

        Parameters
        ----------
        error
            What the write was refused with.
        is_decisive
            Whether a client that may not do this can write nothing of use, so that no more is tried.
        """
        if self._reads is None:
            return None
        try:
            self._reads()
        except StoreUnavailable:
            return None
        if not is_decisive:
            return WriteRefused(f"{self._name} lets us read and write, and not do this: {error}")
        with self._lock:
            is_news, self._is_reader = not self._is_reader, True
            self._reason = self._reason or "it refuses writes"
            self._tries_at = self._clock() + _PAUSE_S
        if is_news:
            self._tell(self.says)
        return self._refusal()
