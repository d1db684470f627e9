"""Amazon Bedrock: what is a call, and what is in its key."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, unquote

import orjson
import pytest

from genai_cache_magic.core.model import Form
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import HttpCall, OriginRule, Origins, Wants
from genai_cache_magic.providers.registry import recognise

HOST = "bedrock-runtime.eu-west-1.amazonaws.com"
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROMPT = "arn:aws:bedrock:eu-west-1:123456789012:prompt/ABCDEF1234"
ASK = {"messages": [{"role": "user", "content": [{"text": "Say hello"}]}]}
CLAUDE = {
    "anthropic_version": "bedrock-2023-05-31",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Say hello"}],
}
LLAMA = {"prompt": "Say hello", "max_gen_len": 7}


def found(body=ASK, verb="converse", model=SONNET, *, host=HOST, headers=None, origins=None, prefix=""):
    given = {"content-type": "application/json"} if headers is None else headers
    path = f"{prefix}/model/{model}/{verb}"
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return recognise(HttpCall("POST", "https", host, None, path, "", given, raw), origins or Origins({}, "laptop"))


def request(*arguments, **more):
    return found(*arguments, **more).request


def with_blocks(*blocks):
    return {"messages": [{"role": "user", "content": list(blocks)}]}


# --- what is a call


@pytest.mark.parametrize(
    ("verb", "body", "surface", "form"),
    [
        ("converse", ASK, "aws.converse", Form.JSON),
        ("converse-stream", ASK, "aws.converse", Form.STREAM),
        ("invoke", LLAMA, "aws.invoke", Form.JSON),
        ("invoke-with-response-stream", CLAUDE, "aws.invoke", Form.STREAM),
    ],
)
def test_calls_are_recognised(verb, body, surface, form):
    """Each API is told by its path; the form by its verb."""
    model_call = found(body, verb)
    assert (model_call.provider.surface, model_call.provider.vendor) == (surface, "aws")
    assert (model_call.request.form, model_call.wants) == (form.value, Wants(form))
    assert (model_call.request.model, model_call.request.origin) == (SONNET, f"https://{HOST}")


@pytest.mark.parametrize(
    "host",
    [
        "bedrock-runtime-fips.us-east-1.amazonaws.com",
        "bedrock-runtime.cn-north-1.amazonaws.com.cn",
        "vpce-1-x.bedrock-runtime.us-east-1.vpce.amazonaws.com",
        "bedrock-runtime.us-east-1.api.aws",
    ],
)
def test_amazons_hosts_are_known(host):
    """The region within the name, and private links, don't hide whose they are."""
    assert found(host=host).provider.vendor == "aws"


@pytest.mark.parametrize(
    "host",
    [
        "s3.us-east-1.amazonaws.com",
        "bedrock-runtime.s3.amazonaws.com",
        "bedrock-runtime.us-east-1.amazonaws.com.s3.amazonaws.com",
        "bedrock-runtime.us-east-1.amazonaws.com.evil.example",
    ],
)
def test_other_hosts_need_a_reason(host):
    """Elsewhere such a path is a call from Amazon's SDK, or at a configured or private origin."""
    assert found(host=host) is None
    agent = {"content-type": "application/json", "user-agent": "Boto3/1.44.5 md/Botocore#1.44.5"}
    assert found(host=host, headers=agent) is not None
    assert found(host=host, origins=Origins({f"https://{host}": OriginRule()}, "")) is not None
    assert found(host="localhost", prefix="/gateway").request.origin == "https://localhost/gateway"


def test_a_body_without_its_type_is_json():
    """Amazon's SDK sends no content type with a model's own words; other types, and other APIs, need one."""
    assert found(LLAMA, "invoke", headers={}) is not None
    assert found(LLAMA, "invoke", headers={"content-type": "image/png"}) is None
    assert found(ASK, "converse", headers={}) is None


@pytest.mark.parametrize(
    ("verb", "body", "model"),
    [
        ("converse", {"messages": []}, SONNET),
        ("converse", {}, SONNET),
        ("count-tokens", ASK, SONNET),
        ("async-invoke", LLAMA, SONNET),
        ("invoke", {}, SONNET),
        ("converse", ASK, ""),
        ("converse", {"messages": []}, f"{PROMPT}:1"),
    ],
)
def test_what_is_no_call(verb, body, model):
    """Other verbs, and bodies that ask for nothing, are left alone."""
    assert found(body, verb, model) is None


# --- prompts that are kept at Amazon


@pytest.mark.parametrize("arn", [f"{PROMPT}:1", f"{PROMPT}:12", quote(f"{PROMPT}:1", safe="")])
@pytest.mark.parametrize("verb", ["converse", "converse-stream"])
def test_a_version_of_a_prompt_is_a_call(arn, verb):
    """A version is a snapshot: it is keyed by its ARN and what fills it in, and it needs no messages."""
    asked = {"promptVariables": {"genre": {"text": "jazz"}}}
    call = found(asked, verb, arn)
    assert (call.request.model, call.request.body, call.preview) == (unquote(arn), asked, "jazz")
    assert request({"promptVariables": {"genre": {"text": "pop"}}}, verb, arn) != call.request
    assert found({**asked, **ASK}, verb, arn).preview == "Say hello"
    assert found({}, verb, arn).preview == ""


def test_versions_of_a_prompt_are_told_apart():
    """Another version is another text."""
    assert request({}, model=f"{PROMPT}:1") != request({}, model=f"{PROMPT}:2")


@pytest.mark.parametrize("arn", [PROMPT, quote(PROMPT, safe=""), f"{PROMPT}:DRAFT"])
@pytest.mark.parametrize(("body", "verb"), [({}, "converse"), (ASK, "converse-stream"), (LLAMA, "invoke")])
def test_a_draft_of_a_prompt_goes_uncached(arn, body, verb):
    """What the draft says may change under its name from one call to the next."""
    with pytest.raises(UncacheableRequest):
        found(body, verb, arn)


def test_a_draft_of_a_guardrail_goes_uncached():
    """What a draft lets through may change under its name; a version may not."""
    guarded = {"guardrailConfig": {"guardrailIdentifier": "g", "guardrailVersion": "1"}}
    assert found({**ASK, **guarded}) is not None
    guarded["guardrailConfig"]["guardrailVersion"] = "DRAFT"
    with pytest.raises(UncacheableRequest):
        found({**ASK, **guarded})
    with pytest.raises(UncacheableRequest):
        found(LLAMA, "invoke", headers={"x-amzn-bedrock-guardrailversion": "DRAFT"})


# --- the key


def test_a_model_has_one_spelling():
    """Clients escape different characters of a model's name and of its ARN."""
    arn = "arn:aws:bedrock:eu-west-1:1:inference-profile/eu.x"
    assert request(model=SONNET.replace(":", "%3A")) == request()
    assert request(model=arn.replace(":", "%3A").replace("/", "%2F")) == request(model=arn)
    assert request(model=arn).model == arn
    rules = {f"https://{HOST}": OriginRule(alias="bedrock", models={arn: SONNET})}
    aliased = request(model=arn, origins=Origins(rules, ""))
    assert (aliased.origin, aliased.model) == ("alias:bedrock", SONNET)


def test_noise_and_hints_are_out_and_everything_else_is_in():
    """What is for the logs and for the prompt cache is out; fields that decide, and unknown ones, are in."""
    point = {"cachePoint": {"type": "default"}}
    assert request({**ASK, "requestMetadata": {"a": "b"}}) == request()
    assert request(with_blocks({"text": "Say hello"}, point)) == request()
    assert request({**ASK, "system": [{"text": "s"}, point]}) == request({**ASK, "system": [{"text": "s"}]})
    tools = [{"toolSpec": {"name": "f", "inputSchema": {"json": {"cachePoint": 1}}}}]
    with_tools = request({**ASK, "toolConfig": {"tools": tools}})
    assert request({**ASK, "toolConfig": {"tools": [*tools, point]}}) == with_tools
    assert "cachePoint" in str(with_tools.body)
    for field in ("inferenceConfig", "guardrailConfig", "additionalModelRequestFields", "unheardOf"):
        assert request({**ASK, field: {"requestMetadata": 1}}) != request()


@pytest.mark.parametrize("kind", ["image", "document", "video", "audio"])
def test_media_are_in_by_their_bytes(kind):
    """Media count by their bytes, and their pointers by where they stand once hints are dropped."""
    data = base64.b64encode(b"\xff\xd8 media").decode()

    def shown(text, **more):
        block = {kind: {"format": "x", "source": {"bytes": text}, **more}}
        return request(with_blocks({"cachePoint": {}}, block, {"toolResult": {"toolUseId": "t", "content": [block]}}))

    assert shown(data) == shown(data.rstrip("="))
    assert shown(data).media == (
        f"/messages/0/content/0/{kind}/source/bytes",
        f"/messages/0/content/1/toolResult/content/0/{kind}/source/bytes",
    )
    assert data not in str(shown(data))
    assert shown(data, name="other") != shown(data)
    stored = {kind: {"source": {"s3Location": {"uri": "s3://b/k"}}}}
    assert request(with_blocks(stored)).media == ()
    guarded = {"guardContent": {"image": {"format": "png", "source": {"bytes": data}}}}
    assert request(with_blocks(guarded)).media == ("/messages/0/content/0/guardContent/image/source/bytes",)


def test_ids_of_calls_are_renumbered_but_not_dropped():
    """Random ids don't matter; who answers whom does."""

    def talk(first, second, answered):
        uses = [{"toolUse": {"toolUseId": i, "name": "f", "input": {}}} for i in (first, second)]
        results = [
            {"toolResult": {"toolUseId": i, "content": [{"text": r}]}} for i, r in zip(answered, "12", strict=True)
        ]
        return request({"messages": [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]})

    assert talk("x", "y", "xy") == talk("p", "q", "pq") != talk("x", "y", "yx")


def test_a_models_own_words_are_in_the_key():
    """A body is in as it stands; Anthropic's has its media, ids and hints treated as Anthropic's."""
    assert request(LLAMA, "invoke").body == LLAMA
    hinted = {**CLAUDE, "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]}
    plain = {**CLAUDE, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]}
    assert request(hinted, "invoke") == request(plain, "invoke")
    source = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    pictured = {**CLAUDE, "messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
    assert request(pictured, "invoke").media == ("/messages/0/content/0/source/data",)
    named = [request({**CLAUDE, "model": name}, "invoke") for name in ("a", "b")]
    assert named[0] != named[1]


def test_headers_that_decide_are_in_the_key():
    """A guardrail named by header changes the answer; credentials stay out."""
    named = {"x-amzn-bedrock-guardrailidentifier": "g", "x-amzn-bedrock-guardrailversion": "1"}
    signed = {"authorization": "AWS4-HMAC-SHA256 secret", "x-amz-security-token": "secret", "x-amz-date": "now"}
    assert request(LLAMA, "invoke", headers={**named, **signed}).headers == tuple(sorted(named.items()))
    assert request(LLAMA, "invoke", headers=signed) == request(LLAMA, "invoke", headers={})


# --- what is known before the call


@pytest.mark.parametrize(
    ("tools", "refused"),
    [
        ([{"toolSpec": {"name": "f"}}], ()),
        ([{"toolSpec": {"name": "f"}}, {"cachePoint": {"type": "default"}}], ()),
        ([{"systemTool": {"name": "nova_grounding"}}], ("server-tools",)),
        ([{"somethingNew": {}}], ("server-tools",)),
    ],
)
def test_what_runs_at_amazon_is_refused(tools, refused):
    """Only tools that the caller specifies leave the answer a matter of the request alone."""
    assert found({**ASK, "toolConfig": {"tools": tools}}).refused == refused


def test_refusals_of_anthropic_hold_here_too():
    """A tool that runs on the server is refused in Anthropic's own words as well."""
    searching = {**CLAUDE, "tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    assert found(searching, "invoke").refused == ("server-tools",)


@pytest.mark.parametrize(
    ("body", "verb", "preview", "limit"),
    [
        ({**ASK, "inferenceConfig": {"maxTokens": 5}}, "converse", "Say hello", 5),
        (ASK, "converse", "Say hello", None),
        (LLAMA, "invoke", "Say hello", 7),
        (CLAUDE, "invoke", "Say hello", 9),
        ({"inputText": "Titan", "textGenerationConfig": {"maxTokenCount": 3}}, "invoke", "Titan", 3),
        ({**ASK, "inferenceConfig": {"max_new_tokens": 4}}, "invoke", "Say hello", 4),
    ],
)
def test_facts_shown_beside_the_key(body, verb, preview, limit):
    """Preview and limit are read from the request, in each model's words."""
    assert (found(body, verb).preview, found(body, verb).max_output_tokens) == (preview, limit)


# --- the real SDK


@pytest.mark.parametrize(
    ("verb", "operation", "arguments"),
    [
        ("converse", "converse", ASK),
        ("converse-stream", "converse_stream", ASK),
        ("invoke", "invoke_model", {"body": json.dumps(CLAUDE)}),
        ("invoke-with-response-stream", "invoke_model_with_response_stream", {"body": json.dumps(LLAMA)}),
    ],
)
def test_what_amazons_sdk_sends_is_a_call(server, verb, operation, arguments):
    """The request that boto3 really sends is recognised, and has the key of one that is written by hand."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "eu-west-1"}
    client = boto3.client("bedrock-runtime", endpoint_url=server.url, **keys)
    for stream in getattr(client, operation)(modelId=SONNET, **arguments).values():
        list(stream if hasattr(stream, "close") else ())
    client.close()
    (sent,) = server.requests
    headers = {name: value for name, value in sent.headers.items() if name != "host"}
    call = HttpCall(sent.method, "https", HOST, None, sent.path, sent.query, headers, sent.body)
    by_hand = json.loads(arguments["body"]) if "body" in arguments else arguments
    assert recognise(call, Origins({}, "laptop")).request == request(by_hand, verb)
