"""Work that takes long, done by a thread while the event loop that needs it serves its other tasks."""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from genai_cache_magic.calls.coalesce import Pulse, PutTogether, Seat
from genai_cache_magic.calls.steps import Answered, Follow, Lead, Made, Step, Unmakes
from genai_cache_magic.calls.tasks import Waiter, running_loop
from genai_cache_magic.stores.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

T = TypeVar("T")

MANY: Final = 64
"""Looking so many items up, or storing them, takes 20 ms and more: too long for an event loop."""

_workers: Final = Workers(2, "genai-cache-aside")  # without a thread until there is work


def begun_aside(work: Callable[[], T]) -> Future[T] | None:
    """Let a thread begin `work` in the caller's context; None if no event loop would wait, or there is no thread.

    What was begun is done to its end, whoever goes away meanwhile.
    """
    if running_loop() is None:
        return None
    context = copy_context()
    try:
        return _workers.submit(lambda _: context.run(work), None)
    except RuntimeError:  # no thread can be started
        return None


def answered_or(
    desk: Unmakes, lead: Lead, put_together: Callable[[], Answered | None], otherwise: Callable[[], Step]
) -> Step:
    """Return what `put_together` makes of the items of `lead`, or else what `otherwise` does.

    Many items are put together by a thread, while the tasks of an event loop go on: what is returned waits for it.
    """
    if not lead.is_async or lead.batch is None or len(lead.batch.missing) < MANY:
        return put_together() or otherwise()
    seat = Seat(Pulse())

    def work() -> None:
        try:
            with Made(desk, lead):
                answered = put_together()
        except BaseException as exc:  # noqa: BLE001 - passed on to who waits
            seat.set_result(PutTogether(partial(_raise, exc)))
        else:
            seat.set_result(PutTogether(lambda: answered or otherwise()))

    # Who gives up waiting waits for this all the same: a lead is in one hand at a time.
    seat.set_running_or_notify_cancel()
    if begun_aside(work) is None:
        return put_together() or otherwise()
    return Follow(lead, seat)


def _raise(error: BaseException) -> Step:
    raise error


async def done_aside(work: Callable[[], None]) -> None:
    """Do `work` and wait for it, on an event loop of any kind."""
    begun = begun_aside(work)
    if begun is None:
        work()
        return
    waiter = Waiter(begun)
    while not begun.done():
        await waiter.wait(None)
    begun.result()
