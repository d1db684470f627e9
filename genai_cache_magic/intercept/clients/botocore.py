"""botocore, and so boto3: calls of Amazon Bedrock, synchronous.

``make_request`` owns a call, with all its attempts: it looks up, and serves or leads. It is above
signing, so a replay needs no credentials: ``create_request`` then leaves the request unsigned. ``_send``
puts the stored response in the place of the network, or tees the real one; what is above it, botocore's
parser and its handlers, is the same on a hit as on a miss.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.steps import Follow
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import wait
from genai_cache_magic.intercept.clients.botocore_kit import Kit, has_answer, read_timeout
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.portions import Portion
from genai_cache_magic.intercept.turns import Turn, current_turn, turn_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group


MODULES: Final = ("botocore.endpoint",)


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in ``botocore.endpoint``.

    Raises
    ------
    AttributeError
        This release of it, or of urllib3 below it, is built differently.
    """
    kit = Kit()
    endpoint = module.Endpoint
    return [
        (
            Point(endpoint, "make_request", functools.partial(_make_request, kit=kit)),
            Point(endpoint, "create_request", _create_request),
            Point(endpoint, "_send", functools.partial(_send, kit=kit)),  # below parsing and retries
        )
    ]


def _make_request(original: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def make_request(self: Any, operation_model: Any, request_dict: dict[str, Any]) -> Any:
        here = active.get()
        step = None if here is None else kit.begin(here, self, request_dict)
        if here is None or step is None:
            return original(self, operation_model, request_dict)
        while isinstance(step, Follow):
            step = wait(here, step, read_timeout(request_dict))
        turn = turn_for(
            here, request_dict, step, is_origins=kit.is_origins, play=functools.partial(kit.play, request_dict["url"])
        )
        if turn.lead is not None:
            return _send_part(functools.partial(original, self), kit, here, turn, operation_model)
        with turn:
            return original(self, operation_model, request_dict)

    return make_request


def _send_part(send: Callable[..., Any], kit: Kit, here: Active, turn: Turn, operation: Any) -> Any:
    """Send the part of a call whose answer is not known, and return that of the whole call.

    Nothing is signed yet: the part is signed as the whole call would have been.
    """
    asked, portion = turn.request, Portion(here, turn)
    part = portion.request(functools.partial(kit.with_body, asked))
    if part is not None:
        with turn:
            made = send(operation, part)
            kit.read(made)
        answer = portion.answer(made, made[0].status_code, functools.partial(kit.play, asked["url"]))
        if answer is made:
            return made
        if answer is not None:
            with Turn(asked, outcome=answer):
                return send(operation, asked)
    portion.ask_whole()
    with Turn(asked):
        return send(operation, asked)


def _create_request(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_request(self: Any, params: dict[str, Any], operation_model: Any = None) -> Any:
        if has_answer(params):
            # Without a model of the operation nobody is told of the request, above all not who signs it.
            return original(self, params)
        return original(self, params, operation_model)

    return create_request


def _send(original: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def _send(self: Any, request: Any) -> Any:
        turn = current_turn()
        if turn is None:
            return original(self, request)
        if turn.outcome is not None:
            # Once: whoever tries again after an error asks the origin.
            outcome, turn.outcome = turn.outcome, None
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome
        if turn.recording is None:
            return original(self, request)
        turn.recording.sent(functools.partial(kit.http_call, self, vars(request)))
        response = original(self, request)
        kit.record(turn.recording, request, response)
        return response

    return _send
