"""What a matrix of calls is made of: ways to ask, and the cells that each of them has."""

from __future__ import annotations

import asyncio
import datetime as dt
import inspect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pydantic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Call = Callable[[Any, "Asked"], Any]
    Then = Callable[[Any, "Asked"], Any]

QUESTION = "What does get_weather say?"
"""Who has a tool of that name is told to call it; all others get a text."""

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
MESSAGES = [{"role": "user", "content": QUESTION}]
FUNCTION = {"name": "get_weather", "description": "The weather of a city.", "parameters": WEATHER}
OPENAI_TOOLS = [{"type": "function", "function": FUNCTION}]

COLUMNS = tuple(itertools.product(("sync", "async"), ("plain", "stream"), (False, True)))
"""Colour, delivery, and whether tools are offered: the eight cells of a row."""

ABOVE = frozenset({"openai", "anthropic", "langchain-openai", "langchain-anthropic"})
"""The SDKs, and what asks by them alone, whose hits are given above HTTP."""

BY_HTTP = ("with_streaming_response", "audio.", "images.", "Entra token", "AnthropicBedrock", "AnthropicVertex")
"""What of theirs goes by HTTP all the same."""


class Verdict(pydantic.BaseModel):
    """What structured answers are parsed into."""

    word: str
    number: int


@dataclass(frozen=True)
class Asked:
    """What one cell asks of its way: of the simulated server at `url`, streamed or not, with tools or without."""

    url: str
    is_streamed: bool = False
    has_tools: bool = False

    def options(self, tools: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The arguments that most SDKs take for it; `tools` are those that offer a tool."""
        return {**({"stream": True} if self.is_streamed else {}), **self.only_with_tools(tools)}

    def only_with_tools(self, tools: Mapping[str, Any] | None) -> dict[str, Any]:
        """`tools` where tools are offered, nothing elsewhere."""
        return dict(tools or {}) if self.has_tools else {}


@dataclass(frozen=True, eq=False)
class Way:
    """One way in which an SDK offers a call: a row of the table.

    Attributes
    ----------
    package : str
        The SDK, as the lists of the environments name it: those that do are the generations that have it.
    sync, aio : callable or None
        Makes the call that an `Asked` describes, and returns the whole answer; `aio` a coroutine.
    delivery : tuple of str
        How it can be delivered: ``plain``, ``stream``.
    tools : tuple of bool
        Whether the way can offer tools, and whether it can do without.
    exceptions : Mapping
        (colour, delivery) of cells that are not cached: the cause, and what was tried.
    """

    package: str
    name: str
    sync: Callable[[Asked], Any] | None = None
    aio: Callable[[Asked], Any] | None = None
    delivery: tuple[str, ...] = ("plain", "stream")
    tools: tuple[bool, ...] = (False, True)
    exceptions: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def is_above(self) -> bool:
        """Whether a hit is given above HTTP; by HTTP it is, too, where it has to be."""
        return self.package in ABOVE and not any(word in self.name for word in BY_HTTP)

    def forms(self) -> Iterable[Form]:
        """The cells that this way has."""
        for colour, delivery, has_tools in COLUMNS:
            ask = self.sync if colour == "sync" else self.aio
            if ask is not None and delivery in self.delivery and has_tools in self.tools:
                yield Form(self, colour, delivery, has_tools)


@dataclass(frozen=True)
class Form:
    """One cell: a way, in one colour, one delivery, with tools or without."""

    way: Way
    colour: str
    delivery: str
    has_tools: bool

    @property
    def id(self) -> str:
        """Name of the cell's test."""
        words = (self.way.package, self.way.name, self.colour, self.delivery, "tools" if self.has_tools else "bare")
        return "-".join(words)

    @property
    def exception(self) -> str | None:
        """Why this cell is not cached, and what was tried; None if it is."""
        return self.way.exceptions.get((self.colour, self.delivery))

    def made(self, url: str) -> Any:
        """The answer of the server at `url`, as plain data."""
        ask = self.way.sync if self.colour == "sync" else self.way.aio
        assert ask is not None
        answer = ask(Asked(url, self.delivery == "stream", self.has_tools))
        return plain(asyncio.run(answer) if inspect.isawaitable(answer) else answer)


def plain(value: Any) -> Any:
    """`value` as plain data, so that two answers can be compared field by field and by nothing else.

    Raises
    ------
    TypeError
        It holds an object that would be compared by its identity.
    """
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, pydantic.BaseModel):
        return plain(value.model_dump(warnings=False))
    if isinstance(value, dict):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if callable(as_dict := getattr(value, "as_dict", None)):
        return plain(as_dict())
    raise TypeError(f"an answer holds a {type(value).__qualname__}: say how to compare it")


def sync(make: Callable[[str], Any], call: Call, then: Then = lambda answer, _: answer) -> Callable[[Asked], Any]:
    """A form that opens a client by `make`, makes `call`, and takes all that `then` finds in what it gets."""

    def ask(asked: Asked) -> Any:
        with make(asked.url) as client:
            return whole(call(client, asked), lambda answer: then(answer, asked))

    return ask


def aio(make: Callable[[str], Any], call: Call, then: Then = lambda answer, _: answer) -> Callable[[Asked], Any]:
    """The same with an asynchronous client: `call` and `then` are written as for the other one."""

    async def ask(asked: Asked) -> Any:
        async with make(asked.url) as client:
            return await whole_async(call(client, asked), lambda answer: then(answer, asked))

    return ask


def whole(answer: Any, then: Callable[[Any], Any]) -> Any:
    """What `then` finds in an answer: inside of it where it is to be entered, all of it where it is a stream."""
    if hasattr(answer, "__enter__") and not hasattr(answer, "__next__"):
        with answer as entered:
            return whole(entered, then)
    found = then(answer)
    return list(found) if hasattr(found, "__next__") else found


async def whole_async(answer: Any, then: Callable[[Any], Any]) -> Any:
    """The same of what is awaited, entered and drained asynchronously."""
    if inspect.isawaitable(answer):
        answer = await answer
    if hasattr(answer, "__aenter__") and not hasattr(answer, "__anext__"):
        async with answer as entered:
            return await whole_async(entered, then)
    found = then(answer)
    if inspect.isawaitable(found):
        found = await found
    return [item async for item in found] if hasattr(found, "__anext__") else found


async def drained(stream: Any) -> list[Any]:
    """All that an asynchronous stream yields."""
    return [item async for item in stream]
