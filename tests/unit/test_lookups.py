"""What was looked up live is not stored: told by the request, or by the answer alone, in every wire API and form."""

from __future__ import annotations

import json
from base64 import b64encode

import httpx
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.events import Outcome
from genai_cache_magic.providers import lookups
from genai_cache_magic.providers.formats import eventstream
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.testing.simulated.bedrock import frame
from tests.unit.model_calls import CHAT, HELLO, NOWHERE, call

URL = "https://example.org/news"
SAID = [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]


def chat(message=None, **top):
    said = {**SAID[0], "message": {**SAID[0]["message"], **(message or {})}}
    return {"id": "c", "object": "chat.completion", "choices": [said], **top}


def claude(*blocks, **usage):
    return {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": "end_turn", "usage": usage}


def gemini(**candidate):
    said = {"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP", **candidate}
    return {"candidates": [said]}


def responses(*output, **more):
    return {"object": "response", "status": "completed", "output": list(output), **more}


def message(**part):
    return {"type": "message", "content": [{"type": "output_text", "text": "x", **part}]}


TOLD = {
    "url_citation": chat({"annotations": [{"type": "url_citation", "url_citation": {"url": URL}}]}),
    "citations of URLs": chat(citations=[URL]),
    "citations beside the text": chat({"citations": [{"title": "t", "snippet": "s"}]}),
    "search_results": chat(search_results=[{"title": "t", "url": URL}]),
    "num_search_queries": chat(usage={"prompt_tokens": 1, "num_search_queries": 1}),
    "num_sources_used": chat(usage={"num_sources_used": 3}),
    "tool usage of xAI": chat(usage={"server_side_tool_usage": {"SERVER_SIDE_TOOL_WEB_SEARCH": 2}}),
    "search_info of DashScope": chat(search_info={"search_results": [{"index": 1}]}),
    "web_search of Zhipu": chat(web_search=[{"link": URL}]),
    "executed_tools of Groq": chat({"executed_tools": [{"type": "search"}]}),
    "on your data": chat({"context": {"citations": [{"content": "c", "filepath": "f"}]}}),
    "grounding by OpenAI's path": chat({"extra_content": {"google": {"grounding_metadata": {"x": ["y"]}}}}),
    "web_search_call": responses({"type": "web_search_call", "status": "completed"}, message()),
    "file_search_call": responses({"type": "file_search_call", "queries": ["q"]}, message()),
    "references of Volcengine's bots": {**chat(), "references": [{"url": "https://example.com", "title": "a"}]},
    "sources of Open WebUI": {**chat(), "sources": [{"source": {"name": "a"}, "document": ["b"]}]},
    "mcp_call": responses({"type": "mcp_call", "name": "f"}, message()),
    "shell that ran there": responses({"type": "shell_call"}, {"type": "shell_call_output"}, message()),
    "mcp_list_tools": responses({"type": "mcp_list_tools", "tools": []}, message()),
    "code_interpreter_call": responses({"type": "code_interpreter_call"}, message()),
    "url_citation of an item": responses(message(annotations=[{"type": "url_citation", "url": URL}])),
    "file_citation of a store": responses(message(annotations=[{"type": "file_citation", "file_id": "f"}])),
    "server_tool_use": claude({"type": "server_tool_use", "name": "web_search", "input": {}}),
    "web_search_tool_result": claude({"type": "web_search_tool_result", "content": []}),
    "mcp_tool_use": claude({"type": "mcp_tool_use", "name": "f", "input": {}}),
    "counted server_tool_use": claude(server_tool_use={"web_search_requests": 1}),
    "citation of a page": claude({"type": "text", "text": "x", "citations": [{"type": "web_search_result_location"}]}),
    "citation of nothing sent": claude({"type": "text", "text": "x", "citations": [{"type": "char_location"}]}),
    "groundingMetadata": gemini(groundingMetadata={"webSearchQueries": ["q"]}),
    "urlContextMetadata": gemini(urlContextMetadata={"urlMetadata": [{"retrievedUrl": URL}]}),
    "Cohere's citations": {"message": {"content": [], "citations": [{"text": "x", "sources": []}]}},
    "Cohere's first search": {"text": "x", "search_results": [{"document_ids": ["d"]}]},
    "Converse": {"output": {"message": {"content": [{"citationsContent": {"citations": [{"title": "t"}]}}]}}},
}
EVENTS = {
    "chunk with annotations": {"choices": [{"delta": {"annotations": [{"type": "url_citation"}]}}]},
    "chunk with citations": {"choices": [], "citations": [URL]},
    "chunk with usage": {"choices": [], "usage": {"num_search_queries": 1}},
    "search goes on": {"type": "response.web_search_call.searching", "output_index": 0},
    "code runs": {"type": "response.code_interpreter_call_code.delta", "delta": "1"},
    "annotation": {"type": "response.output_text.annotation.added", "annotation": {"type": "url_citation"}},
    "block begins": {"type": "content_block_start", "content_block": {"type": "server_tool_use", "name": "web_search"}},
    "citation": {"delta": {"type": "citations_delta", "citation": {"type": "web_search_result_location", "url": URL}}},
    "Cohere cites": {"type": "citation-start", "delta": {"message": {"citations": {"text": "x", "sources": []}}}},
    "tool of Mistral": {"type": "tool.execution.started", "name": "web_search"},
    "reference of Mistral": {
        "type": "message.output.delta",
        "content": {"type": "tool_reference", "tool": "web_search"},
    },
}
SILENT = {
    "plain": chat(),
    "null and empty": chat({"annotations": []}, citations=[], search_results=None),
    "nothing searched": chat(usage={"num_search_queries": 0, "num_sources_used": 0}),
    "nothing run": claude({"type": "text", "text": "search_results"}, server_tool_use={"web_search_requests": 0}),
    "own tool": claude(
        {"type": "tool_use", "name": "web_search", "input": {"type": "web_search_call", "citations": [1]}}
    ),
    "search among own tools": claude({"type": "server_tool_use", "name": "tool_search_tool_regex", "input": {}}),
    "tools that were offered": responses(
        message(), tools=[{"type": "web_search"}], tool_choice={"type": "file_search"}
    ),
    "tool search": responses({"type": "tool_search_call"}, {"type": "function_call", "name": "web_search"}),
    "own function": gemini(content={"parts": [{"functionCall": {"name": "f", "args": {"search_results": [1]}}}]}),
    "recited on Vertex AI": gemini(citationMetadata={"citations": [{"uri": URL}]}),
    "known code": {
        "choices": [
            {
                **SAID[0],
                "content_filter_results": {"protected_material_code": {"citation": {"URL": URL}, "detected": True}},
            }
        ]
    },
    "recited": gemini(citationMetadata={"citationSources": [{"uri": URL}]}, groundingMetadata={}),
    "ranked": {"results": [{"index": 0, "document": {"citations": ["x"]}, "relevance_score": 1}]},
    "billed by searches": {"results": [], "meta": {"billed_units": {"search_units": 1}}},
}
DOCUMENT = [{"role": "user", "content": [{"type": "document", "source": {}}]}]
EXPLAINED = {
    "Anthropic": (
        {"messages": DOCUMENT},
        claude({"type": "text", "text": "x", "citations": [{"type": "char_location", "document_index": 0}]}),
    ),
    "result of a search of the caller's": (
        {"messages": [{"role": "user", "content": [{"type": "search_result", "source": URL}]}]},
        claude({"type": "text", "text": "x", "citations": [{"type": "search_result_location", "source": URL}]}),
    ),
    "Cohere": (
        {"documents": ["a"]},
        {"message": {"content": [], "citations": [{"text": "x", "sources": [{"type": "document"}]}]}},
    ),
    "Cohere's tools": (
        {"messages": [{"role": "tool", "content": "a"}]},
        {"message": {"citations": [{"sources": [{"type": "tool", "tool_output": {"url": URL}}]}]}},
    ),
    "file": (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "x"}]}]},
        responses(message(annotations=[{"type": "file_citation", "filename": "f"}])),
    ),
    "Converse": (
        {"messages": [{"role": "user", "content": [{"document": {"name": "d"}}]}]},
        {
            "output": {
                "message": {"content": [{"citationsContent": {"citations": [{"location": {"documentChar": {}}}]}}]}
            }
        },
    ),
}


def plain(answer):
    return Response(200, (("content-type", "application/json"),), json.dumps(answer).encode())


def events(*said, kind="text/event-stream"):
    body = b"".join(b"data: %b\n\n" % json.dumps(one).encode() for one in said)
    return Response(200, (("content-type", kind),), body + b"data: [DONE]\n\n", Form.STREAM)


@pytest.mark.parametrize("answer", TOLD.values(), ids=TOLD)
def test_answers_tell(answer):
    """Whatever a server found, it says so somewhere in its answer, whole or in a stream's event."""
    assert lookups.told_by(plain(answer), CHAT)
    assert lookups.told_by(events({"type": "first"}, answer), CHAT)


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_events_tell(event):
    """So does an event of a stream."""
    assert lookups.told_by(events({"type": "first"}, event), CHAT)


@pytest.mark.parametrize("answer", SILENT.values(), ids=SILENT)
def test_answers_without_a_look_up(answer):
    """What is offered, asked of the caller, void or counted as nothing is no look-up."""
    assert not lookups.told_by(plain(answer), CHAT)
    assert not lookups.told_by(events(answer), CHAT)


@pytest.mark.parametrize(("asked", "answer"), EXPLAINED.values(), ids=EXPLAINED)
def test_citations_of_what_was_sent(asked, answer):
    """A citation of the request's own documents is no look-up, and one of the web is whatever was sent."""
    assert not lookups.told_by(plain(answer), asked)
    assert lookups.told_by(plain(answer), {"messages": HELLO})
    assert lookups.told_by(plain({**answer, "citations": [URL]}), asked)


@pytest.mark.parametrize(
    "tools",
    [
        {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}, {"cachePoint": {"type": "default"}}]}},
        {"tools": [{"type": "browser_search"}]},
    ],
)
def test_tools_that_run_at_amazon(tools):
    """InvokeModel takes what Nova and OpenAI's models call their server's tools; the caller's own are none."""
    path, host = "/model/us.amazon.nova-2-lite-v1:0/invoke", "bedrock-runtime.us-east-1.amazonaws.com"
    own = {"toolConfig": {"tools": [{"toolSpec": {"name": "f"}}, {"cachePoint": {"type": "default"}}]}}
    body = {"messages": [{"role": "user", "content": [{"text": "a"}]}]}
    assert recognise(call(path, {**body, **tools}, host), NOWHERE).refused == ("server-tools",)
    assert recognise(call(path, {**body, **own, "tools": [{"type": "function"}]}, host), NOWHERE).refused == ()


def test_other_kinds_of_stream():
    """JSON lines, Gemini's array and Amazon's frames, with what they hold in base64, are read as well."""
    found = chat(search_results=[1])
    lines = b'{"message": {}}\n' + json.dumps(found).encode() + b"\n"
    assert lookups.told_by(Response(200, (("content-type", "application/x-ndjson"),), lines, Form.STREAM), {})
    assert lookups.told_by(plain([gemini(), TOLD["groundingMetadata"]]), {})
    packed = {"bytes": b64encode(json.dumps(EVENTS["block begins"]).encode()).decode()}
    for payload in (packed, EVENTS["citation"]):
        frames = frame(json.dumps(payload).encode(), **{":message-type": "event"})
        assert lookups.told_by(Response(200, (("content-type", eventstream.TYPE),), frames, Form.STREAM), {})


def refused(path, body, host="gateway.example.com"):
    return recognise(call(path, body, host, {"user-agent": "openai/python"}), NOWHERE).refused


ON = {
    "enable_search": True,
    "web_search": True,
    "web_search_options": {},
    "search_parameters": {"mode": "auto"},
    "plugins": [{"id": "web"}],
    "data_sources": [{"type": "azure_search"}],
    "dataSources": [{"type": "AzureCognitiveSearch"}],
    "enable_web_search": "auto",
    "use_search": 1,
    "search": "web",
    "online_search": {"enabled": True},
    "knowledge": [{"id": "k"}],
    "knowledge_base_ids": ["k"],
    "collection_ids": ["c"],
    "collections": ["c"],
    "vector_store_ids": ["v"],
    "files": [{"type": "collection", "id": "c"}],
    "features": {"web_search": True},
    "venice_parameters": {"enable_web_search": "on"},
    "extra_body": {"enable_search": True},
    "tool_ids": ["server:mcp:1"],
    "enable_grounding": True,
    "retrieval": {"k": 3},
    "rag_config": {"id": "x"},
}
OFF = {
    "enable_search": False,
    "web_search": None,
    "search_parameters": {"mode": "off"},
    "online_search": {"enabled": False},
    "web_search_options": None,
    "enable_web_search": "off",
    "knowledge": [],
    "use_beam_search": True,
    "search_queries_only": True,
    "disable_search": True,
    "files": [{"type": "file", "id": "f"}],
    "features": {"web_search": False},
    "research_effort": "high",
    "fragment": "storage",
}


@pytest.mark.parametrize("field", ON)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/completions", {"model": "m", "prompt": "Once"}),
        ("/v1/responses", {"model": "m", "input": "hello"}),
        ("/v1/messages", {**CHAT, "max_tokens": 5}),
    ],
    ids=lambda value: value if type(value) is str else "",
)
def test_requests_that_send_a_server_to_look(path, body, field):
    """A field that sends a server to search or to collections is seen, whoever invented it."""
    assert refused(path, {**body, field: ON[field]}) == ("server-tools",)


@pytest.mark.parametrize("field", OFF)
def test_requests_that_do_not(field):
    """The same fields switched off, and others that only sound like them, send nobody."""
    assert refused("/v1/chat/completions", {**CHAT, field: OFF[field]}) == ()


@pytest.mark.parametrize("is_streamed", [False, True], ids=["whole", "stream"])
def test_not_stored(isolated, is_streamed):
    """An answer that tells of a look-up which nobody asked for is not stored, and the record says why."""
    told = events({"choices": [{**SAID[0], "delta": {"content": "x"}}]}, {"choices": [], "citations": [URL]})
    answer = told if is_streamed else plain(TOLD["citations of URLs"])
    sent = httpx.Response(200, headers=dict(answer.headers), content=answer.body)
    with httpx.Client(transport=httpx.MockTransport(lambda _: sent)) as client, llm_cache() as cell:
        for _ in range(2):
            client.post("https://api.openai.com/v1/chat/completions", json={**CHAT, "stream": is_streamed})
    assert [(one.outcome, one.reason) for one in cell.calls] == [(Outcome.REFUSED, "server-tools")] * 2


def test_stored_on_request(isolated):
    """Who asks for it by `--store server-tools` has it all the same."""
    sent = plain(TOLD["citations of URLs"])
    transport = httpx.MockTransport(lambda _: httpx.Response(200, headers=dict(sent.headers), content=sent.body))
    with httpx.Client(transport=transport) as client, llm_cache(store=("server-tools",)) as cell:
        for _ in range(2):
            client.post("https://api.openai.com/v1/chat/completions", json=CHAT)
    assert [one.outcome for one in cell.calls] == [Outcome.MISS, Outcome.HIT]
