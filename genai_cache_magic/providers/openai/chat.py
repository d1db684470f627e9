"""``POST .../chat/completions``: OpenAI, Azure OpenAI and everything compatible."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final

from genai_cache_magic.providers import choices, forms
from genai_cache_magic.providers.base import STATEFUL, Answer, Given, ModelCall, Wants
from genai_cache_magic.providers.fields import (
    drop_cache_hints,
    drop_openai_hints,
    is_conversation,
    last_user_text,
    objects,
    pop_form,
    pop_stream_options,
    positive,
    wants_of,
)
from genai_cache_magic.providers.formats.media import fold_parts
from genai_cache_magic.providers.openai import chat_stream, sounds
from genai_cache_magic.providers.reading import as_text
from genai_cache_magic.providers.target import find_target
from genai_cache_magic.providers.toolcalls import Renumbering

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

SUFFIX: Final = "/chat/completions"

_EXTENSIONS: Final = f"/extensions{SUFFIX}"  # Azure, "on your data", first version

MEDIA: Final = {
    "image_url": ("image_url", "url"),
    "video_url": ("video_url", "url"),  # vLLM, DashScope
    "audio_url": ("audio_url", "url"),  # vLLM
    "input_audio": ("input_audio", "data"),
    "file": ("file", "file_data"),
}
"""Type of content part -> where its media lie."""

_PLAIN_FIELDS: Final = 2  # role and content

_CLIENT_TOOLS: Final = frozenset({"function", "custom"})
"""Types of tool that the caller runs. Any other one runs on the server and may reach for live data."""

_SEARCHING_MODELS: Final = re.compile(r"search-preview|search-api|:online|groq/compound|compound-beta|(perplexity/)")
"""Marks in vendor and model of what searches the web before it answers: OpenAI, OpenRouter, Groq, Perplexity.

The group matches where a field of the body can switch the search off.
"""


@dataclass(frozen=True, slots=True)
class OpenAIChat:
    """The chat completions API."""

    vendor: str = ""
    asked: choices.Asked = choices.ONE
    surface: ClassVar[str] = "openai.chat"

    def read(self, response: Response) -> Answer:
        """Read how `response` ended."""
        answer = choices.read(response, self.vendor, self.asked)
        dies_s = sounds.dies_s(response)
        return answer if dies_s is None else replace(answer, dies_s=dies_s)

    def render(self, response: Response, wants: Wants) -> Response | None:
        """Return `response` as this caller wants it: its form, with or without the usage event."""
        if response.form is wants.form:
            return choices.render(response, wants)
        return forms.convert(response, wants, chat_stream)

    def given(self, response: Response) -> tuple[Given, ...]:
        """Return the ids of the sounds in `response`, which stand for the message that each belongs to."""
        return sounds.given(response)


def recognise(call: HttpCall, body: JsonObject, origins: Origins) -> ModelCall | None:
    """Return what `call` asks for, None if its body is no conversation."""
    messages: Any = body.get("messages")
    if not is_conversation(messages):
        return None
    preview = last_user_text(messages)
    options = pop_stream_options(body)
    usage = options.get("include_usage") is True
    form = pop_form(body)
    drop_openai_hints(body)
    drop_cache_hints(body.get("tools"))
    media: list[str] = []
    _clean(body, messages, media)
    limit = positive(body.get("max_completion_tokens")) or positive(body.get("max_tokens"))
    follows = tuple(sounds.follows(messages))
    target = find_target(call, body, origins, SUFFIX)
    vendor = target.place.vendor
    searches = _searches(call, body, f"{vendor}/{target.model}")
    return ModelCall(
        provider=OpenAIChat(vendor, choices.asked_in(body, count=positive(body.get("n")) or 1, usage=usage)),
        request=target.request(OpenAIChat.surface, body, None, media),
        wants=wants_of(form, options, usage=usage),
        refused=(*([STATEFUL] if follows else []), *(["server-tools"] if searches else [])),
        follows=follows,
        preview=preview,
        max_output_tokens=limit and limit * (positive(body.get("n")) or 1),
    )


def _clean(body: JsonObject, messages: list[Any], media: list[str]) -> None:
    """Fold media, renumber ids and drop hints in `messages` of `body`, in place."""
    ids = Renumbering()
    for i, message in enumerate(messages):
        content = message.get("content")
        if type(content) is str and len(message) == _PLAIN_FIELDS and "role" in message:
            continue  # nearly every message of a long conversation
        if type(content) is list:
            drop_cache_hints(content)
            fold_parts(content, f"/messages/{i}/content", MEDIA, media)
        message.pop("cache_control", None)
        # In this order, whatever the order of the keys.
        ids.apply(message, "id")
        for tool_call in objects(message.get("tool_calls")):
            ids.apply(tool_call, "id")
        ids.apply(message, "tool_call_id")
    ids.finish(body)


def _searches(call: HttpCall, body: JsonObject, model: str) -> bool:
    """Tell whether the server runs tools or looks things up to answer."""
    mark = _SEARCHING_MODELS.search(model)
    if mark and not (mark[1] and body.get("disable_search") is True):
        return True
    return call.path.endswith(_EXTENSIONS) or any(_is_server_tool(tool) for tool in objects(body.get("tools")))


def _is_server_tool(tool: JsonObject) -> bool:
    kind = tool.get("type")
    return "function" not in tool if kind is None else as_text(kind) not in _CLIENT_TOOLS
