"""From a call to what goes over the wire, with the fault that was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError
from genai_cache_magic.testing.simulated.composing import TEXT_FAULTS
from genai_cache_magic.testing.simulated.wire import ERROR_TEXT, WireApi, dump

if TYPE_CHECKING:
    from collections.abc import Iterable

JSON_TYPE = ("content-type", "application/json")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP response.

    Attributes
    ----------
    frames : iterable of bytes or None
        The body's pieces, each sent at once as a chunk of its own; None for a body that is sent whole.
    is_cut : bool
        The connection closes before the end of the body: of `body` half is sent, of `frames` all, without
        the chunk that ends them.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = (JSON_TYPE,)
    body: bytes = b""
    frames: Iterable[bytes] | None = None
    is_cut: bool = False
    is_gzip: bool = False


def json_reply(status: int, value: Any, *headers: tuple[str, str]) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, (JSON_TYPE, *headers), dump(value))


def reply_to(api: WireApi, call: Call) -> Reply:
    """The answer to `call`, or what its fault makes of it.

    Raises
    ------
    InvalidCallError
        The request is one that the real API refuses, or the fault is unknown to this API.
    """
    if call.fault is not None and call.fault in TEXT_FAULTS - api.content_faults:
        raise InvalidCallError(f"the fault '{call.fault.value}' does not exist in this API")
    match call.fault:
        case Fault.TOO_MANY_REQUESTS:
            return json_reply(429, api.error_body(429, ERROR_TEXT), ("retry-after", "0"))
        case Fault.SERVER_ERROR:
            return json_reply(500, api.error_body(500, ERROR_TEXT))
        case Fault.ERROR_BODY:
            return json_reply(200, api.error_body(500, ERROR_TEXT))
    if api.stream is not None and api.is_streamed(call):
        return _streamed(api, call.fault, api.stream(call))
    if call.fault is Fault.ERROR_EVENT:
        return json_reply(200, api.error_body(500, ERROR_TEXT))
    kind, body = api.encode(call) if api.encode else (JSON_TYPE[1], dump(api.answer(call)))
    if call.fault in {Fault.BAD_JSON, Fault.STREAM_CLEAN_CUT}:
        body = body[: len(body) // 2]
    return Reply(headers=(("content-type", kind),), body=body, is_cut=call.fault is Fault.STREAM_CUT)


def _streamed(api: WireApi, fault: Fault | None, frames: list[bytes]) -> Reply:
    middle = len(frames) // 2
    match fault:
        case Fault.STREAM_CUT:
            frames = frames[:middle]
        case Fault.STREAM_CLEAN_CUT:
            frames = frames[:-1]
        case Fault.ERROR_EVENT:
            frames = [*frames[:middle], api.error_event(middle)]
        case Fault.BAD_JSON:
            broken = frames[middle].rstrip()
            frames = [*frames[:middle], broken[: len(broken) * 2 // 3] + b"\n\n", *frames[middle + 1 :]]
    headers = (("content-type", api.stream_type), ("cache-control", "no-cache"))
    return Reply(200, headers, frames=frames, is_cut=fault is Fault.STREAM_CUT)
