"""Which headers decide an answer. `spec/key.md` §2.6 is normative.

What names an organisation, a project or a person is not among them, nor what only a bill, a log or a time-out goes by.
Every header that a known SDK sends by itself stands here, decided by the documentation of whoever reads it; what nobody
knows is not in the key, since proxies and tracers add headers to every call.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from genai_cache_magic.core.credentials import digest_of, is_credential
from genai_cache_magic.errors import UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import Headers
    from genai_cache_magic.providers.base import HttpCall

SEMANTIC_HEADERS: Final = frozenset(
    {
        "anthropic-beta",
        "anthropic-user-profile-id",  # Anthropic: for whom it is, with what that one is trusted with
        "anthropic-version",
        "anthropic-workspace-id",  # Anthropic: whose files and skills its ids name
        "azureml-model-deployment",  # Azure ML: which deployment of an endpoint answers
        "cf-aig-metadata",  # Cloudflare AI Gateway: what dynamic routes choose by
        "extra-parameters",  # Azure AI inference: what becomes of unknown fields
        "helicone-fallbacks",
        "helicone-llm-security-enabled",
        "helicone-moderations-enabled",
        "helicone-openai-api-base",
        "helicone-target-provider",
        "helicone-target-url",
        "openai-beta",
        "x-amzn-bedrock-guardrailidentifier",  # Amazon: what the Converse API has in its body
        "x-amzn-bedrock-guardrailversion",
        "x-amzn-bedrock-performanceconfig-latency",
        "x-amzn-bedrock-service-tier",
        "x-amzn-bedrock-trace",
        "x-anthropic-beta",  # OpenRouter: handed on to Anthropic
        "x-delay-time",  # Cerebras: not documented, so it may decide
        "x-litellm-tags",  # LiteLLM proxy: routing by tag
        "x-policy-id",  # Azure OpenAI: the content filter's configuration
        "x-vertex-ai-llm-request-type",  # Vertex AI: by which capacity it is answered
        "x-vertex-ai-llm-shared-request-type",
    }
)
"""Headers that decide the answer."""

SEMANTIC_PREFIXES: Final = (
    "x-ai-eg-",  # Envoy AI Gateway: the model that it routes to, and its like
    "x-portkey-",  # Portkey: provider, host, region, deployment, configuration, guardrails, metadata to route by
)
"""Beginnings of the headers of gateways that route by headers, all of which decide but for those that are `SILENT`."""

SILENT: Final = frozenset(
    {
        # OpenAI, Anthropic: who pays, who runs it, and what a browser is allowed to.
        "anthropic-dangerous-direct-browser-access",
        "anthropic-organization-id",
        "anthropic-worker-id",
        "idempotency-key",
        "openai-organization",
        "openai-project",
        "x-client-request-id",
        # Google: who pays, how long the server may take, who asks by which library.
        "x-goog-api-client",
        "x-goog-request-params",
        "x-goog-user-project",
        "x-google-genai-response-mode",
        "x-server-timeout",
        # Cohere, Mistral, Hugging Face, Amazon, Copilot: names of libraries, of connectors, and who pays.
        "copilot-integration-id",
        "editor-plugin-version",
        "editor-version",
        "x-app",
        "x-client-name",
        "x-credentials-name",
        "x-hf-bill-to",
        "x-source-channel",
        "x-voice-agent-events",
        # OpenRouter: whose application it is.
        "http-referer",
        "x-openrouter-title",
        "x-title",
        # Portkey: its own cache, logs and time-outs, and credentials under names of their own.
        "x-portkey-aws-access-key-id",
        "x-portkey-cache-force-refresh",
        "x-portkey-cache-namespace",
        "x-portkey-debug",
        "x-portkey-parent-span-id",
        "x-portkey-request-timeout",
        "x-portkey-span-id",
        "x-portkey-span-name",
        "x-portkey-trace-id",
        "x-portkey-vertex-service-account-json",
        # Envoy AI Gateway: where a request came from.
        "x-ai-eg-original-path",
    }
)
"""Headers that decide nothing, by their documentation."""

SILENT_PREFIXES: Final = ("x-amz-", "x-aws-ec2-", "x-fern-", "x-goog-upload-", "x-stainless-")
"""Beginnings of headers that decide nothing: signatures, names of libraries, pieces of uploads."""

_names_a_router: Final = re.compile("|".join(SEMANTIC_PREFIXES)).search

_FLAG_LISTS: Final = frozenset({"anthropic-beta", "openai-beta", "x-anthropic-beta"})
"""Headers that hold a set of flags, comma-separated."""


def semantic_headers(call: HttpCall, extra: frozenset[str]) -> Headers:
    """Return the headers that decide the answer, sorted; lines of one in their order, flags as a sorted set.

    Raises
    ------
    UncacheableRequest
        `extra` names credentials, to keep their owners apart, and `call` shows none of them.
    """
    found = SEMANTIC_HEADERS.intersection(call.headers)
    if _names_a_router(" ".join(call.headers)):  # seldom: spares a look at each of them
        found |= set(filter(is_semantic, [name for name in call.headers if name.startswith(SEMANTIC_PREFIXES)]))
    if extra:
        telling = sorted(filter(is_credential, extra))
        if telling and not call.headers.keys() & telling:  # a client may add it below, where it would be too late
            raise UncacheableRequest(
                f"extra_headers keeps callers apart by {' or '.join(telling)}, which this call does not show before "
                "it is sent, so it was sent uncached; give the header to the client, or keep apart by namespace",
            )
        found |= extra.intersection(call.headers)
    if not found:
        return ()
    return tuple((name, value) for name in sorted(found) for value in _values(call, name))


def is_semantic(name: str) -> bool:
    """Tell whether a header, `name` in lower case, decides the answer."""
    if name in SEMANTIC_HEADERS:
        return True
    return name.startswith(SEMANTIC_PREFIXES) and name not in SILENT and not is_credential(name)


def _values(call: HttpCall, name: str) -> Iterable[str]:
    """Return the values of a header, one for each of its lines; a set of flags is one, in however many lines."""
    if name in _FLAG_LISTS:
        return [",".join(sorted({flag.strip() for flag in call.headers[name].split(",")} - {""}))]
    lines = [line.strip() for line in call.repeated.get(name) or (call.headers[name],)]
    if not is_credential(name):
        return lines
    # A credential in the key stops a team from sharing, so none is there unless somebody configures it to keep people
    # apart. SECURITY: then only its digest is, so that no request, and nothing that shows or lists one, holds it.
    return [digest_of(line) for line in lines]
