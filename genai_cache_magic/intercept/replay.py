"""One stored answer as it is given to a caller: marked, with the headers and the chunks to play."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.events import Tier
from genai_cache_magic.providers.formats import streams

if TYPE_CHECKING:
    from genai_cache_magic.calls.steps import Answered
    from genai_cache_magic.core.model import Headers

_MARKS: Final = {
    (tier, is_similar): (("x-genai-cache", "similar" if is_similar else "hit"), ("x-genai-cache-tier", tier.value))
    for tier in Tier
    for is_similar in (False, True)
}
_NAME: Final = operator.itemgetter(0)


def marked(answered: Answered) -> Response:
    """Return the response to give to the caller, marked as one that comes from the cache, and as what."""
    response, marks = answered.response, _MARKS[answered.tier, answered.is_similar]
    return Response(response.status, (*response.headers, *marks), response.body, response.form)


def headers(response: Response) -> Headers:
    """Return the headers to replay: the length, if the original told one, is that of the decoded body."""
    return told(response.headers, response.form, len(response.body))


def told(kept: Headers, form: Form, size_bytes: int) -> Headers:
    """Return the same of what was `kept` with a body of that form and size [bytes]."""
    if "content-length" not in map(_NAME, kept):
        return kept
    is_whole, length = form is Form.JSON, str(size_bytes)
    return tuple((n, length if n == "content-length" else v) for n, v in kept if is_whole or n != "content-length")


def chunks(response: Response) -> list[bytes]:
    """Return the body as it is to be replayed: an event stream event by event, JSON at once."""
    if response.form is Form.STREAM:
        return list(streams.blocks(response))
    return [response.body] if response.body else []
