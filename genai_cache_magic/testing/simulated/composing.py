"""What the simulated model says, before any wire API gives it a form.

When a tool is called
---------------------
Never with ``tool_choice`` none, and never when the last message is a tool's result: that gets a text.
Else a named choice calls its tool, and "required" (Anthropic: "any") calls the tools that the last user
message names, or the first tool if it names none. With the automatic choice the tools are called whose
name (or whose name with spaces for underscores) stands in the last user message. Where parallel calls
are disabled, only the first of them is made. Arguments are a minimal instance of the tool's schema.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError
from genai_cache_magic.testing.simulated.schema import instance_of
from genai_cache_magic.testing.simulated.text import REFUSAL_TEXT, count_tokens, prose

if TYPE_CHECKING:
    from collections.abc import Mapping

ANY_OBJECT: Mapping[str, Any] = {"type": "object"}  # parameters of a tool that states none
TEXT_FAULTS = frozenset({Fault.TRUNCATED, Fault.FILTERED, Fault.REFUSAL, Fault.EMPTY})


class Choice(Enum):
    """How the request lets the model choose a tool, unless it names one."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"


class Ending(Enum):
    """Why the model stopped."""

    DONE = "done"
    TOOLS = "tools"
    LENGTH = "length"
    FILTERED = "filtered"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """What a request asks, in one form for all wire APIs.

    Attributes
    ----------
    subject : str
        Text of the last message.
    choice : Choice or str
        A string is the name of the tool that must be called.
    schema : Mapping or None
        JSON schema that the answer must satisfy.
    """

    subject: str
    is_tool_result: bool = False
    tools: tuple[Tool, ...] = ()
    choice: Choice | str = Choice.AUTO
    is_parallel: bool = True
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool; the wire API puts its prefix before `id`."""

    id: str
    name: str
    arguments: Mapping[str, Any]

    @property
    def arguments_json(self) -> str:
        """The arguments as the text that OpenAI's APIs carry."""
        return json.dumps(self.arguments, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Said:
    """What the model said: a text, or calls of tools."""

    text: str
    ending: Ending
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def token_count(self) -> int:
        """Output tokens, at least one."""
        return max(1, count_tokens(self.text) + sum(count_tokens(t.name + t.arguments_json) for t in self.tool_calls))


def compose(call: Call, turn: Turn, choice: int = 0) -> Said:
    """What the model says to `turn`; the faults of the text come before tools.

    Raises
    ------
    InvalidCallError
        A tool or schema of the request can't be used.
    """
    if call.fault is Fault.EMPTY:
        return Said("", Ending.DONE)
    if call.fault is Fault.REFUSAL:
        return Said(REFUSAL_TEXT, Ending.REFUSED)
    tools = () if call.fault in TEXT_FAULTS else _chosen_tools(turn)
    if tools:
        made = [(tool.name, instance_of(tool.parameters, call.digest(f"{choice} {tool.name}"))) for tool in tools]
        calls = tuple(ToolCall(call.new_tool_call_id(), name, arguments) for name, arguments in made)
        return Said("", Ending.TOOLS, calls)
    text = _text(call, turn, choice)
    if call.fault is Fault.TRUNCATED:
        return Said(text[: len(text) // 2], Ending.LENGTH)
    if call.fault is Fault.FILTERED:
        return Said(text[: len(text) // 2], Ending.FILTERED)
    return Said(text, Ending.DONE)


def _text(call: Call, turn: Turn, choice: int) -> str:
    if turn.schema is None:
        return prose(call, turn.subject, choice)
    return json.dumps(instance_of(turn.schema, call.digest(f"{choice} schema")), ensure_ascii=False)


def _chosen_tools(turn: Turn) -> tuple[Tool, ...]:
    if not turn.tools or turn.is_tool_result or turn.choice is Choice.NONE:
        return ()
    if isinstance(turn.choice, str):
        named = tuple(tool for tool in turn.tools if tool.name == turn.choice)
        if not named:
            raise InvalidCallError("'tool_choice' names a tool that is not in 'tools'")
        return named[:1]
    subject = turn.subject.casefold()
    asked = tuple(tool for tool in turn.tools if _is_named(tool, subject))
    if not asked and turn.choice is Choice.REQUIRED:
        asked = turn.tools[:1]
    return asked if turn.is_parallel else asked[:1]


def _is_named(tool: Tool, subject: str) -> bool:
    name = tool.name.casefold()
    return name in subject or name.replace("_", " ") in subject
