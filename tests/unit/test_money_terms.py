"""What an answer costs by the terms it was asked under: tiers of service, batches, regions."""

from __future__ import annotations

import pytest
from priced import (
    AZURE,
    BEDROCK,
    CHAT,
    CONVERSED,
    GROQ,
    MESSAGE,
    OPENAI,
    OUTPUT,
    PLAIN,
    RESPONSES,
    SAID,
    SONNET,
    USD,
    VERTEX,
    M,
    chat,
    claude,
    converse,
    cost,
    events,
    gemini,
)

from genai_cache_magic.core.model import Form

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
