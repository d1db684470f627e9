"""What the tokens of an answer cost: the rows of ``docs/money.md``, each with its figures."""

from __future__ import annotations

import orjson
import pytest
from priced import (
    ANTHROPIC,
    AZURE,
    BEDROCK,
    CHAT,
    GATEWAY,
    GROQ,
    MESSAGE,
    OPENAI,
    OUTPUT,
    PLAIN,
    SAID,
    SONNET,
    USD,
    VERTEX,
    XAI,
    M,
    chat,
    claude,
    converse,
    cost,
    events,
    gemini,
    transcript,
)

from genai_cache_magic.core.model import Form

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


def test_voyage_tells_the_total_alone():
    """An embedding has no output, so a total is its input; pixels have a price of their own."""
    url, body = "https://api.voyageai.com/v1/embeddings", {"model": "voyage-3", "input": ["a"]}
    answer = {"data": [{"embedding": [0.1]}], "model": "voyage-3", "usage": {"total_tokens": M}}
    assert cost(url, body, answer) == USD("0.06")
    assert cost(url, body, {**answer, "usage": {"total_tokens": M, "image_pixels": 9}}) is None
