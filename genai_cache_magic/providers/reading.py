"""What every wire API's reader shares: lenient JSON, token counts, and which of several endings counts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.core.model import Form, Usage
from genai_cache_magic.providers.base import Answer, End

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response

# Of an answer with several parts, the part with the gravest ending decides.
_GRAVEST_FIRST: Final = (
    End.ERROR,
    End.CUT,
    End.UNREADABLE,
    End.FILTERED,
    End.TRUNCATED,
    End.REFUSAL,
    End.TOOL_CALLS,
    End.COMPLETE,
)


def whole_if_scored(answer: Answer, *, is_scored: bool) -> Answer:
    """Return `answer`, which is whole where it ends after one token and the probabilities of that were asked for."""
    is_whole = is_scored and answer.end is End.TRUNCATED
    return replace(answer, end=End.COMPLETE) if is_whole else answer


def content_type(response: Response) -> str:
    """Return the content type of `response` in lower case, without parameters; empty if it has none."""
    return essence(next((value for name, value in response.headers if name == "content-type"), ""))


def essence(content_type: str) -> str:
    """Return a ``content-type`` in lower case, without parameters (RFC 9110 §8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def load_object(text: bytes) -> JsonObject | None:
    """Return the JSON object in `text`, None if it is none.

    More lenient than requests are read: a stream may split a surrogate pair between two events.
    """
    value = _load(text)
    return value if type(value) is dict else None


def load_objects(text: bytes) -> list[JsonObject]:
    """Return the JSON object in `text`, or those of the array in it; none if it is neither."""
    value = _load(text)
    return [item for item in (value if type(value) is list else [value]) if type(item) is dict]


def _load(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return None


def load_answer(response: Response) -> JsonObject | Answer:
    """Return the JSON object that `response` holds, or what can be said without one; a stream is none."""
    if not is_success(response):
        return Answer(End.ERROR)
    value = load_object(response.body) if response.form is Form.JSON else None
    if value is None:
        return Answer(End.UNREADABLE)
    return Answer(End.ERROR) if value.get("error") is not None else value


def is_success(response: Response) -> bool:
    """Tell whether the status of `response` is a 2xx."""
    return response.status // 100 == 2  # noqa: PLR2004 - the class of status that RFC 9110 calls successful


def gravest(ends: Iterable[End], *, is_empty: bool) -> End:
    """Return the ending that counts for an answer whose parts ended as `ends`.

    An answer without any output is empty, unless a part says why there is none.
    """
    seen = set(ends)
    worst = next((end for end in _GRAVEST_FIRST if end in seen), End.EMPTY)
    return End.EMPTY if is_empty and worst in {End.TOOL_CALLS, End.COMPLETE} else worst


def as_object(value: JsonValue) -> JsonObject:
    """Return `value` if it is an object, else an empty one."""
    return value if type(value) is dict else {}


def as_list(value: JsonValue) -> list[JsonValue]:
    """Return `value` if it is a list, else an empty one."""
    return value if type(value) is list else []


def as_text(value: JsonValue) -> str:
    """Return `value` if it is a text, else an empty one."""
    return value if type(value) is str else ""


def count(value: JsonValue) -> int | None:
    """Return `value` if it is a count of tokens, else None."""
    return value if type(value) is int and value >= 0 else None


def usage_beside_cache(
    fresh: JsonValue, answered: JsonValue, *, read: JsonValue = None, written: JsonValue = None
) -> Usage:
    """Return tokens of an API that counts those read from and written to the prompt cache apart from `fresh` ones."""
    beside = count(fresh)
    was_read, was_written = count(read) or 0, count(written) or 0
    return Usage(
        input_tokens=None if beside is None else beside + was_read + was_written,
        output_tokens=count(answered),
        cached_input_tokens=was_read,
        cache_write_tokens=was_written,
    )


def put(value: JsonValue, path: Sequence[str], text: str) -> JsonValue:
    """Return `value` with `text` at `path`, sharing with it what lies beside."""
    if not path:
        return text
    step, *rest = path
    if type(value) is list:
        place = int(step)
        return [put(item, rest, text) if i == place else item for i, item in enumerate(value)]
    if type(value) is dict:
        return {name: put(inner, rest, text) if name == step else inner for name, inner in value.items()}
    return value
