"""Whether a client of an SDK is as it is known, so that its requests are foretold: what it holds, whose code it runs.

Above HTTP nothing of a request is there to be looked at: it is foretold from the client and its options. So all that
takes part has to be the SDK's and the HTTP library's own code, with nobody's around or instead of it, in a client with
no attribute that isn't known. Of anything else nothing is foretold, and it is served at HTTP level.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import logging
import operator
import os
import sys
from functools import cached_property
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_cache_magic.intercept.stainless.bodies import is_plain
from genai_cache_magic.intercept.stainless.sdks import CLIENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from genai_cache_magic.intercept.stainless.sdks import Sdk

_SIGNATURE: Final = ("self", "cast_to", "options", "stream", "stream_cls")

_OWN: Final = (
    # What a request passes by in the client of an SDK, from its resource's method to the HTTP client and back.
    *("post", "request", "_request", "_attempt_request", "_copy_and_prepare", "_maybe_override_cast_to"),
    *("_prepare_options", "_prepare_request", "_build_request", "_build_headers", "_prepare_url", "_send_request"),
    *("_send_with_auth_retry", "_process_response", "_process_response_data", "_should_stream_response_body"),
    *("_auth_headers", "_auth_query", "_bearer_auth", "_api_key_auth", "_admin_api_key_auth", "_validate_headers"),
    *("auth_headers", "custom_auth", "default_headers", "default_query", "qs", "user_agent", "platform_headers"),
    *("base_url", "_make_sse_decoder", "_tracer"),
    *("_custom_auth", "_idempotency_key", "_validate_max_retries", "_get_azure_ad_token", "agent_headers"),
)
_ASIDE: Final = frozenset(
    # What a hit passes by in no client, so that a class of the user's may have a way of its own.
    {"_calculate_retry_timeout", "_parse_retry_after_header", "_should_retry", "_sleep_for_retry", "close", "copy"}
    | {"_make_status_error", "_make_status_error_from_response", "with_options"}
)
_BEHIND_ALL: Final = frozenset({"__getattribute__", "__getattr__"})
_HTTP_OWN: Final = (
    *("send", "_send_handling_auth", "_send_handling_redirects", "_send_single_request", "build_request"),
    *("_transport_for_url", "_merge_url", "_merge_headers", "_merge_cookies", "_merge_queryparams"),
)
_HTTP_READ: Final = (
    *("headers", "params", "cookies", "event_hooks", "_build_request_auth", "_build_auth", "_set_timeout"),
)
_HTTP_KNOWN: Final = frozenset(
    {"_base_url", "_auth", "_params", "_headers", "_cookies", "_timeout", "follow_redirects", "max_redirects"}
    | {"_event_hooks", "_trust_env", "_default_encoding", "_state", "_transport", "_mounts"}
)
_NO_HOOKS: Final[dict[str, list[Any]]] = {}
_ABSENT: Final = frozenset({"NotGiven", "Omit"})
"""By which the SDKs leave out a header or a parameter, each by a class of its own."""

_NOT_TOLD_APART: Final[list[Any]] = []
"""Stands for what may change unseen: nothing is known by it again, since it can't be hashed."""
_HERE: Final = str(Path(__file__).parents[1])
_MOST_CLASSES: Final = 256

_is_read: Final = operator.methodcaller("isEnabledFor", logging.DEBUG)
_may_be_read: Final = operator.methodcaller("get", logging.DEBUG, True)  # noqa: FBT003 - where nothing is remembered
_NOTHING_REMEMBERED: Final[dict[int, bool]] = {}


class Known(NamedTuple):
    """A class that was looked at.

    Attributes
    ----------
    code
        What was found in it.
    read
        Returns the same of the class as it is now.
    attributes
        What its objects may hold, if its part of a request is foretold; None if it isn't.
    """

    code: tuple[Any, ...]
    read: Callable[[type], tuple[Any, ...]]
    attributes: frozenset[str] | None

    def __repr__(self) -> str:
        return f"<{len(self.code)} parts of a class>"


def told_apart(fields: Mapping[str, Any]) -> tuple[object, ...]:
    """Return headers or parameters as they are sent: ``1``, ``1.0`` and ``True`` are equal, but not there."""
    return tuple([(_told_apart(name), _told_apart(value)) for name, value in fields.items()])


def _told_apart(part: object) -> object:
    kind = type(part)
    if kind is str:
        return part
    # Of anything else its text may be its address, or say nothing of what it holds.
    if kind.__name__ in _ABSENT:
        return kind
    return (kind, str(part)) if is_plain(part) else _NOT_TOLD_APART


def misfit(module: ModuleType) -> str:
    """Return why the SDK whose ``_base_client`` is `module` is served at HTTP level alone; empty if it isn't."""
    for name in ("SyncAPIClient", "AsyncAPIClient"):
        client = getattr(module, name, None)
        request = getattr(client, "request", None)
        if request is None or tuple(inspect.signature(request).parameters) != _SIGNATURE:
            return f"{name}.request is not as it was"
        if not all(hasattr(client, part) for part in ("_build_request", "_prepare_options", "_process_response_data")):
            return f"{name} builds its requests in another way"
    if not hasattr(getattr(module, "FinalRequestOptions", None), "model_copy"):
        return "its options are of another kind"
    return ""


class Shapes:
    """The classes of one SDK, and of the HTTP clients that it is given, as they are in this process."""

    def __init__(self, sdk: Sdk) -> None:
        self.sdk = sdk
        self._kinds: dict[type, Known] = {}  # each operation on it is atomic
        self._http_kinds: dict[type, Known] = {}
        self._logs = tuple(
            logging.getLogger(f"{sdk.package}.{name}") for name in ("_base_client", "_response", "_legacy_response")
        )
        # What each remembers of the levels that it was asked about, and forgets when any level of any logger changes.
        self._levels = tuple(getattr(log, "_cache", _NOTHING_REMEMBERED) for log in self._logs)

    def is_foretold(self, client: Any) -> bool:
        """Tell whether what `client` sends, and what it makes of an answer, follows from what is known of it."""
        kind, held = type(client), vars(client)
        if not self._is_foretold_http(held["_client"]):  # first: most of what goes by HTTP is told by a hook
            return False
        attributes = _attributes(self._kinds, kind, self._look_at)
        if attributes is None or not attributes >= held.keys():
            return False
        if any(map(held.get, self.sdk.empty)):
            return False
        return not (_is_traced(getattr(client, "_tracer", None)) or self._is_logged())

    def is_taken(self, client: Any) -> bool:
        """Tell whether what `client` is asked for comes by us before it is sent."""
        return _is_ours(getattr(type(client), "request", None))

    def is_own_resource(self, resource: Any, file: str) -> bool:
        """Tell whether code in `file` that asks for a `resource` of the SDK's asks by the client alone."""
        client: Any = getattr(resource, "_client", None)
        post: Any = getattr(resource, "_post", None)
        if client is None or getattr(post, "__self__", None) is not client:
            return False
        asked, posting = post.__func__, getattr(type(client), "post", None)
        # A resource that is older than our patches, or outlived them, holds another layer of the same.
        is_same = asked is posting or next(_functions(asked)) is next(_functions(posting))
        return is_same and file.startswith(_root(self.sdk.package))

    def state(self, client: Any) -> tuple[object, ...]:
        """Return all of `client` that decides where and as whom it asks, hashable if anyone can tell it apart."""
        held = vars(client)
        # The URL's own parts stand for it: it would render and parse itself anew.
        values = (type(client), held["_base_url"]._uri_reference, *map(held.get, self.sdk.deciding))  # noqa: SLF001
        fields = list(map(held.get, self.sdk.fields))
        if not any(fields):
            return values
        return (*values, *(told_apart(part) if type(part) is dict else part and _NOT_TOLD_APART for part in fields))

    def _is_foretold_http(self, http: Any) -> bool:
        kind, held = type(http), vars(http)
        if any(held.get("_event_hooks", _NO_HOOKS).values()):
            for hook in itertools.chain.from_iterable(held["_event_hooks"].values()):
                if not _is_code_of(hook, _root(self.sdk.package)):
                    return False
        attributes = _attributes(self._http_kinds, kind, _look_at_http)
        return attributes is not None and attributes >= held.keys() and not held["_params"] and not http.is_closed

    def _is_logged(self) -> bool:
        """Tell whether somebody reads what the SDK notes of each request."""
        return any(map(_may_be_read, self._levels)) and any(map(_is_read, self._logs))

    def _look_at(self, kind: type) -> Known:
        package = self.sdk.package
        whole = sys.modules.get(package)
        clients = {getattr(whole, name, None) for name in CLIENTS[package]}
        # A class of the SDK's own beside these asks in a way of its own, as those for Bedrock and Vertex do.
        theirs = [part for part in kind.__mro__ if f"{part.__module__}.".startswith(f"{package}.")]
        code, read = _code_of(kind, _OWN)
        if (
            not theirs
            or theirs[0] not in clients
            or not (is_own(code, package) and _is_ours(getattr(kind, "request", None)))
        ):
            return Known(code, read, None)
        made = {name for part in kind.__mro__ for name, value in vars(part).items() if _is_made_once(value)}
        sdk = self.sdk
        held = frozenset(made) | sdk.silent | {*sdk.deciding, *sdk.fields, *sdk.empty}
        return Known(code, read, None if _overridden(kind, theirs, held) else held)


def _overridden(kind: type, theirs: list[type], held: frozenset[str]) -> set[str]:
    """Return what `kind` has a way of its own for, beside the classes of an SDK (`theirs`) that it is made of.

    That is what those classes have, and what their objects hold, which a class can have a property or a slot for; but
    for what is made once and asked from there, such as a resource.
    """
    own = {name for part in kind.__mro__ if part not in theirs and part is not object for name in vars(part)}
    parts = {name: value for part in reversed(theirs) for name, value in vars(part).items()}
    passed_by = {name for name, value in parts.items() if not _is_made_once(value) and not name.startswith("__")}
    return own & ((passed_by | held | _BEHIND_ALL) - _ASIDE)


def _attributes(kinds: dict[type, Known], kind: type, look_at: Callable[[type], Known]) -> frozenset[str] | None:
    """Return what objects of `kind` may hold, None if nothing is foretold of them; looked up anew once it changes."""
    known = kinds.get(kind)
    try:
        if known is not None and known.read(kind) == known.code:
            return known.attributes
    except AttributeError:
        pass  # something was taken out of it
    if len(kinds) >= _MOST_CLASSES:
        kinds.clear()  # classes that are made in a loop
    known = kinds[kind] = look_at(kind)
    return known.attributes


def _is_traced(tracer: Any) -> bool:
    """Tell whether spans of an SDK's own tracer go anywhere: not so before somebody sets OpenTelemetry up."""
    if tracer is None:
        return False
    trace = sys.modules["opentelemetry.trace"]
    is_set_up = type(tracer) is not trace.ProxyTracer or getattr(trace, "_TRACER_PROVIDER", trace) is not None
    if is_set_up:
        return True
    # Of a context that holds nothing, as nearly all do, the span is not asked for.
    return (
        bool(sys.modules["opentelemetry.context"].get_current()) and trace.get_current_span() is not trace.INVALID_SPAN
    )


def _look_at_http(kind: type) -> Known:
    library = next((part.__module__.partition(".")[0] for part in kind.__mro__ if _is_http_client(part)), "")
    code, read = _code_of(kind, _HTTP_OWN)
    reads, _ = _code_of(kind, _HTTP_READ)
    is_librarys = library and is_own((*code, *reads), library) and not _is_held_behind(kind)
    return Known(code, read, _HTTP_KNOWN if is_librarys else None)


def _is_held_behind(kind: type) -> bool:
    """Tell whether a class has a way of its own to say what its objects hold."""
    return any(not _BEHIND_ALL.isdisjoint(vars(part)) for part in kind.__mro__ if part is not object)


def _is_http_client(kind: type) -> bool:
    return kind.__name__ in {"Client", "AsyncClient"} and kind.__module__.partition(".")[0] in {"httpx", "httpx2"}


def _code_of(kind: type, names: tuple[str, ...]) -> tuple[tuple[Any, ...], Callable[[type], tuple[Any, ...]]]:
    """Return those of `names` that `kind` has, with those of its bases that they go on to, and what reads them."""
    read: Any = _reads([name for name in names if hasattr(kind, name)])
    beneath: dict[type, list[str]] = {}
    for name in names:
        for part in _goes_on_to(kind, name):
            beneath.setdefault(part, []).append(name)
    if not beneath:
        return read(kind), read
    bases = [(_reads(held), part) for part, held in beneath.items()]

    def read_all(kind: type) -> tuple[Any, ...]:
        found: tuple[Any, ...] = read(kind)
        for of_base, part in bases:
            found += of_base(part)
        return found

    return read_all(kind), read_all


def _goes_on_to(kind: type, name: str) -> Iterator[type]:
    """Yield the bases that an attribute of `kind` may be looked for in by what has it, one after another."""
    order = kind.__mro__
    having = [place for place, part in enumerate(order) if name in vars(part)]
    for place, further in itertools.pairwise(having):
        after = next(part for part in order[place + 1 :] if hasattr(part, name))
        yield after  # where another one may be put between these two
        if getattr(after, name) is not getattr(order[further], name):
            yield order[further]


def _reads(names: list[str]) -> Callable[[type], tuple[Any, ...]]:
    """Return what reads these attributes of a class."""
    if len(names) != 1:
        return operator.attrgetter(*names) if names else lambda _: ()
    (name,) = names
    return lambda kind: (getattr(kind, name),)


def is_own(code: tuple[Any, ...], package: str) -> bool:
    """Tell whether all of `code` is of an imported package, or ours over it."""
    return bool(code) and all(_is_code_of(part, _root(package)) for part in code)


def _is_code_of(part: Any, root: str) -> bool:
    return all(
        type(function) is FunctionType and function.__code__.co_filename.startswith(root)
        for function in _functions(part)
    )


def _functions(part: Any) -> Iterator[Any]:
    """Yield what runs for an attribute of a class, below what we have put around it ourselves."""
    if isinstance(part, property):
        yield from (f for f in (part.fget, part.fset, part.fdel) if f is not None)
    elif isinstance(part, cached_property):
        yield part.func
    else:
        yield part.__wrapped__ if _is_ours(part) else part


def _is_ours(part: Any) -> bool:
    return type(part) is FunctionType and part.__code__.co_filename.startswith(_HERE)


def _is_made_once(value: object) -> bool:
    """Tell whether an attribute of a class is made at its first use, and then held by the object."""
    return type(value).__name__ == "cached_property"


@functools.cache
def _root(package: str) -> str:
    """Return the directory of an imported package, with what ends it."""
    return str(Path(str(sys.modules[package].__file__)).parent) + os.sep
