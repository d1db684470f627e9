"""One entry, both forms: whatever an answer holds, its converted form says the same, to the SDKs too."""

from __future__ import annotations

import json

import anthropic
import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.providers.anthropic.messages import AnthropicMessages
from genai_cache_magic.providers.base import Wants
from genai_cache_magic.providers.formats import sse
from genai_cache_magic.providers.openai.chat import OpenAIChat
from genai_cache_magic.providers.openai.responses import OpenAIResponses

JSON = Wants(Form.JSON)
STREAM = Wants(Form.STREAM)
WITHOUT_USAGE = Wants(Form.STREAM, usage=False)
ASK = [{"role": "user", "content": "x"}]

# --- answers as servers give them

any_text = st.text(st.characters(exclude_categories=["Cs"]))
texts = any_text | st.sampled_from(
    [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 e\u0301 \u2028\x85\u2029 \x00\x7f",
        'data: [DONE]\n\nevent: x\r\n\r\n{"usage":null}',
        "word " * 700,
        "\U0001f600" * 60,
        "\\ud83d \\",
    ]
)
names = st.text("abcdef_0123456789", min_size=1, max_size=12)
counts = st.integers(0, 2**70)
scalars = st.none() | st.booleans() | counts | st.floats(allow_nan=False, allow_infinity=False) | any_text
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(any_text, v, max_size=3), max_leaves=8
)
json_objects = st.dictionaries(any_text, values, max_size=4)


def record(optional=None, **fields):
    """An object with these fields, those of `optional` there or not."""
    return st.fixed_dictionaries(fields, optional=optional or {})


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """`data` in pieces that end at these places, wherever within a character they may be."""
    ends = sorted({place % (len(data) + 1) for place in at} | {len(data)})
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False) if data[start:end]]


@st.composite
def logprobs_of(draw, text):
    """Tokens of `text`, of which some share a character, or tokens that are not its own."""
    tokens = cut(text.encode(), draw(st.lists(st.integers(0, 2**16), max_size=12)))
    given = [
        {"token": t.decode("utf-8", "replace"), "logprob": -0.25, "bytes": list(t), "top_logprobs": []} for t in tokens
    ]
    if draw(st.booleans()) and given:
        given[-1] = {"token": "<end>", "logprob": -1.0, "bytes": None, "top_logprobs": []}
    return given


calls = record(
    id=names,
    type=st.just("function"),
    function=record(name=names, arguments=texts | json_objects.map(json.dumps)),
    optional={"extra_content": record(google=record(thought_signature=names))},
)
citation = record(
    type=st.just("url_citation"),
    url_citation=record(url=any_text, title=any_text, start_index=st.just(0), end_index=counts),
)
chat_usage = record(
    prompt_tokens=counts,
    completion_tokens=counts,
    total_tokens=counts,
    optional={"prompt_tokens_details": record(cached_tokens=counts), "queue_time": st.floats(0, 1)},
)


@st.composite
def chat_choices(draw, index):
    message = draw(
        record(
            role=st.just("assistant"),
            content=st.none() | texts,
            optional={
                "refusal": st.none() | texts,
                "annotations": st.lists(citation, max_size=2),
                "reasoning_content": texts,
                "reasoning": st.none() | texts,
                "tool_calls": st.none() | st.lists(calls, max_size=3),
                "function_call": st.none() | record(name=names, arguments=texts),
                "images": st.lists(json_objects, max_size=1),
            },
        )
    )
    choice = {"index": index, "message": message}
    if draw(st.booleans()):
        heard = {
            name: draw(st.none() | st.just([]) | logprobs_of(message[name])) if message.get(name) else None
            for name in ("content", "refusal")
        }
        choice["logprobs"] = draw(st.none() | st.just(heard))
    choice["finish_reason"] = draw(st.sampled_from(["stop", "tool_calls", "length", "content_filter", "eos"]))
    extras = {"content_filter_results": json_objects, "stop_reason": st.none() | names, "token_ids": st.lists(counts)}
    return {**choice, **draw(record(optional=extras))}


@st.composite
def chats(draw):
    head = draw(
        record(
            id=names,
            object=st.just("chat.completion"),
            created=st.integers(0, 2**40),
            model=names,
            optional={"service_tier": st.none() | names, "system_fingerprint": st.none() | names},
        )
    )
    extras = {"prompt_filter_results": st.lists(json_objects), "provider": names, "citations": st.lists(any_text)}
    extras |= {"timings": record(predicted_ms=st.floats(0, 9)), "moderation": st.none()}
    number = draw(st.integers(1, 3))
    choices = [draw(chat_choices(index)) for index in range(number)]
    return {**head, "choices": choices, "usage": draw(chat_usage), **draw(record(optional=extras))}


@st.composite
def output_texts(draw):
    text = draw(texts)
    annotation = record(
        type=st.just("url_citation"), url=any_text, title=any_text, start_index=counts, end_index=counts
    )
    part = {"type": "output_text", "text": text, "annotations": draw(st.lists(annotation, max_size=2))}
    return {**part, **draw(record(optional={"logprobs": st.just([]) | logprobs_of(text)}))}


status = st.sampled_from(["completed", "incomplete"])
items = st.one_of(
    record(
        type=st.just("message"),
        id=names,
        status=status,
        role=st.just("assistant"),
        content=st.lists(output_texts() | record(type=st.just("refusal"), refusal=texts), max_size=2),
        optional={"phase": st.just("final_answer")},
    ),
    record(
        type=st.just("reasoning"),
        id=names,
        summary=st.lists(record(type=st.just("summary_text"), text=texts), max_size=2),
        optional={
            "content": st.none() | st.lists(record(type=st.just("reasoning_text"), text=texts), max_size=2),
            "encrypted_content": st.none() | names,
            "status": st.none() | status,
        },
    ),
    record(
        type=st.just("function_call"), id=names, call_id=names, name=names, arguments=texts, optional={"status": status}
    ),
    record(type=st.just("custom_tool_call"), id=names, call_id=names, name=names, input=texts),
)
responses = record(
    id=names,
    object=st.just("response"),
    created_at=counts,
    status=st.just("completed"),
    error=st.none(),
    incomplete_details=st.none(),
    model=names,
    output=st.lists(items, min_size=1, max_size=4, unique_by=(lambda i: i["id"], lambda i: i.get("call_id", i["id"]))),
    parallel_tool_calls=st.booleans(),
    tool_choice=st.just("auto"),
    tools=st.just([]),
    usage=record(
        input_tokens=counts,
        input_tokens_details=record(cached_tokens=counts),
        output_tokens=counts,
        output_tokens_details=record(reasoning_tokens=counts),
        total_tokens=counts,
    ),
    optional={"completed_at": counts, "metadata": st.just({}), "content_filters": st.lists(json_objects)},
)

citations = record(
    type=st.just("char_location"),
    cited_text=any_text,
    document_index=counts,
    document_title=st.none() | any_text,
    start_char_index=counts,
    end_char_index=counts,
)
blocks = st.one_of(
    record(type=st.just("text"), text=texts, optional={"citations": st.none() | st.lists(citations, max_size=2)}),
    record(type=st.just("thinking"), thinking=texts, signature=st.just("") | names),
    record(type=st.just("redacted_thinking"), data=names),
    record(
        type=st.just("tool_use"),
        id=names,
        name=names,
        input=json_objects,
        optional={"caller": st.just({"type": "direct"})},
    ),
)
messages = record(
    id=names,
    type=st.just("message"),
    role=st.just("assistant"),
    model=names,
    content=st.lists(blocks, max_size=4),
    stop_reason=st.sampled_from(["end_turn", "tool_use", "stop_sequence", "refusal", "max_tokens"]),
    stop_sequence=st.none() | any_text,
    usage=record(
        input_tokens=counts,
        cache_creation_input_tokens=st.none() | counts,
        cache_read_input_tokens=counts,
        output_tokens=counts,
        optional={
            "service_tier": st.just("standard"),
            "cache_creation": record(ephemeral_5m_input_tokens=counts, ephemeral_1h_input_tokens=counts),
            "output_tokens_details": st.none() | record(thinking_tokens=counts),
            "server_tool_use": st.none(),
        },
    ),
    optional={
        "stop_details": st.none() | record(type=st.just("refusal"), category=st.none(), explanation=any_text),
        "container": st.none(),
        "context_management": st.none() | record(applied_edits=st.just([])),
    },
)

APIS = {
    "chat": (OpenAIChat(), chats()),
    "responses": (OpenAIResponses(), responses),
    "messages": (AnthropicMessages(), messages),
}
apis = pytest.mark.parametrize("api", sorted(APIS))


def whole(answer) -> Response:
    headers = (("content-type", "application/json"), ("x-request-id", "r"))
    return Response(200, headers, json.dumps(answer, ensure_ascii=False).encode())


def streamed(raw: bytes) -> Response:
    return Response(200, (("content-type", "text/event-stream"),), raw, Form.STREAM)


def fields_of(response: Response) -> list[dict]:
    return [json.loads(event.data) for event in sse.events(response.body) if event.data != sse.DONE]


# --- laws


@apis
@given(data=st.data())
def test_there_and_back_is_the_identity(api, data):
    """JSON -> stream -> JSON gives the same answer, to the type of every number."""
    provider, answers = APIS[api]
    answer = data.draw(answers)
    stream = provider.render(whole(answer), STREAM)
    assert stream is not None
    assert stream.form is Form.STREAM
    assert stream.headers == (("content-type", "text/event-stream; charset=utf-8"), ("x-request-id", "r"))
    back = provider.render(stream, JSON)
    assert back is not None
    assert back.form is Form.JSON
    assert back.headers == (("content-type", "application/json"), ("x-request-id", "r"))
    assert dumps(json.loads(back.body)) == dumps(answer)
    assert fields_of(provider.render(back, STREAM)) == fields_of(stream)


@apis
@given(data=st.data())
def test_both_forms_are_read_alike(api, data):
    """How an answer ended and what it cost does not depend on the form in which it is read."""
    provider, answers = APIS[api]
    response = whole(data.draw(answers))
    assert provider.read(provider.render(response, STREAM)) == provider.read(response)


@apis
@given(data=st.data())
def test_every_event_is_one_block_of_one_line(api, data):
    """Whatever a text holds, no reader of event streams sees another event, or another line, in it."""
    provider, answers = APIS[api]
    stream = provider.render(whole(data.draw(answers)), STREAM)
    for block in stream.body.decode().split("\n\n")[:-1]:
        *event_name, line = block.splitlines()
        assert line.startswith("data: ")
        assert len(event_name) <= 1


@given(chats())
def test_usage_of_a_chat_is_told_iff_asked(answer):
    """A stream's caller gets the usage event iff it asked; without it, the stream is no whole answer any more."""
    asked, unasked = (OpenAIChat().render(whole(answer), wants) for wants in (STREAM, WITHOUT_USAGE))
    assert [chunk["usage"] for chunk in fields_of(asked) if chunk.get("usage")] == [answer["usage"]]
    assert not any("usage" in chunk for chunk in fields_of(unasked))
    assert OpenAIChat().render(asked, WITHOUT_USAGE) == unasked
    assert OpenAIChat().render(unasked, JSON) is None
    assert OpenAIChat().render(unasked, STREAM) is None


# --- what the SDKs make of it


class Wire:
    """Clients whose server answers with the response that was put here."""

    def __init__(self) -> None:
        self.response = whole({})
        self.http = httpx2.Client(transport=httpx2.MockTransport(self._answer))
        options = {"api_key": "k", "http_client": self.http, "max_retries": 0}
        self.gpt = openai.OpenAI(**options)
        self.claude = anthropic.Anthropic(**options)

    def _answer(self, _: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=list(self.response.headers), content=self.response.body)


@pytest.fixture(scope="module")
def wire():
    made = Wire()
    with made.http:
        yield made


def told(value: object) -> object:
    """What an SDK's object says, without nulls and what its stream helpers add of their own."""
    if isinstance(value, dict):
        added = {"parsed", "parsed_arguments", "parsed_output"}
        named = {k: told(v) for k, v in value.items() if v is not None and k not in added}
        return {k: v for k, v in named.items() if (k, v) != ("tool_calls", [])}  # a helper of the SDK says null
    return [told(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=60, deadline=None)
@given(answer=chats())
def test_openai_reads_the_same_chat_from_either_form(wire, answer):
    """Accumulated by the SDK, the converted stream is the completion, field by field; ids are in every chunk."""
    for choice in answer["choices"]:
        choice["finish_reason"] = "stop"  # the SDK raises for others
        for name in {"content_filter_results", "stop_reason", "token_ids"} & choice.keys():
            del choice[name]  # of the last chunk, where servers put it and the SDK's accumulator does not look
    answer.pop("prompt_filter_results", None)  # in a chunk of its own, which the accumulator leaves out
    wire.response = whole(answer)
    expected = wire.gpt.chat.completions.create(model="m", messages=ASK).to_dict()
    wire.response = OpenAIChat().render(whole(answer), STREAM)
    with wire.gpt.chat.completions.stream(model="m", messages=ASK) as stream:
        got = stream.get_final_completion().to_dict()
    for choice in got["choices"]:
        for place, call in enumerate(choice["message"].get("tool_calls") or ()):
            assert call.pop("index") == place
    assert told(got) == told(expected)
    chunks = list(wire.gpt.chat.completions.create(model="m", messages=ASK, stream=True))
    assert {(chunk.id, chunk.created, chunk.model) for chunk in chunks} == {
        (answer["id"], answer["created"], answer["model"])
    }


@settings(max_examples=60, deadline=None)
@given(answer=responses)
def test_openai_reads_the_same_response_from_either_form(wire, answer):
    """The SDK's stream ends with the response; what it puts together on the way is its output."""
    wire.response = whole(answer)
    expected = wire.gpt.responses.create(model="m", input="x").to_dict()
    wire.response = OpenAIResponses().render(whole(answer), STREAM)
    with wire.gpt.responses.stream(model="m", input="x") as stream:
        events = list(stream)
        got = stream.get_final_response().to_dict()
    assert told(got) == told(expected)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")


@settings(max_examples=60, deadline=None)
@given(answer=messages)
def test_anthropic_reads_the_same_message_from_either_form(wire, answer):
    """Accumulated by the SDK, the converted stream is the message, field by field."""
    if answer.get("context_management"):
        del answer["context_management"]  # of the beta API, which the plain accumulator does not know
    wire.response = whole(answer)
    expected = wire.claude.messages.create(model="m", max_tokens=9, messages=ASK).to_dict()
    wire.response = AnthropicMessages().render(whole(answer), STREAM)
    with wire.claude.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
        got = stream.get_final_message().to_dict()
    assert told(got) == told(expected)


@settings(max_examples=30, deadline=None)
@given(answer=messages)
def test_anthropic_beta_reads_the_same_message_from_either_form(wire, answer):
    """The beta API's own accumulator agrees, context management included."""
    wire.response = whole(answer)
    expected = wire.claude.beta.messages.create(model="m", max_tokens=9, messages=ASK).to_dict()
    wire.response = AnthropicMessages().render(whole(answer), STREAM)
    with wire.claude.beta.messages.stream(model="m", max_tokens=9, messages=ASK) as stream:
        got = stream.get_final_message().to_dict()
    assert told(got) == told(expected)
