"""The SDKs that Stainless generates, above HTTP: a stored answer is given where its SDK asks for it.

``post`` of an SDK's client gets a call's options before they are made an object of, and ``request`` that object before
it is rendered: a resource that is older than our patches asks the latter. Where all that follows from them is foretold
(`shapes`), the call is decided there (`kit`); a hit is answered there, and whatever else was decided is carried out
by the interceptor of the HTTP client, which sees the same request sent and compares. What is not foretold is none of
this file's business.
"""

from __future__ import annotations

import functools
import inspect
import sys
from contextlib import nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import Guarded
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.stainless import bodies
from genai_cache_magic.intercept.stainless.asked import Posted, Requested, posts
from genai_cache_magic.intercept.stainless.bodies import Deferred
from genai_cache_magic.intercept.stainless.kit import Hit, Waiting, kit_of
from genai_cache_magic.intercept.stainless.sdks import SDKS
from genai_cache_magic.intercept.stainless.shapes import misfit
from genai_cache_magic.intercept.turns import current_turn, was_decided

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.intercept.stainless.bodies import Renderings
    from genai_cache_magic.intercept.stainless.kit import Kit
    from genai_cache_magic.intercept.turns import Decided

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
        renderings = bodies.Renderings(module, SDKS[package].params, needs=f"{package}._base_client")
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
    kit = kit_of(package)
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
        if type(data) is dict and renderings.may_wait(kind) and current_turn() is None:
            asking = sys._getframe(3)  # noqa: SLF001 - nothing else tells who asks
            return kit_of(package).deferred(asking, data, functools.partial(original, data, kind))
    return None


def _post(original: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
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
        begun: Hit | Decided | None = None
        if here is not None and path in kit.paths and not (more and any(part is not None for part in more.values())):
            asked = Posted(path, body, options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=False)
            if isinstance(opened, Hit):
                return kit.finished(opened)
            begun = kit.waited(opened) if isinstance(opened, Waiting) else opened
            body, options = asked.data, asked.given
        if isinstance(begun, Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(body) is Deferred:
                body = body.render()
            more.update(cast_to=cast_to, body=body, options=options, stream=stream, stream_cls=stream_cls)
            return original(self, path, **more)

    return post


def _post_async(original: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
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
        begun: Hit | Decided | None = None
        if here is not None and path in kit.paths and not (more and any(part is not None for part in more.values())):
            asked = Posted(path, body, options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=True)
            if isinstance(opened, Hit):
                return kit.finished(opened)
            begun = await kit.waited_async(opened) if isinstance(opened, Waiting) else opened
            body, options = asked.data, asked.given
        if isinstance(begun, Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(body) is Deferred:
                body = await bodies.rendered(body)
            more.update(cast_to=cast_to, body=body, options=options, stream=stream, stream_cls=stream_cls)
            return await original(self, path, **more)

    return post


def _request(original: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        here = active.get()
        if type(options.json_data) is Deferred:
            bodies.deferrals.arrived(options.json_data)
        begun: Hit | Decided | None = None
        if here is not None and not was_decided(self):
            asked = Requested(options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=False)
            begun = kit.waited(opened) if isinstance(opened, Waiting) else opened
        if isinstance(begun, Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(options.json_data) is Deferred:
                options.json_data = options.json_data.render()
            return original(self, cast_to, options, stream=stream, stream_cls=stream_cls)

    return request


def _request_async(original: Callable[..., Any], kit: Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    async def request(self: Any, cast_to: Any, options: Any, *, stream: bool = False, stream_cls: Any = None) -> Any:
        here = active.get()
        if type(options.json_data) is Deferred:
            bodies.deferrals.arrived(options.json_data)
        begun: Hit | Decided | None = None
        if here is not None and not was_decided(self):
            asked = Requested(options, cast_to, stream, stream_cls)
            opened = kit.begin(here, self, asked, is_async=True)
            begun = await kit.waited_async(opened) if isinstance(opened, Waiting) else opened
        if isinstance(begun, Hit):
            return kit.finished(begun)
        with begun or _NOTHING_DECIDED:
            if type(options.json_data) is Deferred:
                options.json_data = await bodies.rendered(options.json_data)
            return await original(self, cast_to, options, stream=stream, stream_cls=stream_cls)

    return request
