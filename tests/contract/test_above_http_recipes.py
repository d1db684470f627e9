"""Answers that are made again of what they are made of: each alike in all that can be told, and its caller's alone."""

from __future__ import annotations

import collections
import enum
import gc
import weakref

import anthropic
import openai
import pydantic
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.core.model import Response
from genai_cache_magic.intercept.stainless import recipes
from genai_cache_magic.intercept.stainless.answers import Answers
from genai_cache_magic.intercept.stainless.sdks import SDKS

ASKED = [{"role": "user", "content": "What is a cache?"}]


@pytest.fixture
def made_by_recipe(monkeypatch):
    """What was made by a recipe: one item for each answer."""
    told, make = [], recipes.Recipes.make

    def noted(self, response, cast_to):
        made = make(self, response, cast_to)
        told.extend([made] * (made is not None))
        return made

    monkeypatch.setattr(recipes.Recipes, "make", noted)
    return told


def mutable(value):
    """Yield all of an answer that its caller could change, and that nobody else may get."""
    if isinstance(value, pydantic.BaseModel):
        yield value
        for part in (vars(value), value.__pydantic_fields_set__, value.__pydantic_extra__, value.__pydantic_private__):
            yield from mutable(part)
    elif isinstance(value, dict | list | set):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from mutable(part)


def chat(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="simulated")
    return client, lambda: client.chat.completions.create(model="gpt-4.1-mini", messages=ASKED)


def message(url):
    client = anthropic.Anthropic(base_url=url, api_key="simulated")
    return client, lambda: client.messages.create(model="claude-sonnet-4-6", max_tokens=64, messages=ASKED)


@pytest.mark.parametrize("sdk", [chat, message])
def test_what_is_made_by_a_recipe(isolated, unique_server, made_by_recipe, sdk):
    """However often an answer is asked for, its objects are alike, request id and all, and share nothing."""
    client, ask = sdk(unique_server.url)
    with client, llm_cache():
        answers = [ask() for _ in range(6)]
    assert len(made_by_recipe) >= 3  # the first is the origin's, and two are the SDK's own
    assert [answer.model_dump() for answer in answers] == [answers[0].model_dump()] * 6
    assert {answer._request_id for answer in answers} == {answers[0]._request_id} != {None}
    assert [answer.model_fields_set for answer in answers] == [answers[0].model_fields_set] * 6
    ids = collections.Counter(id(part) for answer in answers for part in mutable(answer))
    assert set(ids.values()) == {1}


def test_who_wants_more_than_the_objects_gets_that(isolated, unique_server, made_by_recipe):
    """A raw response, or what a call's own function makes of an answer, though a recipe of it is known."""
    client, ask = chat(unique_server.url)
    asked = {"model": "gpt-4.1-mini", "messages": ASKED}
    with client, llm_cache() as cell:
        answer = [ask() for _ in range(4)][-1]
        assert len(made_by_recipe) == 1
        raw = client.chat.completions.with_raw_response.create(**asked)
        parsed = client.chat.completions.parse(**asked)
    assert raw.parse() == answer
    assert raw.headers["x-genai-cache"] == "hit"
    assert isinstance(parsed, openai.types.chat.ParsedChatCompletion)
    assert parsed.id == answer.id
    assert (cell.hits, unique_server.count) == (5, 1)
    assert len(made_by_recipe) == 1


@pytest.fixture
def tried(monkeypatch):
    """What was compared with what the SDK had made: by pydantic's reader, or by a recipe."""
    told, reads, keep = [], Answers._is_read_alike, recipes.Recipes.keep

    def read(self, *args):
        told.append("reader")
        return reads(self, *args)

    def kept(self, *args):
        told.append("recipe")
        keep(self, *args)

    monkeypatch.setattr(Answers, "_is_read_alike", read)
    monkeypatch.setattr(recipes.Recipes, "keep", kept)
    return told


@pytest.mark.parametrize("memory", ["64MiB", "0"])
def test_what_is_tried_of_an_answer(isolated, unique_server, monkeypatch, tried, memory):
    """Nothing of one that is asked for once in a process; then the quickest way there is for where it is kept."""
    monkeypatch.setenv("GENAI_CACHE_MEMORY", memory)
    asked = [{"role": "user", "content": f"What is tried with {memory} of memory?"}]
    with llm_cache() as scope, openai.OpenAI(base_url=f"{unique_server.url}/v1", api_key="simulated") as client:
        answers = []
        for times in range(6):
            answers.append(client.chat.completions.create(model="gpt-4.1-mini", messages=asked))
            assert tried == ([] if times < 2 else ["reader" if memory == "0" else "recipe"])
    assert (scope.hits, scope.misses) == (5, 1)
    assert [answer.model_dump() for answer in answers] == [answers[0].model_dump()] * 6


def test_an_answer_that_leaves_memory_takes_its_recipe_along():
    """A recipe holds an answer in plain text, so it is gone with the answer; nobody else gets anything by it."""
    kept = recipes.Recipes(pydantic.BaseModel, lambda one, other: one == other)
    kept.keep(response := Response(200, (), b"{}"), dict, {"value": 1})
    others = [kept.make(response, list), kept.make(Response(200, (), b"{}"), dict)]
    answers = [kept.make(response, dict), others, weakref.ref(response)]
    del response
    gc.collect()
    assert answers[:2] == [{"value": 1}, [None, None]]
    assert answers[2]() is None
    assert kept._kept == {}


def test_an_answer_that_comes_again_is_the_very_same():
    """Another one with the same words does not stay in memory, as far as can be told, nor does a long one count."""
    kept = recipes.Recipes(pydantic.BaseModel, lambda one, other: one == other)
    one, same = (Response(200, (), b"{}") for _ in range(2))
    assert [kept.meets_again(response) for response in (one, same, one, same)] == [False, False, True, True]
    kept.keep(one, dict, {"value": 1})
    assert not kept.meets_again(one)
    long = Response(200, (), b" " * (1 << 15))
    assert [kept.meets_again(long) for _ in range(2)] == [False, False]
    del one, same
    gc.collect()
    assert (kept._kept, kept._met) == ({}, {})


class Kind(enum.Enum):
    ONE = 1


class Slotted(pydantic.BaseModel):
    """A model that holds something beside its fields."""

    __slots__ = ("beside",)


@pytest.mark.parametrize(
    "value", [Kind.ONE, {1}, (1, 2), b"", Slotted(), object(), [[Kind.ONE]]], ids=lambda value: type(value).__name__
)
def test_what_has_no_recipe(value):
    """What could not be made anew for each caller is read anew for each."""
    kept = recipes.Recipes(pydantic.BaseModel, lambda one, other: one == other)
    response = Response(200, (), b"{}")
    kept.keep(response, dict, {"value": value})
    assert kept.make(response, dict) is None
    with pytest.raises(TypeError):
        recipes.recipe_of(value, pydantic.BaseModel)


def test_what_would_come_out_otherwise_has_no_recipe():
    """A value that can't be told to be equal, such as NaN, is read anew each time."""
    kept = recipes.Recipes(pydantic.BaseModel, Answers(SDKS["openai"]).are_alike)
    response = Response(200, (), b"{}")
    kept.keep(response, dict, {"value": float("nan")})
    assert kept.make(response, dict) is None


def test_long_answers_have_no_recipe():
    """Nor have those beyond a size: a recipe takes as much room again."""
    kept = recipes.Recipes(pydantic.BaseModel, lambda one, other: one == other)
    response = Response(200, (), b" " * (1 << 15))
    kept.keep(response, dict, {"value": 1})
    assert kept.make(response, dict) is None
