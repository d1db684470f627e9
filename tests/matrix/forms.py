"""Every form in which the SDKs offer a call: the one list that tests run and that the page in the docs shows."""

from __future__ import annotations

from matrix import (
    sdk_anthropic,
    sdk_azure_inference,
    sdk_boto3,
    sdk_cohere,
    sdk_dspy,
    sdk_google,
    sdk_langchain,
    sdk_litellm,
    sdk_lm15,
    sdk_mistral,
    sdk_ollama,
    sdk_openai,
    sdk_plain,
)

WAYS = (
    *sdk_openai.WAYS,
    *sdk_anthropic.WAYS,
    *sdk_langchain.WAYS,
    *sdk_litellm.WAYS,
    *sdk_dspy.WAYS,
    *sdk_lm15.WAYS,
    *sdk_google.WAYS,
    *sdk_mistral.WAYS,
    *sdk_cohere.WAYS,
    *sdk_ollama.WAYS,
    *sdk_azure_inference.WAYS,
    *sdk_boto3.WAYS,
    *sdk_plain.WAYS,
)
FORMS = tuple(form for way in WAYS for form in way.forms())
