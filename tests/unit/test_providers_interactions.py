"""Gemini's Interactions API: what is asked, what may be stored, how an answer ends in each form, what follows on it."""

from __future__ import annotations

import httpx2
import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.providers.base import End, HttpCall, Origins
from genai_cache_magic.providers.registry import recognise

ASKED = {"model": "gemini-2.5-flash", "input": "Say hello"}
TEXT = {"type": "model_output", "content": [{"type": "text", "text": "Hello"}]}
THOUGHT = {"type": "thought", "signature": "c2ln"}
CALL = {"type": "function_call", "id": "f1", "name": "f", "arguments": {}}
USAGE = {"total_input_tokens": 5, "total_output_tokens": 2, "total_thought_tokens": 3, "total_tokens": 10}
HEAD = {"id": "int_1", "model": "gemini-2.5-flash"}


def found(body=None, path="/v1beta/interactions", host="generativelanguage.googleapis.com", headers=None, query=""):
    given = {"content-type": "application/json", **(headers or {})}
    call = HttpCall("POST", "https", host, None, path, query, given, orjson.dumps(ASKED if body is None else body))
    return recognise(call, Origins({}, "laptop"))


def whole(status="completed", steps=(TEXT,), **more):
    body = orjson.dumps({**HEAD, "status": status, "steps": list(steps), "usage": USAGE, **more})
    return Response(200, (("content-type", "application/json"),), body)


def told(*events):
    body = b"".join(b"data: %b\n\n" % orjson.dumps(one) for one in events)
    return Response(200, (("content-type", "text/event-stream"),), body, Form.STREAM)


def streamed(status="completed", steps=(TEXT,), **more):
    events = [{"event_type": "interaction.created", "interaction": {**HEAD, "status": "in_progress"}}]
    for index, step in enumerate(steps):
        start = {**step, "content": []} if "content" in step else step
        events.append({"event_type": "step.start", "index": index, "step": start})
        events += [{"event_type": "step.delta", "index": index, "delta": part} for part in step.get("content", ())]
        events.append({"event_type": "step.stop", "index": index})
    end = {**HEAD, "status": status, "usage": USAGE, **more}
    return [*events, {"event_type": "interaction.completed", "interaction": end}]


@pytest.mark.parametrize(
    ("path", "host", "headers"),
    [
        ("/v1beta/interactions", "generativelanguage.googleapis.com", {}),
        ("/v1beta1/projects/p/locations/global/interactions", "aiplatform.googleapis.com", {}),
        ("/v1/interactions", "localhost", {}),
        ("/v1/interactions", "gateway.example.com", {"x-goog-api-client": "google-genai-sdk/3.4.0 gl-python/3.11"}),
    ],
)
def test_where_it_is_recognised(path, host, headers):
    """At Google AI, on Vertex AI, on this machine, and wherever Google's SDK says that it sends it."""
    call = found(path=path, host=host, headers=headers)
    assert (call.provider.surface, call.request.model, call.preview) == (
        "google.interactions",
        "gemini-2.5-flash",
        "Say hello",
    )
    assert found(path=path, host="www.example.com") is None


@pytest.mark.parametrize(
    "body", [{"model": "m"}, {"input": "x"}, {"model": "m", "input": ""}, {"model": "m", "input": 3}]
)
def test_what_asks_nothing_is_no_call(body):
    """Without an input, or for nobody."""
    assert found(body) is None


@pytest.mark.parametrize(
    ("more", "refused"),
    [
        ({}, ()),
        ({"store": False}, ()),
        ({"store": True}, ()),
        ({"background": False}, ()),
        ({"background": True}, ("stateful",)),
        ({"previous_interaction_id": "int_0"}, ("stateful",)),
        ({"continuation_token": "t"}, ("stateful",)),
        ({"environment": "remote"}, ("stateful",)),
        ({"tools": [{"type": "function", "name": "f"}]}, ()),
        ({"tools": [{"type": "google_search"}]}, ("server-tools",)),
        ({"tools": [{"type": "mcp_server", "url": "https://x.example.com"}]}, ("server-tools",)),
    ],
    ids=str,
)
def test_what_must_not_be_stored(more, refused):
    """What the server remembers or runs in the background, and what it looks up."""
    assert found({**ASKED, **more}).refused == refused


def test_an_agent_looks_things_up():
    """Google's agents search and run code, so what they answer is of the moment."""
    assert found({"agent": "deep-research-preview", "input": "x"}).refused == ("server-tools",)


@pytest.mark.parametrize(
    ("status", "steps", "end"),
    [
        ("completed", [TEXT], End.COMPLETE),
        ("completed", [THOUGHT, TEXT], End.COMPLETE),
        ("requires_action", [CALL], End.TOOL_CALLS),
        ("completed", [], End.EMPTY),
        ("completed", [THOUGHT], End.EMPTY),
        ("incomplete", [TEXT], End.TRUNCATED),
        ("budget_exceeded", [TEXT], End.TRUNCATED),
        ("requires_continuation", [TEXT], End.TRUNCATED),
        ("failed", [TEXT], End.ERROR),
        ("cancelled", [], End.ERROR),
        ("in_progress", [], End.CUT),
        ("of another kind", [TEXT], End.UNREADABLE),
    ],
)
def test_how_it_ends(status, steps, end):
    """By its status and its steps, in both forms; what was thought is billed as output."""
    provider = found().provider
    for answer in (provider.read(whole(status, steps)), provider.read(told(*streamed(status, steps)))):
        assert answer.end is end
        assert (answer.model, answer.usage) == ("gemini-2.5-flash", Usage(5, 5))
        assert answer.bill.units == {"output_reasoning_tokens": 3}


def test_a_stream_without_its_last_event_is_cut():
    """And one that tells an error failed."""
    provider = found().provider
    assert provider.read(told(*streamed()[:-1])).end is End.CUT
    assert provider.read(told(*streamed()[:-1], {"event_type": "error", "error": {"message": "x"}})).end is End.ERROR


def test_what_the_key_is_made_of():
    """The form and ids that only tie steps together do not change the question; the model, and pictures' bytes do."""
    call = {**CALL, "id": "f7"}
    turn = [{"type": "user_input", "content": [{"type": "text", "text": "x"}]}, CALL]
    result = {"type": "function_result", "call_id": "f1", "result": "y"}
    one = found({**ASKED, "input": [*turn, result]})
    assert found({**ASKED, "input": [turn[0], call, {**result, "call_id": "f7"}]}).request == one.request
    picture = [{"type": "image", "data": "aGVsbG8=", "mime_type": "image/png"}]
    assert found({**ASKED, "input": picture}).request.media == ("/input/0/data",)
    assert found({**ASKED, "input": picture[0]}).request.media == ("/input/data",)
    assert found(query="alt=sse", body={**ASKED, "stream": True}).request == found({**ASKED, "stream": True}).request
    assert found({**ASKED, "stream": True}).request != found().request


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_chain_is_met_again(isolated, is_streamed):
    """A follow-up is keyed by the entry that answered, not by its id, so the whole chain hits, in replay too."""
    numbers = iter(range(100))

    def answer(_):
        given = {"id": f"int_{next(numbers)}"}
        if not is_streamed:
            return httpx2.Response(200, json=orjson.loads(whole(**given).body))
        events = streamed(**given)
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=told(*events).body)

    def chain(client):
        previous = {}
        for text in ("a", "b", "c"):
            body = {"model": "m", "input": text, "stream": is_streamed, **previous}
            url = "https://generativelanguage.googleapis.com/v1beta/interactions"
            lines = client.post(url, json=body).text.strip().removeprefix("data: ").split("data: ")
            told_last = orjson.loads(lines[-1])
            previous = {"previous_interaction_id": (told_last.get("interaction") or told_last)["id"]}

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as client:
        with llm_cache() as first:
            chain(client)
        with llm_cache(mode="replay") as second:
            chain(client)
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
            client.post(
                "https://generativelanguage.googleapis.com/v1beta/interactions", json={**ASKED, "background": True}
            )
    assert [call.outcome for call in first.calls] == [Outcome.MISS] * 3
    assert [call.outcome for call in second.calls] == [Outcome.HIT] * 3
