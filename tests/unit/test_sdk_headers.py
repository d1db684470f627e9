"""Every header that an installed SDK can send is decided: in the key, out of it, or a credential."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from unit.model_calls import CHAT, NOWHERE, call

from genai_cache_magic.providers.headers import (
    SEMANTIC_HEADERS,
    SILENT,
    SILENT_PREFIXES,
    is_credential,
    is_semantic,
)
from genai_cache_magic.providers.registry import recognise

if TYPE_CHECKING:
    from collections.abc import Iterator

SDKS = (
    "anthropic",
    "azure.ai.inference",
    "cerebras",
    "cohere",
    "google.genai",
    "groq",
    "huggingface_hub",
    "langchain_anthropic",
    "langchain_openai",
    "litellm",
    "lm15",
    "mistralai",
    "ollama",
    "openai",
    "portkey_ai",
    "together",
)
NAME = re.compile(r"(x|anthropic|azureml|cf-aig|cohere|extra|helicone|idempotency|mistral|openai)(-[a-z0-9]+)+")
SETTING = {"add", "append", "setdefault"}
NOT_SENT = {
    # Names of providers and models.
    "openai-chat",
    "openai-codex",
    "openai-responses",
    # Headers of answers.
    "openai-poll-after-ms",
    "x-deprecated-replacement",
    "x-deprecation-date",
    "x-goog-upload-status",
    "x-amzn-bedrock-input-token-count",
    "x-amzn-bedrock-output-token-count",
    "x-amzn-trace-id",
    "x-error-code",
    "x-error-message",
    "x-hf-warning",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-should-retry",
    "x-sunset-date",
    # Sent to other services: clouds' metadata, sandboxes, a login.
    "x-api-version",
    "x-identity-header",
}


def header_names(tree: ast.Module) -> Iterator[str]:
    """Yield the texts that stand where names of headers do: keys of dicts, items of headers, pairs."""
    for node in ast.walk(tree):
        places: list[ast.expr | None] = []
        if isinstance(node, ast.Dict):
            places = list(node.keys)
        elif isinstance(node, ast.Subscript) and "header" in ast.unparse(node.value).lower():
            places = [node.slice]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute):
            is_set = node.func.attr in SETTING and "header" in ast.unparse(node.func.value).lower()
            places = node.args[:1] if is_set else []
        elif isinstance(node, ast.Tuple):
            places = node.elts[:1]
        for place in places:
            if isinstance(place, ast.Constant) and isinstance(place.value, str) and NAME.fullmatch(place.value.lower()):
                yield place.value.lower()


def installed() -> list[str]:
    found = []
    for name in SDKS:
        try:
            spec = importlib.util.find_spec(name)
        except ImportError:
            continue
        found += [name] if spec is not None and spec.submodule_search_locations else []
    return found


@functools.cache
def sent_by(sdk: str) -> set[str]:
    spec = importlib.util.find_spec(sdk)
    names: set[str] = set()
    for root in spec.submodule_search_locations:
        for file in Path(root).rglob("*.py"):
            if "tests" in file.relative_to(root).parts:
                continue
            text = file.read_text(encoding="utf-8", errors="ignore")
            if "eader" in text and re.search(r"""["'](?i:x|anthropic|openai|extra|idempotency)-""", text):
                names |= set(header_names(ast.parse(text)))
    return names


def is_decided(name: str) -> bool:
    is_silent = name in SILENT or name.startswith(SILENT_PREFIXES)
    return is_semantic(name) or is_silent or is_credential(name)


@pytest.mark.parametrize("sdk", installed())
def test_header_of_an_sdk_is_decided(sdk):
    """A release that learns a header is noticed, before two requests that differ in it share an answer."""
    unknown = {name for name in sent_by(sdk) - NOT_SENT if not is_decided(name)}
    assert not unknown, f"{sdk} can send {sorted(unknown)}: decide each in providers/headers.py by its documentation"


def test_sources_are_read():
    """The reading finds what SDKs are known to send, or the test above would say nothing."""
    assert {"openai-organization", "openai-beta"} <= sent_by("openai")
    assert {"anthropic-user-profile-id", "anthropic-workspace-id"} <= sent_by("anthropic")


def test_no_header_is_decided_twice():
    """What is in is not out."""
    assert not SEMANTIC_HEADERS & SILENT
    assert not [name for name in SEMANTIC_HEADERS if name.startswith(SILENT_PREFIXES) or is_credential(name)]


ROUTING = ["x-portkey-vertex-region", "x-portkey-new", "x-ai-eg-model"]
CREDENTIALS = ["x-portkey-api-key", "x-portkey-aws-secret-access-key", "x-portkey-aws-session-token"]


@pytest.mark.parametrize("name", [*sorted(SEMANTIC_HEADERS), *ROUTING])
def test_header_that_decides_is_in_the_key(name):
    """Two values of it are two questions, and so is none."""
    told = ({}, {name: "a"}, {name: "b"})
    asked = [recognise(call("/v1/chat/completions", CHAT, headers=headers), NOWHERE) for headers in told]
    assert len({found.request.headers for found in asked}) == 3


@pytest.mark.parametrize("name", [*sorted(SILENT), *CREDENTIALS, "x-stainless-retry-count", "x-unheard-of"])
def test_header_that_decides_nothing_is_not(name):
    """Who pays, what is logged and how long it may take is no part of a question."""
    told = recognise(call("/v1/chat/completions", CHAT, headers={name: "a"}), NOWHERE)
    assert told.request.headers == ()
