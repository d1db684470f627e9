"""DSPy's disk cache, its memory cache switched off: what a new process would find."""

from __future__ import annotations

import sys
from typing import Any

import dspy
from protocol import serve

dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=False, disk_cache_dir="dspy-cache")
where: Any = {"api_base": sys.argv[1], "api_key": "none"}
model = dspy.LM("openai/gpt-4.1-mini", num_retries=0, **where)
embedder = dspy.Embedder("openai/text-embedding-3-small", batch_size=200, encoding_format="float", **where)


def ask(messages: Any) -> str:
    """Return the model's answer."""
    return str(model(messages=messages)[0])


def embed(texts: list[str]) -> Any:
    """Return the model's vectors."""
    return embedder(texts)


serve(ask, "dspy", "litellm", "openai", embed=embed)
