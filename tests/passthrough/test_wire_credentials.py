"""No header that says who asks gets into a key as it stands; its digest does where somebody configured it."""

from __future__ import annotations

import json

import pytest

from genai_cache_magic.core.canonical import canonical_bytes
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import HttpCall, Origins
from genai_cache_magic.providers.headers import SEMANTIC_HEADERS, is_credential
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
    """With all of them or none, the question is the same."""
    assert request(name, dict.fromkeys(CREDENTIALS, "secret")) == request(name, {})


@pytest.mark.parametrize("header", CREDENTIALS)
@pytest.mark.parametrize("name", CALLS)
def test_a_configured_credential_keeps_its_owners_apart(name, header):
    """Who wants people apart gets it: one secret has one key, another has another, and neither stands in it."""
    mine, again, yours = (request(name, {header: value}, [header]) for value in ("hush", " hush", "hush-2"))
    assert mine == again != yours
    assert b"hush" not in canonical_bytes(mine, KeySpace())
    assert mine != request(name, {header: "hush"})


@pytest.mark.parametrize("name", CALLS)
def test_a_call_without_the_configured_credential_is_nobodys(name):
    """A client may add it after the look-up: such a call is sent uncached, and the reason names the header."""
    with pytest.raises(UncacheableRequest, match="authorization"):
        request(name, {}, ["authorization"])
    # A vendor that knows its callers by another of those that are named is no such case.
    request(name, {"x-api-key": "secret"}, ["authorization", "x-api-key"])


@pytest.mark.parametrize("header", ["x-max-tokens", "x-route", "x-tokenizer", "authorization-policy", "x-api-key-tier"])
def test_other_headers_decide_where_they_are_configured(header):
    """What only sounds like a credential is obeyed: to ignore it would give two questions one answer."""
    asked = [request("openai", {header: value}, [header]) for value in "ab"]
    assert asked[0] != asked[1]
