"""What of a call is in its key and what is not: headers, noise, form, and the facts shown beside it.

Everything is in the key unless a table here or in a provider's file takes it out, by its full path and
never by its bare name: a tool's schema may have a property called ``user``. `spec/key.md` §2 is normative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Form
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import Wants

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.providers.base import HttpCall

PREVIEW_CHARS: Final = 80
_PREVIEW_SOURCE_CHARS: Final = 160  # enough to fill a preview even after white space is folded

OPENAI_HINTS: Final = ("prompt_cache_key", "prompt_cache_retention")
"""Fields of every OpenAI body that are hints to the vendor's prompt cache."""

_CACHE_OPTIONS: Final = frozenset({"mode", "ttl"})
"""Fields of `prompt_cache_options` that are only hints; others (`prewarm`) change the answer."""

CACHE_HINTS: Final = ("cache_control", "prompt_cache_breakpoint")
"""Marks on a message, a content part or a tool that tell the vendor where to cut its prompt cache."""


def pop_form(body: JsonObject) -> Form:
    """Take ``stream`` out of `body` and return the form that it asks for.

    Raises
    ------
    UncacheableRequest
        It is neither a boolean nor null: in which form a server answers, and the caller reads, can't be known.
    """
    stream = body.pop("stream", None)
    if stream is not None and type(stream) is not bool:
        raise UncacheableRequest("'stream' is neither true nor false, so the call was sent uncached; pass a boolean")
    return Form.STREAM if stream is True else Form.JSON


def pop_stream_options(body: JsonObject) -> JsonObject:
    """Take ``stream_options`` out of `body` and return those that ask for something: null never does."""
    options = body.pop("stream_options", None)
    told = options if type(options) is dict else {}
    return {
        name: value for name, value in told.items() if value is not None and (name, value) != ("include_usage", False)
    }


def wants_of(form: Form, options: JsonObject, *, usage: bool = True) -> Wants:
    """Return what a caller wants that asks for `form` with these options of a stream."""
    is_streamed = form is Form.STREAM and bool(options)
    return Wants(form, usage=usage or form is Form.JSON, options=dumps(options).decode() if is_streamed else "")


def drop_openai_hints(body: JsonObject) -> None:
    """Take the hints to the vendor's prompt cache out of a `body` of an OpenAI-compatible API, in place."""
    for name in OPENAI_HINTS:
        body.pop(name, None)
    options = body.get("prompt_cache_options")
    if type(options) is dict and options.keys() <= _CACHE_OPTIONS:
        del body["prompt_cache_options"]


def drop_cache_hints(holders: JsonValue) -> None:
    """Take prompt-cache hints off each object in the list `holders`, in place; never off what they contain."""
    for holder in objects(holders):
        for name in CACHE_HINTS:
            holder.pop(name, None)


def keeps_an_hour(call: HttpCall) -> bool:
    """Tell whether the body of `call` may ask to keep something in the vendor's prompt cache for an hour."""
    return b'"1h"' in (call.body or b"")


def objects(value: JsonValue) -> Iterable[JsonObject]:
    """Return the objects in `value` if it is a list, else nothing."""
    return [item for item in value if type(item) is dict] if type(value) is list else ()


def is_conversation(value: JsonValue) -> bool:
    """Tell whether `value` is a list of objects and not empty."""
    return type(value) is list and {dict}.issuperset(map(type, value)) and bool(value)


def is_asked(value: JsonValue) -> bool:
    """Tell whether an optional field that switches something on does so."""
    return value is not None and value is not False and value not in ([], "")


def preview_of(content: JsonValue) -> str:
    """Return the first `PREVIEW_CHARS` characters of the last text in `content`, white space folded.

    Parameters
    ----------
    content
        A text, or content parts of which some have a ``text``.
    """
    if type(content) is list:
        texts = (part.get("text") if type(part) is dict else part for part in reversed(content))
        content = next((text for text in texts if type(text) is str), "")
    if type(content) is not str:
        return ""
    return " ".join(content[:_PREVIEW_SOURCE_CHARS].split())[:PREVIEW_CHARS]


def last_user_text(messages: JsonValue) -> str:
    """Return the preview of the last message that a user wrote."""
    for message in reversed(messages) if type(messages) is list else ():
        if type(message) is dict and message.get("role") == "user":
            text = preview_of(message.get("content"))
            if text:
                return text
    return ""


def is_one_token(limit: JsonValue) -> bool:
    """Tell whether `limit` allows an answer of one token, or of none."""
    return type(limit) is int and 0 <= limit <= 1


def is_score(value: JsonValue) -> bool:
    """Tell whether a field asks for probabilities: by true or by a number, which may be 0."""
    return value is not None and value is not False and value != ""


def positive(value: JsonValue) -> int | None:
    """Return `value` if it is an integer above zero, else None."""
    return value if type(value) is int and value > 0 else None
