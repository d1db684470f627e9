"""Gemini, at Google AI and on Vertex AI: what is a call, what is in its key, how its answers ended."""

from __future__ import annotations

import base64
import copy
import json

import orjson
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Form, Response, Usage
from genai_cache_magic.providers.base import End, HttpCall, OriginRule, Origins, Wants
from genai_cache_magic.providers.gemini.embeddings import GeminiEmbeddings
from genai_cache_magic.providers.gemini.generate import Gemini
from genai_cache_magic.providers.registry import recognise

HOST = "generativelanguage.googleapis.com"
VERTEX = "europe-west4-aiplatform.googleapis.com"
MODEL = "/v1beta/models/gemini-2.5-flash"
PUBLISHED = "/v1/projects/p/locations/europe-west4/publishers/google/models/gemini-2.5-flash"
NOWHERE = Origins({}, "laptop")
ASK = {"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}
EMBED = {"content": {"parts": [{"text": "a"}]}}


def call(path, body, host=HOST, query="", headers=None):
    given = {"content-type": "application/json", **(headers or {})}
    return HttpCall("POST", "https", host, None, path, query, given, orjson.dumps(body))


def found(body=ASK, path=f"{MODEL}:generateContent", origins=NOWHERE, **more):
    return recognise(call(path, body, **more), origins)


def request(*arguments, **more):
    return found(*arguments, **more).request


def with_parts(*parts):
    return {"contents": [{"role": "user", "parts": list(parts)}]}


# --- what is a call


@pytest.mark.parametrize(
    "path", [f"{MODEL}:generateContent", f"{PUBLISHED}:generateContent", "/v1/models/m:generateContent/"]
)
@pytest.mark.parametrize("host", [HOST, VERTEX, "aiplatform.googleapis.com", "gateway.example.com", "localhost"])
def test_content_is_recognised_wherever_it_is_served(path, host):
    """The verb at the end of the path is telling enough, for a gateway too."""
    assert found(path=path, host=host).provider.surface == "google.generate"


@pytest.mark.parametrize(
    ("verb", "query", "wanted", "is_array"),
    [
        ("generateContent", "", Form.JSON, False),
        ("generateContent", "alt=json", Form.JSON, False),
        ("streamGenerateContent", "alt=sse", Form.STREAM, False),
        ("streamGenerateContent", "key=secret&%24alt=sse", Form.STREAM, False),
        ("streamGenerateContent", "", Form.JSON, True),
        ("streamGenerateContent", "alt=json", Form.JSON, True),
    ],
)
@pytest.mark.parametrize("models", [MODEL, PUBLISHED])
def test_form_is_told_by_path_and_query_and_is_not_in_the_key(verb, query, wanted, is_array, models):
    """Events, one array and one object are three forms of one answer: how they are asked for is not in the key."""
    model_call = found(path=f"{models}:{verb}", query=query)
    assert (model_call.wants, model_call.provider.is_array) == (Wants(wanted), is_array)
    assert model_call.request == request(path=f"{models}:generateContent")
    assert model_call.request.form == ""
    assert model_call.request.origin == f"https://{HOST}{models.rpartition('/')[0]}"


@pytest.mark.parametrize(
    ("path", "body", "more"),
    [
        (f"{MODEL}:countTokens", ASK, {}),
        (f"{MODEL}:batchGenerateContent", ASK, {}),
        (MODEL, ASK, {}),
        ("/v1beta/cachedContents", ASK, {}),
        (f"{MODEL}:generateContent", {"contents": []}, {}),
        (f"{MODEL}:generateContent", {"contents": "hello"}, {}),
        (f"{MODEL}:generateContent", ASK, {"query": "alt=sse"}),
        (f"{MODEL}:streamGenerateContent", ASK, {"query": "alt=proto"}),
        (f"{MODEL}:embedContent", ASK, {}),
        (f"{MODEL}:batchEmbedContents", {"requests": []}, {}),
        (f"{MODEL}:batchEmbedContents", {"requests": [EMBED, {}]}, {}),
        (f"{PUBLISHED}:predict", {"instances": [{"prompt": "a picture"}]}, {}),
        ("/v1/projects/p/locations/l/endpoints/7:predict", {"instances": [{"content": "a"}]}, {"host": VERTEX}),
    ],
)
def test_what_is_no_call(path, body, more):
    """Other verbs, other models of Vertex AI, and answers that would not be JSON are left alone."""
    assert found(body, path, **more) is None


# --- the key


def test_model_and_place_come_from_the_path():
    """The path's model is the model; project and region stay in the origin; the key in the query does not."""
    vertex = request(path=f"{PUBLISHED}:generateContent", host=VERTEX, query="key=secret")
    assert vertex.model == "gemini-2.5-flash"
    assert vertex.origin == f"https://{VERTEX}{PUBLISHED.rpartition('/')[0]}"
    assert found(host=VERTEX).provider.vendor == found().provider.vendor == "google"
    assert request(path="/v1beta/models/other:generateContent") != request()
    rules = {f"https://{HOST}": OriginRule(alias="gemini", models={"gemini-2.5-flash": "gemini-2.5-flash-001"})}
    aliased = request(origins=Origins(rules, "laptop"))
    assert (aliased.origin, aliased.model) == ("alias:gemini/v1beta/models", "gemini-2.5-flash-001")


def test_noise_is_out_and_everything_else_is_in():
    """Labels for the bill are out; every other field is in, and a function may have a parameter of that name."""
    assert request({**ASK, "labels": {"team": "a"}}) == request()
    for field in ("cachedContent", "safetySettings", "systemInstruction", "generationConfig", "unheardOf"):
        assert request({**ASK, field: {"x": 1}}) != request()
    declared = [{"functionDeclarations": [{"name": "f", "parameters": {"labels": {}}}]}]
    assert request({**ASK, "tools": declared}) != request({**ASK, "tools": [{"functionDeclarations": [{"name": "f"}]}]})


@pytest.mark.parametrize("name", ["inlineData", "inline_data"])
def test_media_are_in_by_their_bytes(name):
    """A picture has one key in either base64 alphabet; another picture, or another type, has another."""
    raw = b"\xff\xfe\xfd\xfb\xef\xbe" * 9

    def pictured(data, mime_type="image/png"):
        return request(with_parts({"text": "?"}, {name: {"mimeType": mime_type, "data": data}}))

    standard, urlsafe = base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()
    assert standard != urlsafe
    assert pictured(standard) == pictured(urlsafe) == pictured(standard.rstrip("="))
    assert pictured(standard).media == (f"/contents/0/parts/1/{name}/data",)
    assert standard not in str(pictured(standard))
    assert pictured(base64.b64encode(raw + b"!").decode()) != pictured(standard)
    assert pictured(standard, "image/jpeg") != pictured(standard)
    digest = pictured(standard).body["contents"][0]["parts"][1][name]["data"]
    assert pictured(digest) != pictured(standard)
    assert pictured("a-b!") != pictured("a+b!")


def test_media_in_a_functions_response_are_in_by_their_bytes():
    """What a function returned as a picture counts by its bytes too."""
    part = {"functionResponse": {"name": "f", "response": {}, "parts": [{"inlineData": {"data": "__79"}}]}}
    assert request(with_parts(part)).media == ("/contents/0/parts/0/functionResponse/parts/0/inlineData/data",)


def conversation(first, second):
    calls = [{"functionCall": {"id": i, "name": "f", "args": {"id": i}}} for i in (first, second)]
    results = [{"functionResponse": {"id": i, "name": "f", "response": {"r": r}}} for i, r in ((first, 1), (second, 2))]
    return {"contents": [{"role": "model", "parts": calls}, {"role": "user", "parts": results}]}


def test_ids_of_calls_are_renumbered_but_not_dropped():
    """Random ids don't matter, who answers whom does, and an id within arguments is content."""
    plain = conversation("x", "y")
    for content in plain["contents"][:1]:
        for part in content["parts"]:
            part["functionCall"]["args"] = {}
    renamed = json.loads(json.dumps(plain).replace('"x"', '"p"').replace('"y"', '"q"'))
    swapped = copy.deepcopy(plain)
    swapped["contents"][1]["parts"][0]["functionResponse"]["id"] = "y"
    swapped["contents"][1]["parts"][1]["functionResponse"]["id"] = "x"
    assert request(plain) == request(renamed) != request(swapped)
    assert request(conversation("x", "y")) != request(conversation("p", "q"))


# --- what is known before the call


@pytest.mark.parametrize(
    ("tool", "refused"),
    [
        ({"functionDeclarations": [{"name": "f"}]}, ()),
        ({"function_declarations": []}, ()),
        ({"computerUse": {"environment": "ENVIRONMENT_BROWSER"}}, ()),
        ({"googleSearch": None}, ()),
        ({"googleSearch": {}}, ("server-tools",)),
        ({"google_search": {}}, ("server-tools",)),
        ({"googleSearchRetrieval": {}}, ("server-tools",)),
        ({"codeExecution": {}}, ("server-tools",)),
        ({"urlContext": {}}, ("server-tools",)),
        ({"fileSearch": {"x": 1}}, ("server-tools",)),
        ({"somethingNew": {}}, ("server-tools",)),
        ({"functionDeclarations": [{"name": "f"}], "googleMaps": {}}, ("server-tools",)),
    ],
)
def test_what_runs_at_google_is_refused(tool, refused):
    """Only tools that the caller runs leave the answer a matter of the request alone."""
    assert found({**ASK, "tools": [tool]}).refused == refused


@pytest.mark.parametrize(
    ("body", "preview"),
    [
        (ASK, "Say hello"),
        ({"contents": [{"parts": [{"text": "No role"}]}]}, "No role"),
        ({"contents": [*ASK["contents"], {"role": "model", "parts": [{"text": "Hello"}]}]}, "Say hello"),
        (with_parts({"text": "First"}, {"inlineData": {"data": "AAAA"}}), "First"),
        ({"contents": [{"role": "model", "parts": [{"text": "x"}]}]}, ""),
        ({"contents": [{"parts": None}]}, ""),
    ],
)
def test_preview_is_what_the_user_said_last(body, preview):
    """Listings show the last text of the user."""
    assert found(body).preview == preview


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({}, None),
        ({"generationConfig": {"maxOutputTokens": 10}}, 10),
        ({"generation_config": {"max_output_tokens": 10, "candidate_count": 2}}, 20),
        ({"generationConfig": {"maxOutputTokens": "10"}}, None),
        ({"generationConfig": []}, None),
    ],
)
def test_limit_counts_all_candidates(settings, limit):
    """The budget reserves what all candidates together may say."""
    assert found({**ASK, **settings}).max_output_tokens == limit


# --- how answers end


def candidate(reason=None, text="Hello", index=0, **part):
    content = {"role": "model", "parts": [{"text": text, **part}] if text is not None else [part] if part else []}
    made = {"content": content, "index": index}
    return {**made, "finishReason": reason} if reason else made


def whole(*candidates, **more):
    return Response(200, (), json.dumps({"candidates": list(candidates), **more}).encode())


def events(*chunks, status=200):
    return Response(status, (), b"".join(b"data: %b\r\n\r\n" % json.dumps(c).encode() for c in chunks), Form.STREAM)


def array(*chunks):
    return Response(200, (), json.dumps(list(chunks)).encode())


ENDS = [
    ([candidate("STOP")], End.COMPLETE),
    ([candidate("STOP", None, functionCall={"name": "f", "args": {}})], End.TOOL_CALLS),
    ([candidate("STOP", None, inlineData={"data": "AAAA"})], End.COMPLETE),
    ([candidate("MAX_TOKENS")], End.TRUNCATED),
    ([candidate("MAX_TOKENS", None)], End.TRUNCATED),
    *(([candidate(r)], End.FILTERED) for r in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
    ([candidate("STOP", "")], End.EMPTY),
    ([candidate("STOP", "I think", thought=True)], End.EMPTY),
    ([candidate("STOP", None, thoughtSignature="x")], End.EMPTY),
    ([candidate("NO_IMAGE", None)], End.EMPTY),
    ([candidate("MALFORMED_FUNCTION_CALL")], End.UNREADABLE),
    ([candidate("SOMETHING_NEW")], End.UNREADABLE),
    ([candidate("STOP"), candidate("MAX_TOKENS", index=1)], End.TRUNCATED),
    ([candidate("STOP"), candidate("STOP", "", index=1)], End.COMPLETE),
]


@pytest.mark.parametrize(("candidates", "expected"), ENDS)
def test_end_of_an_answer_in_every_form(candidates, expected):
    """The gravest candidate decides, in each of the three forms alike."""
    chunk = {"candidates": candidates}
    assert Gemini().read(whole(*candidates)).end is expected
    assert Gemini().read(events(chunk)).end is expected
    assert Gemini().read(array(chunk)).end is expected


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(429, (), b'{"error":{"code":429}}'), End.ERROR),
        (Response(200, (), b'{"error":{"code":500}}'), End.ERROR),
        (Response(200, (), b'[{"error":{"code":500}}]'), End.ERROR),
        (events({"candidates": [candidate()]}, {"error": {"code": 500}}), End.ERROR),
        (events(status=503), End.ERROR),
        (whole(), End.UNREADABLE),
        (whole(candidate()), End.UNREADABLE),
        (whole(promptFeedback={"blockReason": "SAFETY"}), End.FILTERED),
        (events({"promptFeedback": {"blockReason": "OTHER"}}), End.FILTERED),
        (Response(200, (), b"[]"), End.CUT),
        (Response(200, (), b"[1]"), End.UNREADABLE),
        (Response(200, (), b"<html>"), End.UNREADABLE),
        (Response(200, (), b"[" * 100_000), End.UNREADABLE),
        (Response(200, (), b"data: {\n\n", Form.STREAM), End.UNREADABLE),
        (events(), End.CUT),
        (events({"candidates": [candidate()]}), End.CUT),
        (events({"candidates": [candidate("STOP")]}, {"candidates": [candidate()]}), End.CUT),
        (events({"candidates": [candidate("STOP"), candidate(index=1)]}), End.CUT),
        (events({"candidates": [candidate("STOP")]}, {"candidates": [candidate("STOP", index=1)]}), End.COMPLETE),
        (array({"candidates": [candidate()]}, {"candidates": [candidate()]}), End.CUT),
    ],
    ids=range(20),
)
def test_what_is_no_whole_answer(response, expected):
    """A stream is whole if the last word of each candidate gives its reason; errors and noise are told apart."""
    assert Gemini().read(response).end is expected


def test_a_stream_that_is_cut_anywhere_is_never_whole():
    """No beginning of a stream passes for the answer."""
    full = events(
        {"candidates": [candidate(text="Hel")]},
        {"candidates": [candidate(text="lo")]},
        {"candidates": [candidate("STOP", "")]},
    ).body
    reads = {Gemini().read(Response(200, (), full[:n], Form.STREAM)).end for n in range(len(full) - 3)}
    assert reads == {End.CUT}
    assert Gemini().read(Response(200, (), full, Form.STREAM)).end is End.COMPLETE


def test_usage_and_served_model():
    """Thoughts are output, what tools read is input, and the last count of a stream is the whole."""
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 4, "toolUsePromptTokenCount": 2}
    told = {"usageMetadata": {**usage, "cachedContentTokenCount": 5}, "modelVersion": "gemini-2.5-flash-001"}
    answer = Gemini().read(whole(candidate("STOP"), **told))
    assert answer.usage == Usage(11, 7, cached_input_tokens=5)
    assert answer.model == "gemini-2.5-flash-001"
    early = {"candidates": [candidate()], "usageMetadata": {"promptTokenCount": 9}, "modelVersion": "early"}
    assert Gemini().read(events(early, {"candidates": [candidate("STOP")], **told})) == answer
    assert Gemini().read(whole(candidate("STOP"))).usage == Usage(None, None)


# --- embeddings


def test_embeddings_are_recognised_and_keyed():
    """One, many, and Vertex AI's way; a model named again in the body is no difference."""
    one = found(EMBED, f"{MODEL}:embedContent")
    assert (one.provider.surface, one.preview, one.max_output_tokens) == ("google.embeddings", "a", 0)
    assert request({"model": "models/gemini-2.5-flash", **EMBED}, f"{MODEL}:embedContent") == one.request
    assert request({"model": "models/other", **EMBED}, f"{MODEL}:embedContent") != one.request
    assert request({**EMBED, "taskType": "RETRIEVAL_QUERY"}, f"{MODEL}:embedContent") != one.request
    picture = {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "_-79"}}]}}
    batch = found({"requests": [EMBED, picture]}, f"{MODEL}:batchEmbedContents").request
    assert batch.media == ("/requests/1/content/parts/0/inlineData/data",)
    assert request(picture, f"{MODEL}:embedContent").media == ("/content/parts/0/inlineData/data",)
    predicted = found({"instances": [{"content": "a"}]}, f"{PUBLISHED}:predict", host=VERTEX)
    assert (predicted.provider.surface, predicted.preview) == ("google.embeddings.predict", "a")


def test_one_body_on_three_paths_is_three_requests():
    """Each path answers in its own shape, so none of them may be given the answer of another."""
    body = {**EMBED, "requests": [EMBED], "instances": [{"content": "a"}]}
    path = PUBLISHED.replace("gemini-2.5-flash", "m")
    made = [request(body, f"{path}:{verb}", host=VERTEX) for verb in ("embedContent", "batchEmbedContents", "predict")]
    assert len({one.surface for one in made}) == 3


@pytest.mark.parametrize(
    ("answer", "expected", "tokens"),
    [
        ({"embedding": {"values": [0.1]}, "usageMetadata": {"promptTokenCount": 3}}, End.COMPLETE, 3),
        ({"embeddings": [{"values": [0.1]}, {"values": [0.2]}]}, End.COMPLETE, None),
        ({"embeddings": [{"values": [0.1]}, {"values": []}]}, End.EMPTY, None),
        ({"predictions": [{"embeddings": {"values": [1], "statistics": {"token_count": 2}}}] * 2}, End.COMPLETE, 4),
        ({"predictions": ["text"]}, End.UNREADABLE, None),
        ({"embeddings": []}, End.UNREADABLE, None),
        ({}, End.UNREADABLE, None),
        ({"error": {"code": 500}}, End.ERROR, None),
    ],
)
def test_end_of_embeddings(answer, expected, tokens):
    """One missing vector makes the answer empty; tokens are counted where they are told."""
    read = GeminiEmbeddings("google.embeddings").read(Response(200, (), json.dumps(answer).encode()))
    assert (read.end, read.usage.input_tokens) == (expected, tokens)
    assert GeminiEmbeddings("google.embeddings").read(Response(200, (), b"", Form.STREAM)).end is End.UNREADABLE


# --- the real SDK


@pytest.fixture
def models(isolated, server):
    genai = pytest.importorskip("google.genai", reason="pip install google-genai", exc_type=ImportError)
    with genai.Client(api_key="none", http_options={"base_url": server.url}) as client:
        yield client.models


@pytest.mark.parametrize(
    "ask",
    [
        lambda models: models.generate_content(model="gemini-2.5-flash", contents="hi").text,
        lambda models: [c.text for c in models.generate_content_stream(model="gemini-2.5-flash", contents="hi")],
        lambda models: models.embed_content(model="gemini-embedding-001", contents=["hi"]).embeddings[0].values,
    ],
    ids=["whole", "streamed", "embedded"],
)
def test_the_sdk_asks_once(models, server, ask):
    """Google's SDK gets the same answer the second time, without a request."""
    with llm_cache() as cell:
        assert ask(models) == ask(models)
    assert server.count == 1
    assert [record.outcome for record in cell.calls] == ["miss", "hit"]
    assert cell.calls[0].provider.startswith("google.")
