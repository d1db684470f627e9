"""What an answer costs where its origin says so itself, and what is charged beside its tokens."""

from __future__ import annotations

from decimal import Decimal

import httpx2
import pytest
from priced import (
    AZURE,
    CANDIDATES,
    CHAT,
    CHOICES,
    GATEWAY,
    LOCAL,
    MESSAGE,
    OPENAI,
    OPENROUTER,
    OUTPUT,
    PERPLEXITY,
    PLAIN,
    RESPONSES,
    SAID,
    USD,
    XAI,
    M,
    chat,
    claude,
    converse,
    cost,
    events,
    gemini,
)

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form

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
