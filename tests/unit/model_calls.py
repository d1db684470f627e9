"""Requests of each wire API, as an interceptor hands them to the providers."""

from __future__ import annotations

import orjson

from genai_cache_magic.providers.base import HttpCall, Origins

NOWHERE = Origins({}, "laptop")
HELLO = [{"role": "user", "content": "Say hello"}]
CHAT = {"model": "m", "messages": HELLO}
CLAUDE = {"model": "m", "messages": HELLO, "max_tokens": 5}
RESPONSES = {"model": "m", "input": "Say hello"}
EMBEDDINGS = {"model": "m", "input": ["a"]}
COMPLETIONS = {"model": "m", "prompt": "Once"}


def call(path, body, host="api.openai.com", headers=None, **more):
    scheme, _, query = more.pop("scheme", "https"), None, more.pop("query", "")
    given = {"content-type": "application/json", **(headers or {})}
    raw = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
    return HttpCall(more.pop("method", "POST"), scheme, host, more.pop("port", None), path, query, given, raw)
