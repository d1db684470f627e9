"""A process that makes its first model call and prints how long that took; ``rows_start.py`` runs it.

``floor``: without a cache. ``fill``: with one, so that the next one can hit. ``hit``: from the cache, whose
scope is open before the clock starts. ``open``: no call at all, in a scope.
"""

from __future__ import annotations

import json
import sys
import time

import httpx2
import openai
from canned import Canned, messages, openai_answer


def main(mode: str) -> None:
    """Make the call."""
    transport = Canned([openai_answer()])
    client = openai.OpenAI(api_key="none", http_client=httpx2.Client(transport=transport))
    started = time.perf_counter()
    if mode != "floor":
        from genai_cache_magic import llm_cache

        llm_cache().__enter__()
    opened = time.perf_counter()
    if mode != "open":
        client.chat.completions.create(model="gpt-4.1-mini", messages=messages(1))  # type: ignore[arg-type]  # plain dictionaries
    done = time.perf_counter()
    print(json.dumps({"scope_s": opened - started, "call_s": done - opened, "upstream": transport.requests}))


if __name__ == "__main__":
    main(sys.argv[1])
