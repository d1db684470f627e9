"""Answers with the usage that a test gives them, and what they cost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import httpx2
import orjson

from genai_cache_magic.calls.pricing import cost_usd
from genai_cache_magic.core.model import Form, Request, Response
from genai_cache_magic.providers.base import HttpCall, ModelCall, OriginRule, Origins, Wants
from genai_cache_magic.providers.billing import with_bill
from genai_cache_magic.providers.openai.audio import OpenAITranscripts
from genai_cache_magic.providers.registry import recognise

AT_MS = int(datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp() * 1000)
M = 1_000_000

CHAT = {"messages": [{"role": "user", "content": "a"}]}
SAID = {"role": "assistant", "content": "x"}
CHOICES = {"choices": [{"index": 0, "finish_reason": "stop", "message": SAID}]}
MESSAGE = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn"}
OUTPUT = {"status": "completed", "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}]}
CANDIDATES = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}]}
CONVERSED = {"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": "end_turn"}

OPENAI = "https://api.openai.com/v1/chat/completions"
RESPONSES = "https://api.openai.com/v1/responses"
AZURE = "https://a.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
ANTHROPIC = "https://api.anthropic.com/v1/messages"
XAI = "https://api.x.ai/v1/chat/completions"
OPENROUTER = "https://openrouter.ai/api/v1/chat/completions"
PERPLEXITY = "https://api.perplexity.ai/chat/completions"
GROQ = "https://api.groq.com/openai/v1/chat/completions"
GATEWAY = "https://llm.example.com/v1/chat/completions"
LOCAL = "http://localhost:8000/v1/chat/completions"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
VERTEX = "https://aiplatform.googleapis.com/v1/projects/p/locations/global/publishers"
BEDROCK = "https://bedrock-runtime.us-east-1.amazonaws.com/model"
SONNET = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"

RULES = {"https://llm.example.com": OriginRule("openai"), "http://localhost:9000": OriginRule("openai")}


def call_of(url, body, rules=RULES):
    """The model call that a POST of `body` to `url` is."""
    address = httpx2.URL(url)
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    query = address.query.decode()
    sent = orjson.dumps(body)
    path = (address.host, address.port, address.path, query, headers, sent)
    found = recognise(HttpCall("POST", address.scheme, *path), Origins(rules, "machine"))
    assert found is not None
    return found


def cost(url, body, answer, headers=(), form=Form.JSON, *, rules=RULES):
    """What `answer` to a POST of `body` costs, as the cache prices it [USD]."""
    call = call_of(url, body, rules)
    content = answer if isinstance(answer, bytes) else orjson.dumps(answer)
    response = Response(200, tuple(headers), content, form)
    return cost_usd(call, with_bill(call.provider.read(response), response), now_ms=AT_MS)


def chat(url, model, usage, asked=None, *, headers=(), rules=RULES, **answered):
    """What a chat with `usage` costs [USD]."""
    answer = {"model": model, **CHOICES, "usage": usage, **answered}
    return cost(url, {"model": model, **CHAT, **(asked or {})}, answer, headers, rules=rules)


def claude(usage, asked=None, url=ANTHROPIC, model="claude-sonnet-4-5", **answered):
    """What a message with `usage` costs [USD]."""
    body = {"model": model, "max_tokens": 9, **CHAT, **(asked or {})}
    return cost(url, body, {"model": model, **MESSAGE, "usage": usage, **answered})


def gemini(usage, asked=None, headers=(), url=GEMINI, **answered):
    """What an answer of Gemini's with `usage` costs [USD]."""
    body = {"contents": [{"role": "user", "parts": [{"text": "a"}]}], **(asked or {})}
    model = url.rpartition("/")[2].partition(":")[0]
    return cost(url, body, {**CANDIDATES, "modelVersion": model, "usageMetadata": usage, **answered}, headers)


def converse(usage, asked=None, model=SONNET, **answered):
    """What an answer of the Converse API with `usage` costs [USD]."""
    body = {"messages": [{"role": "user", "content": [{"text": "a"}]}], **(asked or {})}
    return cost(f"{BEDROCK}/{model}/converse", body, {**CONVERSED, "usage": usage, **answered})


def transcript(model, usage):
    """What a transcript with `usage` costs [USD]."""
    provider = OpenAITranscripts("openai.audio.transcriptions", "openai")
    call = ModelCall(provider, Request(provider.surface, "https://api.openai.com/v1", model, {}), Wants())
    read = provider.read(Response(200, (), orjson.dumps({"text": "x", "usage": usage})))
    return cost_usd(call, read, now_ms=AT_MS)


def events(*chunks):
    """A stream of `chunks`, in the words of OpenAI's."""
    return b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


PLAIN = {"prompt_tokens": M, "completion_tokens": M, "total_tokens": 2 * M}
USD = Decimal
