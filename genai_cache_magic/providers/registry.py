"""Which HTTP calls are model calls, and of which wire API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.core.canonical import parse_body
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from genai_cache_magic.providers.origins import serves_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.providers.base import HttpCall, ModelCall, Origins, Recogniser


class _Route(NamedTuple):
    """Who recognises calls with a path; `is_telling` if the path is enough to tell such a call from others."""

    family: Recogniser
    is_telling: bool = False


_CHAT: Final = _Route(openai_chat, is_telling=True)

# Last segment of the path -> route. What is not listed is no model call that we know: `count_tokens`,
# `batches`, files, images, audio, Slack's `chat.postMessage`.
_ROUTES: Final[Mapping[str, _Route]] = {
    "completions": _Route(openai_completions),
    "responses": _Route(openai_responses),
    "embeddings": _Route(openai_embeddings),
    "messages": _Route(anthropic_messages),
}

_JSON: Final = "application/json"
_SDK_NAMES: Final = ("openai/", "anthropic/", "litellm", "langchain", "mistral-client", "azsdk-python-ai")


def recognise(call: HttpCall, origins: Origins) -> ModelCall | None:
    """Return the model call that `call` is, None if it is none.

    A call whose last path segment is no wire API's costs well under a microsecond.

    Raises
    ------
    UncacheableRequest
        It is a model call, but its key would not be certain to be its own. It goes on uncached.
    """
    if call.method != "POST":
        return None
    route = _route(call.path)
    if route is None or not call.headers.get("content-type", "").lower().startswith(_JSON):
        return None
    if not (route.is_telling or _names_itself(call.headers) or serves_models(call, origins)):
        return None
    if call.body is None:
        raise UncacheableRequest("the request body is streamed, so it can't be keyed and the call was sent uncached")
    return route.family.recognise(call, parse_body(call.body), origins)


def _route(path: str) -> _Route | None:
    path = path.rstrip("/")
    last = path.rpartition("/")[2]
    route = _ROUTES.get(last)
    if last == "completions" and path.endswith(openai_chat.SUFFIX):
        return _CHAT
    if last == "messages" and "/threads/" in path:
        return None  # the Assistants API adds a message to a thread by it
    return route


def _names_itself(headers: Mapping[str, str]) -> bool:
    """Tell whether the headers are those of a model SDK."""
    if "x-stainless-lang" in headers or "anthropic-version" in headers:
        return True
    agent = headers.get("user-agent", "").lower()
    return any(name in agent for name in _SDK_NAMES)
