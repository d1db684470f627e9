"""``POST .../v1/chat``: Cohere's chat as it was before it took lists of messages.

It streams JSON lines, or events where the caller accepts those; of both the last one is ``stream-end`` and holds the
whole answer once more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import Answer, End, ModelCall, Wants
from genai_cache_magic.providers.cohere.chat import FINISH, read_usage
from genai_cache_magic.providers.fields import is_asked, pop_form, positive, preview_of
from genai_cache_magic.providers.formats import jsonlines, sse, streams
from genai_cache_magic.providers.reading import (
    as_object,
    as_text,
    gravest,
    is_success,
    load_answer,
    load_object,
)
from genai_cache_magic.providers.target import find_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

PATH: Final = "/v1/chat"

_SUFFIX: Final = "/chat"  # the version stays in the origin
_ACCEPT: Final = frozenset({"accept"})


@dataclass(frozen=True, slots=True)
class CohereChatV1:
    """The chat API, first version."""

    vendor: str = ""
    surface: ClassVar[str] = "cohere.chat.v1"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended; a stream ends with ``stream-end``."""
        if response.form is Form.STREAM:
            read = _datas if streams.are_events(response) else jsonlines.lines
            return _read_stream(response, read(response.body))
        answer = load_answer(response)
        return answer if isinstance(answer, Answer) else _read_answer(answer)

    def render(self, response: Response, wants: Wants) -> Response | None:  # noqa: ARG002 - the key has the form
        """Return `response`: its form is in the key, so it is what the same question got."""
        return response


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body says nothing to a model."""
    message = body.get("message")
    if type(message) is not str or not (message or is_asked(body.get("tool_results"))):
        return None
    form = pop_form(body)
    if form is Form.STREAM and streams.EVENTS in call.headers.get("accept", ""):
        # It decides between the two kinds of stream, and nothing else does.
        origins = replace(origins, extra_headers=origins.extra_headers | _ACCEPT)
    target = find_target(call, body, origins, _SUFFIX)
    return ModelCall(
        provider=CohereChatV1(target.place.vendor),
        request=target.request(CohereChatV1.surface, body, form),
        wants=Wants(form),
        refused=tuple(_refusals(body)),
        preview=preview_of(message),
        max_output_tokens=positive(body.get("max_tokens")),
    )


def _refusals(body: JsonObject) -> Iterator[str]:
    """Yield why the answer to `body` must not be stored."""
    if is_asked(body.get("conversation_id")):
        yield "stateful"  # what was said before is at Cohere
    if is_asked(body.get("connectors")):
        yield "server-tools"  # they search before the model answers


def _datas(recording: bytes) -> Iterator[bytes]:
    return (event.data for event in sse.events(recording))


def _read_stream(response: Response, datas: Iterable[bytes]) -> Answer:
    if not is_success(response):
        return Answer(End.ERROR)
    for data in datas:
        if data == sse.DONE:
            break
        event = load_object(data)
        if event is None:
            return Answer(End.UNREADABLE)
        if event.get("event_type") == "stream-end":
            return _read_answer({"finish_reason": event.get("finish_reason"), **as_object(event.get("response"))})
        if "event_type" not in event:
            return Answer(End.ERROR)  # an error has a message and nothing else
    return Answer(End.CUT)


def _read_answer(answer: JsonObject) -> Answer:
    end = FINISH.get(as_text(answer.get("finish_reason")), End.UNREADABLE)
    has_calls = bool(answer.get("tool_calls"))
    if end is End.COMPLETE and has_calls:
        end = End.TOOL_CALLS
    is_empty = not (has_calls or answer.get("text") or answer.get("search_queries"))
    told = read_usage(answer.get("meta"))
    return Answer(gravest({end}, is_empty=is_empty), told.usage, bill=told.bill)
