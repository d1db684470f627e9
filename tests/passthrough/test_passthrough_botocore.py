"""Below boto3, a call that isn't cached is signed, sent and answered as without us; nobody else's calls are seen."""

from __future__ import annotations

import inspect
import io
import json

import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import Fault

boto3 = pytest.importorskip("boto3", reason="pip install boto3")
awsrequest = pytest.importorskip("botocore.awsrequest", reason="pip install boto3")
botocore_config = pytest.importorskip("botocore.config", reason="pip install boto3")
endpoint = pytest.importorskip("botocore.endpoint", reason="pip install boto3")
exceptions = pytest.importorskip("botocore.exceptions", reason="pip install boto3")
parsers = pytest.importorskip("botocore.parsers", reason="pip install boto3")
urllib3 = pytest.importorskip("urllib3", reason="pip install boto3")

MODEL = "anthropic.claude-sonnet-5-v1:0"
CONVERSATION = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
BODY = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
SECRET = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}

CALLS = {
    "converse": ("bedrock-runtime", "converse", lambda: CONVERSATION),
    "invoke": ("bedrock-runtime", "invoke_model", lambda: {"modelId": MODEL, "body": json.dumps(BODY)}),
    "invoke-file": (
        "bedrock-runtime",
        "invoke_model",
        lambda: {"modelId": MODEL, "body": io.BytesIO(json.dumps(BODY).encode())},
    ),
    "count-tokens": (
        "bedrock-runtime",
        "count_tokens",
        lambda: {"modelId": MODEL, "input": {"converse": {"messages": CONVERSATION["messages"]}}},
    ),
    "guardrail": (
        "bedrock-runtime",
        "apply_guardrail",
        lambda: {
            "guardrailIdentifier": "g",
            "guardrailVersion": "1",
            "source": "INPUT",
            "content": [{"text": {"text": "x"}}],
        },
    ),
    "sts": ("sts", "get_caller_identity", dict),
    "s3-put": ("s3", "put_object", lambda: {"Bucket": "b", "Key": "k", "Body": b"123"}),
    "s3-get": ("s3", "get_object", lambda: {"Bucket": "b", "Key": "k"}),
}
# Of the time, or random.
PASSING = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "amz-sdk-request", "user-agent"}


def client_of(service, url="http://127.0.0.1:9", **options):
    config = botocore_config.Config(retries={"total_max_attempts": 1}, **options)
    session = boto3.session.Session(**SECRET)
    return session.client(service, region_name="us-east-1", endpoint_url=url, config=config)


@pytest.fixture
def sent(monkeypatch):
    """What is handed to the network, which answers with an error of its own."""
    seen = []

    def send(self, request):
        body = request.body
        headers = {name.lower(): None if name.lower() in PASSING else value for name, value in request.headers.items()}
        body = body.read() if hasattr(body, "read") else body
        seen.append((request.method, request.url, headers, body, request.stream_output))
        raw = urllib3.HTTPResponse(
            io.BytesIO(b'{"message": "no"}'),
            headers={"x-answer": "yes"},
            status=403,
            preload_content=False,
        )
        return awsrequest.AWSResponse(request.url, 403, raw.headers, raw)

    monkeypatch.setattr("botocore.httpsession.URLLib3Session.send", send)
    return seen


def answered(name):
    service, operation, arguments = CALLS[name]
    try:
        return getattr(client_of(service), operation)(**arguments())
    except exceptions.ClientError as exc:
        return exc.response, str(exc)
    except parsers.ResponseParserError as exc:
        return str(exc)  # where the service speaks XML


@pytest.mark.parametrize("name", CALLS)
def test_network_is_asked_the_same(isolated, sent, name):
    """Requests are signed and sent, and answers parsed, as without us: with no scope, and with a scope of any mode."""
    plain = answered(name)
    with llm_cache():
        pass
    assert answered(name) == plain
    for mode in ("off", "read", "use", "refresh"):
        with llm_cache(mode=mode) as cell:
            assert answered(name) == plain
        assert cell.troubles == ()
    assert all(call == sent[0] for call in sent[1:])
    assert len(sent) == 6
    assert "authorization" in sent[0][2]


def test_only_model_calls_are_calls_of_the_cell(isolated, sent):
    """What is no model call is not seen; a body that is a file bypasses, with its reason."""
    with llm_cache() as cell:
        for name in ("count-tokens", "guardrail", "sts", "s3-put", "s3-get"):
            answered(name)
        assert cell.calls == ()
        answered("invoke-file")
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS]
    assert "streamed" in cell.calls[0].reason


def test_signatures_are_kept(isolated):
    """Wrapped methods keep name, documentation and signature."""
    names = ("make_request", "create_request", "_send")
    before = {name: getattr(endpoint.Endpoint, name) for name in names}
    with llm_cache():
        for name, original in before.items():
            method = getattr(endpoint.Endpoint, name)
            assert method is not original
            assert (inspect.signature(method), method.__doc__) == (inspect.signature(original), original.__doc__)
            assert method.__name__ == name


def test_handlers_are_called_on_a_hit(isolated, unique_server):
    """Handlers of the parameters, of sending and of the answer are called on a hit as on a miss; signing is not."""
    client = client_of("bedrock-runtime", unique_server.url)
    seen = []
    for event in ("provide-client-params", "before-call", "before-sign", "before-send", "before-parse", "after-call"):
        client.meta.events.register(f"{event}.bedrock-runtime.Converse", lambda event=event, **_: seen.append(event))
    with llm_cache() as cell:
        client.converse(**CONVERSATION)
        missed, seen[:] = list(seen), []
        client.converse(**CONVERSATION)
    assert cell.hits == 1
    assert missed == [
        "provide-client-params",
        "before-call",
        "before-sign",
        "before-send",
        "before-parse",
        "after-call",
    ]
    assert seen == [event for event in missed if event != "before-sign"]


def test_call_for_credentials_is_none_of_the_cells(isolated, unique_server):
    """What a signer asks the service for, in the course of a call, is no call of the cell."""
    client, other = (client_of("bedrock-runtime", unique_server.url) for _ in range(2))
    question = {**CONVERSATION, "inferenceConfig": {"maxTokens": 5}}
    client.meta.events.register("before-sign.bedrock-runtime.Converse", lambda **_: other.converse(**question))
    with llm_cache() as cell:
        client.converse(**CONVERSATION)
        client.converse(**CONVERSATION)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert unique_server.count == 2


READINGS = {
    "read": lambda body: body.read(),
    "pieces": lambda body: b"".join(iter(lambda: body.read(10), b"")),
    "chunks": lambda body: b"".join(body.iter_chunks(7)),
    "lines": lambda body: b"\n".join(body.iter_lines()),
    "with": lambda body: body.__enter__().read(),
}


@pytest.mark.parametrize("how", READINGS)
def test_every_way_to_read_is_recorded_and_replayed(isolated, unique_server, how):
    """However a caller reads the body of ``invoke_model``, it is stored, and gives the same when it is replayed."""
    client = client_of("bedrock-runtime", unique_server.url)
    with llm_cache() as cell:
        first, second = [
            READINGS[how](client.invoke_model(modelId=MODEL, body=json.dumps(BODY))["body"]) for _ in range(2)
        ]
    assert first == second
    assert json.loads(first)["content"]
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


@pytest.mark.parametrize("fault", [Fault.STREAM_CUT, Fault.BAD_JSON])
def test_broken_answer_is_not_stored(isolated, unique_server, fault):
    """Of a body that breaks off the caller has what botocore makes of it without us, and the next call asks again."""

    def outcome():
        unique_server.fail_next(fault)
        return sorted(client.converse(**CONVERSATION))

    client = client_of("bedrock-runtime", unique_server.url)
    plain = outcome()
    with llm_cache() as cell:
        assert outcome() == plain
        assert "output" in client.converse(**CONVERSATION)
    assert "output" not in plain
    assert [call.stored for call in cell.calls] == [False, True]


def test_refused_connection_is_as_ever(isolated):
    """Nobody at home: the caller gets the error that it gets without us, and the cell has a failed call."""
    client = client_of("bedrock-runtime")  # the discard port: nobody listens
    with pytest.raises(exceptions.EndpointConnectionError) as without:
        client.converse(**CONVERSATION)
    with llm_cache() as cell, pytest.raises(exceptions.EndpointConnectionError) as within:
        client.converse(**CONVERSATION)
    assert str(within.value) == str(without.value)
    assert [call.outcome for call in cell.calls] == [Outcome.ERROR]
