"""One entry for both forms, seen from a cell: whoever asks second, in whichever form, is answered from the cache."""

from __future__ import annotations

import pytest
from model_clients import anthropic_client, openai_client  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.testing.model_server import SimulatedModelServer

ASK = [{"role": "user", "content": "What is 2 + 2? Grüße \U0001f600"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
FUNCTION = {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}}


@pytest.fixture
def server():
    with SimulatedModelServer("unique") as server:
        yield server


def told(value):
    """What an SDK's object says, without nulls, blanks, places, and what its stream helpers add."""
    if isinstance(value, dict):
        own = {"parsed", "parsed_arguments", "parsed_output"}
        named = {k: told(v) for k, v in value.items() if k not in own}
        if "function" in named:
            named.pop("index", None)
        return {k: v for k, v in named.items() if v not in (None, "", [])}
    return [told(item) for item in value] if isinstance(value, list) else value


def askers(sdk, **options):
    """Two ways to ask for the same: (whole, streamed), each giving what the SDK makes of the answer."""
    if sdk == "chat":
        return (
            lambda gpt, _: gpt.chat.completions.create(model="m", messages=ASK, **options),
            lambda gpt, _: final(
                gpt.chat.completions.stream(model="m", messages=ASK, **options, **USAGE), "completion"
            ),
        )
    if sdk == "responses":
        return (
            lambda gpt, _: gpt.responses.create(model="m", input=ASK, **options),
            lambda gpt, _: final(gpt.responses.stream(model="m", input=ASK, **options), "response"),
        )
    return (
        lambda _, claude: claude.messages.create(model="m", max_tokens=2048, messages=ASK, **options),
        lambda _, claude: final(claude.messages.stream(model="m", max_tokens=2048, messages=ASK, **options), "message"),
    )


USAGE = {"stream_options": {"include_usage": True}}


def final(manager, name):
    with manager as stream:
        return getattr(stream, f"get_final_{name}")()


SAME = [
    ("chat", {}),
    ("chat", {"n": 3, "logprobs": True, "top_logprobs": 2}),
    ("chat", {"tools": [FUNCTION], "tool_choice": "required"}),
    ("responses", {}),
    ("responses", {"tools": [{"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True}]}),
    ("messages", {}),
    ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}}),
    ("messages", {"tools": [{"name": "get_weather", "input_schema": WEATHER}], "tool_choice": {"type": "any"}}),
]


@pytest.mark.parametrize(
    ("sdk", "options"), SAME, ids=[f"{sdk}-{'-'.join(options) or 'text'}" for sdk, options in SAME]
)
@pytest.mark.parametrize("first", ["whole", "streamed"])
def test_one_entry_serves_both_forms(isolated, server, gpt, claude, *, sdk, options, first):
    """The origin is asked once; both SDK calls see the same answer, field by field, whichever came first."""
    ways = askers(sdk, **options)
    with llm_cache() as cell:
        answers = [way(gpt, claude).to_dict() for way in (ways if first == "whole" else reversed(ways))]
    assert server.count == 1
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())
    assert told(answers[0]) == told(answers[1])


def test_stream_without_usage_is_a_miss_where_usage_is_told(isolated, server, gpt):
    """A JSON answer states its usage, so a stream that lacks it can't serve; the fuller entry then serves all."""
    asked = {"model": "m", "messages": ASK}
    with llm_cache() as cell:
        list(gpt.chat.completions.create(**asked, stream=True))
        whole = gpt.chat.completions.create(**asked)
        counted = list(gpt.chat.completions.create(**asked, stream=True, **USAGE))
        uncounted = list(gpt.chat.completions.create(**asked, stream=True))
    assert server.count == 2
    assert (cell.misses, cell.hits, cell.troubles) == (2, 2, ())
    assert counted[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in uncounted)
    assert {chunk.id for chunk in (*counted, *uncounted)} == {whole.id}
