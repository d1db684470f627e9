"""Where nobody can tell what an answer costs: own servers, sellers of others' models, usage not understood."""

from __future__ import annotations

import httpx2
import pytest
from priced import CHAT, CHOICES, LOCAL, OPENAI, PLAIN, SAID, chat, claude, converse, cost, events, gemini

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form
from genai_cache_magic.providers.base import OriginRule


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
