"""The monitor of a session: made for its first scope, if the settings ask for one; until then nothing is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.api.cache import Cache
    from genai_cache_magic.events import Event
    from genai_cache_magic.monitoring.monitor import Monitor
    from genai_cache_magic.settings.model import Settings


class LazyMonitor:
    """What the scopes of a session tell of their calls, for other tools. Safe to share between threads.

    Parameters
    ----------
    caches
        Those that are open.
    tell
        Hears later of what does not work.
    """

    def __init__(self, caches: Callable[[], Iterable[Cache]], tell: Callable[[Event], None]) -> None:
        self._caches = caches
        self._tell = tell
        self._lock = host.process_lock()
        self._monitor: Monitor | None = None  # guarded by _lock, like the next
        self._is_made = False

    def get(self, settings: Settings, tell: Callable[[Event], None]) -> Monitor | None:
        """Return it; None if nothing is told, or what that needs is missing, which `tell` hears once."""
        if not settings.monitoring.is_on:
            return None
        with self._lock:
            if not self._is_made:
                self._is_made = True
                self._monitor = self._made(settings, tell)
            return self._monitor

    def close(self) -> None:
        """Pass on what waits, and end; it is made anew when it is asked for again."""
        with self._lock:
            monitor, self._monitor, self._is_made = self._monitor, None, False
        if monitor is not None:
            monitor.close()

    def _made(self, settings: Settings, tell: Callable[[Event], None]) -> Monitor | None:
        from genai_cache_magic.api.watching.monitored import make_monitor

        try:
            return make_monitor(settings.monitoring, self._caches, has_team=bool(settings.l2), tell=self._tell)
        except ConfigurationError as exc:
            tell(trouble("monitoring", exc))
            return None
