"""One SDK above HTTP: what becomes of a call of its clients, and what such a call gets of a stored answer."""

from __future__ import annotations

import functools
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from genai_cache_magic.calls.steps import Answered, Bypass, Follow, Lead
from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.base import Guarded, open_call, wait, wait_async
from genai_cache_magic.intercept.clients import httpx
from genai_cache_magic.intercept.stainless import bodies, heads
from genai_cache_magic.intercept.stainless.answers import Answers
from genai_cache_magic.intercept.stainless.asked import UNSAID, Posted
from genai_cache_magic.intercept.stainless.bodies import Deferred
from genai_cache_magic.intercept.stainless.sdks import SDKS
from genai_cache_magic.intercept.stainless.shapes import Shapes
from genai_cache_magic.intercept.stainless.streams import Streams
from genai_cache_magic.intercept.turns import Decided, current_turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from genai_cache_magic.calls.steps import Step
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.stainless.asked import Asked
    from genai_cache_magic.intercept.stainless.heads import Foretold


class Hit(NamedTuple):
    """A stored answer as its caller gets it; where the call has a function of its own for that, before and with it."""

    made: Any
    response: Response | None = None
    parser: Any = None

    def __repr__(self) -> str:
        return "<a hit>"


class Waiting(NamedTuple):
    """A call that waits for one like it, or for what a team has; with what was foretold of its request."""

    here: Active
    client: Any
    asked: Asked
    foretold: Foretold
    follow: Follow

    def __repr__(self) -> str:
        return "<a call that waits>"


class Kit:
    """What is made once per SDK: decides what becomes of its calls, and makes what they get."""

    def __init__(self, package: str) -> None:
        sdk = SDKS[package]
        self.paths = sdk.paths
        self._shapes = Shapes(sdk)
        base = sys.modules[f"{package}._base_client"]
        self._kind = base.FinalRequestOptions
        self._heads = heads.Heads(self._kind)
        self._answers = Answers(sdk)
        self._streams = Streams(package, self._answers)
        types = sys.modules[f"{package}._types"]
        self._not_given = types.NotGiven
        self._absent = frozenset({types.NotGiven, types.Omit})
        # Where a body that was rendered is gone through once more. Elsewhere it is sent as it is, or can't be.
        self._absent_still = self._absent if hasattr(base.SyncAPIClient, "_copy_and_prepare") else frozenset[type]()
        self._timeouts = frozenset({int, float, type(None), types.Timeout})
        self._refused = 0  # the `id` of the client of which nothing was foretold a moment ago

    def begin(self, here: Active, client: Any, asked: Asked, *, is_async: bool) -> Hit | Waiting | Decided | None:
        """Decide what becomes of a call; None leaves it to whoever sees it sent.

        Raises
        ------
        ReplayMiss
            As `open_call`.
        """
        if asked.url not in self.paths or (type(asked.data) is not Deferred and current_turn() is not None):
            return None  # what was deferred was so a moment ago, where no turn was
        foretold, guarded = None, Guarded(here)
        if self._refused != id(client):
            with guarded:
                foretold = self._foretold(here, client, asked)
        if foretold is None:
            if self._refused != id(client):
                return None
            self._refused = 0
            return _by_http(here, client) if type(asked) is Posted else None
        step = open_call(here, foretold.whole, is_async=is_async, asked=foretold.known_by, divides=True)
        if type(step) is Answered and (again := self._again(guarded, asked, step.response)) is not None:
            return again
        if isinstance(step, Follow):
            return Waiting(here, client, asked, foretold, step)
        return None if step is None else self._carried(here, client, asked, foretold, step)

    def waited(self, call: Waiting) -> Hit | Decided:
        """Wait in this thread until it is decided what becomes of `call`."""
        step: Step | None = call.follow
        while isinstance(step, Follow):
            step = wait(call.here, step, self.patience_s(call.client, call.asked))
        return self._resumed(call, step or Bypass())  # nothing: we failed to decide

    async def waited_async(self, call: Waiting) -> Hit | Decided:
        """Await that it is decided what becomes of `call`."""
        step: Step | None = call.follow
        while isinstance(step, Follow):
            step = await wait_async(call.here, step, self.patience_s(call.client, call.asked))
        return self._resumed(call, step or Bypass())

    def patience_s(self, client: Any, asked: Asked) -> float | None:
        """Return how long a call waits for an answer at most [s], as its HTTP client would; None is without end."""
        timeout = asked.timeout
        if timeout is UNSAID or isinstance(timeout, self._not_given):
            timeout = client.timeout
        read = getattr(timeout, "read", timeout)
        return read if isinstance(read, int | float) else None

    def _is_accepted(self, client: Any, asked: Asked) -> bool:
        """Tell whether the SDK takes what a call and its client say of time and tries, whatever becomes of the call."""
        timeout, tries = asked.timeout, client.max_retries
        if timeout is UNSAID or isinstance(timeout, self._not_given):
            timeout = client.timeout
        return type(timeout) in self._timeouts and type(tries) is int and tries >= 0

    def _resumed(self, call: Waiting, step: Step) -> Hit | Decided:
        here, client, asked, foretold, _ = call
        begun = self._carried(here, client, asked, foretold, step)
        if not isinstance(begun, Hit):
            # Its caller may have gone on with the lists that it was called with: it asks what it asked then.
            asked.settle(json.loads(foretold.raw))
        return begun

    def _carried(self, here: Active, client: Any, asked: Asked, foretold: Foretold, step: Step) -> Hit | Decided:
        """Return the answer as the SDK gives it, or what was decided, for whoever sees the request sent."""
        head, body = foretold.head, foretold.body
        if isinstance(step, Answered):
            with Guarded(here):
                if asked.stream and self._answers.streams(step.response):
                    return Hit(self._played(client, asked, step, body))
                if not asked.stream and self._answers.makes(asked.cast_to, step.response):
                    if heads.RAW in (asked.headers or ()):
                        return Hit(self._played(client, asked, step, body))
                    if self._answers.are_parsed_as_ever():
                        return self._made(client, asked, step.response)
        passes_by = client if type(asked) is Posted else None  # ``request``, of the same client
        looked_up = foretold.looked_up if isinstance(step, Lead) else None  # of whose answer something is kept
        where = httpx.where(head.url)
        return Decided(here, step, client._client, where, passes_by, looked_up)  # noqa: SLF001 - what the SDK sends by

    def _again(self, guarded: Guarded, asked: Asked, response: Response) -> Hit | None:
        """Return a stored answer that this process knows how to make again, if nothing but that is asked for."""
        if asked.stream or (asked.headers and heads.RAW in asked.headers):
            return None
        if asked.parser is not None and not isinstance(asked.parser, self._not_given):
            return None
        with guarded:
            made = self._answers.recipes.make(response, asked.cast_to)
            return Hit(made) if made is not None and self._answers.are_parsed_as_ever() else None
        return None

    def deferred(self, frame: FrameType, data: Any, render: Callable[[], Any]) -> Deferred | None:
        """Return the body that a resource of the SDK's, in `frame`, is about to hand on; None if it is to be rendered.

        It is handed on to us alone, by a client of which all is foretold.
        """
        resource: Any = frame.f_locals.get("self")
        if not self._shapes.is_own_resource(resource, frame.f_code.co_filename):
            return None
        client = resource._client  # noqa: SLF001 - as its class declares it
        if not self._shapes.is_foretold(client):
            self._refused = id(client)  # spares asking again in this call; one that takes it over goes by HTTP, once
            return None
        plain = bodies.merged(data, None, self._absent)
        raw = None if plain is None else bodies.spelled(plain)
        if plain is None or raw is None:
            return None
        deferred = Deferred(plain, raw, render, client)
        if not bodies.deferrals.may_go(deferred):
            return None
        # Once more, now that nobody takes the patch away before it has arrived: that may have happened meanwhile.
        return deferred if self._shapes.is_taken(client) else None

    def _made(self, client: Any, asked: Asked, response: Response) -> Hit:
        parser = asked.parser
        if parser is None or isinstance(parser, self._not_given):
            return Hit(self._answers.whole(client, asked.cast_to, response))
        return Hit(self._answers.model(client, asked.cast_to, response.body), response, parser)

    def finished(self, hit: Hit) -> Any:
        """Return what the SDK returns of a model: what a call's own function makes of it, with its request's ids."""
        if hit.response is None:
            return hit.made
        return self._answers.labelled(hit.parser(hit.made), hit.response)

    def _played(self, client: Any, asked: Asked, step: Answered, body: dict[str, Any]) -> Any:
        """Return the SDK's own stream of a stored answer, or its raw response."""
        options = asked.options(self._kind)  # what is returned keeps them
        request = heads.built(client, options, body)
        stored = replay.marked(step)
        response = httpx.played(client._client, request, stored, is_read=not asked.stream)  # noqa: SLF001 - sends
        played = heads.now(
            client._process_response(  # noqa: SLF001 - as the SDK's own `request` does
                cast_to=asked.cast_to,
                options=options,
                response=response,
                stream=asked.stream,
                stream_cls=asked.stream_cls,
            )
        )
        if asked.stream:
            self._streams.quicken(played, options, step.response.body)
        return played

    def _foretold(self, here: Active, client: Any, asked: Asked) -> Foretold | None:
        """Return the request that is going to be sent; None if that isn't certain."""
        if not (asked.is_plain and self._is_accepted(client, asked)):
            return None
        extra_headers = here.cache.origins.extra_headers
        if extra_headers and not heads.are_lasting(extra_headers):
            return None
        data, extra = asked.data, asked.extra
        is_deferred = type(data) is Deferred and data.client is client
        if not is_deferred and not self._shapes.is_foretold(client):
            self._refused = id(client)
            return None
        if is_deferred and extra is None:
            body, raw = data.plain, data.raw
        else:
            whole, absent = (data.plain, self._absent) if is_deferred else (data, self._absent_still)
            body = bodies.merged(whole, extra, absent)
            raw = None if body is None else bodies.spelled(body)
        if body is None or raw is None:
            return None
        model = body.get("model")  # which may be in the path
        if type(model) is not str and model is not None:
            return None
        head = self._heads.head_of(client, self._shapes.state(client), asked, model)
        return head and heads.Foretold(head, body, raw, here.cache.origins.uploads.version)


def _by_http(here: Active, client: Any) -> Decided:
    """Return what lets ``request``, of the same `client`, leave a call to HTTP level without asking again."""
    return Decided(here, None, client._client, None, client)  # noqa: SLF001 - as in `_carried`


@functools.cache
def kit_of(package: str) -> Kit:
    """Return the one of an imported `package`."""
    return Kit(package)
