"""LiteLLM's Redis cache under its own client for `openai`."""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import urlsplit

import litellm
from litellm.caching.caching import Cache
from protocol import serve

address = urlsplit(os.environ["BENCH_REDIS"])
litellm.cache = Cache(type="redis", host=address.hostname, port=str(address.port), namespace="litellm")


def ask(messages: Any) -> str:
    """Return the model's answer."""
    answer = litellm.completion(
        model="openai/gpt-4.1-mini",
        messages=messages,
        api_key="none",
        base_url=sys.argv[1],
        max_retries=0,
        caching=True,
    )
    return str(answer.choices[0].message.content)


serve(ask, "litellm", "openai", "redis")
