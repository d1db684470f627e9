"""hishel under `openai`: its SQLite storage, with the policy that keys by the body and stores what it is told to.

The 1.x line: since 2.0 a POST is always written through to the origin, so no model call can hit.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx2
import openai
from hishel import FilterPolicy, SyncSqliteStorage
from hishel.httpx2 import SyncCacheTransport
from protocol import serve

policy = FilterPolicy()
policy.use_body_key = True
transport = SyncCacheTransport(
    next_transport=httpx2.HTTPTransport(),
    storage=SyncSqliteStorage(database_path="hishel.db"),
    policy=policy,
)
client = openai.OpenAI(
    api_key="none", base_url=sys.argv[1], max_retries=0, http_client=httpx2.Client(transport=transport)
)


def ask(messages: Any) -> str:
    """Return the model's answer."""
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    return answer.choices[0].message.content or ""


def embed(texts: list[str]) -> list[list[float]]:
    """Return the model's vectors."""
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in answer.data]


serve(ask, "hishel", "openai", "httpx2", embed=embed)
