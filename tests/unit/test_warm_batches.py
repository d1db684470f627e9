"""Batches are submitted once, whatever is interrupted, and what they bring is what single calls would have stored."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import anthropic
import openai
import pytest
from commands import ran
from priced_model import MODEL, body, users_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.asking import batching, vendors
from genai_cache_magic.api.asking.batch_notes import Asked, Note, Notes
from genai_cache_magic.api.asking.outcomes import Submitted
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import Outcome
from genai_cache_magic.jupyter.commands import Commands
from genai_cache_magic.jupyter.shown.warming import batch_report
from genai_cache_magic.testing.simulated.call import Fault

pytestmark = pytest.mark.timeout(100)

CLAUDE = "claude-sonnet-5"


@pytest.fixture(autouse=True)
def _own(isolated, unique_server, monkeypatch):
    """Every test has a cache of its own, and models that cost what the vendors' do."""
    monkeypatch.setenv("GENAI_CACHE_ORIGINS", json.dumps({f"{unique_server.url}/v1": "openai"}))
    monkeypatch.setenv("OPENAI_BASE_URL", unique_server.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", unique_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")


def notes_in(cache):
    return sorted(Path(cache.directory).glob("batch-*.note"))


def claude(text):
    return body(text, model=CLAUDE)


@pytest.mark.parametrize("make", [body, claude])
def test_what_was_collected_is_a_hit(cache, unique_server, make):
    """For the user's own SDK, at half the price of single calls; equal and cached requests are not submitted."""
    single = cache.warm([make("a")], progress=False)
    done = cache.submit_batch([make("a"), make("b"), make("c"), make("c")])
    assert (done.hits, done.submitted, done.pending, done.left) == (2, 2, 0, 0)
    assert (unique_server.count, unique_server.batches.created, unique_server.batches.requests) == (1, 1, 2)
    got = cache.collect_batches()
    assert (got.stored, got.failed, got.waiting, got.batches) == (2, 0, (), done.batches)
    if make is body:
        assert 0 < got.spent_usd <= done.most_usd
        assert got.spent_usd < 2 * single.spent_usd
        assert cache.usage().total.spent_usd == single.spent_usd + got.spent_usd
    with llm_cache() as cell, openai.OpenAI() as client, anthropic.Anthropic() as other:
        for text in "bc":
            if make is body:
                list(client.chat.completions.create(**body(text), stream=True))
            else:
                other.messages.create(**claude(text))
    assert (cell.hits, cell.misses, unique_server.count) == (2, 0, 1)
    assert notes_in(cache) == []


def test_a_collected_answer_is_gone_on_from(cache, unique_server):
    """The id that it gives out stands for it, as if it had come by a single call."""
    first = {"model": MODEL, "input": "a"}
    cache.submit_batch([first], endpoint="/v1/responses")
    assert cache.collect_batches().stored == 1
    with llm_cache() as cell, openai.OpenAI() as client:
        given = client.responses.create(**first).id
        for _ in range(2):
            client.responses.create(model=MODEL, input="b", previous_response_id=given)
    assert [call.outcome for call in cell.calls] == [Outcome.HIT, Outcome.MISS, Outcome.HIT]
    assert unique_server.count == 1


def test_half_the_price(cache, unique_server):
    """To the cent, by the list; what a hit then saves is that."""
    cache.submit_batch([body("a")])
    got = cache.collect_batches()
    with openai.OpenAI() as client, llm_cache() as cell:
        answer = client.chat.completions.create(**body("a"))
    tokens = answer.usage.prompt_tokens * Decimal("0.2") + answer.usage.completion_tokens * Decimal("0.8")
    cached = answer.usage.prompt_tokens_details.cached_tokens if answer.usage.prompt_tokens_details else 0
    assert not cached
    assert got.spent_usd == cell.saved_usd == tokens / 1_000_000


def test_what_is_under_way_is_not_submitted_again(cache, unique_server):
    """Neither by the same file nor by another that asks the same, and not while it waits."""
    unique_server.batches.hold()
    first = cache.submit_batch([body("a"), body("b")])
    again = cache.submit_batch([body("b"), body("c")])
    assert (again.submitted, again.pending) == (1, 1)
    waiting = cache.collect_batches()
    assert (waiting.stored, waiting.waiting) == (0, (*first.batches, *again.batches))
    reset_session()
    later = current_session().cache("default")
    unique_server.batches.release()
    assert later.collect_batches(first.batches[0]).stored == 2
    assert later.collect_batches().stored == 1
    assert later.warm([body("a"), body("b"), body("c")], progress=False).hits == 3
    assert (unique_server.count, unique_server.batches.requests) == (0, 3)


def test_a_note_tells_nobody_what_was_asked(cache, unique_server):
    """It is sealed; another namespace sees none, and one that was changed is named and nothing is submitted."""
    unique_server.batches.hold()
    cache.submit_batch([body("a secret")])
    (note,) = notes_in(cache)
    assert b"secret" not in note.read_bytes()
    with create_cache(namespace="other") as other:
        assert other.collect_batches().waiting == ()
    note.write_bytes(note.read_bytes()[:-1] + b"?")
    with pytest.raises(ConfigurationError, match=note.name):
        cache.submit_batch([body("a secret")])
    assert unique_server.batches.created == 1


def test_a_note_of_a_large_batch_can_be_read_again(tmp_path):
    """A batch may hold 100 MB of questions, images say: what was paid for it is collected by its note."""
    notes = Notes(tmp_path, bytes(32))
    asked = Asked(1, "/v1/chat/completions", body("x" * (2 * vendors.MOST_BYTES // 3)), "0" * 64)
    note = Note(notes.new_name(), "openai", "https://api.openai.com", 0.0, (asked,), {"tags": (), "ignore": ()})
    notes.submitted(notes.write(note), "batch_1")
    (found,) = notes.all()
    assert found.remote == "batch_1"
    assert found.requests == (asked,)


def test_items_that_fail_or_expire(cache, unique_server):
    """Are named by their line, and asked again the next time; their batch is done with."""
    unique_server.batches.hold()
    cache.submit_batch([body("a"), body("b"), body("c")])
    unique_server.batches.expire_next(1)
    unique_server.fail_next(Fault.SERVER_ERROR)
    unique_server.batches.release()
    got = cache.collect_batches()
    assert (got.stored, got.failed) == (1, 2)
    assert sorted(got.errors) == ["request 1: batch_expired", "request 2: status 500"]
    assert cache.submit_batch([body("a"), body("b"), body("c")]).submitted == 2


def test_items_of_anthropic_that_fail_or_expire(cache, unique_server):
    """Likewise."""
    unique_server.batches.hold()
    cache.submit_batch([claude("a"), claude("b"), claude("c")])
    unique_server.batches.expire_next(1)
    unique_server.fail_next(Fault.SERVER_ERROR)
    unique_server.batches.release()
    got = cache.collect_batches()
    assert (got.stored, got.failed, got.errors[0]) == (1, 2, "request 1: expired")
    assert cache.submit_batch([claude("a"), claude("b"), claude("c")]).submitted == 2


def test_an_answer_that_may_not_be_stored(cache, unique_server):
    """What was cut short is counted and paid for, and not stored."""
    unique_server.fail_next(Fault.TRUNCATED)
    cache.submit_batch([body("a")])
    got = cache.collect_batches()
    assert (got.stored, got.not_stored, got.failed) == (0, 1, 0)
    assert got.spent_usd > 0


@pytest.mark.parametrize("make", [body, claude])
def test_the_answer_to_a_submission_is_lost(cache, unique_server, monkeypatch, make):
    """The batch was made, and nobody was told: it is found again, and never submitted twice."""
    unique_server.batches.hold()
    unique_server.batches.lose_next_answer()
    with pytest.raises(ConfigurationError, match="not known whether"):
        cache.submit_batch([make("a"), make("b")])
    again = cache.submit_batch([make("a"), make("b")])
    assert (again.submitted, again.pending) == (0, 2)
    unique_server.batches.release()
    monkeypatch.setattr(batching, "SETTLES_S", 0)
    assert cache.collect_batches().stored == 2
    assert unique_server.batches.created == 1


def test_killed_before_anything_was_sent(cache, unique_server, monkeypatch):
    """A note without a batch frees its requests once it is certain that there is none, and not before."""

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(vendors.OpenAIBatches, "submit", killed)
    with pytest.raises(KeyboardInterrupt):
        cache.submit_batch([body("a")])
    monkeypatch.undo()
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", unique_server.openai_url)
    assert cache.submit_batch([body("a")]).pending == 1
    assert "not confirmed yet" in cache.collect_batches().waiting[0]
    monkeypatch.setattr(batching, "SETTLES_S", 0)
    assert cache.submit_batch([body("a")]).submitted == 1
    assert cache.collect_batches().stored == 1


def test_killed_in_the_middle_of_collecting(cache, unique_server, monkeypatch):
    """What was stored is there, the rest comes with the next time, and nothing is counted twice."""
    cache.submit_batch([body("a"), body("b"), body("c")])
    store, stored = batching._store, []

    def killed_after_one(*given):
        if stored:
            raise KeyboardInterrupt
        stored.append(given)
        store(*given)

    monkeypatch.setattr(batching, "_store", killed_after_one)
    with pytest.raises(KeyboardInterrupt):
        cache.collect_batches()
    monkeypatch.setattr(batching, "_store", store)
    spent = cache.usage().total.spent_usd
    assert spent > 0
    got = cache.collect_batches()
    assert (got.stored, got.hits) == (2, 1)
    assert cache.usage().total.spent_usd == spent + got.spent_usd
    assert unique_server.batches.created == 1


def test_what_was_answered_meanwhile_stays(cache, unique_server):
    """A single call in between wins: its answer is what others have seen."""
    cache.submit_batch([body("a")])
    with openai.OpenAI() as client, llm_cache():
        first = client.chat.completions.create(**body("a")).id
        got = cache.collect_batches()
        assert (got.stored, got.hits) == (0, 1)
        assert client.chat.completions.create(**body("a")).id == first


def test_a_server_without_a_batch_api(cache, unique_server, monkeypatch):
    """It is said, and nothing stays noted."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{unique_server.url}/nowhere")
    with pytest.raises(ConfigurationError, match="not taken"):
        cache.submit_batch([body("a")])
    assert notes_in(cache) == []
    with pytest.raises(ConfigurationError, match="in memory"), create_cache("memory") as memory:
        memory.submit_batch([body("a")])


def test_a_batch_is_collected_where_it_was_submitted(cache, unique_server, monkeypatch):
    """The environment that leads elsewhere is told, and which batch it is."""
    (batch,) = cache.submit_batch([body("a")]).batches
    monkeypatch.setenv("OPENAI_BASE_URL", f"{unique_server.url}/elsewhere")
    with pytest.raises(ConfigurationError, match=batch):
        cache.collect_batches()
    with pytest.raises(ConfigurationError, match="known are"):
        cache.collect_batches("batch_none")
    assert len(notes_in(cache)) == 1


def test_a_budget_limits_what_is_submitted(cache, unique_server):
    """At the price of a batch; what doesn't fit is left, and said."""
    requests = [body(f"{number}") for number in range(10)]
    whole = cache.estimate(requests).most_usd
    done = cache.submit_batch(requests, budget=whole / 4)
    assert 4 <= done.submitted <= 5
    assert done.left == 10 - done.submitted
    assert done.most_usd <= whole / 4
    assert "budget" in done.stopped_by
    unknown = cache.submit_batch([body("a", model="nobody-knows")], budget=1)
    assert (unknown.submitted, unknown.left) == (0, 1)


def test_a_batch_is_of_one_api_and_model(cache, unique_server):
    """Each is submitted by itself, with the run, the tags, the rules and the salt of the cells that will ask."""
    requests = [
        body("a"),
        body("b", model="gpt-4.1"),
        claude("c"),
        {"url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "d"}},
        {"url": "/v1/responses", "body": {"model": MODEL, "input": "e"}},
    ]
    done = cache.submit_batch(requests, run="r", tags=("t",), ttl="7d", ignore=("uuid",), salt="s")
    assert (done.submitted, len(done.batches)) == (5, 5)
    assert cache.collect_batches().stored == 5
    assert cache.runs.show("r").summary.calls == 5
    with llm_cache(ignore=("uuid",), salt="s") as cell, openai.OpenAI() as client:
        client.responses.create(model=MODEL, input="e")
        client.embeddings.create(model="text-embedding-3-small", input="d")
    assert cell.hits == 2
    # An embedding is kept as it was asked for, and as an entry of its text, for any batch that holds that.
    assert cache.invalidate_tag("t", dry_run=True).count == 6


def test_the_commands(capsys, tmp_path, unique_server):
    """`warm FILE --batch` submits, `warm --collect` stores; their codes tell whether something is left."""
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(json.dumps(body(f"{number}")) for number in range(3)), encoding="utf-8")
    unique_server.batches.hold()
    code, out, _ = ran(capsys, "warm", str(path), "--batch", "--json")
    (batch,) = json.loads(out)["batches"]
    assert (code, json.loads(out)["submitted"]) == (0, 3)
    code, out, _ = ran(capsys, "warm", "--collect")
    assert (code, batch in out) == (1, True)
    unique_server.batches.release()
    code, out, _ = ran(capsys, "warm", "--collect", batch)
    assert (code, out.partition(",")[0]) == (0, "1 batch collected")
    assert ran(capsys, "warm", str(path), "--batch")[1].startswith("3 cached before, 0 submitted")
    assert json.loads(ran(capsys, "warm", "--collect", "--json")[1])["stored"] == 0
    assert ran(capsys, "warm", "--collect")[:2] == (0, "no batch is under way: there is nothing to collect\n")
    assert "2 batches" in batch_report(Submitted(0, 2, 0, 0, Decimal(0), batches=("a", "b"))).title
    assert ran(capsys, "warm", "--collect", "batch_none")[0] == 2
    assert ran(capsys, "warm")[0] == 2
    assert ran(capsys, "warm", "--collect", "--batch")[0] == 2


def test_the_magic(tmp_path, unique_server):
    """In a notebook the same."""
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps(body("a")), encoding="utf-8")
    commands = Commands(None, None)
    assert commands.run("warm", f"{path} --batch").title.startswith("0 cached before, 1 submitted in 1 batch")
    assert commands.run("warm", "--collect").title.startswith("1 batch collected, 1 stored")
    with pytest.raises(ConfigurationError, match="name what"):
        commands.run("warm", "")
