"""What a backend lets us do: all, or read alone, as its user says or a refused write shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.errors import StoreUnavailable, WriteRefused

if TYPE_CHECKING:
    from collections.abc import Callable


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
        Hears, in words and once, that writing was found to be refused; called without a lock held.
    """

    def __init__(
        self,
        name: str = "",
        *,
        is_reader: bool = False,
        reads: Callable[[], object] | None = None,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._name = name
        self._reads = reads
        self._tell = tell
        self._lock = host.process_lock()
        self._is_reader = is_reader  # guarded by _lock where it is set
        self._reason = "role is Cache.Reader" if is_reader else ""

    @property
    def is_reader(self) -> bool:
        """Whether nothing is written."""
        return self._is_reader

    @property
    def says(self) -> str:
        """What people have to know of it, in a sentence; empty where everything may be done."""
        if not self._is_reader:
            return ""
        return (
            f"{self._name} is only read ({self._reason}): what is new, refreshed or invalidated here stays on this "
            "machine; `genai-cache access check` says what would be needed for more"
        )

    def ensure_writer(self) -> None:
        """Raise ``WriteRefused`` if nothing is written. Costs microseconds, and asks nobody."""
        if self._is_reader:
            raise WriteRefused(
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
        if is_news:
            self._tell(self.says)
        return WriteRefused(self.says)
