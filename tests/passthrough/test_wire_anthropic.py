"""Anthropic's clients of the clouds: Vertex AI, Bedrock, Foundry and others, each in every form it offers."""

from __future__ import annotations

import asyncio
import json

import pytest

from genai_cache_magic import llm_cache

anthropic = pytest.importorskip("anthropic", reason="pip install anthropic")
pytestmark = pytest.mark.usefixtures("isolated", "no_credentials_at_hand")

MODEL = "claude-sonnet-5"
ASKED = {"model": MODEL, "max_tokens": 100, "messages": [{"role": "user", "content": "What is a cache?"}]}
TOOL = {"name": "find", "input_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
CALLING = {**ASKED, "messages": [{"role": "user", "content": "find it"}], "tools": [TOOL]}
KEYS = {"aws_access_key": "simulated", "aws_secret_key": "simulated", "aws_region": "us-east-1"}


@pytest.fixture
def no_credentials_at_hand(monkeypatch, tmp_path):
    """A machine on which no credentials of any cloud can be found."""
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))


def vertex(url, prefix=""):
    pytest.importorskip("google.auth", reason="pip install 'anthropic[vertex]'")
    kind = getattr(anthropic, f"{prefix}AnthropicVertex")
    return kind(base_url=f"{url}/v1", region="us-east5", project_id="project", access_token="simulated")


def bedrock(url, prefix=""):
    pytest.importorskip("botocore", reason="pip install 'anthropic[bedrock]'")
    return getattr(anthropic, f"{prefix}AnthropicBedrock")(base_url=url, **KEYS)


def mantle(url, prefix=""):
    pytest.importorskip("botocore", reason="pip install 'anthropic[bedrock]'")
    return of_this_release(f"{prefix}AnthropicBedrockMantle")(base_url=f"{url}/anthropic", **KEYS)


def aws(url, prefix=""):
    kind = of_this_release(f"{prefix}AnthropicAWS")
    return kind(base_url=url, api_key="simulated", workspace_id="workspace", aws_region="us-east-1")


def foundry(url, prefix=""):
    kind = of_this_release(f"{prefix}AnthropicFoundry")
    return kind(base_url=f"{url}/anthropic", api_key="simulated")


def of_this_release(name):
    if not hasattr(anthropic, name):
        pytest.skip(f"this release of anthropic has no {name}: pip install -U anthropic")
    return getattr(anthropic, name)


CLOUDS = [vertex, bedrock, mantle, aws, foundry]

WAYS = {
    "plain": lambda client: client.messages.create(**ASKED),
    "stream": lambda client: list(client.messages.create(**ASKED, stream=True)),
    "tools": lambda client: client.messages.create(**CALLING),
    "stream helper": lambda client: finished(client.messages.stream(**CALLING)),
    "beta": lambda client: client.beta.messages.create(**ASKED, betas=["a-beta"]),
}


def finished(manager):
    with manager as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cloud", CLOUDS)
def test_second_call_is_a_hit(unique_server, cloud, way):
    """The same call gets the same answer, field by field, and the model is asked once."""
    with cloud(unique_server.url) as client, llm_cache() as cell:
        first, second = WAYS[way](client), WAYS[way](client)
    assert first == second
    assert first
    assert (cell.misses, cell.hits, cell.troubles, unique_server.count) == (1, 1, (), 1)


@pytest.mark.parametrize("cloud", CLOUDS)
def test_async_client_shares_the_entries(unique_server, cloud):
    """What the synchronous client asked is answered to the asynchronous one, whole and streamed."""

    async def ask():
        async with cloud(unique_server.url, "Async") as client:
            whole = await client.messages.create(**ASKED)
            return whole, [event async for event in await client.messages.create(**ASKED, stream=True)]

    with cloud(unique_server.url) as client, llm_cache() as cell:
        first = client.messages.create(**ASKED), list(client.messages.create(**ASKED, stream=True))
        asked = unique_server.count
        assert asyncio.run(ask()) == first
    assert unique_server.count == asked
    assert cell.troubles == ()


@pytest.mark.parametrize("cloud", [vertex, mantle, aws, foundry])
def test_one_entry_for_both_forms(unique_server, cloud):
    """Where the wire is Anthropic's own, who streams is answered with what was asked as a whole, and back."""
    with cloud(unique_server.url) as client, llm_cache() as cell:
        whole = client.messages.create(**ASKED)
        told = finished(client.messages.stream(**ASKED))
        streamed = finished(client.messages.stream(**CALLING))
        again = client.messages.create(**CALLING)
    assert (told.id, told.content[0].text) == (whole.id, whole.content[0].text)
    assert again.content[0].input == streamed.content[0].input
    assert (again.id, again.usage.output_tokens) == (streamed.id, streamed.usage.output_tokens)
    assert (cell.misses, cell.hits, unique_server.count) == (2, 2, 2)


def test_counting_tokens_on_vertex_is_left_alone(unique_server):
    """The path that counts tokens looks like a model's, and is none."""
    with vertex(unique_server.url) as client, llm_cache() as cell, pytest.raises(anthropic.NotFoundError):
        client.messages.count_tokens(model=MODEL, messages=ASKED["messages"])
    assert cell.calls == ()


def test_one_entry_with_boto3(unique_server):
    """What Anthropic's client asked is answered to Amazon's ``invoke_model`` that sends the same body."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    keys = {"aws_access_key_id": "another", "aws_secret_access_key": "another"}
    runtime = boto3.session.Session(**keys).client(
        "bedrock-runtime", region_name="us-east-1", endpoint_url=unique_server.url
    )
    model = "anthropic.claude-v1:0"
    with bedrock(unique_server.url) as client, llm_cache() as cell:
        first = client.messages.create(**{**ASKED, "model": model})
        body = unique_server.requests[0].body
        second = json.loads(runtime.invoke_model(modelId=model, body=body)["body"].read())
    runtime.close()
    assert first.content[0].text == second["content"][0]["text"]
    assert (cell.misses, cell.hits, unique_server.count) == (1, 1, 1)
