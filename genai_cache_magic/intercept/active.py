"""What a model call of this context belongs to, and who owns the call that is being made."""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from genai_cache_magic.intercept.recording import Recording
    from genai_cache_magic.lifecycle import CallDesk
    from genai_cache_magic.providers.base import Origins
    from genai_cache_magic.scope import CellScope


class Answers(Protocol):
    """The part of a cache that interceptors use."""

    @property
    def calls(self) -> CallDesk:
        """Decides what becomes of each model call."""

    @property
    def origins(self) -> Origins:
        """What is known of origins."""


class Active(NamedTuple):
    """The cache and the scope that a context's model calls go to."""

    cache: Answers
    scope: CellScope


active: ContextVar[Active | None] = ContextVar("genai_cache_active", default=None)


class Turn:
    """One request on its way through its client, and what shall become of it below the client's hooks.

    The outermost interceptor owns the call. Whatever is sent in the course of it, by a hook or by an
    authentication flow, is no call of the cell: it gets a turn with neither outcome nor recording.

    Parameters
    ----------
    request
        The client's own request.
    outcome
        The client's own kind of response, or an exception, to take the place of the network.
    recording
        What receives the network's answer.
    """

    __slots__ = ("_token", "is_over", "outcome", "recording", "request")

    def __init__(self, request: Any, *, outcome: Any = None, recording: Recording | None = None) -> None:
        self.request = request
        self.outcome = outcome
        self.recording = recording
        self.is_over = False

    def __enter__(self) -> None:
        self._token: Token[Turn | None] = active_turn.set(self)

    def __exit__(self, *_: object) -> None:
        # What the client started and left running is owned by no one from now on.
        self.is_over = True
        # A coroutine that is closed by the garbage collector ends in another context: nothing is to restore there.
        with suppress(ValueError):
            active_turn.reset(self._token)

    def failed(self, error: BaseException, *, is_origins: bool) -> None:
        """Note that the client raised `error` instead of returning a response."""
        if self.recording is not None:
            self.recording.failed(error, is_origins=is_origins)

    def returned(self) -> None:
        """Note that the client returned the response to its caller."""
        if self.recording is not None:
            self.recording.returned()


active_turn: ContextVar[Turn | None] = ContextVar("genai_cache_turn", default=None)
"""The turn of a context, which may be over: see `current_turn`."""


def current_turn() -> Turn | None:
    """Return the turn in the course of which the caller runs, if any."""
    turn = active_turn.get()
    return None if turn is None or turn.is_over else turn
