"""Who owns the call that is being made, and from what was decided of it to what its client carries out."""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from genai_cache_magic.calls.aside import done_aside
from genai_cache_magic.calls.steps import Answered, Follow, Lead, Rejected
from genai_cache_magic.calls.telling import opened
from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.base import Guarded, leave, refuse_in_replay
from genai_cache_magic.intercept.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.calls.steps import Step
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.recording import Decode, LookedUp


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
    lead
        The call, where another body is sent in the place of its caller's: see `calls.steps.Lead`.
    is_origins
        Tells whether anyone who asks the origin now would get an error.
    """

    __slots__ = ("_is_origins", "_token", "is_over", "is_unended", "last", "lead", "outcome", "recording", "request")

    def __init__(
        self,
        request: Any,
        *,
        outcome: Any = None,
        recording: Recording | None = None,
        lead: Lead | None = None,
        is_origins: Callable[[BaseException], bool] = lambda _: False,
    ) -> None:
        self.request = request
        self.outcome = outcome
        self.recording = recording
        self.lead = lead
        self._is_origins = is_origins
        self.last: Any = None  # the client's own response to what it sent last, where it may send again
        self.is_over = self.is_unended = False

    def __enter__(self) -> None:
        self._token: Token[Turn | None] = active_turn.set(self)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        # What the client started and left running is owned by no one from now on.
        self.is_over = True
        try:  # noqa: SIM105 - `suppress` takes as long as all the rest of this
            active_turn.reset(self._token)
        except ValueError:
            pass  # a coroutine that is closed by the garbage collector ends in another context: nothing to restore
        if self.recording is not None:
            self._end(self.recording, error)

    def _end(self, recording: Recording, error: BaseException | None) -> None:
        """Tell `recording` that the client returned a response, or raised `error` instead."""
        if error is None and recording.is_much:
            self.is_unended = True  # whose caller goes on with `end`
        elif error is None:
            recording.returned()
        else:
            recording.failed(error, is_origins=self._is_origins(error))

    async def end(self) -> None:
        """Do on an event loop what `is_unended` says is left to do: by a thread, since it takes long."""
        self.is_unended = False
        if self.recording is not None:
            await done_aside(self.recording.returned)


active_turn: ContextVar[Turn | None] = ContextVar("genai_cache_turn", default=None)
"""The turn of a context, which may be over: see `current_turn`."""


def current_turn() -> Turn | None:
    """Return the turn in the course of which the caller runs, if any."""
    turn = active_turn.get()
    return None if turn is None or turn.is_over else turn


class Decided:
    """What was decided above HTTP of a request that is yet to be built: for the interceptor that sees it sent.

    Parameters
    ----------
    here
        What it belongs to.
    step
        What becomes of it; None leaves that to HTTP level.
    client, where
        The HTTP client that is going to send it, and where to, as the library has taken the URL apart: whatever else is
        sent before is another call.
    passes_by
        What is asked for it before, where we would decide of it if it were another call; None where nothing is.
    looked_up
        What was decided of it by: as for `Recording`.
    """

    __slots__ = ("_client", "_here", "_step", "_token", "_where", "looked_up", "passes_by")

    def __init__(  # noqa: PLR0913, PLR0917 - what is decided, of what, for whom
        self,
        here: Active,
        step: Step | None,
        client: Any,
        where: Any,
        passes_by: Any = None,
        looked_up: LookedUp | None = None,
    ) -> None:
        self._here = here
        self._step = step
        self._client = client
        self._where = where
        self.passes_by = passes_by
        self.looked_up = looked_up

    def __enter__(self) -> None:
        self._token: Token[Decided | None] = decided.set(self)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:  # noqa: SIM105 - as for `Turn`
            decided.reset(self._token)
        except ValueError:
            pass  # a coroutine that somebody else closes ends in another context
        step, self._step = self._step, None
        if isinstance(step, Lead):  # it was never sent
            with Guarded(self._here):
                step.desk.abort(step, error)
        elif isinstance(step, Follow):
            leave(self._here, step, error)

    def take(self, client: Any, where: Any) -> Step | None:
        """Return, once, the step for what `client` sends to `where`; None if it is for another one."""
        if self._step is None or client is not self._client or where != self._where:
            return None
        step, self._step = self._step, None
        return step


decided: ContextVar[Decided | None] = ContextVar("genai_cache_decided", default=None)
"""What was decided above HTTP, in a context from which it is sent."""


def was_decided(client: Any) -> bool:
    """Tell whether what `client` is asked for was decided before; once for each decision."""
    foretold = decided.get()
    if foretold is None or foretold.passes_by is not client:
        return False
    foretold.passes_by = None
    return True


def turn_for(  # noqa: PLR0913 - what clients differ in, by name
    here: Active,
    request: Any,
    step: Step | None,
    *,
    is_origins: Callable[[BaseException], bool],
    play: Callable[[Response | BaseException], Any],
    decode: Decode | None = None,
    looked_up: LookedUp | None = None,
) -> Turn:
    """Return the turn that carries `step` out.

    Parameters
    ----------
    request
        The client's own request.
    is_origins
        As for `Turn`.
    play
        Makes what takes the place of the network, of a stored answer or of what another caller got: the client's own
        kind of response, or an error of its own to raise, a new one, since the other's has a traceback.
    decode, looked_up
        As for `Recording`.

    Raises
    ------
    ReplayMiss
        We failed to replay, in a mode in which the model is never called.
    """
    if isinstance(step, Lead):
        with Guarded(here):
            if not step.is_recorded:  # an upload is nothing to record
                opened(step)
        is_divided = step.batch is not None and step.batch.body is not None
        if is_divided:  # another body is sent than was looked up
            return Turn(request, recording=Recording(here, step, decode), lead=step, is_origins=is_origins)
        return Turn(request, recording=Recording(here, step, decode, looked_up), is_origins=is_origins)
    if isinstance(step, Answered | Rejected):
        with Guarded(here):
            return Turn(request, outcome=play(replay.marked(step) if isinstance(step, Answered) else step.error))
        refuse_in_replay(here)
    return Turn(request)
