"""No header that says who asks gets into a key, whoever sends it and whatever is configured."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.providers.base import HttpCall, Origins
from genai_cache_magic.providers.fields import SEMANTIC_HEADERS, is_credential
from genai_cache_magic.providers.registry import recognise

CREDENTIALS = [
    "api-key",
    "apikey",
    "authorization",
    "cf-aig-authorization",
    "cookie",
    "helicone-auth",
    "ocp-apim-subscription-key",
    "proxy-authorization",
    "set-cookie",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-client-secret",
    "x-functions-key",
    "x-goog-api-key",
    "x-goog-iam-authorization-token",
    "x-litellm-api-key",
    "x-portkey-api-key",
    "x-serverless-authorization",
]
CHAT = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
CALLS = {
    "openai": ("api.openai.com", "/v1/chat/completions", CHAT),
    "azure": ("east.openai.azure.com", "/openai/deployments/d/chat/completions", CHAT),
    "anthropic": ("api.anthropic.com", "/v1/messages", CHAT),
    "vertex": (
        "us-east5-aiplatform.googleapis.com",
        "/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude:rawPredict",
        {**CHAT, "anthropic_version": "vertex-2023-10-16"},
    ),
    "gemini": (
        "generativelanguage.googleapis.com",
        "/v1beta/models/gemini:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    ),
    "cohere": ("api.cohere.com", "/v2/chat", CHAT),
    "cohere v1": ("api.cohere.com", "/v1/chat", {"message": "hello", "stream": True}),
    "rerank": ("api.cohere.com", "/v2/rerank", {"query": "a", "documents": ["b"]}),
    "bedrock": ("bedrock-runtime.us-east-1.amazonaws.com", "/model/m/invoke", {"prompt": "hello"}),
}


def request(name, headers, extra=()):
    host, path, body = CALLS[name]
    told = {"content-type": "application/json", **headers}
    origins = Origins({}, "laptop", frozenset(extra))
    return recognise(HttpCall("POST", "https", host, None, path, "", told, json.dumps(body).encode()), origins).request


def test_none_is_known_to_decide_an_answer():
    """The headers that are in every key are none of them credentials."""
    assert not [name for name in SEMANTIC_HEADERS if is_credential(name)]
    assert all(map(is_credential, CREDENTIALS))


@pytest.mark.parametrize("name", CALLS)
def test_credentials_are_never_in_a_key(name):
    """With all of them or none, configured as deciding or not, the question is the same."""
    secrets = dict.fromkeys(CREDENTIALS, "secret")
    asked = request(name, secrets, CREDENTIALS)
    assert asked == request(name, {}) == request(name, secrets)
    assert "secret" not in repr(asked)


@pytest.mark.parametrize("header", ["x-max-tokens", "x-route", "x-tokenizer", "authorization-policy", "x-api-key-tier"])
def test_other_headers_decide_where_they_are_configured(header):
    """What only sounds like a credential is obeyed: to ignore it would give two questions one answer."""
    asked = [request("openai", {header: value}, [header]) for value in "ab"]
    assert asked[0] != asked[1]
