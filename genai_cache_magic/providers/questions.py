"""Where the last words of a request stand that a user wrote, and the request without them: pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.reading import as_object, put

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonValue, Request

_PLACES: Final = {
    "anthropic.messages": "messages",
    "aws.converse": "messages",
    "cohere.chat": "messages",
    "cohere.chat.v1": "message",
    "google.generate": "contents",
    "mistral.agents": "messages",
    "ollama.chat": "messages",
    "ollama.generate": "prompt",
    "openai.chat": "messages",
    "openai.completions": "prompt",
    "openai.responses": "input",
}
"""Wire API -> the field of its body that holds what was said, or the question itself. Of no other is one known."""

_TEXTS: Final = frozenset({None, "text", "input_text"})
"""Types of content parts that are text."""
_IN_PLACE: Final = "question"
"""What stands in the place of the question; its path is among the request's `media`, so no text can pose as it."""


def question_of(request: Request) -> tuple[Request, str] | None:
    """Return `request` without its last question, and that.

    Two requests whose first parts are equal differ in nothing but these words: not in model, tools, system prompt,
    parameters, images or earlier turns. None if the last turn is none of a user, such as the result of a tool, or holds
    no text.
    """
    name = _PLACES.get(request.surface)
    path = None if name is None else _path(request.body.get(name), name)
    if path is None:
        return None
    text = _at(request.body, path)
    pointer = "/" + "/".join(path)
    if type(text) is not str or not text.strip() or pointer in request.media:
        return None
    frame = replace(request, body=as_object(put(request.body, path, _IN_PLACE)), media=(*request.media, pointer))
    return frame, text


def _path(said: JsonValue, name: str) -> list[str] | None:
    """Return where the last text of the last turn stands in a body; None if that turn is none of a user."""
    if type(said) is str:
        return [name]
    if type(said) is not list or not said:
        return None
    last = said[-1]
    if type(last) is not dict or last.get("role", "user") != "user" or last.get("type", "message") != "message":
        return None
    field = next((field for field in ("content", "parts") if field in last), "")
    path = [name, str(len(said) - 1), field]
    content = last.get(field)
    if type(content) is str:
        return path
    place = _last_text(content)
    return None if place is None else [*path, *place]


def _last_text(content: JsonValue) -> list[str] | None:
    parts = content if type(content) is list else []
    for place in range(len(parts) - 1, -1, -1):
        part = parts[place]
        if type(part) is str:
            return [str(place)]
        if type(part) is dict and type(part.get("text")) is str and part.get("type") in _TEXTS:
            return [str(place), "text"]
    return None


def _at(value: JsonValue, path: list[str]) -> JsonValue:
    for step in path:
        if type(value) is list:
            value = value[int(step)]
        elif type(value) is dict:
            value = value[step]
    return value
