"""DSPy's disk cache, its memory cache switched off: what a new process would find."""

from __future__ import annotations

import sys

import dspy
from protocol import serve

dspy.configure_cache(enable_disk_cache=True, enable_memory_cache=False, disk_cache_dir="dspy-cache")
model = dspy.LM("openai/gpt-4.1-mini", api_base=sys.argv[1], api_key="none", num_retries=0)


def ask(prompt: str) -> str:
    """Return the model's answer."""
    return str(model(messages=[{"role": "user", "content": prompt}])[0])


serve(ask, "dspy", "litellm", "openai")
