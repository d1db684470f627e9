"""Answers to similar questions: asked for, told, judged as every entry, and never given to another question."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import threading
from pathlib import Path

import openai
import pytest
from guard_pairs import SAME, changed
from machines import Origin, Team

from genai_cache_magic import llm_cache
from genai_cache_magic.api import similar as module
from genai_cache_magic.api.explaining import explanations
from genai_cache_magic.api.session import current_session, reset_session
from genai_cache_magic.calls.coalesce import LookedUp
from genai_cache_magic.calls.scope import CellScope
from genai_cache_magic.calls.steps import Follow
from genai_cache_magic.core.options import Options
from genai_cache_magic.entries.catalogue import Catalogue
from genai_cache_magic.entries.permits import Permit
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.arguments import parse_cell
from genai_cache_magic.jupyter.badge import as_text
from genai_cache_magic.jupyter.call_report import as_json
from genai_cache_magic.jupyter.runs import differences, written
from genai_cache_magic.jupyter.summary import summarise
from genai_cache_magic.settings.trust import decides_trust
from genai_cache_magic.vectors import INSTALL_LOCAL
from genai_cache_magic.vectors.guard import differs

np = pytest.importorskip("numpy", reason="pip install 'genai-cache-magic[vector]'")
pytestmark = pytest.mark.timeout(100)

MODEL = "gpt-4.1-mini"
ONE, OTHER = next((one, other) for one, other in SAME if differs(one, other) is None)
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


def alike(texts):
    """Find all texts alike, so that nothing but what is compared beside decides."""
    made = []
    for text in texts:
        vector = np.zeros(module.DIMENSION, np.float32)
        vector[0], vector[1 + hashlib.sha256(text.encode()).digest()[0]] = 1, 0.1
        made.append(vector)
    return made


@pytest.fixture(autouse=True)
def _own(isolated, unique_server, monkeypatch):
    """Every test has a cache of its own, a model that never says the same twice, and vectors that are all alike."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({unique_server.url: "openai"}))
    monkeypatch.setenv("OPENAI_BASE_URL", unique_server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setattr(module, "_local", lambda: alike)


def body(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def ask(text, **more):
    with openai.OpenAI() as client:
        return client.chat.completions.create(**body(text, **more)).choices[0].message.content


def asked(text, *, semantic=0.95, more=None, **options):
    """Return the answer and the record of a call in a cell of its own."""
    with llm_cache(semantic=semantic, **options) as cell:
        answer = ask(text, **(more or {}))
    return answer, cell


def outcome(text, **options):
    return asked(text, **options)[1].calls[0].outcome


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
    with llm_cache(semantic=0.8) as cell:
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


def test_who_counts_hits_by_their_mark_counts_none_of_it():
    """A response says of itself that it answers another question, and a plain hit that it is one."""
    with llm_cache(semantic=0.95), openai.OpenAI() as client:
        raw = client.chat.completions.with_raw_response
        marks = [raw.create(**body(text)).headers.get("x-genai-cache") for text in (ONE, OTHER, ONE)]
    assert marks == [None, "similar", "hit"]


def test_explain_shows_both_questions():
    """What was asked stands beside what the answer was given to, in words only if these are asked for."""
    asked(ONE)
    _, cell = asked(OTHER)
    cache = current_session().cache("default")
    (found,) = explanations(cache.parts.explainer, cache.runs, cell)
    assert found.reason == "similar 0.99: the answer to another question"
    shown = "\n".join(found.diff)
    assert ONE.split()[-1] in shown
    assert OTHER.split()[-1] in shown
    assert "diff" not in found.as_json()


def test_a_run_says_how_alike_questions_had_to_be():
    """Its record names the bar, and which calls got the answer to another question."""
    asked(ONE, run="r")
    asked(OTHER, run="r")
    calls = current_session().cache("default").runs.show("r").calls
    assert [call.outcome for call in calls] == ["miss", "similar"]
    assert {call.surroundings["semantic"] for call in calls} == {"0.95"}
    assert [call.saved_usd is not None for call in calls] == [False, True]


@pytest.mark.parametrize("plaintext", [True, False])
def test_a_run_that_is_carried_on_says_what_was_similar(unique_server, plaintext):
    """A file, a pin and who takes them over give it as what it was: by its outcome, its mark, its line, in `show`."""
    first, _ = asked(ONE, run="r")
    asked(OTHER, run="r")
    runs = current_session().cache("default").runs
    file = Path("r.jsonl" if plaintext else "r.run")
    for done in (runs.export("r", file, plaintext=plaintext), runs.pin("r"), runs.import_(file, "theirs")):
        assert (done.count, done.similar, done.left_out) == (2, 1, {})
    if plaintext:
        assert [b'"similar":true' in line for line in sorted(file.read_bytes().splitlines()[1:])].count(True) == 1
    assert "2 calls, 1 of them similar (the answer to another question), is pinned" in written("pinned", "r", done)
    asked_before = unique_server.count
    for options in ({"run": "theirs"}, {"run": "r"}, {"run_file": file}):
        current_session().cache("default").clear()
        with llm_cache(mode="replay", **options) as cell, openai.OpenAI() as client:
            assert ask(ONE) == first
            raw = client.chat.completions.with_raw_response.create(**body(OTHER))
        assert raw.headers["x-genai-cache"] == "similar"
        assert raw.parse().choices[0].message.content == first
        assert [call.outcome for call in cell.calls] == [Outcome.HIT, Outcome.SIMILAR]
        assert (cell.hits, cell.similar) == (1, 1)
        label = {"theirs": "pinned run theirs", "r": "pinned run r"}.get(options.get("run"), file.name)
        assert f"1 hit (from {label}), 1 similar, 0 misses" in as_text(summarise(cell))
        assert "similar, from" in current_session().cache("default").explain(cell)[0].reason
    assert unique_server.count == asked_before
    assert [call.outcome for call in runs.show("theirs").calls].count("imported, similar") == 1
    assert runs.export("theirs", file, plaintext=True).similar == 1


def test_who_does_not_replay_asks_for_an_answer_of_its_own(unique_server):
    """A file's similar answer is given in a replay alone; recording puts the own one in its place."""
    asked(ONE, run="r")
    asked(OTHER, run="r")
    runs, file = current_session().cache("default").runs, Path("r.jsonl")
    runs.export("r", file, plaintext=True)
    current_session().cache("default").clear()
    first, _ = asked(ONE, semantic=None, run_file=file)
    assert outcome(OTHER, semantic=None, run_file=file, mode="read") is Outcome.MISS
    own, cell = asked(OTHER, semantic=None, run_file=file, mode="record")
    assert cell.calls[0].outcome is Outcome.MISS
    assert own != first
    again, cell = asked(OTHER, semantic=None, run_file=file, mode="replay")
    assert (again, cell.calls[0].outcome) == (own, Outcome.HIT)
    assert b'"similar"' not in file.read_bytes()


def test_two_runs_differ_where_one_got_the_answer_to_another_question(monkeypatch, server):
    """Also where the words are the same."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)  # says the same each time
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({server.url: "openai"}))
    reset_session()
    asked(ONE, run="similar")
    asked(OTHER, run="similar")
    asked(ONE, semantic=None, run="plain")
    asked(OTHER, semantic=None, run="plain", mode="refresh")
    found = current_session().cache("default").runs.diff("similar", "plain")
    assert (found.same, len(found.changed), found.differing) == (1, 1, ())
    assert differences("similar", "plain", found).table.rows[0][-2:] == ("answered otherwise", "similar in similar")


def test_the_ledger_counts_no_hit():
    """What was saved is counted; a hit it is not."""
    asked(ONE)
    asked(OTHER)
    total = current_session().cache("default").usage().total
    assert (total.hits, total.similar, total.misses) == (0, 1, 1)
    assert total.saved_usd > 0


def test_nothing_is_at_rest_in_plain_text(isolated):
    """The question, its vector and where its answer lies are sealed."""
    asked(ONE)
    cache = current_session().cache("default")
    cache.parts.questions.settle()
    (vector,) = alike([ONE])
    reset_session()
    files = [path.read_bytes() for path in Path(isolated, "cache").rglob("*") if path.is_file()]
    assert files
    assert not any(ONE.encode() in data or vector.tobytes() in data for data in files)


def failing(_texts):
    raise ValueError("no vector today")


def without_extra():
    raise ConfigurationError("numpy is missing")


@pytest.mark.parametrize(
    ("local", "said"),
    [
        (without_extra, f"questions can't be compared here, so only equal calls are hits: {INSTALL_LOCAL}"),
        (lambda: failing, "questions could not be compared, so only equal calls are hits: no vector today"),
        (lambda: lambda texts: [[float("nan")] * 384] * len(texts), "questions can't be compared here"),
    ],
    ids=["no extra", "raises", "nan"],
)
def test_what_fails_breaks_no_call(monkeypatch, local, said):
    """The model is asked, the answer stored, and the trouble said once, with the fix."""
    monkeypatch.setattr(module, "_local", local)
    with llm_cache(semantic=0.95) as cell:
        ask(ONE)
        ask(OTHER)
        ask(ONE)
        current_session().cache("default").parts.questions.settle()
    assert (cell.misses, cell.hits) == (2, 1)
    lines = [line for line in as_text(summarise(cell)).splitlines() if line.startswith("semantic")]
    assert len(lines) == 1
    assert lines[0].startswith(f"semantic: {said}")


def test_who_leads_a_call_looks_for_no_other_answer(tmp_path, monkeypatch):
    """A team is asked once more by who may ask the model; what others wait for is the answer to that call alone."""
    team, origin = Team(tmp_path, monkeypatch), Origin()
    machine = team.machine("one")
    desk, questions = machine.cache.calls, machine.cache.parts.questions
    monkeypatch.setattr(desk._permits, "try_take", lambda _: None)
    monkeypatch.setattr(desk._permits, "take", lambda entry_id, deliver: deliver(Permit(entry_id, has_waited=True)))
    looked, look = [], questions.look
    monkeypatch.setattr(questions, "look", lambda lead, *more: looked.append(lead.flight) or look(lead, *more))
    step, kinds = machine.begin(CellScope(Options(semantic=0.95), person="tester"), ONE), []
    while isinstance(step, Follow):
        kinds.append(type(step.future.result(30)))
        step = step.lead.desk.resume(step, step.future.result())
    step.desk.commit(step, origin())
    team.close()
    assert kinds.count(LookedUp) == 2
    assert looked == [None]


def test_a_listing_that_is_wrong_mixes_no_frames(monkeypatch):
    """An entry that is listed with questions of another frame is none of them: its sealed tags say where it belongs."""
    listed = []
    carrying = Catalogue.carrying

    def mixed(self, kind, name, **where):
        listed.append(name)
        return [one for frame in dict.fromkeys(listed) for one in carrying(self, kind, frame, **where)]

    monkeypatch.setattr(Catalogue, "carrying", mixed)
    with llm_cache(semantic=0.95) as cell:
        ask(ONE, temperature=0)
        ask(OTHER, temperature=0)
        ask(OTHER, temperature=1)
    assert len(set(listed)) == 2
    assert (cell.similar, cell.misses) == (1, 2)


def test_no_call_waits_behind_all_that_is_to_be_noted(monkeypatch):
    """Of many hits a few are noted at once, so that a question that is asked then is soon compared; others later."""
    count, may_go = module._MOST_BEHIND + 5, threading.Event()
    with llm_cache():
        for number in range(count):
            ask(ONE, seed=number)

    def slow(texts):
        assert may_go.wait(60)
        return alike(texts)

    monkeypatch.setattr(module, "_local", lambda: slow)
    questions = current_session().cache("default").parts.questions
    with llm_cache(semantic=0.95) as cell:
        for number in range(count):
            ask(ONE, seed=number)
        assert (cell.hits, questions._workers.unfinished) == (count, module._MOST_BEHIND)
        may_go.set()
        questions.settle()
        ask(ONE, seed=count - 1)
        questions.settle()
        ask(OTHER, seed=count - 1)
    assert cell.similar == 1


def test_without_threads_the_model_is_asked(monkeypatch):
    """Where no thread can be started nothing is compared, and no call waits."""
    questions = current_session().cache("default").parts.questions

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(questions._workers, "submit", refuse)
    assert outcome(ONE) is Outcome.MISS
    assert outcome(OTHER) is Outcome.MISS
    assert outcome(ONE) is Outcome.HIT


def test_how_it_is_asked_for(monkeypatch):
    """By the magic, in Python and as a setting; a bar below what was measured is refused, with the fix."""
    options = current_session().options
    assert parse_cell("--semantic 0.9").given["semantic"] == "0.9"
    assert options(semantic="0.9").semantic == 0.9
    monkeypatch.setenv("GENAI_CACHE_SEMANTIC", "0.97")
    reset_session()
    assert current_session().options().semantic == 0.97
    assert current_session().options(semantic="none").semantic is None
    assert decides_trust("semantic")
    for wrong in ("0.5", "1.5", "nan", "much", True):
        with pytest.raises(ConfigurationError, match=r"a number from 0\.8 to 1 such as 0\.95"):
            current_session().options(semantic=wrong)
