"""What a client of httpx or httpx2 is about to send: spelt as it stands, and as the providers judge it.

The first takes a few microseconds, and what is equal to it is the same call. So the second, which takes each field
apart, is made once of a call: where it is looked up, and not again at each floor that sees the same request sent.
"""

from __future__ import annotations

import functools
import operator
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_cache_magic.intercept.clients import httpx_bodies, httpx_routes
from genai_cache_magic.intercept.clients.wire import in_lines
from genai_cache_magic.providers.base import HttpCall
from genai_cache_magic.providers.callers import TELLING
from genai_cache_magic.providers.origins import vendor_of
from genai_cache_magic.providers.registry import path_ends

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.core.model import Headers

_NOTHING: Final[dict[str, tuple[str, ...]]] = {}

_LIBRARIES: Final = frozenset({"httpx", "httpx2"})

_AGENT: Final = b"user-agent"
_OWN: Final = b"python-httpx"
"""How the library names itself, where no SDK does."""

_ABSOLUTE: Final = re.compile(r"\Ahttps?://[^/?]*", re.IGNORECASE)

_LENGTH: Final = b"content-length"
_NAME_OF: Final = operator.itemgetter(1)


class Spelt(NamedTuple):
    """All that a request with a buffered body is judged by, as it is; none of it changes afterwards.

    Attributes
    ----------
    where
        The URL, taken apart by the library.
    fields
        The headers as the library has them: as they were given, in lower case, their values.
    uploads
        The number of what was learned of uploads until then.
    """

    method: str
    where: Any
    content: bytes
    fields: tuple[tuple[bytes, bytes, bytes], ...]
    target: bytes | None
    route: Headers
    uploads: int

    def __repr__(self) -> str:
        return "<what is sent>"

    def with_content(self, content: bytes, uploads: int) -> Spelt:
        """Return the same request with another body."""
        fields = list(self.fields)
        with suppress(ValueError):  # it has none
            at = list(map(_NAME_OF, fields)).index(_LENGTH)
            fields[at] = (*fields[at][:2], b"%d" % len(content))
        return Spelt(self.method, self.where, content, tuple(fields), self.target, self.route, uploads)


def spelt(request: Any, transport: Any, uploads: int) -> Spelt | None:
    """Return `request` as it goes out by `transport`; None without a buffered body."""
    content = buffered(request)
    if content is None:
        return None
    return Spelt(
        request.method,
        request.url._uri_reference,  # noqa: SLF001 - the public properties would take it apart again
        content,
        tuple(request.headers._list),  # noqa: SLF001 - as the public mapping, without its copies
        request.extensions.get("target"),
        httpx_routes.route_of(transport, request),
        uploads,
    )


def buffered(request: Any) -> bytes | None:
    """Return the body of `request` that goes out, if it is there as bytes.

    That is what its stream holds. A hook or a transport may have put another one in the place of what the library made
    once, beside which that is still kept; and a copy of a request has nothing but its stream.
    """
    stream = getattr(request, "stream", None)
    kind: Any = type(stream)
    if not _is_librarys(kind):
        return None
    made = getattr(request, "_content", None)  # is believed in a release that names the other one otherwise
    sent = getattr(stream, "_stream", made)
    return sent if type(sent) is bytes else None


@functools.lru_cache(maxsize=64)
def _is_librarys(kind: type) -> bool:
    """Tell whether a class of streams is the library's own."""
    return kind.__module__.partition(".")[0] in _LIBRARIES


def needs_a_look(request: Any) -> bool:
    """Tell whether `request` may be a model call, by the end of its path, by its host, or by who sends it."""
    where = request.url._uri_reference  # noqa: SLF001 - as above
    if where.path.endswith(path_ends()) or vendor_of(where.host) is not None:
        return True
    for _, name, value in request.headers._list:  # noqa: SLF001 - as above
        if name in TELLING or (name == _AGENT and not value.startswith(_OWN)):
            return True
    return False


def as_sent(client: Any, request: Any) -> HttpCall:
    """Return `request` as `client` is going to send it."""
    return by_transport(request, client._transport_for_url(request.url))  # noqa: SLF001 - proxies and mounts count


def by_transport(request: Any, transport: Any) -> HttpCall:
    """Return `request` as it goes out by `transport`."""
    content = buffered(request)
    return judged(
        request.method,
        request.url,
        # Only a body that is already buffered: reading a generator would change what is sent.
        content,
        None if content is not None else httpx_bodies.reader_of(request),
        request.headers.raw,
        request.extensions.get("target"),
        httpx_routes.route_of(transport, request),
    )


def of_spelt(one: Spelt, url: Any) -> HttpCall:
    """Return the same of what was spelt, whose `url` is the library's own."""
    return judged(
        one.method, url, one.content, None, [(name, value) for name, _, value in one.fields], one.target, one.route
    )


def judged(  # noqa: PLR0913, PLR0917 - the parts of a request
    method: str,
    url: Any,
    content: bytes | None,
    read_body: Callable[[], bytes] | None,
    raw: list[tuple[bytes, bytes]],
    target: bytes | None,
    route: Headers,
) -> HttpCall:
    """Return a request as the providers judge it."""
    fields = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in raw]
    # A plain dict: the client's own mapping decodes every name again at each look-up.
    headers, repeated = dict(fields), _NOTHING
    if len(headers) != len(fields):
        headers, repeated = in_lines(fields)
    path, query = url.path, url.query.decode("ascii", "replace")
    if target is not None:
        # Goes on the wire in the place of the URL's; it may be a whole URL itself (RFC 9112 §3.2.2).
        path, _, query = _ABSOLUTE.sub("", target.decode("latin-1")).partition("?")
    return HttpCall(
        method=method,
        scheme=url.scheme,
        host=url.host,
        port=url.port,
        path=path,
        query=query,
        headers=headers,
        body=content,
        read_body=read_body,
        repeated=repeated,
        route=route,
    )
