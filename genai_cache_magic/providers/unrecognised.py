"""What may ask a model in a way that we don't know: it can't be cached, it is said, and in mode replay it is not sent.

So counts what goes to a host of models, or is sent by the SDK of one, unless it is known to ask nothing of a model and
to cost nothing. `docs/providers.md` has the same table.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.canonical import parse_body
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.callers import is_model_sdk
from genai_cache_magic.providers.origins import is_of_models, is_private, vendor_of

if TYPE_CHECKING:
    from genai_cache_magic.providers.base import HttpCall, Origins

ASK_NOTHING: Final = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
"""Methods that ask nothing of a model: they fetch, list and delete."""

_FREE: Final = (
    # Counting tokens ("free to use" at Anthropic and Google, "no charges" at Bedrock), and tokenizers.
    r".*[/:](?:count_tokens|count-tokens|countTokens|computeTokens|input_tokens|tokenize|detokenize|tokenize-text)",
    r".*/count-tokens:rawPredict",
    # Files, until something is made of them; not those of what is searched or runs code.
    r"(?!.*/(?:vector_stores|containers|libraries|fileSearchStores)/).*/files",
    r".*/uploads(?:/[^/]+/(?:parts|complete))?",
    # Stopping what runs.
    r".*[/:]cancel",
    # What OpenAI's agents report of themselves, and administration.
    r".*/traces/ingest",
    r".*/organizations?/.*",
    # Ollama's housekeeping; whether a key of Cohere's is one.
    r".*/api/(?:show|pull|push|create|copy|blobs/[^/]+)",
    r".*/check-api-key",
)
_IS_FREE: Final = re.compile("|".join(_FREE))

_MODERATION: Final = "/moderations"
_BILLS_MODERATION: Final = "mistral"

_LOCAL: Final = (
    "/chat/completions",
    "/completions",
    "/generate",
    "/generate_stream",
    "/completion",
    "/infill",
    "/embedding",
    "/embed",
    "/embed_all",
    "/embed_sparse",
    "/rerank",
    "/reranking",
    "/pooling",
    "/score",
    "/classify",
    "/invocations",
    "/async-invoke",
    "/infer",
)
"""How paths of model servers end that say little by themselves: TGI, TEI, llama.cpp, vLLM, SGLang, KServe."""

_QUESTIONS: Final = frozenset(
    {
        "content",
        "documents",
        "input",
        "inputs",
        "messages",
        "modelInput",
        "prompt",
        "queries",
        "query",
        "text",
        "text_1",
    }
)
"""What they are asked by, one of them."""

PATH_ENDS: Final = _LOCAL
"""How the paths end that need a closer look wherever they go."""

_TGI: Final = "inputs"
_ROOT: Final = ("", "/")

_HIDDEN: Final = re.compile(r"(?<=/)(?<!/models/)(?:(?=[^/]*\d)[^/:]{9,}|(?<=/projects/)[^/]+)")


def is_unrecognised(call: HttpCall, origins: Origins) -> bool:
    """Tell whether `call`, which no wire API knows, may ask a model."""
    if call.method in ASK_NOTHING or _is_free(call):
        return False
    return is_of_models(call, origins) or is_model_sdk(call.headers) or _asks_a_server_nearby(call)


def described(call: HttpCall) -> str:
    """Return method and path of `call` in words that are the same each time: without ids and names of projects."""
    return f"{call.method} {_HIDDEN.sub('…', call.path)}"


def _is_free(call: HttpCall) -> bool:
    path = call.path.rstrip("/")
    if path.endswith(_MODERATION):
        return vendor_of(call.host) != _BILLS_MODERATION
    return _IS_FREE.fullmatch(path) is not None


def _asks_a_server_nearby(call: HttpCall) -> bool:
    """Tell whether `call` looks like a question to a model server of this machine or its network."""
    path = call.path.rstrip("/")
    if not (is_private(call.host) and (path.endswith(_LOCAL) or path in _ROOT)):
        return False
    try:
        body = parse_body(call.body or b"")
    except UncacheableRequest:
        return False
    return _TGI in body if path in _ROOT else not _QUESTIONS.isdisjoint(body)
