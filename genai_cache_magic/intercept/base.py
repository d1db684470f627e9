"""What all interceptors share: opening a call safely, and waiting for one in flight."""

from __future__ import annotations

import time
from concurrent import futures
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from genai_cache_magic.calls.coalesce import Admitted, Promoted
from genai_cache_magic.calls.estimates import UNKNOWN
from genai_cache_magic.calls.tasks import Waiter
from genai_cache_magic.calls.telling import bypass, not_sent, unrecognised
from genai_cache_magic.calls.uploads import UploadDesk
from genai_cache_magic.core.options import Mode
from genai_cache_magic.errors import CellInterrupt, NotSent, ReplayMiss, UncacheableRequest
from genai_cache_magic.events import trouble
from genai_cache_magic.intercept import interrupts
from genai_cache_magic.providers import uploads
from genai_cache_magic.providers.batches import fixed
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.providers.unrecognised import is_unrecognised

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from genai_cache_magic.calls.coalesce import Landing, Seat
    from genai_cache_magic.calls.steps import Follow, Step
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.providers.base import HttpCall, ModelCall

MAX_WAIT_S: Final = 120.0
"""A follower waits no longer for its leader [s]: then it goes alone."""

MAX_IDLE_S: Final = 1.0
"""A follower waits no longer for a stream that its reader leaves alone [s]: perhaps nobody will read it."""


APART: Final = "the parts of its answer did not go together, so it was asked whole"


class Guarded:
    """Keep a failure of ours away from the user's call: it becomes an event.

    This is the one place that swallows any `Exception`: users' calls are sacred.
    """

    __slots__ = ("_here",)

    def __init__(self, here: Active) -> None:
        self._here = here

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        if exc is None:
            return False
        if isinstance(exc, CellInterrupt):
            interrupts.note(self._here.scope, exc)
        if not isinstance(exc, Exception):
            return False
        # Telling fails too if what failed is a hook that hears of events.
        with suppress(Exception):
            self._here.scope.emit(trouble("intercept", exc))
        return True


def open_call(
    here: Active,
    http_call: Callable[[], HttpCall],
    *,
    is_async: bool,
    asked: Hashable | None = None,
    divides: bool = False,
) -> Step | None:
    """Decide what becomes of an HTTP request; None is no model call, or one that we failed to judge.

    Parameters
    ----------
    asked
        All that `http_call` is made of and what was learned of uploads, by which a call is known again; None where
        that can't be told.
    divides
        Whether who asks can send another body in the place of its caller's, as a `Lead` may ask for.

    Raises
    ------
    ReplayMiss
        Mode ``replay`` and the answer can't be served, or what may be a model call is not known: the model is never
        called.
    """
    call: ModelCall | None = None
    with Guarded(here):
        try:
            origins = here.cache.origins
            call = None if asked is None else origins.remembered.get(asked)
            if call is None:
                sent = http_call()
                call = recognise(sent, origins, asked)
            if call is not None and not divides:
                call = fixed(call)
            if call is not None:
                return here.cache.calls.begin(call, here.scope, is_async=is_async)
            is_strange = is_unrecognised(sent, here.cache.origins)
            if (upload := _upload_in(here, sent, is_strange=is_strange)) is not None:
                return upload
            return _unrecognised(here, sent) if is_strange else None
        except UncacheableRequest as exc:
            return _uncached(here, None, str(exc))
    return _uncached(here, call, "the cache failed")


def ask_whole(here: Active, call: ModelCall) -> None:
    """Say that `call` goes to its origin as its caller made it, since parts of it did not go together.

    Raises
    ------
    BudgetExceeded
        It may not.
    """
    with Guarded(here):
        if here.scope.budgets is not None:
            here.scope.budgets.let_pass(call)
        bypass(here.scope, call, APART)


def _upload_in(here: Active, sent: HttpCall, *, is_strange: bool) -> Step | None:
    """Return the step that learns what `sent` uploads, None if it uploads nothing that could be learned."""
    options = here.scope.options
    if (options.mode is Mode.OFF and options.sends) or (not options.sends and is_strange):
        return None
    upload = uploads.recognise(sent, here.cache.origins)
    return None if upload is None else UploadDesk(upload, here.cache.origins).lead(here.scope)


def open_unowned(here: Active, http_call: Callable[[], HttpCall], reason: str) -> Step | None:
    """Say that a request can't be served or recorded, for `reason`, if it is a model call; raises as `open_call`."""
    call: ModelCall | None = None
    with Guarded(here):
        try:
            sent = http_call()
            call = recognise(sent, here.cache.origins)
        except UncacheableRequest as exc:
            return _uncached(here, None, str(exc))
        if call is None:
            return _unrecognised(here, sent) if is_unrecognised(sent, here.cache.origins) else None
    return _uncached(here, call, reason)


def _unrecognised(here: Active, sent: HttpCall) -> Step:
    """Let what may be a model call pass; raises ``ReplayMiss``, ``BudgetExceeded``."""
    if here.scope.options.sends and here.scope.budgets is not None:
        here.scope.budgets.let_pass(None)
    return unrecognised(here.scope, sent)


def _uncached(here: Active, call: ModelCall | None, reason: str) -> Step | None:
    why = reason.partition(", so ")[0]  # the rest says what becomes of the call in other modes
    with Guarded(here):
        if here.scope.options.sends:
            if here.scope.budgets is not None:
                here.scope.budgets.let_pass(call)
            return bypass(here.scope, call, reason)
        here.scope.foresee("", UNKNOWN)
        not_sent(here.scope, call, f"{'estimate' if here.scope.options.estimate else 'replay'}: {why}")
    refuse_in_replay(here, why)
    return None


def refuse_in_replay(here: Active, why: str = "the status of the cell says why") -> None:
    """Raise ``ReplayMiss`` or ``NotSent`` where a call that we can't answer must not be made."""
    options = here.scope.options
    if not options.sends:
        kind, where = (NotSent, "for an estimate") if options.estimate else (ReplayMiss, "in mode replay")
        miss = kind(f"a model call can't be answered {where}, so it was not sent: {why}")
        interrupts.note(here.scope, miss)
        raise miss


def wait(here: Active, follow: Follow, timeout_s: float | None) -> Step | None:
    """Wait in this thread for the call in flight, no longer than the caller itself would."""
    seat, patience = follow.future, _Patience(timeout_s)
    try:
        while not seat.done() and (pause_s := patience.next_pause_s(seat)) > 0:
            futures.wait([seat], pause_s)
    except BaseException as exc:
        leave(here, follow, exc)
        raise
    return _resume(here, follow)


async def wait_async(here: Active, follow: Follow, timeout_s: float | None) -> Step | None:
    """Await the call in flight, no longer than the caller itself would."""
    seat, patience = follow.future, _Patience(timeout_s)
    try:
        waiter = Waiter(seat)
    except RuntimeError:
        return _resume(here, follow)  # another kind of event loop, which can't wait for our future
    try:
        while not seat.done() and (pause_s := patience.next_pause_s(seat)) > 0:
            await waiter.wait(pause_s)
    except BaseException as exc:
        leave(here, follow, exc)
        raise
    return _resume(here, follow)


class _Patience:
    """How long one follower waits: by its own time-out, our cap, and what its leader is doing."""

    def __init__(self, timeout_s: float | None) -> None:
        self._ends_at = time.monotonic() + (MAX_WAIT_S if timeout_s is None else min(timeout_s, MAX_WAIT_S))

    def next_pause_s(self, seat: Seat) -> float:
        """Return how long to wait before asking again [s]; not above 0 is no longer."""
        now = time.monotonic()
        return min(self._ends_at - now, MAX_IDLE_S - seat.pulse.idle_s(now))


def _give_up(seat: Seat) -> Landing | None:
    """Stop waiting; if the outcome is there, or comes at this very moment, return it."""
    if seat.cancel():
        return None
    try:
        return seat.result()
    except futures.CancelledError:
        return None


def _resume(here: Active, follow: Follow) -> Step | None:
    with Guarded(here):
        return follow.lead.desk.resume(follow, _give_up(follow.future))
    refuse_in_replay(here)
    return None


def leave(here: Active, follow: Follow, error: BaseException | None) -> None:
    """The follower was cancelled or interrupted: take note, and pass on the lead if it just got it."""
    with Guarded(here):
        landing = _give_up(follow.future)
        if isinstance(landing, Promoted):
            follow.lead.flight = landing.flight
        elif isinstance(landing, Admitted):
            follow.lead.permit = landing.permit
        follow.lead.desk.abort(follow.lead, error)
