"""pycachy under `openai`: one file of JSON lines, read from its start for each call."""

from __future__ import annotations

import sys
from typing import Any

import openai
from cachy import enable_cachy
from protocol import serve

enable_cachy(cache_dir=".", doms=("127.0.0.1",))
client = openai.OpenAI(api_key="none", base_url=sys.argv[1], max_retries=0)


def ask(messages: Any) -> str:
    """Return the model's answer."""
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    return answer.choices[0].message.content or ""


def embed(texts: list[str]) -> list[list[float]]:
    """Return the model's vectors."""
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in answer.data]


serve(ask, "pycachy", "openai", "httpx2", embed=embed)
