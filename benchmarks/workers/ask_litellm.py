"""LiteLLM's disk cache under its own client for `openai`."""

from __future__ import annotations

import sys
from typing import Any

import litellm
from litellm.caching.caching import Cache
from protocol import serve

litellm.cache = Cache(type="disk", disk_cache_dir="litellm-cache")
where: Any = {"api_key": "none", "max_retries": 0, "caching": True}


def ask(messages: Any) -> str:
    """Return the model's answer."""
    answer = litellm.completion(model="openai/gpt-4.1-mini", messages=messages, base_url=sys.argv[1], **where)
    return str(answer.choices[0].message.content)


def embed(texts: list[str]) -> list[list[float]]:
    """Return the model's vectors."""
    answer = litellm.embedding(
        model="openai/text-embedding-3-small", input=texts, api_base=sys.argv[1], encoding_format="float", **where
    )
    return [item["embedding"] for item in answer.data]


serve(ask, "litellm", "openai", "diskcache", embed=embed)
