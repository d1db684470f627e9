"""What simulated services share: they start and stop, are slow or hold answers back, and fail when they are told to."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.simulated.http_server import LOOPBACK, LoopbackServer

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from genai_cache_magic.testing.simulated.http_server import Application, ReceivedRequest
    from genai_cache_magic.testing.simulated.replying import Reply

FaultT = TypeVar("FaultT")
_JOIN_S = 5.0


class Listener:
    """A port of loopback that is served, and is the same one after a stop and a start.

    Raises
    ------
    ConfigurationError
        On `start`: the port is taken.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.port = port
        self._tls = tls
        self._server: LoopbackServer | None = None

    @property
    def url(self) -> str:
        """Scheme, address and port."""
        return f"{'http' if self._tls is None else 'https'}://{LOOPBACK}:{self.port}"

    def start(self, application: Application) -> None:
        """Serve `application`; does nothing while it is served."""
        if self._server is not None:
            return
        try:
            self._server = LoopbackServer(self.port, application, tls=self._tls)
        except (OSError, OverflowError) as exc:
            raise ConfigurationError(f"port={self.port}: can't be bound; choose another, or 0 for any") from exc
        self.port = self._server.port
        self._server.start()

    def stop(self) -> None:
        """Close all connections, and join their threads."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(_JOIN_S)


class Troubles(Generic[FaultT]):
    """What is to go wrong with the next requests, in order; and whether answers are held back.

    Parameters
    ----------
    latency_s : float
        Time before every answer [s].
    """

    def __init__(self, latency_s: float) -> None:
        if not 0.0 <= latency_s < math.inf:
            raise ConfigurationError(f"latency_s={latency_s!r}: use seconds from 0")
        self.latency_s = latency_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._gate = threading.Condition(self._lock)
        # Guarded by _lock:
        self._faults: list[tuple[FaultT, str | None, float]] = []
        self._is_held = False

    def fail(self, fault: FaultT, *, times: int | None, operation: str | None) -> None:
        """Queue `fault` for so many requests (None: for all, until `heal`) of an operation, or of any."""
        with self._lock:
            self._faults.append((fault, operation, math.inf if times is None else times))

    def next_fault(self, operation: str, eligible: frozenset[FaultT] | None = None) -> FaultT | None:
        """Return what is to go wrong with a request of `operation`, and count it."""
        with self._lock:
            for at, (fault, wanted, times) in enumerate(self._faults):
                if wanted in {None, operation} and (eligible is None or fault in eligible):
                    self._faults[at : at + 1] = [(fault, wanted, times - 1)] if times > 1 else []
                    return fault
        return None

    def heal(self) -> None:
        """Forget the faults, and release what is held."""
        with self._lock:
            self._faults.clear()
        self.release()

    def hold(self) -> None:
        """Keep answers back until `release`."""
        with self._lock:
            self._is_held = True

    def release(self) -> None:
        """Let held answers, and all that follow, go out."""
        with self._lock:
            self._is_held = False
            self._gate.notify_all()

    def begin(self) -> None:
        """Serve again after `end`."""
        self._stopping.clear()

    def end(self) -> None:
        """Break off what is held back."""
        self._stopping.set()
        with self._lock:
            self._gate.notify_all()

    def keep_back(self) -> None:
        """Wait as long as an answer is to wait.

        Raises
        ------
        ConnectionAbortedError
            The service stops.
        """
        if self.latency_s and self._stopping.wait(self.latency_s):
            raise ConnectionAbortedError("the service stops")
        with self._lock:
            self._gate.wait_for(lambda: self._stopping.is_set() or not self._is_held)
        if self._stopping.is_set():
            raise ConnectionAbortedError("the service stops")


class SimulatedService(ABC, Generic[FaultT]):
    """A service on loopback. A context manager; `close` ends it for good, `stop` for now.

    Parameters
    ----------
    latency_s : float
        Time before every answer [s].
    """

    def __init__(self, latency_s: float) -> None:
        self._troubles: Troubles[FaultT] = Troubles(latency_s)
        self._listeners: list[Listener] = []

    @abstractmethod
    def respond(self, request: ReceivedRequest) -> Reply:
        """Answer one HTTP request; called by the listeners' threads."""

    def hold(self) -> None:
        """Keep answers back until `release`."""
        self._troubles.hold()

    def release(self) -> None:
        """Let held answers, and all that follow, go out."""
        self._troubles.release()

    def heal(self) -> None:
        """Forget the faults that are queued, and release what is held."""
        self._troubles.heal()

    def start(self) -> Self:
        """Serve, from threads of its own; does nothing while it runs."""
        self._troubles.begin()
        for listener in self._listeners:
            listener.start(self)
        return self

    def stop(self) -> None:
        """Close all connections; ports, keys and all else stay for another `start`."""
        self._troubles.end()
        for listener in self._listeners:
            listener.stop()

    def close(self) -> None:
        """Stop, for good."""
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
