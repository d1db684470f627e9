"""This package over a team's Redis: `openai` in an open scope. The environment says where Redis and the disk are."""

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


with llm_cache():
    serve(ask, "genai-cache-magic", "openai", "redis")
