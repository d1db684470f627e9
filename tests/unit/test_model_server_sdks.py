"""The simulated model server as the unchanged SDKs of OpenAI and Anthropic see it."""

import asyncio
import json

import anthropic
import openai
import pydantic
import pytest
from model_clients import anthropic_client, openai_client  # noqa: F401 - fixtures

ASK = [{"role": "user", "content": "What is 2 + 2?"}]
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
CHAT_TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": WEATHER}} for name in ("get_weather", "get_tides")
]
RESPONSES_TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": WEATHER, "strict": True},
    {"type": "web_search"},
]
ANTHROPIC_TOOLS = [{"name": "get_weather", "input_schema": WEATHER}]
SAYS_SIMULATED = "[simulated]"


class Step(pydantic.BaseModel):
    """Part of a structured answer."""

    thought: str
    confidence: float = pydantic.Field(ge=0, le=1)


class Plan(pydantic.BaseModel):
    """A structured answer with nesting, a choice and an optional part."""

    title: str
    steps: list[Step]
    urgency: str | None
    count: int


def text_of_chunks(chunks, index=0):
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


# OpenAI chat completions


def test_chat_says_the_same_whole_and_streamed(gpt):
    """A stream is the whole answer in pieces: text, id, model, end and usage."""
    whole = gpt.chat.completions.create(model="gpt-4.1-mini", messages=ASK)
    chunks = list(
        gpt.chat.completions.create(
            model="gpt-4.1-mini", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    assert whole.choices[0].message.content.startswith(SAYS_SIMULATED)
    assert text_of_chunks(chunks) == whole.choices[0].message.content
    assert {chunk.id for chunk in chunks} == {whole.id}
    assert {chunk.model for chunk in chunks} == {whole.model} == {"gpt-4.1-mini"}
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


async def test_chat_answers_async_clients_at_once(server):
    """Async calls run side by side and say what sync calls say."""
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="gpt-4.1", messages=ASK, seed=seed % 4) for seed in range(16))
        )
        stream = await client.chat.completions.create(model="gpt-4.1", messages=ASK, seed=0, stream=True)
        chunks = [chunk async for chunk in stream]
    texts = [answer.choices[0].message.content for answer in answers]
    assert len(set(texts)) == 4
    assert text_of_chunks(chunks) == texts[0]


def test_chat_choices_differ_and_take_turns_in_a_stream(gpt):
    """`n` answers are `n` different texts, whole and streamed alike."""
    whole = gpt.chat.completions.create(model="m", messages=ASK, n=3)
    chunks = list(gpt.chat.completions.create(model="m", messages=ASK, n=3, stream=True))
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 3
    assert [text_of_chunks(chunks, index) for index in range(3)] == texts
    assert [chunk.choices[0].index for chunk in chunks[:6]] == [0, 1, 2, 0, 1, 2]


def test_chat_parses_into_a_model(gpt):
    """`.parse` gets a valid instance, and another one for another question."""
    plans = [
        gpt.chat.completions.parse(model="m", messages=[{"role": "user", "content": ask}], response_format=Plan)
        for ask in ("one", "two")
    ]
    first, second = (plan.choices[0].message.parsed for plan in plans)
    assert first.steps
    assert first.title.startswith(SAYS_SIMULATED)
    assert first != second


def test_chat_streams_into_a_model(gpt):
    """The stream helper accumulates the same structured answer."""
    whole = gpt.chat.completions.parse(model="m", messages=ASK, response_format=Plan)
    with gpt.chat.completions.stream(model="m", messages=ASK, response_format=Plan) as stream:
        streamed = stream.get_final_completion()
    assert streamed.choices[0].message.parsed == whole.choices[0].message.parsed


def test_chat_json_mode_is_json(gpt):
    """`json_object` gives some object."""
    answer = gpt.chat.completions.create(model="m", messages=ASK, response_format={"type": "json_object"})
    assert SAYS_SIMULATED in json.loads(answer.choices[0].message.content)["answer"]


def test_chat_gives_log_probabilities_where_asked(gpt):
    """One per token, with the alternatives that were asked for."""
    answer = gpt.chat.completions.create(model="m", messages=ASK, logprobs=True, top_logprobs=2)
    choice = answer.choices[0]
    assert "".join(token.token for token in choice.logprobs.content) == choice.message.content
    assert {len(token.top_logprobs) for token in choice.logprobs.content} == {2}
    assert gpt.chat.completions.create(model="m", messages=ASK).choices[0].logprobs is None


def test_chat_long_prompts_count_as_cached_by_the_provider(gpt):
    """From 1024 tokens on, in steps of 128; below that none."""
    usages = [
        gpt.chat.completions.create(model="m", messages=[{"role": "user", "content": "word" * size}]).usage
        for size in (10, 2000)
    ]
    assert usages[0].prompt_tokens_details.cached_tokens == 0
    assert usages[1].prompt_tokens_details.cached_tokens == 1920
    assert usages[1].prompt_tokens > 2000


@pytest.mark.parametrize(
    ("ask", "choice", "called"),
    [
        ("hello", "auto", []),
        ("call get_weather please", "auto", ["get_weather"]),
        ("call Get Weather and get_tides", "auto", ["get_weather", "get_tides"]),
        ("call get_weather please", "none", []),
        ("hello", "required", ["get_weather"]),
        ("get_tides", "required", ["get_tides"]),
        ("hello", {"type": "function", "function": {"name": "get_tides"}}, ["get_tides"]),
    ],
)
def test_chat_calls_tools_by_the_documented_rule(gpt, ask, choice, called):
    """Named in the message, required, or named by the choice; never with none."""
    message = {"role": "user", "content": ask}
    answer = gpt.chat.completions.create(model="m", messages=[message], tools=CHAT_TOOLS, tool_choice=choice).choices[0]
    assert [call.function.name for call in answer.message.tool_calls or []] == called
    assert answer.finish_reason == ("tool_calls" if called else "stop")
    assert (answer.message.content is None) == bool(called)


def test_chat_without_parallel_calls_makes_one(gpt):
    """`parallel_tool_calls=False` is obeyed."""
    messages = [{"role": "user", "content": "get_weather and get_tides"}]
    answer = gpt.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS, parallel_tool_calls=False)
    assert len(answer.choices[0].message.tool_calls) == 1


def chat_round(gpt, **options):
    """One conversation with a tool: the call, its result, the final text."""
    messages = [{"role": "user", "content": "get_weather in Lisbon"}]
    asked = gpt.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS, **options).choices[0].message
    call = asked.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}
    messages = [*messages, asked.model_dump(exclude_none=True), result]
    final = gpt.chat.completions.create(model="m", messages=messages, tools=CHAT_TOOLS, **options).choices[0].message
    return call, final.content


@pytest.mark.parametrize("options", [{}, {"tool_choice": "required"}])
def test_chat_tool_ids_are_random_and_the_conversation_is_not(gpt, options):
    """Ids differ each time, as with real providers; arguments and the final text stay."""
    (first, said), (again, said_again) = chat_round(gpt, **options), chat_round(gpt, **options)
    assert first.id != again.id
    assert first.function == again.function
    assert 1 <= json.loads(first.function.arguments)["days"] <= 7
    assert "21 degrees" in said
    assert said == said_again


def test_chat_streams_tool_calls_in_pieces(gpt):
    """The stream helper puts calls together whose arguments came in several events."""
    messages = [{"role": "user", "content": "get_weather and get_tides"}]
    with gpt.chat.completions.stream(model="m", messages=messages, tools=CHAT_TOOLS) as stream:
        pieces = sum(event.type == "tool_calls.function.arguments.delta" for event in stream)
        calls = stream.get_final_completion().choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_tides"]
    assert all(set(json.loads(call.function.arguments)) == {"city", "days"} for call in calls)
    assert pieces >= 4


def test_azure_clients_are_served(server):
    """The deployment stands in the path, the version in the query."""
    client = openai.AzureOpenAI(
        azure_endpoint=server.url, api_key="none", api_version="2024-10-21", azure_deployment="mine", max_retries=0
    )
    with client:
        answer = client.chat.completions.create(model="gpt-4.1", messages=ASK)
    assert answer.model == "gpt-4.1"
    assert server.requests[0].target == "/openai/deployments/mine/chat/completions?api-version=2024-10-21"


# OpenAI responses


def test_responses_say_the_same_whole_and_streamed(gpt):
    """The last event carries the whole response, and the events are numbered without a gap."""
    whole = gpt.responses.create(model="gpt-4.1", input="What is 2 + 2?", instructions="Be brief.")
    events = list(gpt.responses.create(model="gpt-4.1", input="What is 2 + 2?", instructions="Be brief.", stream=True))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert whole.output_text.startswith(SAYS_SIMULATED)
    assert whole.instructions == "Be brief."
    assert events[-1].response == whole
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == whole.output_text


async def test_responses_parse_and_stream_into_a_model(server):
    """`.parse` and the stream helper give the same structured answer to an async client."""
    async with openai.AsyncOpenAI(base_url=server.openai_url, api_key="none", max_retries=0) as client:
        whole = await client.responses.parse(model="m", input="plan it", text_format=Plan)
        async with client.responses.stream(model="m", input="plan it", text_format=Plan) as stream:
            streamed = await stream.get_final_response()
    assert whole.output_parsed.steps
    assert streamed.output_parsed == whole.output_parsed


def test_responses_call_functions_and_answer_their_results(gpt):
    """A function call, its output, then a text; the streamed call is put together alike."""
    ask = {"role": "user", "content": "get_weather in Lisbon"}
    call = gpt.responses.create(model="m", input=[ask], tools=RESPONSES_TOOLS).output[0]
    with gpt.responses.stream(model="m", input=[ask], tools=RESPONSES_TOOLS) as stream:
        streamed = stream.get_final_response().output[0]
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
    items = [ask, call.model_dump(exclude_none=True), result]
    final = gpt.responses.create(model="m", input=items, tools=RESPONSES_TOOLS)
    assert (call.type, call.name) == ("function_call", "get_weather")
    assert streamed.arguments == call.arguments
    assert set(json.loads(call.arguments)) == {"city", "days"}
    assert "21 degrees" in final.output_text


# OpenAI embeddings and legacy completions


def test_embeddings_keep_their_order_and_size(gpt):
    """Each input has its vector; one alone gets the same one, as list or through the SDK's base64."""
    several = gpt.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    alone = gpt.embeddings.create(model="text-embedding-3-small", input="two", encoding_format="float")
    small = gpt.embeddings.create(model="text-embedding-3-large", input=[[1, 2], [3]], dimensions=256)
    assert [len(one.embedding) for one in several.data] == [1536, 1536]
    assert several.data[1].embedding == pytest.approx(alone.data[0].embedding, abs=1e-7)
    assert [len(one.embedding) for one in small.data] == [256, 256]
    assert several.usage.prompt_tokens > 0


def test_legacy_completions_say_the_same_whole_and_streamed(gpt):
    """Several prompts, several choices each, in order."""
    whole = gpt.completions.create(model="davinci", prompt=["one", "two"], n=2)
    chunks = list(gpt.completions.create(model="davinci", prompt=["one", "two"], n=2, stream=True))
    texts = [choice.text for choice in whole.choices]
    pieces = [[c.text for chunk in chunks for c in chunk.choices if c.index == index] for index in range(4)]
    assert len(set(texts)) == 4
    assert ["".join(piece) for piece in pieces] == texts
    assert min(map(len, pieces)) >= 5


def test_models_are_listed_for_both_sdks(gpt, claude):
    """One list serves both."""
    assert "gpt-4.1-mini" in {model.id for model in gpt.models.list()}
    assert "claude-sonnet-5" in {model.id for model in claude.models.list()}


# Anthropic messages


def test_messages_say_the_same_whole_and_streamed(claude):
    """The stream helper ends with the very message that a plain call gets."""
    asked = {"model": "claude-sonnet-5", "max_tokens": 64, "messages": ASK, "system": "Be brief."}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert whole.content[0].text.startswith(SAYS_SIMULATED)
    assert text == whole.content[0].text
    assert streamed.model_dump(exclude={"content"}) == whole.model_dump(exclude={"content"})
    assert whole.usage.output_tokens > 0


async def test_messages_stream_the_events_of_the_real_api(server):
    """Raw events of an async stream, in their order."""
    async with anthropic.AsyncAnthropic(base_url=server.url, api_key="none", max_retries=0) as client:
        stream = await client.messages.create(model="claude", max_tokens=64, messages=ASK, stream=True)
        kinds = list(dict.fromkeys([event.type async for event in stream]))
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


def test_messages_parse_into_a_model(claude):
    """Structured output is valid."""
    answer = claude.messages.parse(model="claude", max_tokens=64, messages=ASK, output_format=Plan)
    assert answer.parsed_output.title.startswith(SAYS_SIMULATED)


def test_messages_use_tools_and_answer_their_results(claude):
    """A tool use, its result, then a text; the streamed input is put together alike."""
    asked = {"model": "claude", "max_tokens": 64, "tools": ANTHROPIC_TOOLS, "tool_choice": {"type": "any"}}
    first = claude.messages.create(**asked, messages=ASK)
    with claude.messages.stream(**asked, messages=ASK) as stream:
        streamed = stream.get_final_message()
    used = first.content[0]
    result = {"type": "tool_result", "tool_use_id": used.id, "content": [{"type": "text", "text": "21 degrees"}]}
    turns = [*ASK, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    final = claude.messages.create(**asked, messages=turns)
    assert (first.stop_reason, used.type, used.name) == ("tool_use", "tool_use", "get_weather")
    assert streamed.content[0].input == used.input
    assert streamed.content[0].id != used.id
    assert final.stop_reason == "end_turn"
    assert "21 degrees" in final.content[0].text


def test_messages_think_where_asked(claude):
    """A thinking block with a signature comes first, whole and streamed."""
    asked = {"model": "c", "max_tokens": 2048, "messages": ASK, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    whole = claude.messages.create(**asked)
    with claude.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert [block.type for block in whole.content] == ["thinking", "text"]
    assert streamed.content[0] == whole.content[0]


def test_messages_count_provider_cached_tokens_apart(claude):
    """What a cache mark covers is written by a first turn, read by later ones, and counted once."""
    system = [{"type": "text", "text": "rule " * 100, "cache_control": {"type": "ephemeral"}}]
    later = [*ASK, {"role": "assistant", "content": "4"}, {"role": "user", "content": "and 3 + 3?"}]
    usages = [
        claude.messages.create(model="c", max_tokens=64, system=system, messages=turns).usage for turns in (ASK, later)
    ]
    counted = claude.messages.count_tokens(model="c", system=system, messages=ASK).input_tokens
    assert usages[0].cache_creation_input_tokens == usages[1].cache_read_input_tokens > 100
    assert usages[0].cache_read_input_tokens == usages[1].cache_creation_input_tokens == 0
    assert usages[0].input_tokens + usages[0].cache_creation_input_tokens == counted
