"""Mistral: fill-in-the-middle, and its chat and embeddings, which are OpenAI's; Azure AI inference, which is so too."""

from __future__ import annotations

import json

import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.providers.base import End, HttpCall, Origins, Wants
from genai_cache_magic.providers.mistral.fim import MistralFim
from genai_cache_magic.providers.registry import recognise

FIM = {"model": "codestral-latest", "prompt": "def add(", "suffix": "return a + b"}
CHAT = {"model": "mistral-small-latest", "messages": [{"role": "user", "content": "Say hello"}]}


def found(body=FIM, path="/v1/fim/completions", host="api.mistral.ai", headers=None, query=""):
    given = {"content-type": "application/json", **(headers or {})}
    call = HttpCall("POST", "https", host, None, path, query, given, orjson.dumps(body))
    return recognise(call, Origins({}, "laptop"))


@pytest.mark.parametrize("host", ["api.mistral.ai", "codestral.mistral.ai", "gateway.example.com", "localhost"])
def test_fill_in_the_middle_is_recognised_everywhere(host):
    """Its path is telling enough."""
    model_call = found(host=host)
    assert (model_call.provider.surface, model_call.request.model) == ("mistral.fim", "codestral-latest")
    assert model_call.request.origin == f"https://{host}/v1"
    assert model_call.provider.vendor == ("mistral" if "mistral" in host else "local" if host == "localhost" else "")


@pytest.mark.parametrize(
    ("path", "body", "surface"),
    [
        ("/v1/chat/completions", CHAT, "openai.chat"),
        ("/v1/embeddings", {"model": "mistral-embed", "input": ["a"]}, "openai.embeddings"),
    ],
)
def test_the_rest_is_openais(path, body, surface):
    """Chat and embeddings have OpenAI's paths and bodies."""
    assert (found(body, path).provider.surface, found(body, path).provider.vendor) == (surface, "mistral")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/fim/completions", {"model": "m", "prompt": ""}),
        ("/v1/agents/completions", CHAT),
        ("/v1/conversations", {"inputs": "a"}),
        ("/v1/conversations", {"inputs": [], "model": "m"}),
        ("/v1/conversations/conv_1", {"inputs": "a"}),
        ("/v1/agents", {"model": "m", "name": "a"}),
        ("/v1/ocr", {"model": "m"}),
        ("/v1/ocr", {"model": "m", "document": {"type": "chunk"}}),
    ],
)
def test_what_is_no_call(path, body):
    """What asks nothing, what keeps an agent, and later turns of what the server remembers."""
    assert found(body, path) is None


def test_everything_but_noise_and_form_is_in_the_key():
    """What completes the prompt is in, and so is metadata, of which Mistral doesn't say that it decides nothing."""
    assert found({**FIM, "stream": False}).request == found().request
    for field in ("metadata", "suffix", "random_seed", "stop", "min_tokens", "unheard_of"):
        assert found({**FIM, field: ["x"]}).request != found().request
    assert found({**FIM, "stream": True}).wants == Wants(Form.STREAM)
    assert found({**FIM, "max_tokens": 9}).max_output_tokens == 9
    assert found().preview == "def add("


def whole(reason):
    choice = {"index": 0, "message": {"role": "assistant", "content": "a, b):"}, "finish_reason": reason}
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    return Response(200, (), json.dumps({"model": "codestral-2508", "choices": [choice], "usage": usage}).encode())


def streamed(reason, done=b"data: [DONE]\n\n"):
    choice = {"index": 0, "delta": {"content": "a, b):"}, "finish_reason": reason}
    chunk = {"model": "codestral-2508", "choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    return Response(200, (), b"data: %b\n\n" % json.dumps(chunk).encode() + done, Form.STREAM)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("stop", End.COMPLETE), ("length", End.TRUNCATED), ("model_length", End.TRUNCATED), ("error", End.ERROR)],
)
def test_end_of_an_answer_in_both_forms(reason, expected):
    """It answers like a chat, whole and streamed, and tells usage unasked."""
    for response in (whole(reason), streamed(reason)):
        answer = MistralFim().read(response)
        assert (answer.end, answer.usage, answer.model) == (expected, Usage(5, 3), "codestral-2508")
    assert MistralFim().read(streamed(reason, b"")).end is End.CUT


def test_render_gives_the_same_form_only():
    """A caller gets the form that it wants, unchanged, or a miss."""
    response = streamed("stop")
    assert MistralFim().render(response, Wants(Form.STREAM)) is response
    assert MistralFim().render(response, Wants(Form.JSON)) is None


@pytest.mark.parametrize(
    "host", ["res.services.ai.azure.com", "res.eastus2.inference.ai.azure.com", "res.models.ai.azure.com"]
)
@pytest.mark.parametrize("prefix", ["/models", ""])
def test_azure_ai_inference_is_openais_chat(host, prefix):
    """Azure's path of its models is OpenAI's chat and embeddings, with the version of the API apart."""
    header = {"extra-parameters": "pass-through"}
    chat = found(CHAT, f"{prefix}/chat/completions", host, header, "api-version=2024-05-01-preview")
    assert (chat.provider.surface, chat.provider.vendor) == ("openai.chat", "azure")
    assert (chat.request.origin, chat.request.api_version) == (f"https://{host}{prefix}", "2024-05-01-preview")
    assert chat.request.headers == (("extra-parameters", "pass-through"),)
    body = {"model": "m", "input": ["a"]}
    assert found(body, f"{prefix}/embeddings", host).provider.surface == "openai.embeddings"


@pytest.fixture
def client(isolated, server):
    sdk = pytest.importorskip("mistralai.client", reason="pip install 'mistralai>=3'", exc_type=ImportError)
    with sdk.Mistral(api_key="none", server_url=server.url) as client:
        yield client


def streamed_by(api, **arguments):
    with api.stream(**arguments) as events:
        return [event.data.model_dump() for event in events]


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.fim.complete(**FIM).model_dump(),
        lambda client: streamed_by(client.fim, **FIM),
        lambda client: client.chat.complete(**CHAT).model_dump(),
        lambda client: streamed_by(client.chat, **CHAT),
    ],
    ids=["fim", "fim streamed", "chat", "chat streamed"],
)
def test_the_sdk_asks_once(client, server, ask):
    """Mistral's SDK gets the same answer the second time, without a request."""
    with llm_cache() as cell:
        assert ask(client) == ask(client)
    assert server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit"]


# --- agents, conversations, documents

CALL = {"type": "function.call", "tool_call_id": "c", "name": "f", "arguments": "{}"}
SAID = {"type": "message.output", "content": "Hello", "model": "mistral-medium-latest", "role": "assistant"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
AGENT = {"agent_id": "ag_1", "messages": CHAT["messages"]}
CONVERSE = {"model": "mistral-medium-latest", "inputs": "Say hello"}
DOCUMENT = {"type": "document_url", "document_url": "data:application/pdf;base64,JVBERi0="}
OCR = {"model": "mistral-ocr-latest", "document": DOCUMENT}
CONVERSATIONS, AGENTS, DOCUMENTS = "/v1/conversations", "/v1/agents/completions", "/v1/ocr"


def told(*events):
    body = b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), orjson.dumps(e)) for e in events)
    return Response(200, (("content-type", "text/event-stream"),), body, Form.STREAM)


def answered(**answer):
    return Response(200, (("content-type", "application/json"),), orjson.dumps(answer))


def test_an_agent_counts_as_a_model_does():
    """Another agent is another key, which no chat with a model can meet; the form is no part of it."""
    one, other, chat = (
        found(AGENT, AGENTS),
        found({**AGENT, "agent_id": "ag_2"}, AGENTS),
        found(CHAT, "/v1/chat/completions"),
    )
    assert (one.provider.surface, one.request.surface, one.provider.vendor) == (
        "mistral.agents",
        "mistral.agents",
        "mistral",
    )
    assert one.request.origin == chat.request.origin == "https://api.mistral.ai/v1"
    assert one.request.body["agent_id"] != other.request.body["agent_id"]
    assert found({**AGENT, "stream": True}, AGENTS).request == one.request


def test_what_an_agent_answers_is_read_as_a_chat():
    """It tells which model it asked, and its tokens."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
    answer = found(AGENT, AGENTS).provider.read(answered(model="mistral-medium-latest", choices=[choice], usage=USAGE))
    assert (answer.end, answer.model, answer.usage) == (End.COMPLETE, "mistral-medium-latest", Usage(7, 2))


@pytest.mark.parametrize(
    ("entries", "end"),
    [([SAID], End.COMPLETE), ([CALL], End.TOOL_CALLS), ([], End.EMPTY), ([{**SAID, "content": ""}], End.EMPTY)],
    ids=lambda value: getattr(value, "value", None),
)
def test_how_the_first_turn_of_a_conversation_ends(entries, end):
    """As one object and as events, of which the last says that it is done; without that it is cut."""
    provider = found(CONVERSE, CONVERSATIONS).provider
    json_form = provider.read(
        answered(object="conversation.response", conversation_id="c", outputs=entries, usage=USAGE)
    )
    pieces = [{**entry, "type": f"{entry['type']}.delta"} for entry in entries]
    started, done = {"type": "conversation.response.started"}, {"type": "conversation.response.done", "usage": USAGE}
    streamed = provider.read(told(started, *pieces, done))
    assert (json_form.end, streamed.end) == (end, end)
    assert json_form.usage == streamed.usage == Usage(7, 2)
    assert json_form.model == streamed.model
    assert provider.read(told(started, *pieces)).end is End.CUT
    assert provider.read(told(started, {"type": "conversation.response.error", "message": "x"})).end is End.ERROR


def test_who_a_conversation_is_with_and_what_it_may_do():
    """With a model or an agent; a tool of the server's is a look-up; the two forms are two entries."""
    assert found({"agent_id": "a", "agent_version": 3, "inputs": "x"}, CONVERSATIONS).request.body["agent_version"] == 3
    assert found({**CONVERSE, "tools": [{"type": "web_search"}]}, CONVERSATIONS).refused == ("server-tools",)
    assert found({**CONVERSE, "tools": [{"type": "function"}]}, CONVERSATIONS).refused == ()
    assert found({**CONVERSE, "stream": True}, CONVERSATIONS).request != found(CONVERSE, CONVERSATIONS).request
    assert found(CONVERSE, CONVERSATIONS, host="api.openai.com").provider.surface == "mistral.conversations"


def test_documents_count_by_their_content():
    """A document in the request is folded; pages are what is billed, so the price is unknown."""
    call = found(OCR, DOCUMENTS)
    assert call.request.media == ("/document/document_url",)
    page = {"index": 0, "markdown": "Hello", "images": [], "dimensions": None}
    answer = call.provider.read(answered(pages=[page], model="mistral-ocr-latest", usage_info={"pages_processed": 1}))
    assert (answer.end, answer.bill.unclear) == (End.COMPLETE, "pages")
    assert call.provider.read(answered(pages=[])).end is End.EMPTY
    assert call.provider.read(answered(pages=[{"index": 0}])).end is End.UNREADABLE
    other = {**OCR, "document": {**DOCUMENT, "document_url": "data:application/pdf;base64,JVBERj0="}}
    assert found(other, DOCUMENTS).request != call.request
