"""aiobotocore, and so aioboto3: calls of Amazon Bedrock, asynchronous.

The same three places as in botocore, which this library builds on and whose endpoint it makes asynchronous:
``_send_request`` owns a call with all its attempts, above signing; ``create_request`` leaves a request unsigned
that has its answer already; ``_send`` is the network. Not ``_make_api_call``, two floors up: there the request has
not been made yet, and one entry would not serve those who ask by botocore.

It sends by aiohttp, so a stored answer is played and a new one taped there, on a turn that is lent to it: parsers and
streams get what they always get. Where it sends by httpx, that interceptor sees the calls by itself.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any, ClassVar, Final

from genai_cache_magic.calls.steps import Follow
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import wait_async
from genai_cache_magic.intercept.clients import aiohttp, botocore_kit
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.portions import Portion
from genai_cache_magic.intercept.turns import Turn, current_turn, turn_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group


MODULES: Final = ("aiobotocore.endpoint",)


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in ``aiobotocore.endpoint``.

    Raises
    ------
    AttributeError
        This release of it, or of aiohttp or botocore below it, is built differently.
    """
    kit = _Kit()
    endpoint = module.AioEndpoint
    return [
        (
            Point(endpoint, "_send_request", functools.partial(_send_request, kit=kit)),  # `make_request` is botocore's
            Point(endpoint, "create_request", _create_request),
            Point(endpoint, "_send", functools.partial(_send, kit=kit)),  # below parsing and retries
        )
    ]


def _send_request(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _send_request(self: Any, request_dict: dict[str, Any], operation_model: Any) -> Any:
        here = active.get()
        step = None if here is None else kit.begin(here, self, request_dict)
        if here is None or step is None:
            return await original(self, request_dict, operation_model)
        while isinstance(step, Follow):
            step = await wait_async(here, step, botocore_kit.read_timeout(request_dict))
        turn = turn_for(
            here, request_dict, step, is_origins=kit.is_origins, play=functools.partial(kit.play, request_dict["url"])
        )
        if turn.lead is not None:
            return await _send_part(functools.partial(original, self), kit, here, turn, operation_model)
        with turn:
            made = await original(self, request_dict, operation_model)
        if turn.is_unended:
            await turn.end()
        return made

    return _send_request


async def _send_part(send: Callable[..., Any], kit: _Kit, here: Active, turn: Turn, operation: Any) -> Any:
    """Send the part of a call whose answer is not known, and return that of the whole call.

    Nothing is signed yet: the part is signed as the whole call would have been.
    """
    asked, portion = turn.request, Portion(here, turn)
    part = portion.request(functools.partial(kit.with_body, asked))
    if part is not None:
        with turn:
            made = await send(part, operation)
            await kit.read(made)
        if turn.is_unended:
            await turn.end()
        answer = portion.answer(made, made[0].status_code, functools.partial(kit.play, asked["url"]))
        if answer is made:
            return made
        if answer is not None:
            with Turn(asked, outcome=answer):
                return await send(asked, operation)
    portion.ask_whole()
    with Turn(asked):
        return await send(asked, operation)


def _create_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def create_request(self: Any, params: dict[str, Any], operation_model: Any = None) -> Any:
        if not botocore_kit.has_answer(params):
            return await original(self, params, operation_model)
        # Without a model of the operation nobody is told of the request, above all not who signs it.
        request = await original(self, params)
        if operation_model is not None:
            is_streamed = operation_model.has_streaming_output or operation_model.has_event_stream_output
            request.stream_output = is_streamed
        return request

    return create_request


def _send(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _send(self: Any, request: Any) -> Any:
        turn = current_turn()
        if turn is None:
            return await original(self, request)
        # Once: whoever tries again after an error asks the origin.
        outcome, turn.outcome = turn.outcome, None
        if isinstance(outcome, BaseException):
            raise outcome
        if turn.recording is not None:
            turn.recording.sent(functools.partial(kit.http_call, self, vars(request)))
        elif outcome is None:
            return await original(self, request)
        with aiohttp.Lent(request, outcome=outcome, recording=turn.recording):
            return await original(self, request)

    return _send


class _Kit(botocore_kit.Kit):
    """Botocore's, but for whose calls these are and how answers are played."""

    is_async: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._session = importlib.import_module("aiobotocore.httpsession").AIOHTTPSession

    def may_own(self, endpoint: Any) -> bool:
        """Tell whether `endpoint` sends by aiohttp, in the library's own way."""
        return type(endpoint.http_session) is self._session

    async def read(self, made: tuple[Any, Any]) -> None:
        """Read an answer to its end, as its caller would."""
        body: Any = made[1].get("body") if type(made[1]) is dict else None
        if hasattr(body, "read"):
            await body.read()

    def played(self, stored: Response, url: str) -> bytes:  # noqa: ARG002 - botocore's answers know their URL
        """Return `stored` as it comes over the wire."""
        return aiohttp.on_the_wire(stored)
