"""What an answer costs, or that nobody can tell: the rows of ``docs/money.md``, each with its figures."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import httpx2
import orjson
import pytest

from genai_cache_magic import llm_cache
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


# 1,000 tokens asked, 300 said, 3,000 thought; grok-4 costs $3 in and $15 out, https://docs.x.ai/docs/models.
BESIDE = {
    "prompt_tokens": 1000,
    "completion_tokens": 300,
    "total_tokens": 4300,
    "completion_tokens_details": {"reasoning_tokens": 3000},
}
GROK = (1000 * USD(3) + 3300 * USD(15)) / M


class TestOutput:
    """The total decides what the output is, not the vendor."""

    def test_thought_beside_the_completion(self):
        """What xAI counts beside the completion is paid for."""
        assert chat(XAI, "grok-4-0709", BESIDE) == GROK

    def test_thought_within_the_completion(self):
        """Where the total says that the completion holds it, it is not counted twice, at the same vendor too."""
        within = {**BESIDE, "completion_tokens": 3300}
        assert chat(XAI, "grok-4-0709", within) == GROK

    @pytest.mark.parametrize("details", [{}, {"completion_tokens_details": {"reasoning_tokens": 0}}])
    def test_thought_in_the_total_only(self, details):
        """What Gemini's OpenAI path tells in the total alone is paid for: $0.30 in, $2.50 out."""
        url = "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"
        usage = {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 4300, **details}
        assert chat(url, "gemini-2.5-flash", usage) == (1000 * USD("0.3") + 3300 * USD("2.5")) / M

    def test_in_a_stream(self):
        """The usage of a stream is read alike."""
        said = {"choices": [{"index": 0, "delta": SAID, "finish_reason": "stop"}], "model": "grok-4-0709"}
        body = {"model": "grok-4-0709", "stream": True, "stream_options": {"include_usage": True}, **CHAT}
        stream = events(said, {"model": "grok-4-0709", "choices": [], "usage": BESIDE})
        assert cost(XAI, body, stream, form=Form.STREAM) == GROK

    def test_thought_in_the_total_of_responses(self):
        """The Responses API is counted alike."""
        usage = {"input_tokens": 1000, "output_tokens": 300, "total_tokens": 4300}
        body = {"model": "grok-4-0709", "input": "a"}
        answer = {"model": "grok-4-0709", **OUTPUT, "usage": usage}
        assert cost("https://api.x.ai/v1/responses", body, answer) == GROK

    def test_thought_of_gemini(self):
        """Gemini's own API counts thoughts apart, and now and then in the total alone."""
        told = {"promptTokenCount": 1000, "candidatesTokenCount": 300, "totalTokenCount": 4300}
        expected = (1000 * USD("0.3") + 3300 * USD("2.5")) / M
        assert gemini({**told, "thoughtsTokenCount": 3000}) == expected
        assert gemini(told) == expected

    def test_without_a_total_nothing_says_where_it_is(self):
        """Reasoning and no total: in or beside the completion, nobody knows."""
        usage = {name: value for name, value in BESIDE.items() if name != "total_tokens"}
        assert chat(XAI, "grok-4-0709", usage) is None

    def test_more_thought_than_output(self):
        """Counts that contradict each other have no price."""
        assert chat(OPENAI, "gpt-5", {**BESIDE, "total_tokens": 1300}) is None


class TestKindsOfTokens:
    """Each kind of token at its own rate, or none."""

    def test_sound_of_openai(self):
        """Heard and spoken tokens have their rates: gpt-audio $2.50 and $32 in, $10 and $64 out."""
        usage = {
            "prompt_tokens": 1000,
            "completion_tokens": 500,
            "total_tokens": 1500,
            "prompt_tokens_details": {"audio_tokens": 800, "text_tokens": 200},
            "completion_tokens_details": {"audio_tokens": 400, "text_tokens": 100},
        }
        told = 200 * USD("2.5") + 800 * USD(32) + 100 * USD(10) + 400 * USD(64)
        assert chat(OPENAI, "gpt-audio", usage) == told / M

    def test_sound_of_gemini(self):
        """Heard tokens of Gemini cost $1.00, cached ones $0.10, text and images $0.30."""
        usage = {
            "promptTokenCount": 1000,
            "candidatesTokenCount": 0,
            "totalTokenCount": 1000,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 100},
                {"modality": "IMAGE", "tokenCount": 200},
                {"modality": "AUDIO", "tokenCount": 700},
            ],
        }
        assert gemini(usage) == (300 * USD("0.3") + 700 * USD(1)) / M
        cached = [{"modality": "AUDIO", "tokenCount": 400}]
        with_cache = {**usage, "cachedContentTokenCount": 400, "cacheTokensDetails": cached}
        assert gemini(with_cache) == (300 * USD("0.3") + 300 * USD(1) + 400 * USD("0.1")) / M
        assert gemini({**usage, "cachedContentTokenCount": 400}) is None

    @pytest.mark.parametrize("kind", ["audio", "image", "video"])
    @pytest.mark.parametrize("side", ["prompt", "completion"])
    def test_kinds_without_a_rate(self, kind, side):
        """A model with no rate for a kind of token has no price for an answer with such tokens."""
        usage = {**PLAIN, f"{side}_tokens_details": {f"{kind}_tokens": 5}}
        assert chat(OPENAI, "gpt-4.1-mini", usage) is None

    @pytest.mark.parametrize("modality", ["IMAGE", "AUDIO", "VIDEO", "SMELL"])
    def test_output_of_gemini_without_a_rate(self, modality):
        """So it is with what Gemini says."""
        usage = {
            "promptTokenCount": 10,
            "candidatesTokenCount": 10,
            "candidatesTokensDetails": [{"modality": modality, "tokenCount": 5}],
        }
        assert gemini(usage) is None

    def test_transcripts(self):
        """Heard tokens of gpt-4o-transcribe cost $6, those of whisper-1 $0.006 a minute."""
        heard = {"text_tokens": 200, "audio_tokens": 800}
        usage = {"type": "tokens", "input_tokens": 1000, "output_tokens": 100, "input_token_details": heard}
        expected = (200 * USD("2.5") + 800 * USD(6) + 100 * USD(10)) / M
        assert transcript("gpt-4o-transcribe", {**usage, "total_tokens": 1100}) == expected
        assert transcript("gpt-4o-transcribe", {"type": "tokens", "input_tokens": 9, "output_tokens": 1}) is None
        assert transcript("whisper-1", {"type": "duration", "seconds": 60}) == USD("0.006")
        assert transcript("gpt-4o-transcribe", {"type": "duration", "seconds": 60}) is None

    def test_images_of_cohere(self):
        """What an image costs to embed is not what a text does."""
        url = "https://api.cohere.com/v2/embed"
        body = {"model": "embed-v4.0", "texts": ["a"], "input_type": "search_query"}
        vectors = {"embeddings": {"float": [[0.1]]}}
        assert cost(url, body, {**vectors, "meta": {"billed_units": {"input_tokens": M}}}) == USD("0.12")
        for units in ({"images": 1}, {"input_tokens": 1, "image_tokens": 5}):
            assert cost(url, body, {**vectors, "meta": {"billed_units": units}}) is None


class TestPromptCaches:
    """What a vendor cached, wherever its usage says so."""

    @pytest.mark.parametrize(
        "told",
        [
            {"prompt_tokens_details": {"cached_tokens": 4000}},
            {"prompt_cache_hit_tokens": 4000, "prompt_cache_miss_tokens": 6000},
            {"cached_tokens": 4000},
            {"num_cached_tokens": 4000},
            {"cached_tokens": 4000, "prompt_tokens_details": {"cached_tokens": 4000}},
            {"prompt_cache_hit_tokens": 4000, "prompt_tokens_details": {"cached_tokens": 0}},
        ],
    )
    @pytest.mark.parametrize("url", [OPENAI, GATEWAY, AZURE])
    def test_names_of_cached_tokens(self, url, told):
        """DeepSeek, Moonshot, Mistral and others each have a name for it: gpt-4.1-mini $0.40, cached $0.10."""
        usage = {"prompt_tokens": 10_000, "completion_tokens": 0, "total_tokens": 10_000, **told}
        assert chat(url, "gpt-4.1-mini", usage) == (6000 * USD("0.4") + 4000 * USD("0.1")) / M

    def test_moonshot_tells_its_usage_in_a_choice(self):
        """The last choice of Moonshot's stream carries the usage, with the cached tokens at its top."""
        url = "https://api.moonshot.ai/v1/chat/completions"
        usage = {"prompt_tokens": 10_000, "completion_tokens": 100, "total_tokens": 10_100, "cached_tokens": 4000}
        last = {"index": 0, "delta": SAID, "finish_reason": "stop", "usage": usage}
        body = {"model": "kimi-k2.5", "stream": True, **CHAT}
        streamed = cost(url, body, events({"model": "kimi-k2.5", "choices": [last]}), form=Form.STREAM)
        assert streamed is not None
        assert streamed == chat(url, "kimi-k2.5", usage)
        assert streamed < chat(url, "kimi-k2.5", {**usage, "cached_tokens": 0})

    def test_cached_beside_the_input(self):
        """A gateway that counts as Anthropic does tells it by the total."""
        usage = {
            "prompt_tokens": 6000,
            "completion_tokens": 0,
            "total_tokens": 10_000,
            "cache_read_input_tokens": 4000,
        }
        assert chat(GATEWAY, "gpt-4.1-mini", usage) == (6000 * USD("0.4") + 4000 * USD("0.1")) / M

    @pytest.mark.parametrize(
        "told",
        [
            {"prompt_cache_hit_tokens": 4000, "prompt_tokens_details": {"cached_tokens": 3000}},
            {"cached_tokens": 20_000},
            {"prompt_tokens_details": {"cache_write_tokens_details": {"ttl_12h_tokens": 5}}},
        ],
    )
    def test_what_contradicts_itself(self, told):
        """Two counts of one thing, more than there is, or a cache that nobody has a price for."""
        usage = {"prompt_tokens": 10_000, "completion_tokens": 0, "total_tokens": 10_000, **told}
        assert chat(OPENAI, "gpt-4.1-mini", usage) is None

    def test_cached_tokens_without_a_rate(self):
        """A model without a rate for cached tokens has no price for an answer with such."""
        usage = {**PLAIN, "prompt_tokens_details": {"cached_tokens": 4}}
        assert chat(GROQ, "llama-3.3-70b-versatile", PLAIN) == USD("1.38")
        assert chat(GROQ, "llama-3.3-70b-versatile", usage) is None


WRITTEN = {"input_tokens": 1000, "output_tokens": 0, "cache_creation_input_tokens": 5000}
SPLIT = {**WRITTEN, "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 3000}}
SPLIT_COST = (1000 * USD(3) + 2000 * USD("3.75") + 3000 * USD(6)) / M


class TestCacheWrites:
    """What Anthropic wrote for five minutes costs 1.25 times the input, for an hour twice."""

    def test_whole(self):
        """A message's usage tells which tokens were written for how long."""
        assert claude(SPLIT) == SPLIT_COST

    def test_streamed(self):
        """A stream announces it at its start."""
        started = {"type": "message_start", "message": {**MESSAGE, "content": [], "usage": SPLIT}}
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}}
        ended = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 0}}
        stream = b"".join(
            b"event: %b\ndata: %b\n\n" % (one["type"].encode(), orjson.dumps(one))
            for one in (started, block, ended, {"type": "message_stop"})
        )
        body = {"model": "claude-sonnet-4-5", "max_tokens": 9, "stream": True, **CHAT}
        assert cost(ANTHROPIC, body, stream, form=Form.STREAM) == SPLIT_COST

    def test_on_the_clouds(self):
        """Bedrock tells it in both of its APIs, Vertex AI as Anthropic does; global prices are Anthropic's."""
        assert claude(SPLIT, url=f"{BEDROCK}/{SONNET}/invoke", asked={"anthropic_version": "x"}) == SPLIT_COST
        details = [{"ttl": "5m", "inputTokens": 2000}, {"ttl": "1h", "inputTokens": 3000}]
        usage = {"inputTokens": 1000, "outputTokens": 0, "cacheWriteInputTokens": 5000, "totalTokens": 6000}
        assert converse({**usage, "cacheDetails": details}) == SPLIT_COST
        vertex = f"{VERTEX}/anthropic/models/claude-sonnet-4-5@20250929:rawPredict"
        assert claude(SPLIT, url=vertex, asked={"anthropic_version": "x"}) == SPLIT_COST

    def test_how_long_is_not_told(self):
        """Without a word of it five minutes are meant, unless the request may have asked for an hour."""
        hour = {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}
        assert claude(WRITTEN) == (1000 * USD(3) + 5000 * USD("3.75")) / M
        assert claude(WRITTEN, hour) is None
        assert claude(SPLIT, hour) == SPLIT_COST

    def test_parts_that_do_not_add_up(self):
        """A part of the writes that nobody names is not understood."""
        assert claude({**SPLIT, "cache_creation": {"ephemeral_1h_input_tokens": 1}}) is None
        assert claude({**SPLIT, "cache_creation": {"ephemeral_1d_input_tokens": 5000}}) is None


FLASH = {"promptTokenCount": M, "candidatesTokenCount": M}


class TestTerms:
    """Tiers, speeds and batches cost what the list says of them; of others nobody knows."""

    @pytest.mark.parametrize(
        ("tier", "expected"),
        [
            ("default", "11.25"),
            ("standard", "11.25"),
            ("flex", "5.625"),
            ("priority", "22.5"),
            ("scale", None),
            ("ultrafast", None),
        ],
    )
    def test_openai(self, tier, expected):
        """The tier that the answer names counts, whatever was asked: gpt-5 $1.25 in and $10 out."""
        told = expected and USD(expected)
        for asked in ("auto", "flex"):
            assert chat(OPENAI, "gpt-5", PLAIN, {"service_tier": asked}, service_tier=tier) == told
        usage = {"input_tokens": M, "output_tokens": M, "total_tokens": 2 * M}
        body = {"model": "gpt-5", "input": "a"}
        answer = {"model": "gpt-5", **OUTPUT, "usage": usage, "service_tier": tier}
        assert cost(RESPONSES, body, answer) == told
        stream = events(
            {"model": "gpt-5", "service_tier": tier, "choices": [{"index": 0, "delta": SAID, "finish_reason": "stop"}]},
            {"model": "gpt-5", "choices": [], "usage": PLAIN},
        )
        asked = {"model": "gpt-5", "stream": True, "stream_options": {"include_usage": True}, **CHAT}
        assert cost(OPENAI, asked, stream, form=Form.STREAM) == told

    def test_a_tier_that_was_asked_for_and_not_confirmed(self):
        """A tier that the answer doesn't name may have been served or not."""
        assert chat(OPENAI, "gpt-5", PLAIN, {"service_tier": "flex"}) is None
        assert chat(OPENAI, "gpt-5", PLAIN, {"service_tier": "auto"}) == USD("11.25")

    def test_a_tier_that_the_list_has_no_price_for(self):
        """A model without a price for a tier is not priced as if there were none, nor is what Azure sells."""
        assert chat(OPENAI, "gpt-4.1-mini", PLAIN, service_tier="flex") is None
        assert chat(AZURE, "gpt-5", PLAIN, service_tier="priority") is None
        assert chat(AZURE, "gpt-5", PLAIN, service_tier="default") == USD("11.25")

    def test_groq(self):
        """Groq's flex costs what on-demand does; what performance costs is agreed with each customer."""
        plain = chat(GROQ, "llama-3.3-70b-versatile", PLAIN)
        assert chat(GROQ, "llama-3.3-70b-versatile", PLAIN, service_tier="on_demand") == plain
        assert chat(GROQ, "llama-3.3-70b-versatile", PLAIN, service_tier="flex") == plain
        assert chat(GROQ, "llama-3.3-70b-versatile", PLAIN, service_tier="performance") is None

    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            ({"service_tier": "standard", "speed": "standard"}, "30"),
            ({"service_tier": "batch"}, "15"),
            ({"speed": "fast"}, "60"),
            ({"service_tier": "priority"}, None),
            ({"speed": "ludicrous"}, None),
            ({"inference_geo": "global"}, "30"),
            ({"inference_geo": "us"}, None),
        ],
    )
    def test_anthropic(self, told, expected):
        """Opus 4.8 costs $5 in and $25 out, half in a batch, twice when fast."""
        usage = {"input_tokens": M, "output_tokens": M, **told}
        assert claude(usage, model="claude-opus-4-8") == (expected and USD(expected))

    def test_speed_that_was_asked_for_and_not_confirmed(self):
        """So it is with Anthropic's speed."""
        usage = {"input_tokens": M, "output_tokens": M}
        assert claude(usage, {"speed": "fast"}, model="claude-opus-4-8") is None

    @pytest.mark.parametrize(("tier", "is_known"), [("standard", True), ("flex", False), ("priority", False)])
    def test_gemini(self, tier, is_known):
        """Gemini names its tier in a header, Vertex AI in the usage; gemini-2.5-flash has a list price for one."""
        expected = USD("2.8") if is_known else None
        assert gemini(FLASH, headers=[("x-gemini-service-tier", tier)]) == expected
        traffic = {"standard": "ON_DEMAND", "flex": "ON_DEMAND_FLEX", "priority": "ON_DEMAND_PRIORITY"}[tier]
        assert gemini({**FLASH, "trafficType": traffic}) == expected
        assert gemini(FLASH, {"serviceTier": tier}) == expected

    def test_provisioned_throughput(self):
        """What is paid by the hour has no price by the token."""
        assert gemini({**FLASH, "trafficType": "PROVISIONED_THROUGHPUT"}) is None

    @pytest.mark.parametrize("side", ["cache-read-input", "cache-write-input"])
    def test_amazons_own_count_with_a_cache(self, side):
        """Where the model counts nothing, Amazon's count of the input says nothing of what a prompt cache had."""
        body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, **CHAT}
        counts = [("x-amzn-bedrock-input-token-count", "1000"), ("x-amzn-bedrock-output-token-count", "0")]
        cached = (f"x-amzn-bedrock-{side}-token-count", "5000")
        url = f"{BEDROCK}/{SONNET}/invoke"
        assert cost(url, body, MESSAGE, counts) == USD("0.003")
        assert cost(url, body, MESSAGE, [*counts, cached]) is None
        told = {**MESSAGE, "usage": {"input_tokens": 1000, "output_tokens": 0, "cache_read_input_tokens": 5000}}
        assert cost(url, body, told, [*counts, cached]) == USD("0.0045")

    def test_input_that_holds_the_cached(self):
        """What was read and written may be in the input of a model of OpenAI's at Amazon, and counted once more."""
        gross = {"inputTokens": 12401, "outputTokens": 0, "totalTokens": 24800}
        cached = {"cacheReadInputTokens": 8367, "cacheWriteInputTokens": 4032}
        model = "openai.gpt-5.6-sol"
        assert converse({**gross, **cached}, model=model) is None
        assert converse(gross, model=model) == USD("0.0545644")
        beside = {**gross, "inputTokens": 2, **cached}
        assert converse(beside, model=model) == (2 * USD("4.4") + 8367 * USD("0.44") + 4032 * USD("5.5")) / M
        assert converse({**gross, **cached}) is not None

    @pytest.mark.parametrize("name", ["service-tier", "performanceconfig-latency"])
    def test_bedrock_invoke(self, name):
        """InvokeModel says them in headers."""
        body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, **CHAT}
        answer = {**MESSAGE, "usage": {"input_tokens": 1000, "output_tokens": 10}}
        url = f"{BEDROCK}/{SONNET}/invoke"
        standard, other = ("default", "flex") if name == "service-tier" else ("standard", "optimized")
        assert cost(url, body, answer, [(f"x-amzn-bedrock-{name}", standard)]) is not None
        assert cost(url, body, answer, [(f"x-amzn-bedrock-{name}", other)]) is None

    @pytest.mark.parametrize(
        "answered", [{"serviceTier": {"type": "priority"}}, {"performanceConfig": {"latency": "optimized"}}]
    )
    def test_bedrock(self, answered):
        """Amazon's tiers and its optimised latency have other prices, asked for or told."""
        usage = {"inputTokens": M, "outputTokens": 0, "totalTokens": M}
        assert converse(usage, serviceTier={"type": "default"}, performanceConfig={"latency": "standard"}) is not None
        assert converse(usage, **answered) is None
        assert converse(usage, answered) is None


USED = {"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300}


class TestBills:
    """The origin's own bill wins where its documentation calls it so."""

    def test_xai(self):
        """Ten thousand million ticks are a dollar, tools and discounts within."""
        usage = {**USED, "cost_in_usd_ticks": 37_756_000, "num_sources_used": 3}
        assert chat(XAI, "grok-4-0709", usage) == USD("0.0037756")
        assert chat(XAI, "grok-5-of-the-future", usage, {"search_parameters": {"mode": "on"}}) == USD("0.0037756")
        image = {"data": [{"b64_json": "eA=="}], "usage": {"cost_in_usd_ticks": 400_000_000}}
        body = {"model": "grok-imagine-image", "prompt": "a"}
        assert cost("https://api.x.ai/v1/images/generations", body, image) == USD("0.04")

    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            (
                {"cost": 0.0033789, "is_byok": False, "cost_details": {"upstream_inference_cost": 0.0033789}},
                "0.0033789",
            ),
            ({"cost": 0.0033789}, "0.0033789"),
            ({"cost": 0.0033789, "cost_details": {"upstream_inference_cost": None}}, "0.0033789"),
            ({"cost": 0}, "0"),
            ({"cost": 0.95, "is_byok": True, "cost_details": {"upstream_inference_cost": 19}}, "19.95"),
            ({"cost": 0.95, "is_byok": True}, None),
            ({"cost": 0.95, "cost_details": {"upstream_inference_cost": 19}}, None),
            ({"cost": "a lot"}, None),
            ({"cost": -1}, None),
        ],
    )
    def test_openrouter(self, told, expected):
        """The charge counts, and with a key of one's own what the maker bills on top of it."""
        found = chat(OPENROUTER, "no/such-model", {**USED, **told})
        assert found == (expected and USD(expected))

    def test_perplexity(self):
        """Its usage has the whole cost, the fee of the request within."""
        costs = {"input_tokens_cost": 0.001, "output_tokens_cost": 0.0003, "request_cost": 0.005, "total_cost": 0.0063}
        usage = {**USED, "search_context_size": "low"}
        assert chat(PERPLEXITY, "sonar", {**usage, "cost": costs}) == USD("0.0063")
        assert chat(PERPLEXITY, "sonar", usage) is None

    @pytest.mark.parametrize("url", [GATEWAY, LOCAL])
    def test_litellm(self, url):
        """LiteLLM's proxy bills in a header, wherever it stands, at a price of its own; with a stream in the usage."""
        header = [("x-litellm-response-cost", "0.000415")]
        assert chat(url, "gpt-4.1-mini", USED, headers=header) == USD("0.000415")
        said = {"choices": [{"index": 0, "delta": SAID, "finish_reason": "stop"}], "model": "gpt-4.1-mini"}
        body = {"model": "gpt-4.1-mini", "stream": True, "stream_options": {"include_usage": True}, **CHAT}
        stream = events(said, {"choices": [], "usage": {**USED, "cost": 0.00025}})
        early = [("x-litellm-response-cost", "0.0"), ("x-litellm-call-id", "1")]
        assert cost(url, body, stream, early, Form.STREAM) == USD("0.00025")

    @pytest.mark.parametrize("form", [Form.JSON, Form.STREAM])
    @pytest.mark.parametrize(
        ("told", "expected"),
        [
            (("cf-aig-cache-status", "HIT"), "0"),
            (("helicone-cache", "HIT"), "0"),
            (("x-portkey-cache-status", "SEMANTIC HIT"), "0"),
            (("x-openrouter-cache-status", "HIT"), "0"),
            (("x-cache-status", "Hit"), None),
            (("x-cache", "HIT, MISS"), None),
            (("x-gateway-cache-hit", "true"), None),
            (("x-litellm-cache-key", "4c3a"), None),
            (("cf-aig-cache-status", "MISS"), "list"),
            (("x-portkey-cache-status", "SEMANTIC MISS"), "list"),
            (("cf-cache-status", "DYNAMIC"), "list"),
            (("x-cache-hit", "false"), "list"),
            (("x-prompt-cache-hit", "true"), "list"),
        ],
    )
    def test_gateways_that_answer_from_a_cache(self, told, expected, form):
        """What a gateway's own cache answered was asked of nobody: nothing, where it is documented so, else unknown."""
        said = {"choices": [{"index": 0, "delta": SAID, "finish_reason": "stop"}], "model": "gpt-4.1-mini"}
        whole = {"model": "gpt-4.1-mini", **CHOICES, "usage": USED}
        answer = events(said, {"choices": [], "usage": USED}) if form is Form.STREAM else whole
        body = {"model": "gpt-4.1-mini", "stream": form is Form.STREAM, **CHAT}
        priced = chat(GATEWAY, "gpt-4.1-mini", USED) if expected == "list" else expected and USD(expected)
        assert cost(GATEWAY, body, answer, [told], form) == priced

    @pytest.mark.parametrize("url", [OPENAI, GATEWAY, AZURE])
    def test_a_cost_that_no_documentation_explains(self, url):
        """Dollars, cents or credits? An amount that nobody documents is no price, and makes the list's one doubtful."""
        assert chat(url, "gpt-4.1-mini", {**USED, "cost": 0.0012}) is None

    def test_in_a_cell(self, isolated):
        """A bill in a header is what the cell spent, and what its hit saved."""
        header = {"x-litellm-response-cost": "0.000415"}
        answer = {"model": "gpt-4.1-mini", **CHOICES, "usage": USED}
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200, headers=header, json=answer))
        with llm_cache() as cell, httpx2.Client(transport=transport) as client:
            for _ in range(2):
                client.post(GATEWAY, json={"model": "gpt-4.1-mini", **CHAT})
        assert [call.outcome for call in cell.calls] == ["miss", "hit"]
        assert cell.spent_usd == cell.saved_usd == USD("0.000415")


class TestOwnServers:
    """A server of one's own costs nothing, whatever its models are called."""

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "llm.localhost", "host.docker.internal"])
    @pytest.mark.parametrize("model", ["gpt-4.1-mini", "claude-sonnet-4-5", "my-own"])
    def test_this_machine(self, host, model):
        """Famous names cost nothing here, though the list has their price elsewhere."""
        assert chat(f"http://{host}:8000/v1/chat/completions", model, PLAIN) == 0

    def test_without_a_usage(self):
        """What costs nothing needs no count."""
        body = {"model": "gpt-4.1-mini", **CHAT}
        assert cost(LOCAL, body, {"model": "gpt-4.1-mini", **CHOICES}) == 0
        assert cost("http://localhost:11434/api/chat", body, {"done": True, "message": SAID}) == 0

    @pytest.mark.parametrize("host", ["192.168.1.20", "gpu-box.local", "llm-gateway.internal", "10.0.0.5"])
    def test_another_machine_of_the_network(self, host):
        """What answers from the network may be a gateway that bills: neither the list's price nor nothing."""
        assert chat(f"http://{host}:8000/v1/chat/completions", "gpt-4.1-mini", PLAIN) is None

    def test_the_configuration_knows_better(self):
        """Who configures whose an origin is, is believed: a gateway here, a server of one's own there."""
        assert chat("http://localhost:9000/v1/chat/completions", "gpt-4.1-mini", PLAIN) == 2
        own = {"http://gpu-box.local": OriginRule("local")}
        assert chat("http://gpu-box.local/v1/chat/completions", "gpt-4.1-mini", PLAIN, rules=own) == 0

    @pytest.mark.parametrize("header", ["x-litellm-call-id", "x-portkey-trace-id", "helicone-id", "cf-aig-step"])
    def test_a_gateway_on_this_machine(self, header):
        """A gateway that stands here passes calls on to whom one pays."""
        assert chat(LOCAL, "gpt-4.1-mini", PLAIN, headers=[(header, "x")]) is None

    def test_who_bills_is_no_server_of_ones_own(self):
        """Nor is one that tells a cost, or Ollama where it runs a model elsewhere."""
        assert chat(LOCAL, "gpt-4.1-mini", {**PLAIN, "cost": 0.1}) is None
        body = {"model": "gpt-oss:120b-cloud", **CHAT}
        assert cost("http://localhost:11434/api/chat", body, {"done": True, "message": SAID}) is None

    def test_in_a_cell(self, isolated, unique_server):
        """The cell says so too: nothing spent, nothing saved."""
        with llm_cache() as cell:
            for _ in range(2):
                httpx2.post(f"{unique_server.openai_url}/chat/completions", json={"model": "gpt-4.1-mini", **CHAT})
        assert [call.outcome for call in cell.calls] == ["miss", "hit"]
        assert cell.spent_usd == cell.saved_usd == 0


class TestSellersOfOthersModels:
    @pytest.mark.parametrize(
        "host",
        [
            "api.deepinfra.com/v1/openai",
            "integrate.api.nvidia.com/v1",
            "router.huggingface.co/v1",
            "dashscope.aliyuncs.com/compatible-mode/v1",
            "api.sambanova.ai/v1",
            "models.github.ai/inference",
            "ollama.com/v1",
        ],
    )
    @pytest.mark.parametrize("model", ["openai/gpt-oss-120b", "deepseek-chat", "gpt-4.1-mini"])
    def test_no_price_of_another_seller(self, host, model):
        """Who sells at prices of its own is not priced by whoever else sells a model of that name."""
        assert chat(f"https://{host}/chat/completions", model, PLAIN) is None


class TestRegions:
    """Where an answer from one region costs more, and the list doesn't say how much, nobody knows the price."""

    @pytest.mark.parametrize(
        ("model", "expected"), [("gpt-4.1-mini", 2), ("gpt-5.1", "11.25"), ("gpt-5.4", None), ("gpt-6-sol", None)]
    )
    def test_openai(self, model, expected):
        """OpenAI charges a tenth more for models since March 2026."""
        found = chat("https://eu.api.openai.com/v1/chat/completions", model, PLAIN)
        assert found == (expected and USD(expected))
        assert chat(OPENAI, model, PLAIN) is not None

    def test_xai(self):
        """So does xAI, whose own bill says what it comes to."""
        url = "https://us.api.x.ai/v1/chat/completions"
        assert chat(url, "grok-4.6", PLAIN) is None
        assert chat(url, "grok-4.6", {**PLAIN, "cost_in_usd_ticks": 10**10}) == 1

    @pytest.mark.parametrize(
        ("model", "is_same"),
        [("claude-sonnet-4@20250514", True), ("claude-sonnet-4-5@20250929", False), ("claude-opus-5", False)],
    )
    def test_vertex(self, model, is_same):
        """And Google, for Claude since 4.5."""
        usage = {"input_tokens": 1000, "output_tokens": 10}
        asked = {"anthropic_version": "vertex-2023-10-16"}
        global_url = f"{VERTEX}/anthropic/models/{model}:rawPredict"
        regional = global_url.replace("//aip", "//us-east5-aip").replace("/global/", "/us-east5/")
        assert claude(usage, asked, global_url, model) is not None
        assert (claude(usage, asked, regional, model) is not None) is is_same

    @pytest.mark.parametrize(
        ("model", "is_same"),
        [(SONNET, True), ("eu.anthropic.claude-haiku-4-5-20251001-v1:0", True), ("eu.amazon.nova-lite-v1:0", False)],
    )
    def test_regions_of_amazon(self, model, is_same):
        """Amazon's prices are those of its first regions; Claude costs the same in the others, but for governments."""
        usage = {"inputTokens": 1000, "outputTokens": 10, "totalTokens": 1010}

        def price(region):
            body = {"messages": [{"role": "user", "content": [{"text": "a"}]}]}
            url = f"{BEDROCK}/{model}/converse".replace("us-east-1", region)
            return cost(url, body, {**CONVERSED, "usage": usage})

        assert price("us-west-2") is not None
        assert (price("eu-central-1") is not None) is is_same
        assert price("us-gov-west-1") is None


class TestNotUnderstood:
    """What may cost and is not understood makes the price unknown."""

    @pytest.mark.parametrize(
        "extra",
        [
            {"mystery_tokens": 5},
            {"num_search_queries": 1},
            {"citation_tokens": 7},
            {"num_sources_used": 2},
            {"prompt_audio_seconds": 3},
            {"server_side_tool_usage": {"web_search": 1}},
            {"fees": [0.5]},
            {"completion_tokens_details": {"hologram_tokens": 1}},
            {"prompt_tokens_details": {"image_count": 1}},
        ],
    )
    def test_fields_of_a_usage(self, extra):
        """A number that is not known may be one that costs."""
        assert chat(OPENAI, "gpt-4.1-mini", {**PLAIN, **extra}) is None

    @pytest.mark.parametrize(
        "extra",
        [
            {"mystery_tokens": 0},
            {"mystery": None, "note": "x", "is_final": True},
            {"queue_time": 0.1, "prompt_time": 0.2, "completion_time": 0.3, "total_time": 0.5},
            {"tokens_per_sec": 120.5, "first_token_latency_ms": 8},
            {"completion_tokens_details": {"accepted_prediction_tokens": 5, "rejected_prediction_tokens": 2}},
        ],
    )
    def test_fields_that_cost_nothing(self, extra):
        """Zeros, words and times cost nothing; tokens of a prediction are among the completion's."""
        assert chat(OPENAI, "gpt-4.1-mini", {**PLAIN, **extra}) == 2

    @pytest.mark.parametrize(
        "extra",
        [
            {"mystery_tokens": 5},
            {"server_tool_use": {"code_execution_requests": 1}},
            {"iterations": [{"type": "compaction", "input_tokens": 5, "output_tokens": 1}]},
        ],
    )
    def test_anthropic(self, extra):
        """So it is in Anthropic's words."""
        assert claude({"input_tokens": 1000, "output_tokens": 10, **extra}) is None

    def test_gemini_and_bedrock(self):
        """And in Google's and Amazon's."""
        assert gemini({"promptTokenCount": 10, "candidatesTokenCount": 1, "mysteryTokenCount": 1}) is None
        assert gemini({"promptTokenCount": 10, "candidatesTokenCount": -1}) is None
        assert gemini({"promptTokenCount": 10}) == gemini({"promptTokenCount": 10, "candidatesTokenCount": 0})
        assert converse({"inputTokens": 10, "outputTokens": 1, "mysteryTokens": 1}) is None

    def test_an_answer_that_failed_after_it_began(self):
        """What was said before a stream broke is billed; what was refused is not."""
        said = {"choices": [{"index": 0, "delta": SAID}], "model": "gpt-4.1-mini"}
        broken = events(said, {"error": {"message": "x"}})
        body = {"model": "gpt-4.1-mini", "stream": True, **CHAT}
        assert cost(OPENAI, body, broken, form=Form.STREAM) is None


SEARCH = {"type": "web_search_20250305", "name": "web_search"}


class TestFees:
    """What is paid beside tokens: known where the usage counts it, else unknown."""

    def test_searches_of_anthropic(self):
        """A search costs a cent; to fetch costs nothing."""
        usage = {"input_tokens": M, "output_tokens": 0}
        counted = {"web_search_requests": 3, "web_fetch_requests": 2}
        asked = {"tools": [SEARCH]}
        assert claude(usage, asked, model="claude-opus-4-8") == 5
        assert claude({**usage, "server_tool_use": counted}, asked, model="claude-opus-4-8") == USD("5.03")

    def test_code_that_anthropic_runs(self):
        """Containers are billed by the hour."""
        block = {"type": "server_tool_use", "name": "bash_code_execution", "id": "1", "input": {}}
        content = [*MESSAGE["content"], block]
        assert claude({"input_tokens": 10, "output_tokens": 1}, content=content) is None

    @pytest.mark.parametrize(
        "kind",
        [
            "web_search_call",
            "file_search_call",
            "code_interpreter_call",
            "shell_call_output",
            "call_of_the_future_call",
        ],
    )
    def test_tools_of_openai(self, kind):
        """A tool that ran has a fee, and so may one that was offered."""
        usage = {"input_tokens": 1000, "output_tokens": 10, "total_tokens": 1010}
        answer = {"model": "gpt-5", **OUTPUT, "usage": usage}
        body = {"model": "gpt-5", "input": "a"}
        assert cost(RESPONSES, body, answer) is not None
        assert cost(RESPONSES, {**body, "tools": [{"type": "web_search"}]}, answer) is None
        assert cost(RESPONSES, body, {**answer, "output": [{"type": kind}, *OUTPUT["output"]]}) is None
        assert cost(RESPONSES, body, {**answer, "output": [{"type": "shell_call"}, *OUTPUT["output"]]}) is not None

    @pytest.mark.parametrize(
        "found",
        [
            {"citations": ["https://example.com"]},
            {"search_results": [{"url": "https://example.com"}]},
            {"choices": [{**CHOICES["choices"][0], "message": {**SAID, "annotations": [{"type": "url_citation"}]}}]},
        ],
    )
    def test_searches_that_an_answer_shows(self, found):
        """An answer that cites the web was looked up, whoever asked for that."""
        assert chat(GATEWAY, "gpt-4.1-mini", PLAIN, **found) is None

    def test_models_that_search(self):
        """A model that always searches has a fee for each search."""
        assert chat(OPENAI, "gpt-4o-search-preview", PLAIN) is None

    def test_grounding_of_gemini(self):
        """Google bills by the prompt or by the query, and some of them are free."""
        usage = {"promptTokenCount": 1000, "candidatesTokenCount": 10}
        assert gemini(usage, {"tools": [{"googleSearch": {}}]}) is None
        grounded = [{**CANDIDATES["candidates"][0], "groundingMetadata": {"webSearchQueries": ["a"]}}]
        assert gemini(usage, candidates=grounded) is None

    @pytest.mark.parametrize(
        ("url", "asked"),
        [
            (AZURE.replace("/d/", "/model-router/"), {}),
            ("https://a.openai.azure.com/openai/v1/chat/completions", {"model": "model-router"}),
            (
                "https://a.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview",
                {"model": "My-Router"},
            ),
        ],
    )
    def test_routers(self, url, asked):
        """What chooses the model takes a fee of its own, which no answer tells."""
        answer = {"model": "gpt-5-nano-2025-08-07", **CHOICES, "usage": {"prompt_tokens": M, "completion_tokens": 0}}
        assert cost(url, {**CHAT, **asked}, answer) is None
        assert cost(url.replace("model-router", "d"), {**CHAT, "model": "d"}, answer) == Decimal("0.05")

    def test_guardrails_of_amazon(self):
        """Guardrails are billed by the text that they check."""
        usage = {"inputTokens": 1000, "outputTokens": 10}
        guard = {"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}}
        assert converse(usage) is not None
        assert converse(usage, guard) is None

    def test_searches_of_cohere(self):
        """Cohere ranks by the search."""
        body = {"model": "rerank-v3.5", "query": "q", "documents": ["a"]}
        answer = {"results": [{"index": 0, "relevance_score": 1}], "meta": {"billed_units": {"search_units": 1}}}
        assert cost("https://api.cohere.com/v2/rerank", body, answer) is None


def test_voyage_tells_the_total_alone():
    """An embedding has no output, so a total is its input; pixels have a price of their own."""
    url, body = "https://api.voyageai.com/v1/embeddings", {"model": "voyage-3", "input": ["a"]}
    answer = {"data": [{"embedding": [0.1]}], "model": "voyage-3", "usage": {"total_tokens": M}}
    assert cost(url, body, answer) == USD("0.06")
    assert cost(url, body, {**answer, "usage": {"total_tokens": M, "image_pixels": 9}}) is None
