"""``POST .../agents/completions``: Mistral's agents. Asked like OpenAI's chat, but of an agent instead of a model.

An agent counts by its id, as a model does by its name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

from genai_cache_magic.providers.openai import chat

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject
    from genai_cache_magic.providers.base import HttpCall, ModelCall, Origins

SUFFIX: Final = "/agents/completions"


@dataclass(frozen=True, slots=True)
class MistralAgents(chat.OpenAIChat):
    """The completions of agents."""

    surface: ClassVar[str] = "mistral.agents"


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body names no agent or is no conversation."""
    if type(body.get("agent_id")) is not str:
        return None
    as_chat = replace(call, path=call.path.rstrip("/").removesuffix(SUFFIX) + chat.SUFFIX)
    found = chat.recognise(as_chat, body, origins)
    if found is None or not isinstance(found.provider, chat.OpenAIChat):
        return None
    return replace(
        found,
        provider=MistralAgents(found.provider.vendor, found.provider.asked),
        request=replace(found.request, surface=MistralAgents.surface),
    )
