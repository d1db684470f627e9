"""Which HTTP calls are model calls, and of which wire API."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.core.canonical import parse_body
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers import batches, custom, lookups, noise, ollama, references, unrecognised, uploads
from genai_cache_magic.providers.anthropic import messages as anthropic_messages
from genai_cache_magic.providers.anthropic import vertex as anthropic_vertex
from genai_cache_magic.providers.bedrock import converse as bedrock_converse
from genai_cache_magic.providers.bedrock import invoke as bedrock_invoke
from genai_cache_magic.providers.callers import may_be_model_sdk
from genai_cache_magic.providers.cohere import chat as cohere_chat
from genai_cache_magic.providers.cohere import chat_v1 as cohere_chat_v1
from genai_cache_magic.providers.cohere import embeddings as cohere_embeddings
from genai_cache_magic.providers.cohere import rerank as cohere_rerank
from genai_cache_magic.providers.formats import multipart
from genai_cache_magic.providers.gemini import embeddings as gemini_embeddings
from genai_cache_magic.providers.gemini import generate as gemini_generate
from genai_cache_magic.providers.gemini import interactions as gemini_interactions
from genai_cache_magic.providers.mistral import agents as mistral_agents
from genai_cache_magic.providers.mistral import conversations as mistral_conversations
from genai_cache_magic.providers.mistral import fim as mistral_fim
from genai_cache_magic.providers.mistral import ocr as mistral_ocr
from genai_cache_magic.providers.openai import audio as openai_audio
from genai_cache_magic.providers.openai import chat as openai_chat
from genai_cache_magic.providers.openai import completions as openai_completions
from genai_cache_magic.providers.openai import embeddings as openai_embeddings
from genai_cache_magic.providers.openai import images as openai_images
from genai_cache_magic.providers.openai import responses as openai_responses
from genai_cache_magic.providers.openai import speech as openai_speech
from genai_cache_magic.providers.origins import serves_models

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

    from genai_cache_magic.providers.base import HttpCall, ModelCall, Origins, Recogniser


class _Route(NamedTuple):
    """Who recognises calls whose path ends in `suffix`.

    `is_telling` if the path is enough to tell such a call from others; `is_untyped` if its clients may leave out the
    content type; `is_form` if they may send a form with files instead of JSON.
    """

    suffix: str
    family: Recogniser
    is_telling: bool = False
    is_untyped: bool = False
    is_form: bool = False


# Asked in this order, until one knows the call. What is not listed is no model call that we know: `count_tokens`,
# `batches`, files, Slack's `chat.postMessage`.
_ROUTES: Final = (
    _Route(openai_chat.SUFFIX, openai_chat, is_telling=True),
    _Route(mistral_fim.SUFFIX, mistral_fim, is_telling=True),
    _Route(mistral_agents.SUFFIX, mistral_agents, is_telling=True),
    _Route(openai_completions.SUFFIX, openai_completions),
    _Route(openai_responses.SUFFIX, openai_responses),
    *(_Route(suffix, ollama, is_untyped=True) for suffix in ollama.SUFFIXES),
    _Route(openai_embeddings.SUFFIX, openai_embeddings),
    *(_Route(suffix, openai_audio, is_form=True) for suffix in openai_audio.SURFACES),
    _Route(openai_speech.SUFFIX, openai_speech),
    _Route(openai_images.GENERATIONS, openai_images),
    _Route(openai_images.EDITS, openai_images, is_form=True),
    _Route(openai_images.VARIATIONS, openai_images, is_form=True),
    _Route(anthropic_messages.SUFFIX, anthropic_messages),
    _Route(anthropic_vertex.WHOLE, anthropic_vertex),
    _Route(anthropic_vertex.STREAMED, anthropic_vertex),
    _Route(gemini_generate.WHOLE, gemini_generate, is_telling=True),
    _Route(gemini_generate.STREAMED, gemini_generate, is_telling=True),
    _Route(gemini_embeddings.ONE, gemini_embeddings, is_telling=True),
    _Route(gemini_embeddings.BATCH, gemini_embeddings, is_telling=True),
    _Route(gemini_embeddings.PREDICT, gemini_embeddings),
    _Route(gemini_interactions.SUFFIX, gemini_interactions),
    _Route(mistral_conversations.SUFFIX, mistral_conversations),
    _Route(mistral_ocr.SUFFIX, mistral_ocr),
    _Route(cohere_chat.PATH, cohere_chat),
    _Route(cohere_chat_v1.PATH, cohere_chat_v1),
    *(_Route(path, cohere_embeddings) for path in cohere_embeddings.PATHS),
    *(_Route(path, cohere_rerank) for path in cohere_rerank.PATHS),
    _Route(bedrock_converse.WHOLE, bedrock_converse),
    _Route(bedrock_converse.STREAMED, bedrock_converse),
    _Route(bedrock_invoke.WHOLE, bedrock_invoke, is_untyped=True),
    _Route(bedrock_invoke.STREAMED, bedrock_invoke, is_untyped=True),
)


def _by_last_word(routes: Iterable[_Route]) -> dict[str, tuple[_Route, ...]]:
    """Return `routes` by the last segment of their path, or by the verb that Google puts at its end."""
    known: dict[str, tuple[_Route, ...]] = {}
    for route in routes:
        word = _last_word(route.suffix)
        known[word] = (*known.get(word, ()), route)
    return known


def _last_word(path: str) -> str:
    last = path.rpartition("/")[2]
    return last[last.rfind(":") :] if ":" in last else last


_KNOWN: Final[Mapping[str, tuple[_Route, ...]]] = _by_last_word(_ROUTES)

_JSON: Final = "application/json"


def recognise(call: HttpCall, origins: Origins, asked: Hashable | None = None) -> ModelCall | None:
    """Return the model call that `call` is, None if it is none.

    A call whose last path segment is no wire API's costs well under a microsecond. What one of ours is, is remembered
    by `asked`, which holds all that `call` was made of; None if that can't be told.

    Raises
    ------
    UncacheableRequest
        It is a model call, but its key would not be certain to be its own. It goes on uncached.
    ConfigurationError
        The provider that another package brings for its path is of no use. It goes on uncached.
    """
    if call.method != "POST":
        return None
    path = call.path.rstrip("/")
    word = _last_word(path)
    for route in _KNOWN.get(word, ()):
        if path.endswith(route.suffix) and (found := _ask(route, call, origins)) is not None:
            if asked is not None and call.body is not None:
                origins.remembered.keep(asked, found, len(call.body))
            return found
    for brought in custom.installed().get(word, ()):
        if path.endswith(brought.suffix) and (found := _ask_custom(brought, call, origins)) is not None:
            return found
    return None


@functools.cache
def path_ends() -> tuple[str, ...]:
    """Return how the paths end that need a look wherever they go; ``path.endswith(path_ends())`` rules out others.

    For a path as it goes on the wire. Clients ask it of every POST of a cell, so it is one call of a built-in.
    """
    ends = [*(route.suffix for route in _ROUTES), *unrecognised.PATH_ENDS, uploads.FILES, uploads.CACHES]
    ends += [brought.suffix for known in custom.installed().values() for brought in known]
    encoded = [end.replace(":", colon) for end in ends if ":" in end for colon in ("%3A", "%3a")]
    return (*ends, *encoded, "/")


def _ask(route: _Route, call: HttpCall, origins: Origins) -> ModelCall | None:
    is_form = route.is_form and multipart.is_form(call.headers)
    if not ((is_form or _is_json(call, is_untyped=route.is_untyped)) and _may_be(route, call, origins)):
        return None
    raw = _buffered(call)
    body = multipart.parse(call.headers["content-type"], raw) if is_form else parse_body(raw)
    told = noise.take(call, body, origins)
    shown = (
        references.NONE
        if is_form
        else references.resolve(body, raw, functools.partial(origins.uploads.digest_of, call))
    )
    found = _referring(noise.restored(route.family.recognise(call, body, origins), told), shown)
    if found is not None and not is_form:
        found = batches.divided(found, call, raw)
    if found is None or lookups.REASON in found.refused or not lookups.asked_in(found.request.body):
        return found
    return replace(found, refused=(*found.refused, lookups.REASON))


def _referring(call: ModelCall | None, shown: references.References) -> ModelCall | None:
    """Return `call` with what it refers to: digests in the place of ids, and whether it shows media by an address."""
    if call is None or shown is references.NONE:
        return call
    request = replace(call.request, media=(*call.request.media, *shown.digests)) if shown.digests else call.request
    refused = (*call.refused, references.REASON) if shown.is_linked else call.refused
    return replace(call, request=request, refused=refused)


def _ask_custom(brought: custom.Custom, call: HttpCall, origins: Origins) -> ModelCall | None:
    # Where its calls may go is its own to say: it was installed for them.
    if not _is_json(call):
        return None
    body = parse_body(_buffered(call))
    told = noise.take(call, body, origins)
    return noise.restored(brought.recognise(call, body, origins), told)


def _is_json(call: HttpCall, *, is_untyped: bool = False) -> bool:
    content_type = call.headers.get("content-type")
    return is_untyped if content_type is None else content_type.lower().startswith(_JSON)


def _may_be(route: _Route, call: HttpCall, origins: Origins) -> bool:
    """Tell whether a call whose path fits is one of `route`, as far as path, headers and host can tell."""
    if "/threads/" in call.path and route.family is anthropic_messages:
        return False  # the Assistants API adds a message to a thread by it
    return route.is_telling or may_be_model_sdk(call.headers) or serves_models(call, origins)


def _buffered(call: HttpCall) -> bytes:
    if call.body is not None:
        return call.body
    if call.read_body is not None:
        return call.read_body()
    raise UncacheableRequest("the request body is streamed, so it can't be keyed and the call was sent uncached")
