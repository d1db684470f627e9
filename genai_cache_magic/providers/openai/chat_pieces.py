"""What the chunks of a chat completion's stream say of it, put together piece by piece.

Stricter than any SDK: where a piece could be taken in two ways, the stream is `Inconvertible`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.providers.forms import (
    Inconvertible,
    index_of,
    joined,
    list_of,
    object_of,
    objects_of,
    only,
    text_of,
)

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue

TEXTS: Final = ("reasoning_content", "reasoning", "content", "refusal")
"""Texts of a message in the order in which they are said; the first two are DeepSeek's and OpenRouter's names."""


def merge(into: JsonObject, fields: JsonObject, *, is_once: bool = False) -> None:
    """Take `fields` into `into`: a blank gives way to a value, and two values must be the same.

    With `is_once` not even the same may come twice: it could be the next piece of a text that we don't know.
    """
    for name, value in fields.items():
        if _is_blank(into.get(name)):
            if name not in into or not _is_blank(value):
                into[name] = value
        elif not _is_blank(value) and (is_once or dumps(into[name]) != dumps(value)):
            raise Inconvertible("conflict")


def _is_blank(value: JsonValue) -> bool:
    return value is None or (type(value) in {str, list, dict} and not value)


class Choice:
    """What has been said of one choice."""

    __slots__ = ("_calls", "_function", "_logprobs", "_message", "_reason", "_rest", "_texts")

    def __init__(self) -> None:
        self._message: JsonObject = {}
        self._texts: dict[str, list[str]] = {}
        self._calls: dict[int, _Call] = {}
        self._function: _Function | None = None
        self._logprobs: JsonObject = {}
        self._reason = ""
        self._rest: JsonObject = {}

    def absorb(self, part: JsonObject) -> None:
        """Take in what one chunk says of it."""
        delta = object_of(part.pop("delta", None))
        reason = text_of(part.pop("finish_reason", None) or "")
        if self._reason and reason not in {"", self._reason}:
            raise Inconvertible("two ends")
        self._reason = reason or self._reason
        for name, value in part.items():
            if name == "logprobs":
                self._hear(value)
            else:
                # What is said of an answer may be said again; a text or a list could go on.
                merge(self._rest, {name: value}, is_once=type(value) in {str, list})
        for name, value in delta.items():
            self._say(name, value)

    def _say(self, name: str, value: JsonValue) -> None:
        if name == "tool_calls" and value:
            self._message.setdefault(name, None)
            for call in objects_of(value):
                self._calls.setdefault(index_of(call.pop("index", None)), _Call()).absorb(call)
        elif name == "function_call" and value:
            self._message.setdefault(name, None)
            self._function = self._function or _Function()
            self._function.absorb(object_of(value))
        elif name in TEXTS and value is not None:
            self._message.setdefault(name, None)
            self._texts.setdefault(name, []).append(text_of(value))
        elif name == "audio" and value:
            raise Inconvertible("audio")
        else:
            merge(self._message, {name: value}, is_once=name != "role")

    def _hear(self, logprobs: JsonValue) -> None:
        self._rest.setdefault("logprobs", None)
        if logprobs is None:
            return
        self._rest["logprobs"] = self._logprobs
        for name, tokens in only(object_of(logprobs), "content", "refusal").items():
            if self._logprobs.setdefault(name, None) is None and tokens is not None:
                self._logprobs[name] = []
            if tokens is not None:
                list_of(self._logprobs[name]).extend(list_of(tokens))

    def end(self) -> JsonObject:
        """Return the choice, without its index."""
        message = self._message
        if not message.get("role") or not self._reason:
            raise Inconvertible("choice without its beginning or end")
        message |= {name: joined(parts) for name, parts in self._texts.items()}
        if self._calls:
            if max(self._calls) >= len(self._calls):
                raise Inconvertible("tool calls")
            message["tool_calls"] = [self._calls[place].end() for place in sorted(self._calls)]
        if self._function is not None:
            message["function_call"] = self._function.end()
        return {"message": message, "finish_reason": self._reason, **self._rest}


class _Call:
    """What has been said of one tool call."""

    __slots__ = ("_fields", "_function")

    def __init__(self) -> None:
        self._fields: JsonObject = {}
        self._function = _Function()

    def absorb(self, call: JsonObject) -> None:
        """Take in one piece."""
        kind = call.pop("type", None)
        if kind is not None:
            merge(self._fields, {"type": kind})
        self._function.absorb(object_of(call.pop("function", {})))
        merge(self._fields, call, is_once=True)

    def end(self) -> JsonObject:
        """Return the call."""
        if self._fields.get("type", "function") != "function":
            raise Inconvertible("type of tool call")
        return {**self._fields, "function": self._function.end()}


class _Function:
    """What has been said of a function: its name, and its arguments in pieces."""

    __slots__ = ("_arguments", "_fields")

    def __init__(self) -> None:
        self._fields: JsonObject = {}
        self._arguments: list[str] = []

    def absorb(self, delta: JsonObject) -> None:
        """Take in one piece."""
        piece = delta.pop("arguments", None)
        if piece is not None:
            self._arguments.append(text_of(piece))
        merge(self._fields, delta, is_once=True)

    def end(self) -> JsonObject:
        """Return the function."""
        if not self._arguments:
            raise Inconvertible("function without arguments")
        return {**self._fields, "arguments": joined(self._arguments)}
