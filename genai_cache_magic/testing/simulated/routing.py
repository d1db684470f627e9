"""Which path belongs to which wire API, and the few routes that are not model calls."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from genai_cache_magic.testing.simulated import (
    anthropic_messages,
    bedrock,
    cohere,
    gemini,
    gemini_interactions,
    mistral,
    ollama,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_media,
    openai_responses,
)
from genai_cache_magic.testing.simulated.call import EPOCH_S, InvalidCallError
from genai_cache_magic.testing.simulated.replying import Reply, json_reply
from genai_cache_magic.testing.simulated.wire import anthropic_error, openai_error

if TYPE_CHECKING:
    from genai_cache_magic.testing.simulated.wire import WireApi

_REDIRECT = "/redirect/"
_COUNT_TOKENS = re.compile(r"(?:/anthropic)?/v1/messages/count_tokens")
_MODELS = re.compile(r"(?:/openai)?/v1/models")
_ANTHROPIC = re.compile(r"(?:/anthropic)?/v1/messages")
_OPERATIONS = {
    "chat/completions": openai_chat.API,
    "completions": openai_completions.API,
    "embeddings": openai_embeddings.API,
    "responses": openai_responses.API,
    **openai_media.OPERATIONS,
}
# OpenAI's path, Azure OpenAI's present and dated ones and that with a deployment, and Azure AI inference's.
_OPENAI = re.compile(
    r"(?:/v1|/openai/v1|/openai|/models|/openai/deployments/(?P<deployment>[^/]+))"
    rf"/(?P<operation>{'|'.join(_OPERATIONS)})"
)
_FIXED = {
    "/v1/agents/completions": mistral.AGENTS,
    "/v1/conversations": mistral.CONVERSATIONS,
    "/v1/fim/completions": mistral.FIM,
    "/v1/ocr": mistral.OCR,
    "/v1/chat": cohere.CHAT_V1,
    "/v1/embed": cohere.EMBED_V1,
    "/v1/rerank": cohere.RERANK,
    "/v2/chat": cohere.CHAT,
    "/v2/embed": cohere.EMBED_V2,
    "/v2/rerank": cohere.RERANK,
    "/api/chat": ollama.CHAT,
    "/api/embed": ollama.EMBED,
    "/api/embeddings": ollama.EMBED_ONE,
    "/api/generate": ollama.GENERATE,
}
# Google AI's path and Vertex AI's, of which the model is the last segment.
_INTERACTIONS = re.compile(r"/v1[a-z0-9]*/(?:projects/[^/]+/locations/[^/]+/)?interactions")
_GOOGLE = re.compile(r"/v1[a-z0-9]*/(?:projects/.+/)?(?:models|tunedModels|endpoints)/(?P<model>[^/:]+):(?P<verb>\w+)")
# Vertex AI hands these on as they are.
_ANTHROPIC_ON_VERTEX = re.compile(
    r"/v1/projects/.+/publishers/anthropic/models/(?P<model>claude[^/:]*):(?:rawP|streamRawP)redict"
)
_BEDROCK = re.compile(r"/model/(?P<model>[^/]+)/(?P<verb>[a-z-]+)")
_STREAMING = re.compile(r"-stream$|-with-response-stream$")
_MODEL_NAMES = ("gpt-4.1", "gpt-4.1-mini", "text-embedding-3-small", "claude-sonnet-5")


def wire_api_of(method: str, target: str) -> tuple[WireApi, str | None] | None:
    """The wire API that a request calls, and the model or deployment in its path; None if it is no model call."""
    if method != "POST":
        return None
    path, _, query = target.partition("?")
    if _ANTHROPIC.fullmatch(path):
        return anthropic_messages.API, None
    if _INTERACTIONS.fullmatch(path):
        return gemini_interactions.API, None
    if path in _FIXED:
        return _FIXED[path], None
    if found := _OPENAI.fullmatch(path):
        return _OPERATIONS[found["operation"]], unquote(found["deployment"]) if found["deployment"] else None
    return _with_model_in_path(path, query)


def _with_model_in_path(path: str, query: str) -> tuple[WireApi, str] | None:
    if found := _ANTHROPIC_ON_VERTEX.fullmatch(path):
        return _named(anthropic_messages.API, found["model"])
    if found := _GOOGLE.fullmatch(path):
        return _named(gemini.api_of(found["verb"], query), found["model"])
    found = _BEDROCK.fullmatch(path)
    return _named(bedrock.OPERATIONS.get(found["verb"]), found["model"]) if found else None


def _named(api: WireApi | None, model: str) -> tuple[WireApi, str] | None:
    return None if api is None else (api, unquote(model))


def question_of(target: str) -> str:
    """`target` without what only says how the answer is delivered, where that stands in the path."""
    path, mark, query = target.partition("?")
    if _ANTHROPIC_ON_VERTEX.fullmatch(path):
        return path.replace(":streamR", ":r")
    if _GOOGLE.fullmatch(path):
        return path.replace(":streamG", ":g")
    if _BEDROCK.fullmatch(path):
        return _STREAMING.sub("", path)
    return f"{path}{mark}{query}"


def answer_aside(method: str, target: str, json: Any, own_url: str) -> Reply:
    """Answer what is not a model call: the models, a token count, a redirect, or 404.

    Parameters
    ----------
    target : str
        Path and query of the request.
    own_url : str
        Where a redirect leads to. SECURITY: always back to this server, whatever the path says.
    """
    path = target.partition("?")[0]
    if path.startswith(_REDIRECT):
        return json_reply(307, {}, ("location", f"{own_url}/{target[len(_REDIRECT) :].lstrip('/')}"))
    if method == "GET" and _MODELS.fullmatch(path):
        return json_reply(200, _models())
    if method == "POST" and _COUNT_TOKENS.fullmatch(path):
        return _token_count(json)
    return json_reply(404, openai_error(404, f"the simulated model server has no route {method} {path}"))


def _token_count(json: Any) -> Reply:
    try:
        return json_reply(200, anthropic_messages.count_tokens(json if isinstance(json, dict) else {}))
    except InvalidCallError as error:
        return json_reply(400, anthropic_error(400, str(error)))


def _models() -> dict[str, Any]:
    """The list of models, with the fields of OpenAI's and of Anthropic's."""
    models = [
        {
            "id": name,
            "object": "model",
            "type": "model",
            "created": EPOCH_S,
            "created_at": "2025-06-15T15:06:40Z",
            "display_name": f"{name} (simulated)",
            "owned_by": "simulated",
        }
        for name in _MODEL_NAMES
    ]
    ends = {"first_id": _MODEL_NAMES[0], "last_id": _MODEL_NAMES[-1]}
    return {"object": "list", "data": models, "has_more": False, **ends}
