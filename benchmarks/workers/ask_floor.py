"""No cache and no network: `openai` over a transport that answers at once. What is left is the SDK's own work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import httpx2
import openai
from canned import Canned, answer_to
from protocol import serve


class Answering(Canned):
    """Answers as the server on loopback does."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return self._answer([answer_to(request.url.path, request.content)])


transport = Answering([])
client = openai.OpenAI(api_key="none", max_retries=0, http_client=httpx2.Client(transport=transport))


def ask(messages: Any) -> str:
    """Return the model's answer."""
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
    return answer.choices[0].message.content or ""


def embed(texts: list[str]) -> list[list[float]]:
    """Return the model's vectors."""
    answer = client.embeddings.create(model="text-embedding-3-small", input=texts)
    return [item.embedding for item in answer.data]


serve(ask, "openai", "httpx2", embed=embed)
