"""Bytes on the wire: JSON bodies, server-sent events, error objects, and the record that describes a wire API."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.testing.simulated.call import Call, Fault

EVENT_STREAM = "text/event-stream; charset=utf-8"
OPENAI_DONE = b"data: [DONE]\n\n"
ERROR_TEXT = "[simulated] this answer was asked to fail"
_OPENAI_ERROR_TYPES = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}
_ANTHROPIC_ERROR_TYPES = {400: "invalid_request_error", 404: "not_found_error", 429: "rate_limit_error"}


@dataclass(frozen=True, slots=True)
class WireApi:
    """The pure functions of one wire API.

    Attributes
    ----------
    answer : callable
        The JSON object that answers a call.
    stream : callable or None
        The same answer as event frames, of which the **last** is the terminal event; None where the API
        doesn't stream.
    error_event : callable
        The frame of an error that comes as the event with this number.
    error_body : callable
        The JSON object of an HTTP error with this status and message.
    content_faults : frozenset of Fault
        The faults of the answer's content that this API knows.
    stream_type : str
        Content type of the frames.
    is_streamed : callable
        Whether a call's answer comes as frames: as its body says, or as this API's path or habit is.
    encode : callable or None
        Content type and bytes of an answer that isn't streamed; None where it is always the JSON of `answer`.
    """

    answer: Callable[[Call], dict[str, Any]]
    stream: Callable[[Call], list[bytes]] | None
    error_event: Callable[[int], bytes]
    error_body: Callable[[int, str], dict[str, Any]]
    content_faults: frozenset[Fault]
    stream_type: str = EVENT_STREAM
    is_streamed: Callable[[Call], bool] = attrgetter("is_streamed")
    encode: Callable[[Call], tuple[str, bytes]] | None = None


def dump(value: Any) -> bytes:
    """Compact UTF-8 JSON; what can't be encoded (half a surrogate pair, echoed) becomes ``?``."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """One server-sent event: ``[event: NAME LF] data: JSON LF LF``."""
    head = b"" if name is None else b"event: %s\n" % name.encode()
    return head + b"data: " + dump(data) + b"\n\n"


def openai_error(status: int, message: str) -> dict[str, Any]:
    """Error object of OpenAI's APIs."""
    kind = _OPENAI_ERROR_TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def openai_error_event(_number: int) -> bytes:
    """An error inside a stream of chunks; OpenAI sends it without an event name."""
    return event(openai_error(500, ERROR_TEXT))


def anthropic_error(status: int, message: str) -> dict[str, Any]:
    """Error object of Anthropic's API."""
    kind = _ANTHROPIC_ERROR_TYPES.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}}


def anthropic_error_event(_number: int) -> bytes:
    """An error inside a stream, as an overloaded service sends it."""
    return event({"type": "error", "error": {"type": "overloaded_error", "message": ERROR_TEXT}}, "error")
