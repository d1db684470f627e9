"""This package: `openai` in an open scope."""

from __future__ import annotations

import sys
from typing import Any

import openai
from protocol import serve

from genai_cache_magic import llm_cache

client = openai.OpenAI(api_key="none", base_url=sys.argv[1], max_retries=0)


def ask(messages: Any) -> str:
    """Return the model's answer."""
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    return answer.choices[0].message.content or ""


def embed(texts: list[str]) -> list[list[float]]:
    """Return the model's vectors."""
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in answer.data]


with llm_cache():
    serve(ask, "genai-cache-magic", "openai", "httpx2", embed=embed)
