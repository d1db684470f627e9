"""The httpx family: the part of a call whose answer is not known, and the answer to all of it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from genai_cache_magic.intercept.portions import CODINGS, Portion, without_lengths
from genai_cache_magic.intercept.turns import Turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active


def send_part(send: Callable[..., Any], module: ModuleType, here: Active, turn: Turn, options: dict[str, Any]) -> Any:
    """Send the part of a call whose answer is not known, and return that of the whole call; `module` is the library."""
    request, portion = turn.request, Portion(here, turn)
    part = portion.request(functools.partial(_with_body, module, request))
    if part is not None:
        with turn:
            received = send(part, **{**options, "stream": False})
        answer = _answer(portion, module, received, request)
        if answer is not None:
            return answer
    portion.ask_whole()
    with Turn(request):
        return send(request, **options)


async def send_part_async(
    send: Callable[..., Any], module: ModuleType, here: Active, turn: Turn, options: dict[str, Any]
) -> Any:
    """Do the same for an asynchronous client."""
    request, portion = turn.request, Portion(here, turn)
    part = portion.request(functools.partial(_with_body, module, request))
    if part is not None:
        with turn:
            received = await send(part, **{**options, "stream": False})
        if turn.is_unended:
            await turn.end()
        answer = _answer(portion, module, received, request)
        if answer is not None:
            return answer
    portion.ask_whole()
    with Turn(request):
        return await send(request, **options)


def _answer(portion: Portion, module: ModuleType, received: Any, request: Any) -> Any:
    make = functools.partial(_exchanged, module, received, request)
    return portion.answer(received, received.status_code, make)


def _with_body(module: ModuleType, request: Any, body: bytes) -> Any:
    """Return `request` with another body."""
    return module.Request(
        request.method,
        request.url,
        headers=without_lengths(request.headers.raw),
        content=body,
        extensions=request.extensions,
    )


def _exchanged(module: ModuleType, received: Any, request: Any, answer: Response) -> Any:
    """Return what was `received`, read, as the response to `request` that has the body of `answer`."""
    made = module.Response(
        received.status_code,
        headers=without_lengths(received.headers.raw, CODINGS),
        content=answer.body,
        request=request,
        extensions=received.extensions,
        history=received.history,
        default_encoding=received.default_encoding,
    )
    made.elapsed = received.elapsed
    return made
