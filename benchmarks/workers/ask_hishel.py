"""hishel under `openai`: its SQLite storage, keyed by the body, since it keys a POST by its URL alone.

RFC 9111 lets a POST be stored only with explicit freshness, so the transport below grants it a day.
"""

from __future__ import annotations

import hashlib
import sys

import httpx2
import openai
from hishel import CacheOptions, SqliteStorage
from hishel.httpx2 import CacheTransport
from protocol import serve


class Fresh(httpx2.HTTPTransport):
    """The network, whose answers may be kept for a day."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request."""
        response = super().handle_request(request)
        response.headers["cache-control"] = "max-age=86400"
        response.headers.pop("set-cookie", None)
        return response


def key_by_body(request: httpx2.Request) -> None:
    """Let the body decide which stored answer is meant."""
    key = hashlib.sha256(str(request.url).encode() + b"\0" + request.content).hexdigest()
    request.extensions["caching"] = {"key": key}


storage = SqliteStorage(database_path="hishel.db")
options = CacheOptions(shared=False, supported_methods=["GET", "HEAD", "POST"])
transport = CacheTransport(Fresh(), storage=storage, rfc=options)
http = httpx2.Client(transport=transport, event_hooks={"request": [key_by_body]})
client = openai.OpenAI(api_key="none", base_url=sys.argv[1], max_retries=0, http_client=http)


def ask(prompt: str) -> str:
    """Return the model's answer."""
    answer = client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": prompt}])
    return answer.choices[0].message.content or ""


serve(ask, "hishel", "openai", "httpx2")
