"""What a client of an SDK would send, without its body: made once by the SDK itself, and remembered for the next call.

URL and headers follow from the client and from a call's own options. The first call of its kind lets the SDK build a
request of them with a body that holds the model alone; what `httpx` would have looked up of that is the head, of this
call and of all that are like it in everything that decides.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from genai_cache_magic.core.credentials import is_credential
from genai_cache_magic.intercept.clients import httpx_sent
from genai_cache_magic.intercept.recording import LookedUp
from genai_cache_magic.intercept.stainless.shapes import told_apart
from genai_cache_magic.providers.base import HttpCall

if TYPE_CHECKING:
    from collections.abc import Coroutine, Hashable, Iterable

    from genai_cache_magic.intercept.clients.httpx_sent import Spelt
    from genai_cache_magic.intercept.stainless.asked import Asked

_MOST_HEADS: Final = 64
"""So many are remembered of one HTTP client."""

_JSON: Final = "application/json"

_NAMES: Final = frozenset({str})

_OF_THE_MOMENT: Final = frozenset({"content-length", "cookie", "host", "idempotency-key", "transfer-encoding"})
_OF_THE_MOMENT_START: Final = "x-stainless-"

RAW: Final = "X-Stainless-Raw-Response"
"""The header by which the SDKs tell themselves that a response is wanted, as their ``with_raw_response`` spells it."""

_READ: Final = frozenset({"true", "raw"})
"""What it says where that is to be read at once."""

_OTHERWISE: Final = frozenset({RAW.lower(), "____stainless_override_cast_to"})
"""Headers by which they tell themselves what else is wanted."""


class Head(NamedTuple):
    """A request without its body.

    Attributes
    ----------
    call
        As the providers judge it, with a body that stands for others.
    url
        As the HTTP library has it.
    transport, mounts, headers
        What the HTTP client sends by and adds, when this was made.
    mark
        Equal to no other head's.
    spelt
        As HTTP level spells it, with a body that stands for others; None if it can't.
    """

    call: HttpCall
    url: Any
    transport: Any
    mounts: list[Any]
    headers: list[Any]
    mark: object
    spelt: Spelt | None

    def __repr__(self) -> str:
        return "<the head of a request>"

    def is_of(self, http: Any) -> bool:
        """Tell whether `http` still sends as it did."""
        return (
            http._transport is self.transport  # noqa: SLF001 - what the client itself reads for each request
            and list(http._mounts.values()) == self.mounts  # noqa: SLF001
            and http._headers._list == self.headers  # noqa: SLF001
        )

    def with_body(self, body: bytes) -> HttpCall:
        """Return the whole call."""
        call = self.call
        return HttpCall(
            call.method,
            call.scheme,
            call.host,
            call.port,
            call.path,
            call.query,
            call.headers,
            body,
            None,
            call.repeated,
            call.route,
        )


class Foretold(NamedTuple):
    """A request that is going to be sent: its head, its body, the body's bytes, and the number of what was uploaded."""

    head: Head
    body: dict[str, Any]
    raw: bytes
    uploads: int

    def __repr__(self) -> str:
        return "<a request that is foretold>"

    def whole(self) -> HttpCall:
        """Return it as the providers judge it."""
        return self.head.with_body(self.raw)

    @property
    def known_by(self) -> Hashable:
        """All that it is made of."""
        return self.head.mark, self.raw, self.uploads

    @property
    def looked_up(self) -> LookedUp | None:
        """The same for HTTP level, where what is really sent is compared with it."""
        head = self.head
        if head.spelt is None:
            return None
        spelt = head.spelt.with_content(self.raw, self.uploads)
        return LookedUp(spelt, self.whole)


class Heads:
    """The heads of one SDK's requests, by the HTTP client that sends them; that lives as long as without us.

    `kind` is the SDK's of what it makes of options.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind
        self._by_http: WeakKeyDictionary[Any, dict[Any, Head]] = WeakKeyDictionary()

    def head_of(self, client: Any, state: tuple[object, ...], asked: Asked, model: str | None) -> Head | None:
        """Return the head of what `client`, in `state`, sends if it is `asked`; None if it can't be told beforehand."""
        headers, params = asked.headers, asked.params
        if headers and (type(headers) is not dict or not _NAMES.issuperset(map(type, headers))):
            return None  # of another kind, as options may come to hold them: they are not what it is known by
        fields = tuple(headers.items()) if headers else ()
        http = client._client  # noqa: SLF001 - what the SDK sends by
        heads = self._by_http.get(http)
        if heads is None:
            heads = self._by_http.setdefault(http, {})
        security = asked.security
        key = (
            *(*state, asked.url, fields, told_apart(params) if params else (), model),
            security if security is None else tuple(security.items()),
        )
        try:
            head = heads.get(key)
        except TypeError:
            return None  # a value that can't be told from others of its kind
        if head is None or not head.is_of(http):
            head = _made(client, asked.options(self._kind), model) if _asks_for_answer(fields) else None
            if head is None:
                return None
            if len(heads) >= _MOST_HEADS:
                heads.clear()
            heads[key] = head
        return head


def _asks_for_answer(fields: Iterable[tuple[str, Any]]) -> bool:
    """Tell whether headers ask for an answer, not for something else."""
    names = [name for name, value in fields if not (name == RAW and value in _READ)]
    return _OTHERWISE.isdisjoint(map(str.lower, names))


@functools.lru_cache(maxsize=16)
def are_lasting(names: frozenset[str]) -> bool:
    """Tell whether headers that the configuration wants in keys are the same for each call of a client."""
    return not any(
        name in _OF_THE_MOMENT or name.startswith(_OF_THE_MOMENT_START) or is_credential(name) for name in names
    )


def _made(client: Any, options: Any, model: str | None) -> Head | None:
    try:
        request = built(client, options, {} if model is None else {"model": model})
    except Exception:  # noqa: BLE001 - not swallowed: the SDK refuses such a call, and says so where it is made
        return None
    http = client._client  # noqa: SLF001 - as above
    call = httpx_sent.as_sent(http, request)
    if call.method != "POST" or not call.headers.get("content-type", "").startswith(_JSON):
        return None
    mounts, headers = list(http._mounts.values()), list(http._headers._list)  # noqa: SLF001
    spelt = httpx_sent.spelt(request, http._transport_for_url(request.url), 0)  # noqa: SLF001
    return Head(call, request.url, http._transport, mounts, headers, object(), spelt)  # noqa: SLF001


def built(client: Any, options: Any, body: Any) -> Any:
    """Return the request of the HTTP library that `client` makes of `options` and `body`."""
    own = options.model_copy()
    own.json_data, own.extra_json = body, None
    if hasattr(client, "_copy_and_prepare"):
        own = now(client._copy_and_prepare(own))  # noqa: SLF001 - as the SDK's own `request` does
    own = now(client._prepare_options(own))  # noqa: SLF001
    return client._build_request(own, retries_taken=0)  # noqa: SLF001


def now(made: Any) -> Any:
    """Return what a method gives, or what its asynchronous twin gives, which waits for nothing here."""
    if not hasattr(made, "send"):
        return made
    coroutine: Coroutine[Any, Any, Any] = made
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("the SDK waits for something before it sends")
