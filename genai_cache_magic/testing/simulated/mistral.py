"""Mistral's fill-in-the-middle: asked by a prompt, it answers like OpenAI's chat. Its chat is OpenAI's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated import openai_chat
from genai_cache_magic.testing.simulated.call import Call, InvalidCallError
from genai_cache_magic.testing.simulated.composing import TEXT_FAULTS
from genai_cache_magic.testing.simulated.wire import WireApi, openai_error, openai_error_event

if TYPE_CHECKING:
    from collections.abc import Callable


def _as_chat(call: Call) -> Call:
    prompt = call.body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise InvalidCallError("'prompt' must be a text")
    messages = [{"role": "user", "content": f"{prompt} … {call.body.get('suffix') or ''}"}]
    return replace(call, body={"messages": messages, "stream_options": {"include_usage": True}})


def _asked_as_chat(make: Callable[[Call], Any]) -> Callable[[Call], Any]:
    return lambda call: make(_as_chat(call))


FIM = WireApi(
    _asked_as_chat(openai_chat.answer),
    _asked_as_chat(openai_chat.stream),
    openai_error_event,
    openai_error,
    TEXT_FAULTS,
)
