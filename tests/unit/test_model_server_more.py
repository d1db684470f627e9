"""The simulated model server as the unchanged SDKs of Google, Cohere, Mistral, Ollama and Amazon see it."""

from __future__ import annotations

import base64
import contextlib
import json

import pytest

from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer

ASK = "What is 2 + 2?"
MESSAGES = [{"role": "user", "content": ASK}]
SAYS_SIMULATED = "[simulated]"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": CITY}}]
ASK_WEATHER = [{"role": "user", "content": "Please get weather of Oslo"}]


def sdk(name, package):
    return pytest.importorskip(name, reason=f"pip install {package}", exc_type=ImportError)


# Google


@pytest.fixture
def gemini(server):
    genai = sdk("google.genai", "google-genai")
    with genai.Client(api_key="none", http_options={"base_url": server.url}) as client:
        yield client.models


@pytest.fixture
def vertex(server):
    genai = sdk("google.genai", "google-genai")
    credentials = sdk("google.oauth2.credentials", "google-genai").Credentials(token="none")
    where = {"project": "p", "location": "europe-west4", "credentials": credentials}
    with genai.Client(enterprise=True, http_options={"base_url": server.url}, **where) as client:
        yield client.models


@pytest.mark.parametrize("platform", ["gemini", "vertex"])
def test_gemini_says_the_same_whole_and_streamed(platform, request):
    """A stream is the whole answer in pieces: text, end and usage."""
    models = request.getfixturevalue(platform)
    whole = models.generate_content(model="gemini-2.5-flash", contents=ASK)
    chunks = list(models.generate_content_stream(model="gemini-2.5-flash", contents=ASK))
    assert whole.text.startswith(SAYS_SIMULATED)
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert len(chunks) > 3
    assert chunks[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason == "STOP"
    assert chunks[0].candidates[0].finish_reason is None
    assert chunks[-1].usage_metadata == whole.usage_metadata


def test_gemini_calls_functions(gemini):
    """A function whose name stands in the question is called, with arguments of its schema."""
    types = sdk("google.genai.types", "google-genai")
    declared = {"name": "get_weather", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}
    config = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[declared])])
    answer = gemini.generate_content(model="gemini-2.5-flash", contents="get weather", config=config)
    (called,) = answer.function_calls
    assert called.name == "get_weather"
    assert called.id


@pytest.mark.parametrize("platform", ["gemini", "vertex"])
def test_gemini_embeds(platform, request):
    """There is a vector for each text, and equal texts have equal ones."""
    models = request.getfixturevalue(platform)
    found = models.embed_content(model="text-embedding-005", contents=["a", "b", "a"]).embeddings
    assert [len(one.values) for one in found] == [768] * 3
    assert found[0].values == found[2].values != found[1].values


def test_gemini_array_is_one_json_document(server):
    """Without ``alt=sse`` a stream is one JSON array, whose parts say the same."""
    httpx = sdk("httpx", "httpx")
    body = {"contents": [{"parts": [{"text": ASK}]}]}
    url = f"{server.url}/v1beta/models/gemini-2.5-flash"
    chunks = httpx.post(f"{url}:streamGenerateContent", json=body).json()
    events = httpx.post(f"{url}:streamGenerateContent?alt=sse", json=body).text.split("\r\n\r\n")
    assert chunks == [json.loads(event.removeprefix("data: ")) for event in events if event]
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"


# Cohere


@pytest.fixture
def http():
    with sdk("httpx", "httpx").Client() as client:
        yield client


@pytest.fixture
def cohere(server, http):
    return sdk("cohere", "cohere").ClientV2(api_key="none", base_url=server.url, httpx_client=http)


def test_cohere_says_the_same_whole_and_streamed(cohere):
    """A stream is the whole answer in pieces: text, end and usage."""
    whole = cohere.chat(model="command-a-03-2025", messages=MESSAGES)
    events = list(cohere.chat_stream(model="command-a-03-2025", messages=MESSAGES))
    pieces = [e.delta.message.content.text for e in events if e.type == "content-delta"]
    assert "".join(pieces) == whole.message.content[0].text
    assert whole.message.content[0].text.startswith(SAYS_SIMULATED)
    assert events[-1].type == "message-end"
    assert events[-1].delta.finish_reason == whole.finish_reason == "COMPLETE"
    assert events[-1].delta.usage == whole.usage


def test_cohere_calls_tools(cohere):
    """A tool call streams in pieces that join to the arguments of the whole one."""
    whole = cohere.chat(model="command-a-03-2025", messages=ASK_WEATHER, tools=TOOLS)
    events = list(cohere.chat_stream(model="command-a-03-2025", messages=ASK_WEATHER, tools=TOOLS))
    pieces = [e.delta.message.tool_calls.function.arguments for e in events if e.type == "tool-call-delta"]
    assert whole.finish_reason == "TOOL_CALL"
    assert "".join(pieces) == whole.message.tool_calls[0].function.arguments


def test_cohere_embeds_in_both_versions(cohere, server, http):
    """Both versions give the same vectors, each in its own shape."""
    second = cohere.embed(model="embed-v4.0", texts=["a", "b"], input_type="search_query", embedding_types=["float"])
    first = sdk("cohere", "cohere").Client(api_key="none", base_url=server.url, httpx_client=http)
    assert first.embed(model="embed-v4.0", texts=["a", "b"]).embeddings == second.embeddings.float_
    assert second.meta.billed_units.input_tokens > 0


# Mistral


@pytest.fixture
def mistral(server):
    with sdk("mistralai.client", "'mistralai>=3'").Mistral(api_key="none", server_url=server.url) as client:
        yield client


@pytest.mark.parametrize(
    ("api", "arguments"),
    [
        ("chat", {"model": "mistral-small-latest", "messages": MESSAGES}),
        ("fim", {"model": "codestral-latest", "prompt": "def add(", "suffix": "return a + b"}),
    ],
)
def test_mistral_says_the_same_whole_and_streamed(mistral, api, arguments):
    """A stream is the whole answer in pieces."""
    whole = getattr(mistral, api).complete(**arguments).choices[0]
    with getattr(mistral, api).stream(**arguments) as events:
        choices = [choice for event in events for choice in event.data.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == whole.message.content
    assert whole.message.content.startswith(SAYS_SIMULATED)
    assert choices[-1].finish_reason == whole.finish_reason == "stop"


# Ollama


@pytest.fixture
def ollama(server):
    with sdk("ollama", "ollama").Client(host=server.url) as client:
        yield client


def test_ollama_says_the_same_whole_and_streamed(ollama):
    """The lines of a stream join to the whole answer, and the last one is done."""
    whole = ollama.chat(model="llama3.2", messages=MESSAGES)
    lines = list(ollama.chat(model="llama3.2", messages=MESSAGES, stream=True))
    assert "".join(line.message.content for line in lines) == whole.message.content
    assert whole.message.content.startswith(SAYS_SIMULATED)
    assert [line.done for line in lines[-2:]] == [False, True]
    assert lines[-1].eval_count == whole.eval_count


def test_ollama_generates_calls_tools_and_embeds(ollama):
    """Its other paths answer in their own shapes."""
    whole = ollama.generate(model="llama3.2", prompt="Once")
    lines = list(ollama.generate(model="llama3.2", prompt="Once", stream=True))
    assert "".join(line.response for line in lines) == whole.response
    (called,) = ollama.chat(model="llama3.2", messages=ASK_WEATHER, tools=TOOLS).message.tool_calls
    assert called.function.name == "get_weather"
    vector = ollama.embeddings(model="m", prompt="a").embedding
    assert list(ollama.embed(model="m", input=["a"]).embeddings[0]) == list(vector)


def test_ollama_streams_unless_told_not_to(server):
    """A body without ``stream`` gets JSON lines."""
    httpx = sdk("httpx", "httpx")
    answer = httpx.post(f"{server.url}/api/generate", json={"model": "m", "prompt": "a"})
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert json.loads(answer.text.splitlines()[-1])["done"] is True


def test_ollama_tells_of_an_error_in_its_stream(ollama, server):
    """An error line reaches the caller as the SDK's error, after half the answer."""
    server.fail_next(Fault.ERROR_EVENT)
    seen = []
    with pytest.raises(sdk("ollama", "ollama").ResponseError, match="simulated"):
        seen.extend(ollama.chat(model="m", messages=MESSAGES, stream=True))
    server.fail_next(Fault.TRUNCATED)
    assert ollama.chat(model="m", messages=MESSAGES).done_reason == "length"


# Amazon


@pytest.fixture
def bedrock(server):
    boto3, config = sdk("boto3", "boto3"), sdk("botocore.config", "boto3")
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "eu-west-1"}
    once = config.Config(retries={"total_max_attempts": 1})
    client = boto3.client("bedrock-runtime", endpoint_url=server.url, config=once, **keys)
    yield client
    client.close()


CONVERSE = {
    "modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "messages": [{"role": "user", "content": [{"text": ASK}]}],
}


def test_converse_says_the_same_whole_and_streamed(bedrock):
    """The binary stream, checksums and all, is what botocore reads; it says the same."""
    whole = bedrock.converse(**CONVERSE)
    events = list(bedrock.converse_stream(**CONVERSE)["stream"])
    text = whole["output"]["message"]["content"][0]["text"]
    assert "".join(e["contentBlockDelta"]["delta"]["text"] for e in events if "contentBlockDelta" in e) == text
    assert text.startswith(f"{SAYS_SIMULATED} {CONVERSE['modelId']}")
    assert events[-2]["messageStop"]["stopReason"] == whole["stopReason"] == "end_turn"
    assert events[-1]["metadata"]["usage"] == whole["usage"]


def test_converse_calls_tools(bedrock):
    """A tool that must be called is, with arguments of its schema."""
    tools = {"tools": [{"toolSpec": {"name": "get_weather", "inputSchema": {"json": CITY}}}], "toolChoice": {"any": {}}}
    (block,) = bedrock.converse(**CONVERSE, toolConfig=tools)["output"]["message"]["content"]
    assert block["toolUse"]["name"] == "get_weather"
    assert set(block["toolUse"]["input"]) == {"city"}
    events = list(bedrock.converse_stream(**CONVERSE, toolConfig=tools)["stream"])
    pieces = [e["contentBlockDelta"]["delta"]["toolUse"]["input"] for e in events if "contentBlockDelta" in e]
    assert json.loads("".join(pieces)) == block["toolUse"]["input"]


INVOKED = {
    "anthropic": {
        "modelId": "anthropic.claude-sonnet-4-5-20250929-v1:0",
        "body": json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES}),
    },
    "llama": {"modelId": "meta.llama3-8b-instruct-v1:0", "body": json.dumps({"prompt": ASK})},
}


@pytest.mark.parametrize("model", INVOKED)
def test_invoke_speaks_the_models_own_words(bedrock, model):
    """An answer has the shape of its model, whole and streamed, and the last chunk tells Amazon's count."""
    whole = json.loads(bedrock.invoke_model(**INVOKED[model])["body"].read())
    stream = bedrock.invoke_model_with_response_stream(**INVOKED[model])["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in stream]
    if model == "llama":
        assert "".join(chunk["generation"] for chunk in chunks) == whole["generation"]
    else:
        assert "".join(chunk.get("delta", {}).get("text", "") for chunk in chunks) == whole["content"][0]["text"]
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] > 0


def test_bedrock_tells_of_an_error_in_its_stream(bedrock, server):
    """An exception in the binary stream reaches the caller as botocore's own."""
    server.fail_next(Fault.ERROR_EVENT)
    error = sdk("botocore.exceptions", "boto3").EventStreamError
    with (
        contextlib.closing(bedrock.converse_stream(**CONVERSE)["stream"]) as stream,
        pytest.raises(error, match="modelStreamErrorException"),
    ):
        list(stream)


# Azure AI inference


def test_azure_ai_inference_is_openais_chat(server):
    """Azure's own SDK of models is served under its own path."""
    inference = sdk("azure.ai.inference", "azure-ai-inference")
    key = sdk("azure.core.credentials", "azure-ai-inference").AzureKeyCredential("none")
    with inference.ChatCompletionsClient(endpoint=f"{server.url}/models", credential=key) as client:
        assert client.complete(messages=MESSAGES, model="m").choices[0].message.content.startswith(SAYS_SIMULATED)


# What holds without any SDK

PATHS = {
    "/v1beta/models/m:generateContent": {"contents": [{"parts": [{"text": ASK}]}]},
    "/v1beta/models/m:streamGenerateContent?alt=sse": {"contents": [{"parts": [{"text": ASK}]}]},
    "/v1beta/models/m:streamGenerateContent": {"contents": [{"parts": [{"text": ASK}]}]},
    "/v2/chat": {"model": "m", "messages": MESSAGES, "stream": True},
    "/api/chat": {"model": "m", "messages": MESSAGES},
    "/api/generate": {"model": "m", "prompt": ASK},
    "/v1/fim/completions": {"model": "m", "prompt": ASK, "stream": True},
    "/model/m/converse": CONVERSE,
    "/model/m/converse-stream": CONVERSE,
    "/model/m/invoke": {"prompt": ASK},
    "/model/m/invoke-with-response-stream": {"prompt": ASK},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("fault", [None, *Fault])
def test_every_fault_can_be_asked_for(server, path, fault):
    """Each fault of each API is an answer or a broken connection that a client understands, never a crash."""
    httpx = sdk("httpx", "httpx")
    if fault:
        server.fail_next(fault)
    try:
        answer = httpx.post(f"{server.url}{path}", json=PATHS[path])
    except httpx.RemoteProtocolError:
        assert fault is Fault.STREAM_CUT
        return
    assert answer.status_code in {200, 429, 500}
    assert (answer.status_code == 200) == (fault not in {Fault.TOO_MANY_REQUESTS, Fault.SERVER_ERROR})
    assert answer.content


@pytest.mark.parametrize("path", PATHS)
def test_a_body_that_the_api_refuses_gets_a_400(server, path):
    """A request without its main field is refused with words, as the real API does it."""
    httpx = sdk("httpx", "httpx")
    answer = httpx.post(f"{server.url}{path}", json={"model": "m", "messages": "no", "contents": [], "max_tokens": 1})
    assert answer.status_code == 400
    assert "must" in answer.text


def test_unique_answers_are_never_repeated():
    """In unique mode the same question gets another answer, whole or embedded."""
    httpx = sdk("httpx", "httpx")
    with SimulatedModelServer("unique") as server:
        one, other = (httpx.post(f"{server.url}/api/embed", json={"model": "m", "input": "a"}).json() for _ in "ab")
        assert one["embeddings"] != other["embeddings"]


def test_media_is_only_counted(gemini):
    """A picture is accepted, and the text beside it is answered."""
    types = sdk("google.genai.types", "google-genai")
    picture = types.Part.from_bytes(data=base64.b64decode("iVBORw0KGgo="), mime_type="image/png")
    assert "beside it" in gemini.generate_content(model="m", contents=[picture, "beside it"]).text
