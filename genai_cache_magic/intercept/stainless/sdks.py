"""What is known of each SDK that Stainless generates: what of a client decides a request, and what doesn't."""

from __future__ import annotations

from typing import Final, NamedTuple


class Sdk(NamedTuple):
    """One SDK.

    Attributes
    ----------
    package
        As it is imported.
    paths
        Where its calls go that are served above HTTP, as its resources name it.
    deciding
        Attributes of a client that decide where or as whom it asks.
    empty
        Attributes of a client that change requests or answers in ways that are not foretold, unless they are empty.
    silent
        Attributes of a client that decide neither.
    id_header
        Of an answer: the id of its request; empty where the SDK has no use for it.
    params
        Modules of the types of parameters that are nothing but the body of a call to one of `paths`.
    fields
        As `deciding`, of headers and parameters: mappings.
    """

    package: str
    paths: frozenset[str]
    deciding: tuple[str, ...]
    empty: tuple[str, ...]
    silent: frozenset[str]
    id_header: str
    params: frozenset[str] = frozenset()
    fields: tuple[str, ...] = ("_custom_headers", "_custom_query")

    def __repr__(self) -> str:
        return "<what is known of an SDK>"


_DECIDING: Final = ("api_key", "_platform")
_EMPTY: Final = ("_strict_response_validation", "_idempotency_header")
_SILENT: Final = frozenset(
    {"_version", "_base_url", "_client", "_default_stream_cls", "_limits", "_proxies", "_transport"}
    | {"max_retries", "timeout", "_timeout", "_timeout_overridden"}
)

SDKS: Final = {
    sdk.package: sdk
    for sdk in (
        Sdk(
            "openai",
            frozenset({"/chat/completions", "/responses", "/completions", "/embeddings"}),
            (
                *(*_DECIDING, "admin_api_key", "organization", "project"),
                *("_azure_deployment", "_azure_endpoint", "_azure_ad_token", "_api_version"),
            ),
            (
                *(*_EMPTY, "_provider", "_provider_runtime", "_api_key_provider", "_azure_ad_token_provider"),
                *("workload_identity", "_workload_identity_auth"),
            ),
            _SILENT
            | {"webhook_secret", "websocket_base_url", "_base_url_was_default", "_data_residency"}
            | {"_ambient_authorizations"},
            "x-request-id",
            frozenset(
                {"openai.types.chat.completion_create_params", "openai.types.responses.response_create_params"}
                | {"openai.types.completion_create_params", "openai.types.embedding_create_params"}
            ),
        ),
        Sdk(
            "anthropic",
            frozenset({"/v1/messages", "/v1/messages?beta=true"}),
            (*_DECIDING, "auth_token"),
            (*_EMPTY, "credentials", "_token_cache", "_custom_auth", "_middleware", "_middleware_chain"),
            _SILENT | {"webhook_key", "_unchosen_base_url", "_open_telemetry", "_lazy_tracer", "_otel"},
            "request-id",
            fields=("_custom_headers", "_custom_query", "_credential_headers"),
        ),
        Sdk(
            "groq",
            frozenset({"/openai/v1/chat/completions", "/openai/v1/embeddings"}),
            _DECIDING,
            _EMPTY,
            _SILENT,
            "",
            frozenset({"groq.types.chat.completion_create_params", "groq.types.embedding_create_params"}),
        ),
        Sdk(
            "cerebras.cloud.sdk",
            frozenset({"/v1/chat/completions", "/v1/completions"}),
            _DECIDING,
            _EMPTY,
            _SILENT,
            "",
            frozenset(
                {"cerebras.cloud.sdk.types.chat.completion_create_params"}
                | {"cerebras.cloud.sdk.types.completion_create_params"}
            ),
        ),
        Sdk(
            "together",
            frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})
            | {"https://api-inference.together.ai/v1/chat/completions"},
            (*_DECIDING, "project_id", "_base_url_overridden"),
            _EMPTY,
            _SILENT,
            "",
            frozenset(
                {"together.types.chat.completion_create_params", "together.types.completion_create_params"}
                | {"together.types.embedding_create_params"}
            ),
        ),
    )
}

CLIENTS: Final = {
    "openai": ("OpenAI", "AsyncOpenAI", "AzureOpenAI", "AsyncAzureOpenAI"),
    "anthropic": ("Anthropic", "AsyncAnthropic"),
    "groq": ("Groq", "AsyncGroq"),
    "cerebras.cloud.sdk": ("Cerebras", "AsyncCerebras"),
    "together": ("Together", "AsyncTogether"),
}
"""The clients of each SDK whose attributes are those of its `Sdk`; and classes of users' that are made of them."""
