"""The simulated batch APIs answer the unchanged SDKs as the real ones are documented to."""

from __future__ import annotations

import io
import json

import anthropic
import openai
import pytest

from genai_cache_magic.testing.model_server import SimulatedModelServer

pytestmark = pytest.mark.timeout(60)

BODY = {"model": "gpt-4.1-mini", "max_tokens": 10, "messages": [{"role": "user", "content": "a"}]}


@pytest.fixture(scope="module")
def server():
    with SimulatedModelServer() as running:
        yield running


@pytest.fixture
def client(server):
    with openai.OpenAI(base_url=server.openai_url, api_key="k", max_retries=0) as client:
        yield client


def uploaded(client, *lines):
    content = "\n".join(json.dumps(line) for line in lines).encode()
    return client.files.create(file=("a.jsonl", io.BytesIO(content)), purpose="batch").id


def line(name, **more):
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": BODY, **more}


def submitted(client, file_id):
    return client.batches.create(input_file_id=file_id, endpoint="/v1/chat/completions", completion_window="24h")


def test_openais_batches(client, server):
    """Answers are those of single calls, errors have a file of their own, and files are read and removed."""
    file_id = uploaded(client, line("one"), line("two", body={**BODY, "messages": "wrong"}))
    made = submitted(client, file_id)
    done = client.batches.retrieve(made.id)
    assert (done.status, done.request_counts.completed, done.request_counts.failed) == ("completed", 1, 1)
    (answered,) = client.files.content(done.output_file_id).content.splitlines()
    single = client.chat.completions.create(**BODY)
    assert json.loads(answered)["response"]["body"]["choices"] == [c.to_dict() for c in single.choices]
    (failed,) = client.files.content(done.error_file_id).content.splitlines()
    assert json.loads(failed)["response"]["status_code"] == 400
    assert made.id in [batch.id for batch in client.batches.list()]
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


def test_what_openai_refuses(client):
    """A file that holds no such calls, one that isn't there, and a batch that isn't."""
    for lines in ([line("one"), line("one")], [line("one", url="/v1/responses")]):
        with pytest.raises(openai.BadRequestError):
            submitted(client, uploaded(client, *lines))
    with pytest.raises(openai.BadRequestError):
        submitted(client, "file-none")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


def test_a_batch_that_is_cancelled(client, server):
    """It ends without answers."""
    server.batches.hold()
    made = submitted(client, uploaded(client, line("one")))
    assert client.batches.retrieve(made.id).status == "in_progress"
    assert client.batches.cancel(made.id).status == "cancelled"
    server.batches.release()
    assert client.batches.retrieve(made.id).output_file_id is None


def test_anthropics_batches(server):
    """Its results say what became of each, and the tier that they are billed by."""
    requests = [{"custom_id": name, "params": {**BODY, "model": "claude-sonnet-5"}} for name in ("one", "two")]
    with anthropic.Anthropic(base_url=server.url, api_key="k", max_retries=0) as client:
        server.batches.hold()
        made = client.messages.batches.create(requests=requests)
        assert (made.processing_status, made.request_counts.processing) == ("in_progress", 2)
        server.batches.expire_next(1)
        server.batches.release()
        done = client.messages.batches.retrieve(made.id)
        assert (done.request_counts.succeeded, done.request_counts.expired) == (1, 1)
        one, two = client.messages.batches.results(made.id)
        assert (one.result.type, two.result.message.usage.service_tier) == ("expired", "batch")
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.create(requests=[*requests, *requests])
