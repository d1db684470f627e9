"""Live look-ups: what a server searched, fetched or ran to answer, as the request asks for it and as the answer tells.

A list of request fields rots, so the answer counts as much: whatever was looked up is of the moment, and not stored
unless a scope asks for it. Both lists are one for all wire APIs, since compatible servers take from everybody.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.fields import is_asked, objects
from genai_cache_magic.providers.formats import streams
from genai_cache_magic.providers.reading import as_object, as_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import JsonObject, JsonValue, Response

REASON: Final = "server-tools"
"""Why such an answer is not stored."""

# --- what a request asks for

_WORDS: Final = frozenset(
    {
        "browse",
        "browsing",
        "collection",
        "collections",
        "connectors",
        "grounding",
        "knowledge",
        "plugins",  # OpenRouter
        "rag",
        "retrieval",
        "search",  # `web_search_options`, `search_parameters`, `enable_search`
        "websearch",
    }
)
"""Words in the names of fields that send a server to look something up."""

_PHRASES: Final = ("data_source", "vector_store", "tool_ids")
"""The same of several words: Azure's "on your data", stores of vectors, tools that Open WebUI runs."""

_OTHERWISE: Final = frozenset({"beam", "contrastive", "disable", "exclude", "no", "queries", "safe"})
"""Words that give such a name another meaning, such as ``use_beam_search``, ``search_queries_only``."""

_HOLDERS: Final = frozenset({"extra_body", "features", "parameters", "venice_parameters"})
"""Fields whose own fields are looked at as well."""

_SHELVES: Final = frozenset({"collection", "knowledge"})
"""Types of item in ``files`` that change behind their name."""

_OFF: Final = frozenset({"", "disable", "disabled", "false", "never", "no", "none", "off"})
_CAMEL: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def asked_in(body: JsonObject) -> bool:
    """Tell whether a request with this `body` sends the server to look something up."""
    for name, value in body.items():
        if _sends(name) and _is_on(value):
            return True
        if name in _HOLDERS and type(value) is dict and asked_in(value):
            return True
    return any(as_text(item.get("type")) in _SHELVES for item in objects(body.get("files")))


@functools.lru_cache(maxsize=1024)
def _sends(name: str) -> bool:
    snake = _CAMEL.sub("_", name).lower()
    words = set(snake.replace("-", "_").split("_"))
    return not words & _OTHERWISE and (bool(words & _WORDS) or any(phrase in snake for phrase in _PHRASES))


def _is_on(value: JsonValue) -> bool:
    if type(value) is str:
        return value.lower() not in _OFF
    if type(value) is dict:
        switches = [value[name] for name in ("mode", "type", "enable", "enabled") if name in value]
        return all(map(_is_on, switches))
    return value != 0 and is_asked(value)


# --- what an answer tells

_FOUND: Final = frozenset(
    {
        "codeExecutionResult",
        "executed_tools",  # Groq
        "groundingAttributions",
        "groundingMetadata",
        "grounding_metadata",
        "num_search_queries",  # Perplexity
        "num_server_side_tools_used",  # xAI
        "num_sources_used",  # xAI
        "search_info",  # DashScope, Hunyuan
        "search_results",
        "server_side_tool_usage",  # xAI
        "server_tool_use",  # Anthropic, OpenRouter
        "urlContextMetadata",
        "url_context_metadata",
        "vertex_ai_grounding_metadata",  # LiteLLM
        "vertex_ai_url_context_metadata",
        "web_search",  # Zhipu
        "web_search_results",
    }
)
"""Fields that tell it, unless they are void or count nothing."""

_RUN: Final = re.compile(
    r"((url|container_file|place)_citation|file_path|web_search_result_location|server_tool_use|image_generation_call"
    r"|mcp_\w+|url_context\w*|code_(interpreter|execution)\w*|(bash|text_editor)_code_execution\w*"
    r"|tool_reference|tool\.execution|shell_call_output"
    r"|((web|file|x|google|google_maps|maps|enterprise_web|collections|attachment)_)(search|fetch)\w*)(\.\w+)*"
)
"""Types of items, blocks, events and annotations that a server's own tool makes."""

_OWN_SEARCH: Final = "tool_search_tool_"
"""Names of the tool that searches among the request's own tools."""

_CITED: Final = frozenset({"citations", "citation", "references", "sources"})
_FILE_CITED: Final = "file_citation"

# What the caller said itself, the model as JSON of its own, or a filter of what it knows by heart: nothing there was
# looked up to answer.
_ECHOED: Final = frozenset(
    {
        "citationMetadata",  # Google: what is recited
        "citation_metadata",
        "content_filter_result",
        "content_filter_results",  # Azure: code whose license is known
        "prompt_filter_results",
        "args",
        "arguments",
        "data",
        "document",
        "documents",
        "embedding",
        "embeddings",
        "include",
        "input",
        "instructions",
        "logprobs",
        "metadata",
        "parameters",
        "tool_choice",
        "tools",
    }
)

_MARKS: Final = (
    *(b"citation", b"search", b"ounding", b"fetch", b"ontext", b"mcp_", b"xecut", b"tool_use", b"tool_reference"),
    *(
        b"references",
        b"sources",
        b"num_s",
        b"server_side",
        b"interpreter",
        b"file_path",
        b"image_generation",
        b"shell_call_output",
    ),
)
"""Without one of these no name above is in an answer, and it need not be looked into."""


def told_by(response: Response, body: JsonObject) -> str:
    """Return what tells in `response` that something was looked up to answer `body`; empty if nothing does."""
    if not (streams.is_packed(response) or any(map(response.body.__contains__, _MARKS))):
        return ""
    seen = _Seen(body)
    return next(filter(None, map(seen.sign_in, streams.objects(response))), "")


class _Seen:
    """One answer, and whether its question brings documents that it may cite."""

    __slots__ = ("_asked", "_has_documents")

    def __init__(self, asked: JsonObject) -> None:
        self._asked = asked
        self._has_documents: bool | None = None

    def sign_in(self, value: JsonValue) -> str:
        """Return the first sign in `value`; empty if there is none."""
        if type(value) is list:
            return next(filter(None, map(self.sign_in, value)), "")
        if type(value) is not dict:
            return ""
        kind = as_text(value.get("type"))
        if self._is_run(kind, value):
            return kind
        for name, inner in value.items():
            if name in _FOUND and _says_something(inner):
                return name
            if name in _CITED and any(map(self._is_unexplained, _each(inner))):
                return name
        inner_values = (inner for name, inner in value.items() if name not in _ECHOED and name not in _CITED)
        return next(filter(None, map(self.sign_in, inner_values)), "")

    def _is_run(self, kind: str, item: JsonObject) -> bool:
        if kind == _FILE_CITED:
            return not self._explains()
        is_run = bool(kind) and _RUN.fullmatch(kind.removeprefix("response.")) is not None
        return is_run and not as_text(item.get("name")).startswith(_OWN_SEARCH)

    def _is_unexplained(self, citation: JsonValue) -> bool:
        """Tell whether a citation is of something that the request did not bring."""
        if type(citation) is str:
            return citation.startswith(("http://", "https://")) or not self._explains()
        told = as_object(citation)
        place = as_object(told.get("location"))
        is_of_the_web = bool(told.get("url") or place.get("web")) or self._is_run(as_text(told.get("type")), told)
        return bool(told) and (is_of_the_web or not self._explains())

    def _explains(self) -> bool:
        if self._has_documents is None:
            self._has_documents = _brings_documents(self._asked)
        return self._has_documents


def _each(cited: JsonValue) -> Iterable[JsonValue]:
    """Yield the citations in `cited`: one, a list of them, or a list of lists."""
    if type(cited) is list:
        for one in cited:
            yield from _each(one)
    elif cited:
        yield cited


def _says_something(value: JsonValue) -> bool:
    """Tell whether `value` holds a number other than zero, or a text."""
    if type(value) is dict:
        return any(map(_says_something, value.values()))
    if type(value) is list:
        return any(map(_says_something, value))
    return bool(value)


_DOCUMENTS: Final = frozenset({"document", "documents", "searchResult", "tool_results"})
_DOCUMENT_TYPES: Final = frozenset({"document", "file", "input_file", "search_result"})


def _brings_documents(asked: JsonValue) -> bool:
    """Tell whether a request brings what an answer to it may cite: documents, or what tools of the caller found."""
    if type(asked) is list:
        return any(map(_brings_documents, asked))
    if type(asked) is not dict:
        return False
    if asked.get("role") == "tool" or as_text(asked.get("type")) in _DOCUMENT_TYPES:
        return True
    return any((name in _DOCUMENTS and is_asked(inner)) or _brings_documents(inner) for name, inner in asked.items())
