"""The SDKs that Stainless generates, above HTTP: a stored answer is given where its SDK asks for it.

``post`` of an SDK's client gets a call's options before they are made an object of, and ``request`` that object before
it is rendered: a resource that is older than our patches asks the latter. Where all that follows from them is foretold
(`stainless_shapes`), the call is decided there; a hit is answered there, and whatever else was decided is carried out
by the interceptor of the HTTP client, which sees the same request sent and compares. What is not foretold is none of
this file's business.
"""

from __future__ import annotations

import functools
import inspect
import json
import sys
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from genai_cache_magic.calls.steps import Answered, Bypass, Follow
from genai_cache_magic.intercept import httpx, replay
from genai_cache_magic.intercept import stainless_bodies as bodies
from genai_cache_magic.intercept import stainless_heads as heads
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import Guarded, open_call, wait, wait_async
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.stainless_answers import Answers
from genai_cache_magic.intercept.stainless_asked import UNSAID, Posted, Requested, posts
from genai_cache_magic.intercept.stainless_bodies import Deferred
from genai_cache_magic.intercept.stainless_shapes import SDKS, Shapes, misfit
from genai_cache_magic.intercept.stainless_streams import Streams
from genai_cache_magic.intercept.turns import Decided, current_turn, was_decided

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType

    from genai_cache_magic.calls.steps import Step
    from genai_cache_magic.core.model import Response
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.intercept.stainless_asked import Asked
    from genai_cache_magic.intercept.stainless_bodies import Renderings
    from genai_cache_magic.intercept.stainless_heads import Head

MODULES: Final = (
    *(f"{package}._base_client" for package in SDKS),
    *(f"{package}._utils._transform" for package, sdk in SDKS.items() if sdk.params),
)

_TRANSFORM: Final = ("data", "expected_type")
_NOTHING_DECIDED: Final = nullcontext()
_NO_OPTIONS: Final = MappingProxyType[str, Any]({})


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in a module of an SDK: nothing in a release that is built differently."""
    package = module.__name__.removesuffix("._base_client").removesuffix("._utils._transform")
    if module.__name__.endswith("._transform"):
        names = ("transform", "async_transform")
        if any(tuple(inspect.signature(getattr(module, name)).parameters) != _TRANSFORM for name in names):
            return []
        renderings = bodies.Renderings(module)
        return [
            (Point(module, "transform", functools.partial(_transform, package=package, renderings=renderings)),),
            (
                Point(
                    module,
                    "async_transform",
                    functools.partial(_transform_async, package=package, renderings=renderings),
                ),
            ),
        ]
    if misfit(module):
        return []
    kit = _kit_of(package)
    groups: list[Group] = [
        (Point(module.SyncAPIClient, "request", functools.partial(_request, kit=kit)),),
        (Point(module.AsyncAPIClient, "request", functools.partial(_request_async, kit=kit)),),
    ]
    if posts(module):
        groups += [
            (Point(module.SyncAPIClient, "post", functools.partial(_post, kit=kit)),),
            (Point(module.AsyncAPIClient, "post", functools.partial(_post_async, kit=kit)),),
        ]
    return groups


def slower() -> tuple[str, ...]:
    """Return, in sentences, which SDKs are imported here whose hits go by HTTP alone, and why."""
    found = []
    for package in SDKS:
        module = sys.modules.get(f"{package}._base_client")
        if module is not None and (why := misfit(module)):
            release = f"{package} {getattr(sys.modules[package], '__version__', '')}".strip()
            found.append(f"hits of {release} are given by HTTP, which takes longer, since {why}; all else is as always")
    return tuple(found)


def _transform(original: Callable[..., Any], package: str, renderings: Renderings) -> Callable[..., Any]:
    @functools.wraps(original)
    def transform(data: Any, expected_type: Any) -> Any:
        deferred = _deferred(original, data, expected_type, package, renderings)
        return original(data, expected_type) if deferred is None else deferred

    return transform


def _transform_async(original: Callable[..., Any], package: str, renderings: Renderings) -> Callable[..., Any]:
    @functools.wraps(original)
    async def async_transform(data: Any, expected_type: Any) -> Any:
        deferred = _deferred(original, data, expected_type, package, renderings)
        return await original(data, expected_type) if deferred is None else deferred

    return async_transform


def _deferred(
    original: Callable[..., Any], data: Any, kind: Any, package: str, renderings: Renderings
) -> Deferred | None:
    here = active.get()
    if here is None:
        return None
    with Guarded(here):
        if _may_wait(data, kind, package, renderings):
            asking = sys._getframe(3)  # noqa: SLF001 - nothing else tells who asks
            return _kit_of(package).deferred(asking, data, functools.partial(original, data, kind))
    return None


def _may_wait(data: Any, kind: Any, package: str, renderings: Renderings) -> bool:
    """Tell whether `data` is all of a body, which `transform` leaves as it is if it is plain."""
    if type(data) is not dict or f"{package}._base_client" not in sys.modules:
        return False
    return _module_of(kind) in SDKS[package].params and current_turn() is None and renderings.leaves(kind)


@functools.lru_cache(maxsize=64)
def _module_of(kind: Any) -> str:
    """Return where a type of parameters is from; of a union, where its first one is."""
    return str(getattr(next(iter(get_args(kind)), kind), "__module__", ""))


def _post(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def post(  # noqa: PLR0913 - as the SDK's own
        self: Any,
        path: str,
        *,
        cast_to: Any,
        body: Any = None,
        options: Any = _NO_OPTIONS,
        stream: bool = False,
        stream_cls: Any = None,
        **more: Any,
    ) -> Any:
        here = active.get()
        if type(body) is Deferred:
            bodies.deferrals.arrived(body)
        begun: _Hit | Decided | None = None
        if here is not None and path in kit.paths and not any(more.values()):
            asked = Posted(path, body, options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=False)
            begun = kit.waited(opened) if isinstance(opened, _Waiting) else opened
            body, options = asked.data, asked.given
        if isinstance(begun, _Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(body) is Deferred:
                body = body.render()
            more.update(cast_to=cast_to, body=body, options=options, stream=stream, stream_cls=stream_cls)
            return original(self, path, **more)

    return post


def _post_async(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def post(  # noqa: PLR0913 - as the SDK's own
        self: Any,
        path: str,
        *,
        cast_to: Any,
        body: Any = None,
        options: Any = _NO_OPTIONS,
        stream: bool = False,
        stream_cls: Any = None,
        **more: Any,
    ) -> Any:
        here = active.get()
        if type(body) is Deferred:
            bodies.deferrals.arrived(body)
        begun: _Hit | Decided | None = None
        if here is not None and path in kit.paths and not any(more.values()):
            asked = Posted(path, body, options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=True)
            begun = await kit.waited_async(opened) if isinstance(opened, _Waiting) else opened
            body, options = asked.data, asked.given
        if isinstance(begun, _Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(body) is Deferred:
                body = await bodies.rendered(body)
            more.update(cast_to=cast_to, body=body, options=options, stream=stream, stream_cls=stream_cls)
            return await original(self, path, **more)

    return post


def _request(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        here = active.get()
        if type(options.json_data) is Deferred:
            bodies.deferrals.arrived(options.json_data)
        begun: _Hit | Decided | None = None
        if here is not None and not was_decided(self):
            asked = Requested(options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=False)
            begun = kit.waited(opened) if isinstance(opened, _Waiting) else opened
        if isinstance(begun, _Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(options.json_data) is Deferred:
                options.json_data = options.json_data.render()
            return original(self, cast_to, options, stream=stream, stream_cls=stream_cls)

    return request


def _request_async(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        here = active.get()
        if type(options.json_data) is Deferred:
            bodies.deferrals.arrived(options.json_data)
        begun: _Hit | Decided | None = None
        if here is not None and not was_decided(self):
            asked = Requested(options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=True)
            begun = await kit.waited_async(opened) if isinstance(opened, _Waiting) else opened
        if isinstance(begun, _Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(options.json_data) is Deferred:
                options.json_data = await bodies.rendered(options.json_data)
            return await original(self, cast_to, options, stream=stream, stream_cls=stream_cls)

    return request


class _Hit(NamedTuple):
    """A stored answer as its caller gets it; where the call has a function of its own for that, before and with it."""

    made: Any
    response: Response | None = None
    parser: Any = None

    def __repr__(self) -> str:
        return "<a hit>"


class _Waiting(NamedTuple):
    """A call that waits for one like it, or for what a team has; with what was foretold of its request."""

    here: Active
    client: Any
    asked: Asked
    foretold: tuple[Head, dict[str, Any], bytes]
    follow: Follow

    def __repr__(self) -> str:
        return "<a call that waits>"


class _Kit:
    """What is made once per SDK."""

    def __init__(self, package: str) -> None:
        sdk = SDKS[package]
        self.paths = sdk.paths
        self._shapes = Shapes(sdk)
        self._kind = sys.modules[f"{package}._base_client"].FinalRequestOptions
        self._heads = heads.Heads(self._kind)
        self._answers = Answers(sdk)
        self._streams = Streams(package, self._answers)
        types = sys.modules[f"{package}._types"]
        self._not_given = types.NotGiven
        self._absent = frozenset({types.NotGiven, types.Omit})
        self._refused = 0  # the `id` of the client of which nothing was foretold a moment ago

    def begin(self, here: Active, client: Any, asked: Asked, *, is_async: bool) -> _Hit | _Waiting | Decided | None:
        """Decide what becomes of a call; None leaves it to whoever sees it sent.

        Raises
        ------
        ReplayMiss
            As `open_call`.
        """
        if asked.url not in self.paths or current_turn() is not None:
            return None
        foretold = None
        if self._refused != id(client):
            with Guarded(here):
                foretold = self._foretold(here, client, asked)
        if self._refused == id(client):
            self._refused = 0
            return _by_http(here, client) if type(asked) is Posted else None
        if foretold is None:
            return None
        head, _, raw = foretold
        known_by = (head.mark, raw, here.cache.origins.uploads.version)
        step = open_call(here, functools.partial(head.with_body, raw), is_async=is_async, asked=known_by, divides=True)
        if isinstance(step, Follow):
            return _Waiting(here, client, asked, foretold, step)
        return None if step is None else self._carried(here, client, asked, foretold, step)

    def waited(self, call: _Waiting) -> _Hit | Decided:
        """Wait in this thread until it is decided what becomes of `call`."""
        step: Step | None = call.follow
        while isinstance(step, Follow):
            step = wait(call.here, step, self.patience_s(call.client, call.asked))
        return self._resumed(call, step or Bypass())  # nothing: we failed to decide

    async def waited_async(self, call: _Waiting) -> _Hit | Decided:
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

    def _resumed(self, call: _Waiting, step: Step) -> _Hit | Decided:
        here, client, asked, foretold, _ = call
        begun = self._carried(here, client, asked, foretold, step)
        if not isinstance(begun, _Hit):
            # Its caller may have gone on with the lists that it was called with: it asks what it asked then.
            asked.settle(json.loads(foretold[2]))
        return begun

    def _carried(
        self, here: Active, client: Any, asked: Asked, foretold: tuple[Head, dict[str, Any], bytes], step: Step
    ) -> _Hit | Decided:
        """Return the answer as the SDK gives it, or what was decided, for whoever sees the request sent."""
        head, body, _ = foretold
        if isinstance(step, Answered):
            with Guarded(here):
                if asked.stream and self._answers.streams(step.response):
                    return _Hit(self._played(client, asked, step, body))
                if not asked.stream and self._answers.makes(asked.cast_to, step.response):
                    is_raw = heads.RAW in (asked.headers or ())
                    return (
                        _Hit(self._played(client, asked, step, body))
                        if is_raw
                        else self._made(client, asked, step.response)
                    )
        passes_by = client if type(asked) is Posted else None  # ``request``, of the same client
        return Decided(here, step, client._client, head.url, passes_by)  # noqa: SLF001 - what the SDK sends by

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
        if plain is None or not bodies.is_plain(plain):
            return None
        deferred = Deferred(plain, render, client)
        if not bodies.deferrals.may_go(deferred):
            return None
        # Once more, now that nobody takes the patch away before it has arrived: that may have happened meanwhile.
        return deferred if self._shapes.is_taken(client) else None

    def _made(self, client: Any, asked: Asked, response: Response) -> _Hit:
        parser = asked.parser
        if parser is None or isinstance(parser, self._not_given):
            return _Hit(self._answers.whole(client, asked.cast_to, response))
        return _Hit(self._answers.model(client, asked.cast_to, response.body), response, parser)

    def finished(self, hit: _Hit) -> Any:
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

    def _foretold(self, here: Active, client: Any, asked: Asked) -> tuple[Head, dict[str, Any], bytes] | None:
        """Return the request that is going to be sent, as head, body and its bytes; None if that isn't certain."""
        if not asked.is_plain:
            return None
        extra_headers = here.cache.origins.extra_headers
        if extra_headers and not heads.are_lasting(extra_headers):
            return None
        data, extra = asked.data, asked.extra
        if type(data) is Deferred and data.client is client:
            body = data.plain if extra is None else bodies.merged(data.plain, extra, self._absent)
            is_plain = extra is None or bodies.is_plain(extra)
        else:
            if not self._shapes.is_foretold(client):
                self._refused = id(client)
                return None
            body = bodies.merged(data, extra, self._absent)
            is_plain = bodies.is_plain(body)
        raw = bodies.spelled(body) if is_plain and body is not None else None
        if body is None or raw is None:
            return None
        model = body.get("model")
        head = self._heads.head_of(client, self._shapes.state(client), asked, model if type(model) is str else "")
        return head and (head, body, raw)


def _by_http(here: Active, client: Any) -> Decided:
    """Return what lets ``request``, of the same `client`, leave a call to HTTP level without asking again."""
    return Decided(here, None, client._client, None, client)  # noqa: SLF001 - as in `_carried`


@functools.cache
def _kit_of(package: str) -> _Kit:
    return _Kit(package)
