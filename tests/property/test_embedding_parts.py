"""Laws of answers to batches: what is split and joined again says the same, to the last digit."""

from __future__ import annotations

import json
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.core.model import Response
from genai_cache_magic.providers.anatomy import anatomy
from genai_cache_magic.providers.base import HttpCall, Origins
from genai_cache_magic.providers.batches import shares_of
from genai_cache_magic.providers.registry import recognise

_HEADERS = (("content-type", "application/json"),)

numbers = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["1.0", "-0.0", "1e-7", "1E+5", "0.10000000000000000555", "123456789012345678901234567890"]),
)
"""Numbers as texts, as origins may spell them."""

blanks = st.sampled_from(["", " ", "\n  ", "\t"])
words = st.text(max_size=12)
vectors = st.one_of(
    st.lists(numbers, min_size=1, max_size=6).map(lambda one: f"[{', '.join(one)}]"),
    st.lists(st.lists(numbers, min_size=1, max_size=3), min_size=1, max_size=3).map(
        lambda rows: f"[{','.join('[' + ','.join(row) + ']' for row in rows)}]"
    ),
    words.map(json.dumps),
)


def call_of(texts, model="text-embedding-3-small"):
    body = orjson.dumps({"model": model, "input": texts})
    sent = HttpCall("POST", "https", "api.openai.com", None, "/v1/embeddings", "", dict(_HEADERS), body)
    return recognise(sent, Origins({}, "laptop"))


@st.composite
def answers(draw):
    """Draw texts and an OpenAI-compatible answer to them, spelled in some way, and in some order."""
    texts = draw(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=6))
    gap = draw(blanks)
    order = draw(st.permutations(range(len(texts))))
    items = []
    for place in order:
        members = [("index", str(place)), ("embedding", draw(vectors)), ("object", '"embedding"'), ("note", '"] } {"')]
        shuffled = draw(st.permutations(members))
        items.append("{" + ",".join(f'{gap}"{name}"{gap}:{gap}{value}' for name, value in shuffled) + gap + "}")
    tokens = draw(st.integers(0, 10**9))
    members = [
        f'"data":{gap}[{gap}{(gap + "," + gap).join(items)}{gap}]',
        f'"usage":{gap}{{"prompt_tokens":{gap}{tokens},"total_tokens":{tokens}}}',
        f'"model":{json.dumps(draw(words))}',
        '"object":"list","\\u0064ata2":["]"]',
    ]
    body = "{" + (gap + ",").join(draw(st.permutations(members))) + "}"
    return texts, Response(200, _HEADERS, body.encode("utf-8", "surrogatepass"))


@given(answers())
def test_what_is_split_and_joined_says_the_same(given_answer):
    """Each text gets its own item, with every digit as it was; together they are the whole, counts included."""
    texts, answer = given_answer
    division = call_of(texts).division
    whole = json.loads(answer.body, parse_float=str, parse_int=str)
    items = sorted(whole["data"], key=lambda item: int(item["index"]))
    each = division.split(answer, range(len(texts)))
    for item, part in zip(items, each, strict=True):
        told = json.loads(part.body, parse_float=str, parse_int=str)
        assert told["data"] == [{**item, "index": "0"}]
        assert told["model"] == whole["model"]
    joined = json.loads(division.join(each).body, parse_float=str, parse_int=str)
    assert joined == {**whole, "data": items}
    framed = json.loads(division.join(each, answer).body, parse_float=str, parse_int=str)
    assert framed == joined


@given(answers(), answers())
def test_parts_of_two_answers_go_together(first, second):
    """Items of two answers are put together in any order if one model gave both, and never if two did."""
    texts, one = first
    others, two = second
    each = [
        *call_of(texts).division.split(one, range(len(texts))),
        *call_of(others).division.split(two, range(len(others))),
    ]
    joined = call_of([*texts, *others]).division.join(each[::-1])
    models = [json.loads(answer.body)["model"] for answer in (one, two)]
    if models[0] != models[1]:
        assert joined is None
        return
    told = json.loads(joined.body, parse_float=str)["data"]
    alone = [json.loads(part.body, parse_float=str)["data"][0] for part in each[::-1]]
    assert [{**item, "index": 0} for item in told] == alone
    assert [item["index"] for item in told] == list(range(len(each)))


def test_what_says_two_places_is_never_put_together():
    """Of an item with an ``index`` within another object it can't be told which of them is its place."""
    item = {"note": {"index": 7}, "object": "embedding", "index": 0, "embedding": [1.5]}
    answer = {"object": "list", "data": [item], "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    each = [Response(200, _HEADERS, orjson.dumps(answer))] * 2
    assert call_of(["a", "b"]).division.join(each) is None
    del item["note"]
    each = [Response(200, _HEADERS, orjson.dumps(answer))] * 2
    joined = orjson.loads(call_of(["a", "b"]).division.join(each).body)
    assert [one["index"] for one in joined["data"]] == [0, 1]


def bedrock_answer(texts, tokens):
    """Return a call for a model of Cohere's at Bedrock, and an answer that counts its tokens in a header."""
    body = orjson.dumps({"texts": texts, "input_type": "search_document"})
    host, path = "bedrock-runtime.us-east-1.amazonaws.com", "/model/cohere.embed-v4:0/invoke"
    call = recognise(HttpCall("POST", "https", host, None, path, "", dict(_HEADERS), body), Origins({}, "laptop"))
    answer = {"id": "1", "texts": texts, "embeddings": [[1.5]] * len(texts), "response_type": "embeddings_floats"}
    headers = (*_HEADERS, ("x-amzn-bedrock-input-token-count", str(tokens)))
    return call, Response(200, headers, orjson.dumps(answer))


def test_what_was_not_asked_for_may_be_there_and_empty():
    """An empty list beside those that hold the vectors divides no less, and stays empty."""
    texts = ["a", "bbb"]
    body = orjson.dumps({"model": "embed-v4.0", "texts": texts, "input_type": "search_document"})
    sent = HttpCall("POST", "https", "api.cohere.com", None, "/v2/embed", "", dict(_HEADERS), body)
    division = recognise(sent, Origins({}, "laptop")).division
    answer = {"id": "1", "texts": texts, "embeddings": {"float": [[1.5], [2.5]], "int8": []}}
    whole = Response(200, _HEADERS, orjson.dumps(answer))
    each = division.split(whole, range(2))
    assert [orjson.loads(part.body)["embeddings"] for part in each] == [
        {"float": [[1.5]], "int8": []},
        {"float": [[2.5]], "int8": []},
    ]
    assert orjson.loads(division.join(each).body) == answer
    assert orjson.loads(division.join(each, whole).body) == answer


def told_tokens(call, response):
    return call.provider.read(response).usage.input_tokens


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_a_header_counts_is_shared_and_added_up(one, other):
    """Bedrock counts tokens in a header: each text has its share of them, and texts of two answers have their sum."""
    call, answer = bedrock_answer(["a", "bbb"], one)
    each = call.division.split(answer, range(2))
    assert sum(told_tokens(call, part) for part in each) == one
    assert told_tokens(call, call.division.join(each)) == one
    another, second = bedrock_answer(["cc"], other)
    both = bedrock_answer(["a", "bbb", "cc"], 0)[0]
    parts = [*each, *another.division.split(second, range(1))]
    assert told_tokens(both, both.division.join(parts)) == one + other
    assert told_tokens(both, both.division.join(parts, second)) == other


@given(answers(), st.integers(0, 2_000))
def test_half_an_answer_is_never_divided(given_answer, length):
    """Of what was cut off nothing is told apart."""
    texts, answer = given_answer
    cut = answer.body[:length]
    if len(cut) < len(answer.body.rstrip()):
        assert call_of(texts).division.split(replace(answer, body=cut), range(len(texts))) is None


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(text):
    """Whatever an origin sends, looking at it raises nothing."""
    found = anatomy(text, [("data",), ("embeddings", "*")], [("usage",)])
    assert found is None or found.text == text
    answer = Response(200, _HEADERS, text)
    assert call_of(["a"]).division.split(answer, [0]) in (None, [answer])


@given(st.integers(0, 10**12), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_shares_are_as_much_as_the_whole(whole, weights):
    """What is shared is neither lost nor made, and nobody's share is off by more than one."""
    parts = shares_of(whole, weights)
    total = sum(weights)
    assert sum(parts) == whole
    assert all(part >= 0 for part in parts)
    if total:
        assert all(abs(part - whole * weight / total) <= 1 + 1e-3 for part, weight in zip(parts, weights, strict=True))


@pytest.mark.parametrize(
    ("body", "is_divided"),
    [
        ({"input": ["a", "b"]}, True),
        ({"input": [[1, 2], [3]]}, True),
        ({"input": "a"}, True),
        ({"input": [1, 2]}, True),
        ({"input": ["a", [1]]}, True),
        ({"input": [{"text": "a"}, {"image": "b"}]}, False),
        ({"input": ["a", 1]}, False),
        ({"input": [["a"], ["b"]]}, False),
        ({"input": [["a", 1]]}, False),
        ({"input": ["a"], "late_chunking": True}, False),
        ({"input": ["a"], "unheard_of": 1}, False),
    ],
)
def test_what_is_divided(body, is_divided):
    """Lists of texts, or of one text's tokens, without fields that are not known."""
    raw = orjson.dumps({"model": "m", **body})
    sent = HttpCall("POST", "https", "api.openai.com", None, "/v1/embeddings", "", dict(_HEADERS), raw)
    assert (recognise(sent, Origins({}, "laptop")).division is not None) == is_divided
