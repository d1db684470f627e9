"""What a process is told of its calls, and a thread that passes it on: numbers to an exporter, changes of alerts."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic import host
from genai_cache_magic.errors import GenaiCacheError
from genai_cache_magic.events import CallRecord, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.events import Event
    from genai_cache_magic.monitoring.exported import Exported
    from genai_cache_magic.monitoring.opentelemetry import Telemetry
    from genai_cache_magic.monitoring.watching import AlertWatch

WHERE: Final = "monitoring"
_BEHIND_S: Final = 0.5
"""How long calls are gathered before they are counted [s]."""

_LOOK_S: Final = 1.0
"""How often alerts are looked at while nothing is called [s]."""

_IDLE_S: Final = 30.0
"""After so long without a call, or after the longest window of an alert, the thread ends [s]."""

_END_S: Final = 5.0
"""How long the end of a process waits for what is left to be passed on [s]."""

_MOST_WAITING: Final = 20_000


class Monitor:
    """Hears of every call that ends. Never raises, and nobody waits for it. Safe to share between threads.

    Parameters
    ----------
    open_exporter
        Opens the exporter and returns it with the instruments, in the thread; None: numbers go nowhere.
    watch
        The alerts; None: there are none.
    has_spans
        Whether the context of each call is wanted.
    tell
        Hears of what does not work, once.
    """

    def __init__(
        self,
        open_exporter: Callable[[], tuple[Exported, Telemetry]] | None,
        watch: AlertWatch | None,
        *,
        has_spans: bool = False,
        tell: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._open_exporter = open_exporter
        self._watch = watch
        self._has_spans = has_spans
        self._tell = tell
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._lock = host.process_lock()
        self._feeding = host.process_lock()
        self._thread: threading.Thread | None = None  # guarded by _lock
        self._is_closed = False
        self._exporter: tuple[Exported, Telemetry] | None = None  # used under _feeding alone, like the next
        self._is_broken = False
        self._waiting: deque[tuple[Event, int, Any]] = deque(maxlen=_MOST_WAITING)
        self._has_work = threading.Event()
        self._stopping = threading.Event()

    def note(self, event: Event) -> None:
        """Take note of `event`; costs a place in a list."""
        if self._pid != host.process_id():
            # The threads are the parent's, ours and the exporter's, and so is what they have counted.
            self._begin_anew()
            if self._watch is not None:
                self._watch.begin_anew()
        if isinstance(event, Trouble) and event.where == WHERE:
            return
        if self._watch is not None:
            self._watch.note(event)
        if self._open_exporter is not None and not self._is_broken:
            self._waiting.append((event, time.time_ns(), _current_context() if self._has_spans else None))
        if not self._has_work.is_set():
            self._has_work.set()
            self._ensure_thread()

    def alerts(self) -> tuple[str, ...]:
        """Return the sentences of the alerts that are in force, as of now."""
        if self._watch is None:
            return ()
        try:
            return self._watch.look()
        except Exception:  # noqa: BLE001 - a badge that lacks an alert is better than none
            return ()

    def flush(self) -> None:
        """Count what waits."""
        with self._feeding:
            self._feed()

    @property
    def place(self) -> str:
        """Where others find the numbers, once the exporter is open."""
        with self._feeding:
            return "" if self._exporter is None else self._exporter[0].place

    def close(self) -> None:
        """Count what waits, and end; may be called twice. What takes long is waited for no longer than a moment."""
        if self._is_closed or self._pid != os.getpid():
            return
        self._is_closed = True
        self._stopping.set()
        self._has_work.set()
        with self._lock:
            thread = self._thread or self._started(self._finish)
        if thread is None:  # the interpreter is ending, and no thread begins any more
            self._finish()
        elif thread is not threading.current_thread():
            thread.join(_END_S)

    def _finish(self) -> None:
        """Count what is left, tell of alerts that it makes, and close the exporter."""
        if self._watch is not None:
            with suppress(Exception):  # as a badge that lacks an alert
                self._watch.finish(within_s=_END_S / 2)
        with self._feeding:
            if self._exporter is not None or self._waiting:
                self._feed()
            exporter, self._exporter = self._exporter, None
        if exporter is not None:
            with suppress(Exception):  # whatever a library does at its end is nobody's trouble any more
                exporter[0].close()

    def _ensure_thread(self) -> None:
        with self._lock:
            if self._thread is None and not self._is_closed:
                self._thread = self._started(self._run)
                if self._thread is None:  # tried again with the next call
                    self._has_work.clear()

    @staticmethod
    def _started(work: Callable[[], None]) -> threading.Thread | None:
        """Return a thread that does `work`; None if there are too many to start another."""
        thread = threading.Thread(target=work, name="genai-cache-monitoring", daemon=True)
        try:
            Context().run(thread.start)  # it belongs to no cell
        except RuntimeError:
            return None
        return thread

    def _run(self) -> None:
        idle_since_s = time.monotonic()
        longest_s = max(_IDLE_S, 0 if self._watch is None else self._watch.longest_window_s)
        while not self._stopping.is_set():
            if self._has_work.wait(_LOOK_S):
                self._stopping.wait(_BEHIND_S)
                self._has_work.clear()  # before what waits is taken: whoever comes later says so again
                idle_since_s = time.monotonic()
                self.flush()
            self.alerts()
            is_firing = self._watch is not None and self._watch.is_firing
            if time.monotonic() - idle_since_s > longest_s and not is_firing:
                with self._lock:
                    if not self._has_work.is_set():
                        self._thread = None
                        return
        self._finish()

    def _feed(self) -> None:
        """Count what waits; the caller holds `_feeding`."""
        telemetry = self._telemetry()
        with suppress(IndexError):  # others put on while this takes off
            while True:
                event, at_ns, context = self._waiting.popleft()
                if telemetry is None:
                    continue
                try:
                    if isinstance(event, CallRecord):
                        telemetry.count(event, ended_ns=at_ns, context=context)
                    else:
                        telemetry.count_trouble(event)
                except Exception as exc:  # noqa: BLE001 - somebody else's library, in a thread of ours
                    self._break(f"counting failed ({type(exc).__name__}), so no numbers are exported any more")
                    return

    def _telemetry(self) -> Telemetry | None:
        if self._open_exporter is None or self._is_broken:
            return None
        if self._exporter is None:
            try:
                self._exporter = self._open_exporter()
            except GenaiCacheError as exc:
                self._break(str(exc))
                return None
            except Exception as exc:  # noqa: BLE001 - as above
                self._break(
                    f"the exporter can't be opened ({type(exc).__name__}), so no numbers are exported: check "
                    "monitoring.exporter"
                )
                return None
        return self._exporter[1]

    def _break(self, sentence: str) -> None:
        self._is_broken = True
        self._waiting.clear()
        self._tell(Trouble(WHERE, "ExporterFailed", sentence))


def _current_context() -> Any:
    """Return the context of OpenTelemetry that the call was made in, None while nobody has imported that."""
    found = sys.modules.get("opentelemetry.context")
    return None if found is None else found.get_current()
