"""What is said of a call beside its numbers: which API, whose, which model; nothing that names a person or a thing.

SECURITY: attributes leave this machine. Whatever is not known to be the plain name of a model or of an API is
`OTHER`: a deployment path, a fine-tuned model's organisation, an account number, an address.

Names are those of OpenTelemetry's semantic conventions for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from genai_cache_magic.events import Outcome

if TYPE_CHECKING:
    from genai_cache_magic.events import CallRecord, Trouble

OTHER: Final = "_OTHER"
OPERATION, PROVIDER, MODEL = "gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"
TIER, OUTCOME, ERROR_TYPE = "genai_cache.tier", "genai_cache.outcome", "error.type"

MOST_MODELS: Final = 100
"""So many names of models are told apart in one process: each is a series of its own wherever numbers are kept."""

_PROVIDERS: Final = {
    "anthropic": "anthropic",
    "aws": "aws.bedrock",
    "cohere": "cohere",
    "google": "gcp.gemini",
    "mistral": "mistral_ai",
    "ollama": "ollama",
    "openai": "openai",
}
_OPERATIONS: Final = {
    "chat": "chat",
    "completions": "text_completion",
    "conversations": "chat",
    "converse": "chat",
    "embeddings": "embeddings",
    "fim": "text_completion",
    "generate": "generate_content",
    "images": "image_generation",
    "interactions": "chat",
    "messages": "chat",
    "rerank": "rerank",
    "responses": "chat",
    "speech": "speech",
    "transcriptions": "transcription",
}
_PLAIN: Final = re.compile(r"(?:[A-Za-z][\w.-]{0,39}/)?[A-Za-z0-9][\w.:+-]{0,63}(?:@\d{1,12})?")
_RESOURCE: Final = re.compile(r"(?:projects/[\w/.-]+/)?(?:publishers/\w+/)?models/")
"""How Google writes a model."""

_IDS: Final = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}|[0-9a-fA-F]{16}|\d{9}")
_SCHEME: Final = re.compile(r"://|[A-Za-z]:[/\\]")
_STATUS: Final = re.compile(r"status (\d{3})\b")
_CLASS: Final = re.compile(r"[A-Z][A-Za-z]{0,63}")


class Labels:
    """What calls are told apart by; remembers which models it has seen, up to `MOST_MODELS`."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        self._models: set[str] = set()

    def of(self, call: CallRecord) -> dict[str, str]:
        """Return the attributes of `call`, the same object for calls of one model; not to be changed."""
        # Of what was not recognised, the provider is the host that was asked.
        surface = "" if call.outcome is Outcome.UNRECOGNISED else call.provider
        key = surface, call.model
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= 10 * MOST_MODELS:
                self._known.clear()
            found = self._known[key] = self._made(surface, call.model)
        return found

    def _made(self, surface: str, model: str) -> dict[str, str]:
        vendor, _, api = surface.partition(".")
        name = plain_model(model)
        if name not in self._models:
            if len(self._models) < MOST_MODELS:
                self._models.add(name)
            else:
                name = OTHER
        operation = next((_OPERATIONS[part] for part in api.split(".") if part in _OPERATIONS), OTHER)
        return {OPERATION: operation, PROVIDER: _PROVIDERS.get(vendor, OTHER), MODEL: name}


def plain_model(model: str) -> str:
    """Return the name of a model as it may be told: without who tuned it, and nothing that looks like an id."""
    name = model.rpartition("models/")[2] if _RESOURCE.match(model) else model
    if name.startswith("ft:"):
        name = ":".join(name.split(":")[:2])
    if not name.isascii() or not _PLAIN.fullmatch(name) or _IDS.search(name) or _SCHEME.search(name):
        return OTHER
    return name


def error_type(call: CallRecord) -> str:
    """Return what kind of error ended `call`: a status, or the class of an exception."""
    status = _STATUS.match(call.reason)
    if status:
        return status[1]
    return call.reason if _CLASS.fullmatch(call.reason) else OTHER


def trouble_attributes(trouble: Trouble) -> dict[str, str]:
    """Return which part failed, and how; not what it says, which may name a place."""
    where = trouble.where if re.fullmatch(r"[A-Za-z][A-Za-z0-9 ]{0,23}", trouble.where) else OTHER
    return {"genai_cache.part": where, ERROR_TYPE: trouble.error if _CLASS.fullmatch(trouble.error) else OTHER}
