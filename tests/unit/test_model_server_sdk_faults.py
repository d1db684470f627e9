"""Each fault of the simulated model server as the unchanged SDKs report it."""

import json

import anthropic
import openai
import pytest

from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer

ASK = [{"role": "user", "content": "What is 2 + 2?"}]
SAYS_SIMULATED = "[simulated]"
APIS = ["chat", "responses", "completions", "messages"]


@pytest.fixture
def server():
    with SimulatedModelServer() as server:
        yield server


@pytest.fixture
def calls(server):
    """One minimal call per wire API, through clients that don't retry."""
    options = {"api_key": "none", "max_retries": 0}
    with (
        openai.OpenAI(base_url=server.openai_url, **options) as gpt,
        anthropic.Anthropic(base_url=server.url, **options) as claude,
    ):
        yield {
            "chat": lambda **more: gpt.chat.completions.create(model="m", messages=ASK, **more),
            "responses": lambda **more: gpt.responses.create(model="m", input="hi", **more),
            "completions": lambda **more: gpt.completions.create(model="m", prompt="hi", **more),
            "messages": lambda **more: claude.messages.create(model="m", max_tokens=64, messages=ASK, **more),
        }


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("fault", "name"), [(Fault.TOO_MANY_REQUESTS, "RateLimitError"), (Fault.SERVER_ERROR, "InternalServerError")]
)
def test_http_errors_arrive_as_such(server, calls, api, fault, name):
    """429 and 500 are the SDK's own errors."""
    server.fail_next(fault)
    sdk = anthropic if api == "messages" else openai
    with pytest.raises(getattr(sdk, name)):
        calls[api]()
    server.fail_next(fault)
    with pytest.raises(getattr(sdk, name)):
        calls[api](stream=True)


def test_the_sdk_retries_at_once(server):
    """`retry-after: 0` lets a client with retries get through."""
    server.fail_next(Fault.TOO_MANY_REQUESTS, times=2)
    with openai.OpenAI(base_url=server.openai_url, api_key="none", max_retries=2) as client:
        assert client.chat.completions.create(model="m", messages=ASK).choices
    assert server.count == 3


def ending_of(api, answer):
    """How an answer says it ended, and its text."""
    if api == "responses":
        reason = answer.incomplete_details.reason if answer.incomplete_details else None
        return answer.status, reason, answer.output_text
    if api == "messages":
        return answer.stop_reason, "".join(block.text for block in answer.content)
    choice = answer.choices[0]
    return choice.finish_reason, choice.text if api == "completions" else choice.message.content


def streamed_ending_of(api, events):
    if api == "responses":
        return ending_of(api, events[-1].response)
    if api == "messages":
        text = "".join(e.delta.text for e in events if e.type == "content_block_delta")
        return next(e.delta.stop_reason for e in events if e.type == "message_delta"), text
    choices = [event.choices[0] for event in events]
    return choices[-1].finish_reason, "".join(
        (c.text if api == "completions" else c.delta.content) or "" for c in choices
    )


@pytest.mark.parametrize(
    ("fault", "endings"),
    [
        (
            Fault.TRUNCATED,
            [("length",), ("incomplete", "max_output_tokens"), ("length",), ("max_tokens",)],
        ),
        (
            Fault.FILTERED,
            [("content_filter",), ("incomplete", "content_filter"), ("content_filter",), ("refusal",)],
        ),
        (Fault.EMPTY, [("stop",), ("completed", None), ("stop",), ("end_turn",)]),
    ],
)
@pytest.mark.parametrize("api", APIS)
def test_answers_that_went_wrong_say_so(server, calls, api, fault, endings):
    """Cut, filtered and empty answers have their API's own marks, whole and streamed."""
    call = calls[api]
    good = ending_of(api, call())[-1]
    server.fail_next(fault, times=2)
    whole = ending_of(api, call())
    streamed = streamed_ending_of(api, list(call(stream=True)))
    assert whole[:-1] == endings[APIS.index(api)]
    assert whole == streamed
    assert good.startswith(whole[-1])
    assert len(whole[-1]) == (0 if fault is Fault.EMPTY else len(good) // 2)


def test_refusals_have_a_place_of_their_own(server, calls):
    """OpenAI's refusal text stands apart from the content; Anthropic's is a stop reason."""
    server.fail_next(Fault.REFUSAL, times=5)
    message = calls["chat"]().choices[0].message
    deltas = [chunk.choices[0].delta.refusal for chunk in calls["chat"](stream=True)]
    part = calls["responses"]().output[0].content[0]
    events = list(calls["responses"](stream=True))
    assert message.content is None
    assert "".join(delta or "" for delta in deltas) == message.refusal == part.refusal
    assert message.refusal.startswith(SAYS_SIMULATED)
    assert "response.refusal.done" in {event.type for event in events}
    assert calls["messages"]().stop_reason == "refusal"


@pytest.mark.parametrize("api", APIS)
def test_a_cut_stream_is_an_error(server, calls, api):
    """After some events the SDK reports a broken connection."""
    server.fail_next(Fault.STREAM_CUT)
    seen = []
    # anthropic lets its HTTP client's error through, which no module of its own names.
    with pytest.raises(Exception, match=r"[Cc]onnection") as raised:
        seen.extend(event for event in iterated(calls[api](stream=True), seen))
    assert seen
    assert type(raised.value).__name__ in {"APIConnectionError", "RemoteProtocolError"}


def iterated(stream, seen):
    """Append what comes, so that it survives an error in the middle."""
    for event in stream:
        seen.append(event)
    return ()


@pytest.mark.parametrize("api", APIS)
def test_a_clean_cut_goes_unnoticed_by_the_sdk(server, calls, api):
    """Which is why whoever stores streams must look for the terminal event."""
    call = calls[api]
    whole = [event.to_json() for event in call(stream=True)]
    server.fail_next(Fault.STREAM_CLEAN_CUT)
    cut = [event.to_json() for event in call(stream=True)]
    # [DONE] never was an event of the SDK's, the others' terminal events are.
    assert cut == (whole if api in {"chat", "completions"} else whole[:-1])


@pytest.mark.parametrize("is_streamed", [False, True])
@pytest.mark.parametrize("api", APIS)
def test_bad_json_is_an_error(server, calls, api, is_streamed):
    """The SDKs can't parse it, whole or in a stream."""
    server.fail_next(Fault.BAD_JSON)
    with pytest.raises(json.JSONDecodeError):
        list(calls[api](stream=is_streamed))


@pytest.mark.parametrize("api", APIS)
def test_an_error_event_reaches_the_caller(server, calls, api):
    """As an exception, or in responses as the event that it is."""
    server.fail_next(Fault.ERROR_EVENT)
    call, seen = calls[api], []
    if api == "responses":
        assert list(call(stream=True))[-1].type == "error"
        return
    with pytest.raises((openai.APIError, anthropic.APIStatusError)):
        iterated(call(stream=True), seen)
    assert seen


@pytest.mark.parametrize("api", APIS)
def test_an_error_body_looks_like_success_to_the_sdk(server, calls, api):
    """No exception, and no answer either: nobody should store it."""
    server.fail_next(Fault.ERROR_BODY)
    answer = calls[api]()
    assert answer.id is None
    assert SAYS_SIMULATED in answer.to_json()
