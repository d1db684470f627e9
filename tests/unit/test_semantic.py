"""Answers to similar questions: asked for, judged as every entry, and never given to another question."""

from __future__ import annotations

import asyncio
import json
import random

import openai
import pytest
from guard_pairs import changed
from similar_questions import (
    MODEL,
    ONE,
    OTHER,
    all_alike,  # noqa: F401 - fixtures
    ask,
    asked,
    body,
    outcome,
)

from genai_cache_magic import llm_cache
from genai_cache_magic.api import similar as module
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.arguments import parse_cell
from genai_cache_magic.jupyter.shown.badge import as_text
from genai_cache_magic.jupyter.shown.call_report import as_json
from genai_cache_magic.jupyter.shown.summary import summarise
from genai_cache_magic.settings.trust import decides_trust
from genai_cache_magic.vectors import INSTALL_LOCAL
from genai_cache_magic.vectors.guard import differs

pytestmark = pytest.mark.timeout(100)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def test_a_question_in_other_words_gets_the_answer():
    """It is told as what it is: no hit, with how alike the two are, and with what it saved."""
    first, _ = asked(ONE)
    second, cell = asked(OTHER)
    call = cell.calls[0]
    assert second == first
    assert (call.outcome, call.spent_usd) == (Outcome.SIMILAR, 0)
    assert call.saved_usd > 0
    assert (cell.hits, cell.misses, cell.similar) == (0, 0, 1)
    assert repr(cell) == "<llm_cache cell: 0 hits, 0 misses, 1 similar>"
    text = as_text(summarise(cell))
    assert f"similar 0.99 to: {' '.join(ONE.split())[:80]}" in text
    assert "0 hits, 1 similar, 0 misses" in text
    report = as_json(summarise(cell))
    assert (report["similar"], report["hits"], report["kinds"][0]["outcome"]) == (1, 0, "similar")
    assert ONE not in json.dumps(report["kinds"])


def test_it_is_off_by_default():
    """Nothing is compared, and nothing kept of questions, unless it was asked for."""
    assert outcome(ONE, semantic=None) is Outcome.MISS
    assert outcome(OTHER, semantic=None) is Outcome.MISS
    assert outcome("Another thing entirely, in the same cache", semantic=0.95) is Outcome.MISS
    assert current_session().cache("default").stats().entries == 3


def test_the_same_call_is_a_plain_hit():
    """The exact answer comes first."""
    asked(ONE)
    assert outcome(ONE) is Outcome.HIT


def test_what_was_stored_before_is_found_once_it_was_a_hit():
    """An answer from before anybody compared questions is found by its question after it was served under that."""
    asked(ONE, semantic=None)
    assert outcome(ONE) is Outcome.HIT
    assert outcome(OTHER) is Outcome.SIMILAR


def test_what_is_in_memory_is_found_once_it_was_a_hit():
    """Likewise where the answer is at hand, because the same client asks again and again."""
    with openai.OpenAI() as client:

        def outcome_of(text, **options):
            with llm_cache(**options) as cell:
                client.chat.completions.create(**body(text))
            return cell.calls[0].outcome

        assert [outcome_of(ONE) for _ in range(3)] == [Outcome.MISS, Outcome.HIT, Outcome.HIT]
        assert outcome_of(ONE, semantic=0.95) is Outcome.HIT
        assert outcome_of(OTHER, semantic=0.95) is Outcome.SIMILAR


@pytest.mark.parametrize(
    "more",
    [
        {"model": "gpt-4.1"},
        {"temperature": 0.5},
        {"tools": [TOOL]},
        {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": OTHER}]},
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "text", "text": OTHER}]}]},
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
                {"role": "user", "content": OTHER},
            ]
        },
        {"messages": [{"role": "user", "content": OTHER}, {"role": "assistant", "content": "So"}]},
    ],
    ids=["model", "parameters", "tools", "system", "image", "turns", "prefill"],
)
def test_all_else_must_be_equal(more):
    """Whatever differs beside the last words of the user, the model is asked."""
    asked(ONE)
    assert outcome(OTHER, more=more) is Outcome.MISS


@pytest.mark.parametrize(
    "before",
    [
        [{"role": "system", "content": "Be short."}],
        [{"role": "user", "content": [IMAGE]}, {"role": "assistant", "content": "A cat."}],
    ],
    ids=["system", "turns"],
)
def test_what_is_equal_before_the_question_is_no_hindrance(before):
    """A system prompt, images and earlier turns may be there, as long as they are the same."""
    asked(ONE, more={"messages": [*before, {"role": "user", "content": ONE}]})
    assert outcome(OTHER, more={"messages": [*before, {"role": "user", "content": OTHER}]}) is Outcome.SIMILAR


def test_no_changed_question_gets_the_answer():
    """Pairs made to deceive, each of which any embedding would find alike, through the whole of a call."""
    pairs = random.Random(16).sample(changed(), 40)
    with llm_cache(semantic=0.85) as cell:
        for number, (_, one, other) in enumerate(pairs):
            for text in (one, other):
                ask(text, seed=number)
    assert (cell.similar, cell.misses, cell.hits) == (0, 80, 0)


def test_the_local_model_says_how_alike_they_are(monkeypatch):
    """With the vectors of this machine's own model, a lower bar serves what a higher one doesn't."""
    pytest.importorskip("all_minilm_l6_v2", reason=INSTALL_LOCAL)
    pytest.importorskip("tokenizers", reason=INSTALL_LOCAL)
    from genai_cache_magic.vectors.local_model import LocalModel

    model = LocalModel()
    monkeypatch.setattr(module, "_local", lambda: model)
    one, other = "How can I reset my password?", "I forgot my password, how can I change it?"
    assert differs(one, other) is None
    asked(one)
    assert outcome(other, semantic=0.95, mode="read") is Outcome.MISS
    _, cell = asked(other, semantic=0.85)
    assert cell.calls[0].reason == "similar 0.89"


def test_a_question_is_compared_to_its_end(monkeypatch):
    """Two long ones with one beginning are one vector to a model that reads no further: they are not compared."""
    pytest.importorskip("all_minilm_l6_v2", reason=INSTALL_LOCAL)
    pytest.importorskip("tokenizers", reason=INSTALL_LOCAL)
    from genai_cache_magic.vectors.local_model import LocalModel

    model = LocalModel()
    monkeypatch.setattr(module, "_local", lambda: model)
    start = "the report was written by people who wanted to find out how plants grow when they are left alone. " * 14
    one = f"{start}{'please describe which tools gardeners used and how they kept their water clean. ' * 12}"
    other = f"{start}{'please explain what birds like about houses and rivers. ' * 40}"
    assert differs(one, other) is None
    vectors = model([one, other])
    assert vectors[0] @ vectors[1] > 0.999
    assert outcome(one) is Outcome.MISS
    assert outcome(other) is Outcome.MISS
    assert outcome(one) is Outcome.HIT
    assert (model.reads_whole(ONE), model.reads_whole(one)) == (True, False)


def test_a_replay_never_serves_it():
    """Mode replay gives the answer to what was asked, or stops."""
    asked(ONE)
    with pytest.raises(ReplayMiss):
        asked(OTHER, mode="replay")


@pytest.mark.parametrize("options", [{"mode": "refresh"}, {"samples": "distinct"}, {"mode": "record"}])
def test_who_wants_an_answer_of_its_own_gets_one(options, tmp_path):
    """A refresh, numbered samples, and a run file that is recorded are asked of the model."""
    asked(ONE)
    if options.get("mode") == "record":
        options = {**options, "run_file": tmp_path / "r.jsonl"}
    assert outcome(OTHER, **options) in {Outcome.MISS, Outcome.STALE}


def test_what_is_invalid_is_not_served():
    """A similar answer is judged as a plain hit of it would be: by tags, by its entry, by everything."""
    cache = current_session().cache("default")
    _, cell = asked(ONE, tags=("t",))
    assert outcome(OTHER, mode="read") is Outcome.SIMILAR
    assert cache.invalidate_tag("t").count == 1  # what is kept of questions is no answer, and not counted
    assert outcome(OTHER, mode="read") is Outcome.MISS
    _, cell = asked(ONE)
    cache.invalidate_entry(cell.calls[0].entry_id)
    assert outcome(OTHER, mode="read") is Outcome.MISS
    asked(ONE)
    assert outcome(OTHER, mode="read") is Outcome.SIMILAR
    cache.clear()
    assert outcome(OTHER, mode="read") is Outcome.MISS


def test_what_is_too_old_for_a_cell_is_not_served(monkeypatch):
    """The age that a cell allows counts for similar answers too."""
    asked(ONE)
    entries = current_session().cache("default").parts.entries
    later = entries.now_ms() / 1000 + 100
    monkeypatch.setattr(entries.judge, "clock", lambda: later)
    assert outcome(OTHER, mode="read", ttl="1h") is Outcome.SIMILAR
    assert outcome(OTHER, mode="read", ttl="1m") is Outcome.MISS


@pytest.mark.parametrize("options", [{"namespace": "another"}, {"salt": "s"}])
def test_namespaces_and_salts_never_meet(options):
    """What keeps answers apart keeps questions apart."""
    asked(ONE)
    assert outcome(OTHER, **options) is Outcome.MISS


def test_streams_and_tasks():
    """An answer that came whole is streamed to who asks for a stream, in a thread or a task."""
    first, _ = asked(ONE)

    async def streamed():
        async with openai.AsyncOpenAI() as client:
            stream = await client.chat.completions.create(**body(OTHER), stream=True)
            return "".join([part.choices[0].delta.content or "" async for part in stream if part.choices])

    with llm_cache(semantic=0.95) as cell:
        assert asyncio.run(streamed()) == first
        with openai.OpenAI() as client:
            stream = client.chat.completions.create(**body(OTHER), stream=True)
            assert "".join(part.choices[0].delta.content or "" for part in stream if part.choices) == first
    assert cell.similar == 2


def test_other_apis_and_clients(unique_server):
    """Responses, Anthropic's messages, and requests of a plain HTTP client."""
    import anthropic
    import httpx

    def of_responses(text):
        with openai.OpenAI() as client:
            return client.responses.create(model=MODEL, input=text).output_text

    def of_claude(text):
        with anthropic.Anthropic(base_url=unique_server.url, api_key="k") as client:
            messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            return client.messages.create(model="claude-haiku-4-5", max_tokens=64, messages=messages).content[0].text

    def by_hand(text):
        with httpx.Client() as client:
            asked = body(text, user="by hand")
            answer = client.post(f"{unique_server.openai_url}/chat/completions", json=asked).json()
            return answer["choices"][0]["message"]["content"]

    for call in (of_responses, of_claude, by_hand):
        with llm_cache(semantic=0.95) as cell:
            assert call(ONE) == call(OTHER)
        assert (cell.misses, cell.similar) == (1, 1)


def test_how_it_is_asked_for(monkeypatch):
    """By the magic, in Python and as a setting; a bar below which wrong answers were seen is refused, with the fix."""
    options = current_session().options
    assert parse_cell("--semantic 0.9").given["semantic"] == "0.9"
    assert options(semantic="0.9").semantic == 0.9
    monkeypatch.setenv("GENAI_CACHE_SEMANTIC", "0.97")
    reset_session()
    assert current_session().options().semantic == 0.97
    assert current_session().options(semantic="none").semantic is None
    assert decides_trust("semantic")
    assert current_session().options(semantic="0.85").semantic == 0.85
    for wrong in ("0.5", "0.8", "0.849", "1.5", "nan", "much", True):  # at 0.8 wrong answers were seen: docs/vectors.md
        with pytest.raises(ConfigurationError, match=r"a number from 0\.85 to 1 such as 0\.95"):
            current_session().options(semantic=wrong)
