"""One model call as the wire APIs see it, and the faults that can be asked of its answer."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EPOCH_S = 1_750_000_000  # Unix time [s] of every simulated answer: there is no clock, so equal calls get equal answers
_DELIVERY_FIELDS = frozenset({"stream", "stream_options"})
_SEMANTIC_HEADERS = ("anthropic-beta", "anthropic-version", "openai-beta")
_OWN_TOOL_CALL_ID = re.compile(rb"sim[0-9a-f]{24}")


class Fault(Enum):
    """What goes wrong with one answer; the value is the name that ``x-simulate-fault`` takes.

    A fault of the stream that is asked of a call which isn't streamed becomes its nearest relative:
    ``STREAM_CUT`` closes the connection half-way through the body, ``STREAM_CLEAN_CUT`` is ``BAD_JSON``
    and ``ERROR_EVENT`` is ``ERROR_BODY``. A streamed ``BAD_JSON`` has one event with half its JSON, and
    goes on to its terminal event.
    """

    TOO_MANY_REQUESTS = "too_many_requests"  # 429 with retry-after: 0
    SERVER_ERROR = "server_error"  # 500
    ERROR_BODY = "error_body"  # 200 with an error object, JSON even when a stream was asked
    TRUNCATED = "truncated"  # half the text; finish_reason length, stop_reason max_tokens, status incomplete
    FILTERED = "filtered"  # half the text; content_filter, stop_reason refusal, incomplete content_filter
    REFUSAL = "refusal"  # the refusal text of OpenAI's chat and responses; elsewhere the same as FILTERED
    EMPTY = "empty"  # a normal end, and nothing said
    STREAM_CUT = "stream_cut"  # half the events, then the connection closes without an end
    STREAM_CLEAN_CUT = "stream_clean_cut"  # all events but the terminal one, and a proper end of the body
    BAD_JSON = "bad_json"  # 200 with half a JSON body
    ERROR_EVENT = "error_event"  # half the events, an error event, and a proper end of the body


class InvalidCallError(Exception):
    """A request that the real API would refuse too; answered with a 400 that carries this message."""


@dataclass(frozen=True, slots=True)
class Call:
    """A model call with everything that its answer depends on.

    Attributes
    ----------
    body : Mapping[str, Any]
        The request's JSON object.
    model : str
        The request's model, or the deployment in an Azure path.
    seed : bytes
        What the answer is derived from: `seed_of` the request, and in unique mode also the serial.
    serial : int or None
        The call's number in unique mode, None in deterministic mode.
    """

    body: Mapping[str, Any] = field(repr=False)
    model: str
    seed: bytes
    serial: int | None = None
    fault: Fault | None = None
    token_hex: Callable[[int], str] = secrets.token_hex

    @property
    def is_streamed(self) -> bool:
        """Whether the answer is asked for as events."""
        return self.body.get("stream") is True

    @property
    def is_mistrals(self) -> bool:
        """Whether the model is one of Mistral's, whose API is OpenAI's but for details."""
        return self.model.startswith(("mistral-", "ministral-", "codestral-"))

    @property
    def created_s(self) -> int:
        """Unix time [s], invented."""
        return EPOCH_S + (self.serial or 0)

    def digest(self, label: str) -> bytes:
        """Bytes, shape (32,), that differ for every request and label."""
        return hashlib.sha256(self.seed + label.encode()).digest()

    def answer_id(self, prefix: str) -> str:
        """Id of the answer: counted in unique mode, derived from the request otherwise."""
        if self.serial is not None:
            return f"{prefix}sim{self.serial:021d}"
        return f"{prefix}{self.digest('id').hex()[:24]}"

    def new_tool_call_id(self) -> str:
        """Id of one tool call, without prefix; random in both modes, as every real provider does it."""
        return f"sim{self.token_hex(12)}"


def seed_of(target: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    """Digest, shape (32,), of what makes one request another one.

    That is path and query, the headers that change a model's answer, and the body without the fields that
    only say how the answer is delivered. Tool-call ids of this server count by their order, since they are
    random: the same conversation, held again, gets the same answer.
    """
    asked = {name: value for name, value in body.items() if name not in _DELIVERY_FIELDS}
    semantic = [headers.get(name) for name in _SEMANTIC_HEADERS]
    material = json.dumps([target, semantic, asked], sort_keys=True, separators=(",", ":")).encode()
    order: dict[bytes, bytes] = {}
    numbered = _OWN_TOOL_CALL_ID.sub(lambda m: order.setdefault(m[0], b"#%d" % len(order)), material)
    return hashlib.sha256(numbered).digest()


def objects(value: Any, name: str) -> list[dict[str, Any]]:
    """`value` as the list of objects that the field `name` must be.

    Raises
    ------
    InvalidCallError
        It is something else.
    """
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidCallError(f"'{name}' must be a list of objects")
    return value


def object_of(value: Any, name: str) -> dict[str, Any]:
    """`value` as the object that the field `name` must be, empty where it is absent.

    Raises
    ------
    InvalidCallError
        It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidCallError(f"'{name}' must be an object")
    return value


def count_of(body: Mapping[str, Any], name: str, most: int, *, usual: int = 1) -> int:
    """The whole number in the field `name`, `usual` where it is absent.

    Raises
    ------
    InvalidCallError
        It is not a whole number from `usual` to `most`.
    """
    value = body.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) or not isinstance(value, int) or not usual <= value <= most:
        raise InvalidCallError(f"'{name}' must be a whole number from {usual} to {most}")
    return value
