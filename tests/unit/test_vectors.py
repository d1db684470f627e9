"""Embeddings are stored whole and sound, or not at all, whichever wire API told them."""

from __future__ import annotations

import json
from base64 import b64encode
from struct import pack

import pytest

from genai_cache_magic.core.model import Response
from genai_cache_magic.providers.base import End
from genai_cache_magic.providers.registry import recognise
from tests.unit.model_calls import NOWHERE, call

GOOD, OTHER = [0.25, -0.5], [0.5, 0.0]
BAD = {
    "zeros": [0.0, 0.0],
    "null in it": [0.25, None],
    "text in it": [0.25, "x"],
    "not a number": [0.25, float("nan")],
    "infinite": [0.25, float("inf")],
    "one row of zeros": [[0.0, 0.0], [0.0, 0.1]],
}
VOID = {"null": None, "empty": []}


def openai(*vectors):
    return {"data": [{"index": i, "embedding": vector} for i, vector in enumerate(vectors)]}


def titan(*vectors):
    return {"embedding": vectors[-1]}


APIS = {
    "openai": ("/v1/embeddings", {"model": "m", "input": ["a", "b"]}, "api.openai.com", openai),
    "openai tokens": ("/v1/embeddings", {"model": "m", "input": [[1, 2], [3]]}, "api.openai.com", openai),
    "jina": ("/v1/embeddings", {"model": "m", "input": [{"text": "a"}, {"image": "b"}]}, "api.jina.ai", openai),
    "cohere": (
        "/v1/embed",
        {"model": "m", "texts": ["a", "b"]},
        "api.cohere.com",
        lambda *vectors: {"embeddings": list(vectors)},
    ),
    "cohere by type": (
        "/v2/embed",
        {"model": "m", "texts": ["a", "b"], "embedding_types": ["float", "int8"]},
        "api.cohere.com",
        lambda *vectors: {"embeddings": {"int8": [[1, 2]] * len(vectors), "float": list(vectors)}},
    ),
    "google": (
        "/v1beta/models/m:batchEmbedContents",
        {"requests": [{"content": {"parts": [{"text": text}]}} for text in "ab"]},
        "generativelanguage.googleapis.com",
        lambda *vectors: {"embeddings": [{"values": vector} for vector in vectors]},
    ),
    "vertex": (
        "/v1/projects/p/locations/l/publishers/google/models/m:predict",
        {"instances": [{"content": "a"}, {"content": "b"}]},
        "us-central1-aiplatform.googleapis.com",
        lambda *vectors: {"predictions": [{"embeddings": {"values": vector}} for vector in vectors]},
    ),
    "ollama": (
        "/api/embed",
        {"model": "m", "input": ["a", "b"]},
        "localhost",
        lambda *vectors: {"embeddings": list(vectors)},
    ),
    "cohere on bedrock": (
        "/model/cohere.embed-v4/invoke",
        {"texts": ["a", "b"], "input_type": "search_query"},
        "bedrock-runtime.us-east-1.amazonaws.com",
        lambda *vectors: {"embeddings": list(vectors)},
    ),
}
ONE = {
    "openai": ("/v1/embeddings", {"model": "m", "input": "a"}, "api.openai.com", openai),
    "openai tokens": ("/v1/embeddings", {"model": "m", "input": [1, 2]}, "api.openai.com", openai),
    "google": (
        "/v1beta/models/m:embedContent",
        {"content": {"parts": [{"text": "a"}]}},
        "generativelanguage.googleapis.com",
        lambda vector: {"embedding": {"values": vector}},
    ),
    "ollama": ("/api/embeddings", {"model": "m", "prompt": "a"}, "localhost", titan),
    "titan": ("/model/amazon.titan/invoke", {"inputText": "a"}, "bedrock-runtime.us-east-1.amazonaws.com", titan),
    "titan by type": (
        "/model/amazon.titan/invoke",
        {"inputText": "a", "embeddingTypes": ["float"]},
        "bedrock-runtime.us-east-1.amazonaws.com",
        lambda vector: {"embeddingsByType": {"float": vector}},
    ),
    "nova": (
        "/model/amazon.nova-2-multimodal-embeddings/invoke",
        {"taskType": "SINGLE_EMBEDDING"},
        "bedrock-runtime.us-east-1.amazonaws.com",
        lambda vector: {"embeddings": [{"embeddingType": "TEXT", "embedding": vector}]},
    ),
}


def end(api, *vectors, **more):
    path, body, host, answer = api
    found = recognise(call(path, {**body, **more}, host), NOWHERE)
    raw = json.dumps(answer(*vectors)).encode()
    return found.provider.read(Response(200, (("content-type", "application/json"),), raw)).end


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
def test_a_vector_for_each_text(api):
    """Fewer vectors than texts, or more, are not stored."""
    assert end(api, GOOD, OTHER) is End.COMPLETE
    assert end(api, GOOD) is End.VECTORS
    assert end(api, GOOD, OTHER, GOOD) is End.VECTORS


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
def test_void_vectors(api, bad):
    """A vector of zeros, or of what is no finite number, spoils the whole answer."""
    assert end(api, GOOD, bad) is End.VECTORS


@pytest.mark.parametrize("void", VOID.values(), ids=VOID)
@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
def test_missing_vectors(api, void):
    """A vector that is null or has no numbers makes the answer an empty one."""
    assert end(api, GOOD, void) is End.EMPTY


@pytest.mark.parametrize("api", ONE.values(), ids=ONE)
def test_one_text(api):
    """The same holds where one text is asked for."""
    assert end(api, GOOD) is End.COMPLETE
    assert {end(api, bad) for bad in BAD.values()} == {End.VECTORS}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        ([0, 1], End.COMPLETE),
        ([1, 0], End.COMPLETE),
        ([0, 0], End.VECTORS),
        ([1, 2], End.VECTORS),
        ([0, None], End.VECTORS),
        ([0, "1"], End.VECTORS),
    ],
)
def test_places(places, expected):
    """Each text has its vector only if the stated places are those of the texts, in whatever order."""
    path, body, host, _ = APIS["openai"]

    def answer(*vectors):
        return {"data": [{"index": i, "embedding": v} for i, v in zip(places, vectors, strict=True)]}

    assert end((path, body, host, answer), GOOD, OTHER) is expected


def test_places_that_are_not_stated():
    """Some compatible servers leave them out, and then the count decides."""
    path, body, host, _ = APIS["openai"]
    api = (path, body, host, lambda *vectors: {"data": [{"embedding": vector} for vector in vectors]})
    assert end(api, GOOD, OTHER) is End.COMPLETE
    assert end(api, GOOD) is End.VECTORS


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        (GOOD, End.COMPLETE),
        ([0.0, 0.0], End.VECTORS),
        ([float("nan"), 1.0], End.VECTORS),
        ([float("inf"), 1.0], End.VECTORS),
        ([-float("inf"), float("inf")], End.VECTORS),
    ],
)
def test_base64(numbers, expected):
    """What comes as base64, which the openai SDK asks for, is looked into just so."""
    coded = b64encode(pack(f"<{len(numbers)}f", *numbers)).decode()
    assert end(ONE["openai"], coded, encoding_format="base64") is expected
    path, body, host, _ = APIS["cohere by type"]
    api = (path, body, host, lambda *vectors: {"embeddings": {"base64": list(vectors)}})
    assert end(api, coded, coded) is expected


@pytest.mark.parametrize("coded", ["AAAA", "!", "AAAAAAAA", b64encode(b"12345").decode()])
def test_base64_of_no_floats(coded):
    """Base64 that is none, is cut short or holds zeros alone is no vector."""
    assert end(ONE["openai"], coded) is End.VECTORS


def test_base64_of_bits():
    """Bits and small integers, which some vendors give as base64, are any bytes but zeros."""
    path, body, host, answer = APIS["openai"]
    api = (path, body, host, answer)
    assert end(api, "/////w==", "AAAB", output_dtype="ubinary") is End.COMPLETE
    assert end(api, "/////w==", "AAAA", embedding_type="ubinary") is End.VECTORS


@pytest.mark.parametrize(
    "vector",
    [[[0.1, 0.2], [0.3, 0.4]], {"indices": [3], "values": [0.5]}, {"17": 0.5}, [1, 0, 127]],
    ids=["by token", "sparse", "sparse by token", "integers"],
)
def test_other_shapes(vector):
    """Vectors by token, sparse ones and those of integers are vectors."""
    assert end(ONE["openai"], vector) is End.COMPLETE
