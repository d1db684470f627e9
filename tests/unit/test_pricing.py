"""Money: exact, provider-cached tokens apart, unknown as unknown, whoever's model it is and by whatever name."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import httpx2
import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.calls.pricing import cost_usd, price_usd
from genai_cache_magic.calls.scope import total
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.providers.base import HttpCall, OriginRule, Origins
from genai_cache_magic.providers.registry import recognise

AT = datetime(2026, 6, 1, tzinfo=UTC)
SONNET = "anthropic.claude-3-5-sonnet-20240620-v1:0"
SONNET_45 = "anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-east-1:"


def price(vendor, model, usage, family="openai", asked=""):
    return price_usd(vendor, family, model, usage, asked=asked, at=AT)


def test_a_known_model_has_an_exact_price():
    """A price is a Decimal, not a float."""
    cost = price("openai", "gpt-4.1-mini", Usage(1_000_000, 0))
    assert isinstance(cost, Decimal)
    assert cost == Decimal("0.4")


def test_provider_cached_tokens_are_cheaper():
    """Tokens that the provider had cached are billed at their own rate."""
    full = price("openai", "gpt-4.1-mini", Usage(1000, 10))
    cached = price("openai", "gpt-4.1-mini", Usage(1000, 10, cached_input_tokens=800))
    assert cached < full


@pytest.mark.parametrize(
    ("vendor", "model", "usage"),
    [
        ("openai", "no-such-model", Usage(1, 1)),
        ("", "my-deployment", Usage(1, 1)),
        ("no-such-vendor", "gpt-4.1-mini", Usage(1, 1)),
        ("openai", "gpt-4.1-mini", Usage(None, None)),
        ("openai", "gpt-4.1-mini", Usage(10, None)),
        ("openai", "", Usage(1, 1)),
        ("azure", "team-gpt-4o", Usage(1, 1)),
        ("azure", "gpt-4o-of-ours", Usage(1, 1)),
        ("openai", "ft:gpt-4.1-mini-2025-04-14:org::abc", Usage(1, 1)),
        ("openai", "gpt-4.1-mini", Usage(10, 1, cached_input_tokens=11)),
    ],
)
def test_unknown_is_unknown(vendor, model, usage):
    """What has no price, no usage or an impossible one costs None, never 0."""
    assert price(vendor, model, usage) is None


def test_what_is_not_billed_by_token_is_unknown():
    """A model that is billed by the hour has no price in tokens, and it is not 0."""
    assert price("openai", "whisper-1", Usage(1000, 10)) is None
    assert price("openai", "text-embedding-3-small", Usage(1000, 10)) is None
    assert price("openai", "text-embedding-3-small", Usage(1_000_000, 0)) == Decimal("0.02")


def test_what_runs_at_home_has_no_list_price():
    """A model of Ollama's is not billed as its namesake in a cloud, unless the configuration says whose it is."""
    assert price("", "deepseek-r1", Usage(1000, 10), family="ollama") is None
    assert price("deepseek", "deepseek-r1", Usage(1000, 10), family="ollama") is not None


def test_an_unknown_origin_is_priced_by_the_family_of_its_wire_api():
    """A gateway's embedding model is found under the designer of its wire API."""
    assert price("", "text-embedding-3-small", Usage(1000, 0)) is not None


class TestAzure:
    def test_the_answers_model_counts(self):
        """A deployment is priced by the model that the answer names."""
        cost = price("azure", "gpt-4.1-mini-2025-04-14", Usage(1_000_000, 0), asked="my-deployment")
        assert cost == Decimal("0.4")

    def test_the_configured_model_counts_where_the_answer_names_the_deployment(self):
        """Some of Azure's APIs name the deployment: then what the configuration says of it counts."""
        assert price("azure", "my-deployment", Usage(1_000_000, 0), asked="gpt-4.1-mini") == Decimal("0.4")
        assert price("azure", "", Usage(1_000_000, 0), asked="gpt-4.1-mini") == Decimal("0.4")
        assert price("azure", "my-deployment", Usage(1, 0), asked="my-deployment") is None

    def test_elsewhere_an_answer_is_not_priced_as_what_was_asked(self):
        """Who was answered by another model, which has no known price, did not pay for the one that he asked."""
        assert price("openai", "gpt-of-the-future", Usage(1, 1), asked="gpt-4.1-mini") is None

    def test_models_of_others(self):
        """What Azure sells of other makers has its price, or none."""
        assert price("azure", "claude-sonnet-4-5", Usage(1_000_000, 0), family="anthropic") is not None
        assert price("azure", "Mistral-Large-2411", Usage(1, 1)) is None


class TestBedrock:
    @pytest.mark.parametrize(
        "model",
        [
            SONNET,
            f"us.{SONNET}",
            f"eu.{SONNET}",
            f"us-gov.{SONNET}",
            f"{ARN}:foundation-model/{SONNET}",
            f"{ARN}123456789012:inference-profile/us.{SONNET}",
            f"arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/{SONNET}",
        ],
    )
    @pytest.mark.parametrize("vendor", ["aws", ""])
    def test_one_model_by_its_names(self, vendor, model):
        """A model, its regional profiles and their ARNs have one price, at Amazon's host or behind another."""
        assert price(vendor, "", Usage(1_000_000, 100_000), family="aws", asked=model) == Decimal("4.5")

    def test_global_and_regional_profiles(self):
        """A profile within a region costs more than a global one, for newer models."""
        usage = Usage(1_000_000, 0)
        prices = [price("aws", "", usage, asked=f"{where}.{SONNET_45}") for where in ("global", "eu", "jp", "au")]
        assert prices == [Decimal(text) for text in ("3", "3.3", "3.3", "3.3")]
        assert price("aws", "", usage, asked=f"{ARN}1:inference-profile/global.{SONNET_45}") == Decimal(3)

    @pytest.mark.parametrize(
        "model",
        [
            f"{ARN}123456789012:application-inference-profile/a1b2c3d4e5f6",
            f"{ARN}123456789012:provisioned-model/{SONNET}",
            f"{ARN}123456789012:custom-model/amazon.nova-lite-v1:0:8k/abcdef",
            f"{ARN}123456789012:imported-model/abcdef",
            f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{SONNET}",
            f"{ARN}123456789012:prompt/ABCDEF:1",
        ],
    )
    def test_what_is_not_billed_by_token(self, model):
        """Custom and provisioned models and profiles of applications are unknown, whatever their names contain."""
        assert price("aws", "", Usage(1000, 10), family="aws", asked=model) is None


class TestGoogle:
    @pytest.mark.parametrize(
        ("model", "family"),
        [
            ("gemini-2.5-flash", "google"),
            ("google/gemini-2.5-flash", "openai"),
            ("models/gemini-2.5-flash", "openai"),
            ("publishers/google/models/gemini-2.5-flash", "google"),
            ("projects/p/locations/europe-west1/publishers/google/models/gemini-2.5-flash", "google"),
        ],
    )
    def test_names_at_google(self, model, family):
        """Google's models have their price at AI Studio, on Vertex AI and in OpenAI's words."""
        assert price("google", model, Usage(1_000_000, 0), family) == Decimal("0.3")

    def test_models_of_others(self):
        """Anthropic's models on Vertex AI are priced by Google's name of them."""
        assert price("google", "claude-sonnet-4-5@20250929", Usage(100_000, 0), "anthropic") == Decimal("0.3")


@pytest.mark.parametrize(
    ("vendor", "model", "family", "cost"),
    [
        ("mistral", "mistral-small-latest", "openai", "0.15"),
        ("mistral", "codestral-latest", "mistral", "0.3"),
        ("mistral", "mistral-embed", "openai", "0.1"),
        ("cohere", "command-a-03-2025", "cohere", "2.5"),
        ("cohere", "embed-v4.0", "cohere", "0.12"),
        ("google", "gemini-embedding-001", "google", "0.15"),
        ("azure", "text-embedding-3-small", "openai", "0.02"),
        ("aws", "amazon.titan-embed-text-v2:0", "aws", "0.02"),
        ("voyageai", "voyage-3", "openai", "0.06"),
        ("anthropic", "claude-sonnet-4-5-20250929", "anthropic", "6"),
        ("", "claude-sonnet-5", "anthropic", None),
    ],
)
def test_every_provider(vendor, model, family, cost):
    """Chat and embedding models of each provider have their prices [USD per million input tokens]."""
    found = price(vendor, model, Usage(1_000_000, 0), family)
    assert found is not None
    if cost is not None:
        assert found == Decimal(cost)


OPENAI = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}]}
CHAT = {"messages": [{"role": "user", "content": "a"}]}
BLOCK = {"type": "text", "text": "x"}
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "a"}]}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "a"}]}]}

# URL, request, answer without its usage, how usage says (10,000 in, of which 4,000 were cached, 100 out), and the rates
# of input, cached input and output [USD per million tokens].
CACHED = {
    "openai chat": (
        "https://api.openai.com/v1/chat/completions",
        {"model": "gpt-4.1-mini", **CHAT},
        {"model": "gpt-4.1-mini-2025-04-14", **OPENAI},
        {
            "usage": {
                "prompt_tokens": 10_000,
                "completion_tokens": 100,
                "prompt_tokens_details": {"cached_tokens": 4000},
            }
        },
        ("0.4", "0.1", "1.6"),
    ),
    "azure chat": (
        "https://a.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21",
        CHAT,
        {"model": "gpt-4.1-mini-2025-04-14", **OPENAI},
        {
            "usage": {
                "prompt_tokens": 10_000,
                "completion_tokens": 100,
                "prompt_tokens_details": {"cached_tokens": 4000},
            }
        },
        ("0.4", "0.1", "1.6"),
    ),
    "deepseek chat": (
        "https://api.deepseek.com/chat/completions",
        {"model": "deepseek-chat", **CHAT},
        {"model": "deepseek-chat", **OPENAI},
        {"usage": {"prompt_tokens": 10_000, "completion_tokens": 100, "prompt_cache_hit_tokens": 4000}},
        None,
    ),
    "openai responses": (
        "https://api.openai.com/v1/responses",
        {"model": "gpt-4.1-mini", "input": "a"},
        {
            "model": "gpt-4.1-mini-2025-04-14",
            "status": "completed",
            "output": [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}],
        },
        {"usage": {"input_tokens": 10_000, "output_tokens": 100, "input_tokens_details": {"cached_tokens": 4000}}},
        ("0.4", "0.1", "1.6"),
    ),
    "anthropic": (
        "https://api.anthropic.com/v1/messages",
        {"model": "claude-sonnet-4-5", "max_tokens": 9, **CHAT},
        {"model": "claude-sonnet-4-5-20250929", "content": [BLOCK], "stop_reason": "end_turn"},
        {"usage": {"input_tokens": 6000, "output_tokens": 100, "cache_read_input_tokens": 4000}},
        ("3", "0.3", "15"),
    ),
    "gemini": (
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
        CONTENTS,
        {"modelVersion": "gemini-2.5-flash", "candidates": [{"content": {"parts": [BLOCK]}, "finishReason": "STOP"}]},
        {"usageMetadata": {"promptTokenCount": 10_000, "candidatesTokenCount": 100, "cachedContentTokenCount": 4000}},
        ("0.3", "0.03", "2.5"),
    ),
    "gemini on vertex": (
        "https://l-aiplatform.googleapis.com/v1/projects/p/locations/l/publishers/google/models/gemini-2.5-flash:generateContent",
        CONTENTS,
        {"candidates": [{"content": {"parts": [BLOCK]}, "finishReason": "STOP"}]},
        {"usageMetadata": {"promptTokenCount": 10_000, "candidatesTokenCount": 100, "cachedContentTokenCount": 4000}},
        ("0.3", "0.03", "2.5"),
    ),
    "bedrock converse": (
        f"https://bedrock-runtime.us-east-1.amazonaws.com/model/global.{SONNET_45}/converse",
        CONVERSE,
        {"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": "end_turn"},
        {"usage": {"inputTokens": 6000, "outputTokens": 100, "cacheReadInputTokens": 4000}},
        ("3", "0.3", "15"),
    ),
    "bedrock invoke": (
        f"https://bedrock-runtime.us-east-1.amazonaws.com/model/global.{SONNET_45}/invoke",
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, **CHAT},
        {"type": "message", "model": "claude-sonnet-4-5-20250929", "content": [BLOCK], "stop_reason": "end_turn"},
        {"usage": {"input_tokens": 6000, "output_tokens": 100, "cache_read_input_tokens": 4000}},
        ("3", "0.3", "15"),
    ),
}


def call_of(url, body, rules=None):
    """The model call that a POST of `body` to `url` is."""
    address = httpx2.URL(url)
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    call = HttpCall(
        method="POST",
        scheme=address.scheme,
        host=address.host,
        port=address.port,
        path=address.path,
        query=address.query.decode(),
        headers=headers,
        body=orjson.dumps(body),
    )
    found = recognise(call, Origins(rules or {}, "machine"))
    assert found is not None
    return found


def cost_of(call, answer):
    """What `answer` costs, priced as the cache does it."""
    read = call.provider.read(Response(200, (), orjson.dumps(answer), Form.JSON))
    return cost_usd(call, read, now_ms=int(AT.timestamp() * 1000))


@pytest.mark.parametrize("name", CACHED)
def test_cached_tokens_of_each_provider(name):
    """What a provider had cached is counted in its own words, and billed at its own rate, for each of them."""
    url, body, answer, usage, rates = CACHED[name]
    call = call_of(url, body)
    read = call.provider.read(Response(200, (), orjson.dumps({**answer, **usage}), Form.JSON))
    assert read.usage == Usage(10_000, 100, cached_input_tokens=4000)
    cost = cost_of(call, {**answer, **usage})
    if rates is None:
        assert cost is not None
    else:
        fresh, cached, said = map(Decimal, rates)
        assert cost == (6000 * fresh + 4000 * cached + 100 * said) / 1_000_000


def test_an_alias_names_the_model_of_a_deployment_and_of_a_profile():
    """Deployments and profiles that name no model are priced by what the configuration says of them."""
    azure = OriginRule("azure", models={"my-deployment": "gpt-4.1-mini"})
    profile = f"{ARN}123456789012:application-inference-profile/a1b2c3"
    amazon = OriginRule("aws", models={profile: f"us.{SONNET}"})
    rules = {"https://a.openai.azure.com": azure, "https://bedrock-runtime.us-east-1.amazonaws.com": amazon}
    responses = call_of(
        "https://a.openai.azure.com/openai/v1/responses?api-version=preview",
        {"model": "my-deployment", "input": "a"},
        rules,
    )
    _, _, answer, usage, _ = CACHED["openai responses"]
    # This API of Azure's names the deployment, not the model.
    assert cost_of(responses, {**answer, **usage, "model": "my-deployment"}) == Decimal("0.00296")
    converse = call_of(
        f"https://bedrock-runtime.us-east-1.amazonaws.com/model/{profile.replace('/', '%2F')}/converse",
        CONVERSE,
        rules,
    )
    _, _, answer, _, _ = CACHED["bedrock converse"]
    assert cost_of(converse, {**answer, "usage": {"inputTokens": 1000, "outputTokens": 100}}) == Decimal("0.0045")


def test_a_cell_tells_an_unknown_price(isolated, unique_server, monkeypatch):
    """What a cell spent on a model without a price is unknown, and so is what a hit saves."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", orjson.dumps({unique_server.url: "openai"}).decode())
    body = {"model": "my-deployment", "messages": [{"role": "user", "content": "a"}]}
    with llm_cache() as cell:
        for _ in range(2):
            httpx2.post(f"{unique_server.openai_url}/chat/completions", json=body)
    assert [(call.spent_usd, call.saved_usd) for call in cell.calls] == [(None, Decimal(0)), (Decimal(0), None)]
    assert cell.spent_usd is cell.saved_usd is None


def test_a_sum_with_an_unknown_is_unknown():
    """Totals don't hide what is not known."""
    assert total([Decimal(1), None]) is None
    assert total([Decimal(1), Decimal("0.5")]) == Decimal("1.5")
    assert total([]) == 0
