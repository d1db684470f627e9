"""By what numbers are told apart: names of models and kinds of errors, and nothing that a user wrote."""

from __future__ import annotations

import pytest
from monitored_calls import own_cache  # noqa: F401 - fixtures

from genai_cache_magic.events import CallRecord, Outcome, Trouble
from genai_cache_magic.monitoring.labels import (
    MODEL,
    MOST_MODELS,
    OPERATION,
    OTHER,
    PROVIDER,
    Labels,
    error_type,
    plain_model,
    trouble_attributes,
)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("claude-3-5-sonnet@20240620", "claude-3-5-sonnet@20240620"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "anthropic.claude-3-haiku-20240307-v1:0"),
        ("meta-llama/Llama-3.1-8B", "meta-llama/Llama-3.1-8B"),
        ("publishers/google/models/gemini-2.0", "gemini-2.0"),
        ("ft:gpt-4o-mini:acme:secret:abc", "ft:gpt-4o-mini"),
        ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/x", OTHER),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef", OTHER),
        ("models/gemini-2.0", "gemini-2.0"),
        ("projects/acme-7/locations/eu/publishers/google/models/gemini-2.0", "gemini-2.0"),
        ("/home/anna/models/own.gguf", OTHER),
        ("C:\\Users\\anna\\m", OTHER),
        ("anna@example.com", OTHER),
        ("tuned-123e4567-e89b-12d3-a456-426614174000", OTHER),
        ("0123456789abcdef", OTHER),
        ("a/b/c", OTHER),
        ("https://host/x", OTHER),
        ("my prompt is here", OTHER),
        ("m" * 200, OTHER),
        ("模型", OTHER),
        ("", OTHER),
    ],
)
def test_the_name_of_a_model_is_all_that_is_told(model, told):
    """Who tuned it, whose account it is in, where it lies: nothing of that leaves this machine."""
    assert plain_model(model) == told


def test_a_host_is_never_a_provider():
    """A request that was not recognised has the host in the provider's place; what is not known is not told."""
    labels = Labels()
    assert labels.of(CallRecord(Outcome.UNRECOGNISED, provider="llm.internal.example"))[PROVIDER] == OTHER
    assert labels.of(CallRecord(Outcome.MISS, provider="canary.secret"))[PROVIDER] == OTHER
    assert labels.of(CallRecord(Outcome.MISS, provider="openai.chat", model="m")) == {
        OPERATION: "chat",
        PROVIDER: "openai",
        MODEL: "m",
    }


def test_so_many_models_and_no_more():
    """Names made in a loop make no endless series."""
    labels = Labels()
    names = {labels.of(CallRecord(Outcome.MISS, model=f"m-{n}"))[MODEL] for n in range(5 * MOST_MODELS)}
    assert len(names) == MOST_MODELS + 1


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("status 429: canary", "429"),
        ("APITimeoutError", "APITimeoutError"),
        ("closed before its end", OTHER),
        ("", OTHER),
    ],
)
def test_an_error_has_a_kind_and_no_words(reason, kind):
    """A status or a class; never what it said."""
    assert error_type(CallRecord(Outcome.ERROR, reason=reason)) == kind
    assert trouble_attributes(Trouble("a path/to", "not a class", "m")) == {
        "genai_cache.part": OTHER,
        "error.type": OTHER,
    }
