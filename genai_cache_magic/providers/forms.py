"""One answer, both forms: JSON <-> event stream, for every wire API that has a codec.

A conversion is proven before anyone sees it: what was made is read back and must be what it was made of. An
answer that fails this, or that holds anything its codec does not know, is not converted: a miss, never a guess.
"""

from __future__ import annotations

import codecs
import json
import math
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

import orjson

from genai_cache_magic.core.canonical import dumps, parse_body
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.formats.sse import Event
from genai_cache_magic.providers.reading import as_object, as_text, is_success

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.providers.base import Wants

_CONTENT_TYPES: Final = {Form.JSON: "application/json", Form.STREAM: "text/event-stream; charset=utf-8"}

_PIECE_CHARS: Final = 16
"""A text is streamed in pieces of so many characters, a few words."""

_MOST_PIECES: Final = 500
"""Long texts come in larger pieces: each costs its event's frame of some 200 bytes."""

# Characters at which `str.splitlines`, and so many a reader of event streams, ends a line. JSON lets them stand
# bare, but only ever within a string, so an escape can take their place.
_LINE_ENDS: Final = tuple((char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\x85\u2028\u2029")


class Inconvertible(Exception):  # noqa: N818 - says what the answer is; a codec's way out, it never leaves `convert`
    """An answer holds what its other form can't carry, or what its codec does not know."""


class Codec(Protocol):
    """The two forms of one wire API. Both functions are pure but for their argument, and raise `Inconvertible`."""

    def to_events(self, answer: JsonObject) -> Iterable[Event]:
        """Return the events that say `answer`, which was parsed for this alone and may be tidied on the way.

        Whether it has a ``usage`` says whether the events shall tell it.
        """

    def to_answer(self, events: Iterable[Event]) -> JsonObject:
        """Return the answer that `events` say."""


def convert(response: Response, wants: Wants, codec: Codec, *, usage: str = "usage") -> Response | None:
    """Return `response` in the other form, the one that is wanted; None where that can't be done faithfully.

    None too if `wants` asks for usage and there is none: every JSON answer states it.

    Parameters
    ----------
    usage
        Field of an answer that states its usage; empty for a wire API whose streams state it whenever its JSON does.
    """
    if not is_success(response):
        return None
    try:
        if wants.form is Form.JSON:
            answer = codec.to_answer(sse.events(response.body))
            _check_usage(answer, usage)
            _proven_stream(answer, codec)
            body = dump(answer)
        else:
            answer = load(response.body)
            if wants.usage:
                _check_usage(answer, usage)
            else:
                answer.pop(usage, None)
            body = _proven_stream(answer, codec)
    except (Inconvertible, UncacheableRequest):
        return None
    return restated(response, body, wants.form)


def restated(response: Response, body: bytes, form: Form) -> Response:
    """Return `response` with another body, in another form."""
    kept = tuple((name, value) for name, value in response.headers if name != "content-type")
    return Response(response.status, (("content-type", _CONTENT_TYPES[form]), *kept), body, form)


def _check_usage(answer: JsonObject, usage: str) -> None:
    if usage and not as_object(answer.get(usage)):
        raise Inconvertible("usage")


def _proven_stream(answer: JsonObject, codec: Codec) -> bytes:
    """Return `answer` as an event stream that reads back as `answer`, to the type of every number."""
    if answer.get("error") is not None:
        raise Inconvertible("error")
    recording = b"".join(frame(event) for event in codec.to_events(answer))
    if dumps(codec.to_answer(sse.events(recording))) != dumps(answer):
        raise Inconvertible("round trip")
    return recording


def frame(event: Event) -> bytes:
    """Return `event` as a block of a stream."""
    name = b"event: %b\n" % event.name if event.name else b""
    return b"%bdata: %b\n\n" % (name, event.data)


def event(fields: JsonObject, name: str = "") -> Event:
    """Return an event with `fields` as its data, on one line by anybody's idea of a line."""
    data = dump(fields)
    for char, escape in _LINE_ENDS:
        data = data.replace(char, escape)
    return Event(name.encode(), data)


# --- JSON, exactly


def dump(value: JsonObject) -> bytes:
    """Return `value` as compact JSON, the order of its fields kept."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        pass  # an integer beyond 64 bits, most likely
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        raise Inconvertible("not JSON") from None


def load(text: bytes) -> JsonObject:
    """Return the JSON object in `text` exactly; half a surrogate pair is let in, for its other half may follow."""
    try:
        return parse_body(text)
    except UncacheableRequest:
        pass
    try:
        value = json.loads(text, object_pairs_hook=_unique_pairs, parse_float=_finite_float, parse_constant=_refuse)
    except (ValueError, RecursionError):
        value = None
    return object_of(value)


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else _refuse("duplicate keys")


def _finite_float(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(what: str) -> NoReturn:
    raise Inconvertible(what)


# --- shapes that a codec insists on


def object_of(value: JsonValue) -> JsonObject:
    """Return `value`, an object."""
    return value if type(value) is dict else _refuse("no object")


def list_of(value: JsonValue) -> list[JsonValue]:
    """Return `value`, a list."""
    return value if type(value) is list else _refuse("no list")


def objects_of(value: JsonValue) -> list[JsonObject]:
    """Return `value`, a list of objects."""
    return [object_of(item) for item in list_of(value)]


def text_of(value: JsonValue) -> str:
    """Return `value`, a text."""
    return value if type(value) is str else _refuse("no text")


def index_of(value: JsonValue) -> int:
    """Return `value`, a place in a list."""
    return value if type(value) is int and value >= 0 else _refuse("no index")


def only(fields: JsonObject, *names: str) -> JsonObject:
    """Return `fields`, which has no others than `names`."""
    return fields if fields.keys() <= {*names} else _refuse("unknown field")


# --- texts, in pieces and joined


def pieces(text: str) -> Iterator[str]:
    """Yield `text` in pieces; none for an empty one. A piece may end anywhere but within a code point."""
    size = max(_PIECE_CHARS, -(-len(text) // _MOST_PIECES))
    return (text[start : start + size] for start in range(0, len(text), size))


def pieces_with_logprobs(text: str, logprobs: list[JsonObject]) -> list[tuple[str, list[JsonObject]]]:
    """Return `text` in pieces, each with the log probabilities of its tokens.

    A piece is a token, or the tokens that share a character. If the tokens don't add up to the text, nobody can
    say where they belong, and both come as one piece.
    """
    if not logprobs:
        return [(piece, []) for piece in pieces(text)]
    decoder = codecs.getincrementaldecoder("utf-8")()
    said: list[tuple[str, list[JsonObject]]] = []
    piece, own = "", []
    try:
        for token in logprobs:
            piece += decoder.decode(_bytes_of(token))
            own.append(token)
            if not decoder.getstate()[0]:
                said.append((piece, own))
                piece, own = "", []
    except ValueError:
        return [(text, logprobs)]
    is_whole = not own and text == "".join(piece for piece, _ in said)
    return said if is_whole else [(text, logprobs)]


def _bytes_of(token: JsonObject) -> bytes:
    raw: Any = token.get("bytes")
    if type(raw) is list and {int}.issuperset(map(type, raw)):
        return bytes(raw)
    return as_text(token.get("token")).encode()


def joined(parts: Iterable[str]) -> str:
    """Return the text that `parts` make; half surrogate pairs of two parts become the character that they mean."""
    text = "".join(parts)
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            raise Inconvertible("half a surrogate pair") from None
    return text
