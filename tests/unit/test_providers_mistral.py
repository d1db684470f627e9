"""Mistral: fill-in-the-middle, and its chat and embeddings, which are OpenAI's; Azure AI inference, which is so too."""

from __future__ import annotations

import json

import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.providers.base import End, HttpCall, Origins, Wants
from genai_cache_magic.providers.mistral import MistralFim
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
        ("/v1/agents/completions", {"agent_id": "a", "messages": CHAT["messages"]}),
        ("/v1/conversations", {"inputs": "a"}),
        ("/v1/ocr", {"model": "m"}),
    ],
)
def test_what_is_no_call(path, body):
    """Agents and conversations are kept by the server, so they are left alone."""
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
