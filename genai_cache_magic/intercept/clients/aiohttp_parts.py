"""aiohttp: large batches, asked for in part by their own session, and handed over beside the event loop."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from genai_cache_magic.calls.aside import done_aside
from genai_cache_magic.intercept.portions import Portion
from genai_cache_magic.intercept.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.recording import Recording


class Kit(Protocol):
    """What is known of the library."""

    def exchanged(self, received: Any, answer: Response) -> Any:
        """Return what was `received`, read, with the body of `answer`."""


class Asked(NamedTuple):
    """How a session was asked, and what lets a recording have its response."""

    session: Any
    options: dict[str, Any]
    record: Callable[[Any, Any], None]

    def __repr__(self) -> str:
        return "<a request of a session>"


async def send_part(send: Callable[..., Any], kit: Kit, here: Active, turn: Turn, asked: Asked) -> Any:
    """Send the part of a call whose answer is not known, and return that of the whole call."""
    portion = Portion(here, turn)
    part = portion.request(functools.partial(_with_body, asked.session, asked.options))
    turn.request = None  # the library makes one
    if part is not None:
        with turn:
            received = await send(**part)
            asked.record(turn.recording, received)
            await received.read()
        if turn.is_unended:
            await turn.end()
        answer = portion.answer(received, received.status, functools.partial(kit.exchanged, received))
        if answer is not None:
            return answer
    portion.ask_whole()
    with Turn(None):
        return await send(**asked.options)


async def read_aside(read: Callable[[], Any], recording: Recording) -> Any:
    """Return what `read` does, the whole body; hand it over by a thread before, since that takes long."""
    recording.hold()
    try:
        body = await read()
    except BaseException:
        recording.let_go()  # there is nothing whole to store
        raise
    await done_aside(recording.let_go)
    return body


def _with_body(session: Any, options: dict[str, Any], body: bytes) -> dict[str, Any]:
    """Return `options` of a request with another body."""
    headers = session._prepare_headers(options.get("headers"))  # noqa: SLF001 - with the session's own
    for name in ("Content-Length", "Transfer-Encoding"):
        headers.popall(name, None)
    headers.setdefault("Content-Type", "application/json")
    return {**options, "json": None, "data": body, "headers": headers}
