"""What an SDK was asked for: at ``post``, where options are a mapping, and at ``request``, where they are an object.

To make that object takes longer than all that is done of a hit, so at ``post`` it is made only where it is needed.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from genai_cache_magic.intercept.stainless.bodies import Deferred

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

UNSAID: Final = object()
_DECIDING: Final = ("extra_json", "headers", "params", "post_parser", "security")
_REFUSING: Final = frozenset({"follow_redirects", "max_retries"})
_GIVEN_TWICE: Final = frozenset({"content", "files", "json_data", "method", "url"})
"""Options by which the SDK may refuse a call, whatever becomes of it: by what they say, or since they are there."""

_REFUSED_BY: Final = _REFUSING | _GIVEN_TWICE
_POSTED: Final = frozenset({"path", "cast_to", "body", "options", "files", "stream", "stream_cls"})


class Posted:
    """What ``post`` was called with, without files or other content.

    Attributes
    ----------
    url
        As the SDK's resource names it.
    data, extra
        The body, and what the caller adds to it.
    headers, params
        What the caller adds to the client's; None where that is nothing.
    parser
        What makes something else of the answer, if anything does.
    security
        By which kinds of credentials it is asked, where the SDK tells them apart; else None.
    given
        The options.
    """

    __slots__ = (
        *("cast_to", "data", "extra", "given", "headers", "params", "parser", "security", "stream", "stream_cls"),
        "url",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - as the SDK has it; by place, since this is done for each call
        self, url: str, data: Any, given: Mapping[str, Any], cast_to: Any, stream: Any, stream_cls: Any
    ) -> None:
        self.url = url
        self.data = data
        self.extra, self.headers, self.params, self.parser, self.security = map(given.get, _DECIDING)
        self.cast_to = cast_to
        self.stream = stream
        self.stream_cls = stream_cls
        self.given = given

    @property
    def is_plain(self) -> bool:
        """Whether what decides the request is what it will be once the SDK has made an object of it, as it will."""
        headers, params = self.headers, self.params
        return (
            (headers is None or type(headers) is dict)
            and (params is None or type(params) is dict)
            and _REFUSED_BY.isdisjoint(self.given)
        )

    @property
    def timeout(self) -> Any:
        """What the call says of it, `UNSAID` if nothing."""
        return self.given.get("timeout", UNSAID)

    def settle(self, body: dict[str, Any]) -> None:
        """Let `body` be the whole body that is sent."""
        self.data, self.extra = body, None
        self.given = {name: value for name, value in self.given.items() if name != "extra_json"}

    def options(self, kind: Any) -> Any:
        """Return the options as the SDK makes them, of its `kind`, with a body that is there already."""
        data = self.data
        plain = data.plain if type(data) is Deferred else data
        return kind.construct(method="post", url=self.url, json_data=plain, files=None, **self.given)


class Requested:
    """What ``request`` was called with: as `Posted`."""

    __slots__ = (
        *("_given", "cast_to", "data", "extra", "headers", "params", "parser", "security", "stream", "stream_cls"),
        "url",
    )

    def __init__(self, given: Any, cast_to: Any, stream: Any, stream_cls: Any) -> None:
        self.url = given.url
        self.data = given.json_data
        self.extra = given.extra_json
        self.headers = given.headers
        self.params = given.params
        self.parser = given.post_parser
        self.security = getattr(given, "security", None)
        self.cast_to = cast_to
        self.stream = stream
        self.stream_cls = stream_cls
        self._given = given

    @property
    def is_plain(self) -> bool:
        """Whether it is a body that is posted, and nothing else."""
        given = self._given
        return (
            given.method == "post"
            and given.files is None
            and getattr(given, "content", None) is None
            and _REFUSING.isdisjoint(given.model_fields_set)
        )

    @property
    def timeout(self) -> Any:
        """What the call says of it."""
        return self._given.timeout

    def settle(self, body: dict[str, Any]) -> None:
        """Let `body` be the whole body that is sent."""
        self._given.json_data, self._given.extra_json = body, None

    def options(self, kind: Any) -> Any:  # noqa: ARG002 - they are of that kind
        """Return the options, with a body that is there already."""
        if type(self._given.json_data) is Deferred:
            self._given.json_data = self._given.json_data.plain
        return self._given


Asked: TypeAlias = Posted | Requested


def posts(module: ModuleType) -> bool:
    """Tell whether the SDK whose ``_base_client`` is `module` posts as we do it here."""
    return all(
        inspect.signature(getattr(module, name).post).parameters.keys() >= _POSTED
        for name in ("SyncAPIClient", "AsyncAPIClient")
    )
