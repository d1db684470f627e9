"""Who sends a request: the SDKs of models, as their headers name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_SDK_NAMES: Final = (
    "openai/",
    "anthropic/",
    "azsdk-python-ai-agents",
    "azsdk-python-ai-inference",
    "azsdk-python-ai-projects",
    "cohere/",
    "dspy/",
    "google-genai-sdk",
    "langchain",
    "litellm",
    "lm15/",
    "mistral-client",
    "ollama-",
)
_GENERATED: Final = "x-stainless-lang"
_ANTHROPIC: Final = "anthropic-version"
_GOOGLE: Final = "x-goog-api-client"
_AGENT: Final = "user-agent"

TELLING: Final = frozenset(name.encode() for name in (_GENERATED, _ANTHROPIC, _GOOGLE))
"""Headers, in lower case, one of which nearly every SDK of a model sends, and hardly anybody else."""

# SDKs that the same generator makes as those of OpenAI and Anthropic, of services that are no models.
_OTHERS: Final = ("braintrust/", "browserbase/", "cloudflare/", "lithic/", "moderntreasury/", "turbopuffer/")


def is_model_sdk(headers: Mapping[str, str]) -> bool:
    """Tell whether the headers are those of an SDK that asks models."""
    agent = headers.get(_AGENT, "").lower()
    if _ANTHROPIC in headers or any(name in agent for name in _SDK_NAMES):
        return True
    # Google's libraries for everything else send this header too.
    return "genai" in headers.get(_GOOGLE, "") or (
        _GENERATED in headers and not agent.removeprefix("async").startswith(_OTHERS)
    )


def may_be_model_sdk(headers: Mapping[str, str]) -> bool:
    """Tell the same, and of AWS's SDKs too, which are for all that AWS has."""
    return is_model_sdk(headers) or "boto" in headers.get(_AGENT, "").lower()
