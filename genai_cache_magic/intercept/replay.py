"""One stored answer as it is given to a caller: marked, with the headers and the chunks to play."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers import streams

if TYPE_CHECKING:
    from genai_cache_magic.calls.steps import Answered
    from genai_cache_magic.core.model import Headers


def marked(answered: Answered) -> Response:
    """Return the response to give to the caller, marked as one that comes from the cache."""
    response = answered.response
    mark = (("x-genai-cache", "hit"), ("x-genai-cache-tier", answered.tier.value))
    return Response(response.status, (*response.headers, *mark), response.body, response.form)


def headers(response: Response) -> Headers:
    """Return the headers to replay: the length, if the original told one, is that of the decoded body."""
    length = str(len(response.body))
    told = [(n, length if n == "content-length" else v) for n, v in response.headers]
    return tuple((n, v) for n, v in told if n != "content-length" or response.form is Form.JSON)


def chunks(response: Response) -> list[bytes]:
    """Return the body as it is to be replayed: an event stream event by event, JSON at once."""
    if response.form is Form.STREAM:
        return list(streams.blocks(response))
    return [response.body] if response.body else []
