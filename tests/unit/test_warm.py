"""What is asked beforehand is found afterwards, what is there is not asked again, and a dry run says what it costs."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import openai
import pytest
from commands import ran
from priced_model import MODEL, body, own_priced_model, users_cache  # noqa: F401 - fixtures

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.budgets import dry
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.commands import Commands
from genai_cache_magic.testing.simulated.call import Fault

pytestmark = pytest.mark.timeout(100)


def line(text, **more):
    return {"custom_id": text, "method": "POST", "url": "/v1/chat/completions", "body": body(text, **more)}


def test_what_was_warmed_is_a_hit(cache, unique_server):
    """For the user's own SDK, streamed or not; the second time nothing is asked."""
    done = cache.warm([body("a"), line("b", stream=True), body("a")], progress=False)
    assert (done.hits, done.stored, done.failed, done.left) == (1, 2, 0, 0)
    assert done.spent_usd > 0
    with openai.OpenAI() as client, llm_cache() as cell:
        client.chat.completions.create(**body("a"))
        list(client.chat.completions.create(**body("b", stream=True)))
    assert (cell.hits, cell.misses) == (2, 0)
    again = cache.warm([body("a"), body("b")], progress=False)
    assert (again.hits, again.stored, again.spent_usd, unique_server.count) == (2, 0, 0, 2)


@pytest.mark.parametrize("how", ["threads", "executor", "batch"])
def test_what_is_warmed_is_of_who_warms(monkeypatch, how):
    """What it cost stands in the ledger under the person's name, and is invalidated by it, whoever's worker asked."""
    monkeypatch.setenv("GENAI_CACHE_PERSON", "ann")
    reset_session()
    cache = current_session().cache("default")
    with ThreadPoolExecutor(1) as pool:
        if how == "batch":
            cache.submit_batch([body("a")])
            cache.collect_batches()
        else:
            cache.warm([body("a")], executor=pool if how == "executor" else None, progress=False)
    assert [(row.person, row.misses) for row in cache.usage(by="person").rows] == [("ann", 1)]
    assert cache.invalidate_tag("ann", kind="person", dry_run=True).count == 1


def test_a_dry_run_sends_nothing_and_needs_no_key(cache, unique_server, monkeypatch):
    """It says what is there, and for the rest a range of tokens and money that holds what it then costs."""
    cache.warm([body("a")], progress=False)
    spent_before = cache.usage().total.spent_usd
    monkeypatch.delenv("OPENAI_API_KEY")
    foreseen = cache.estimate([body("a"), body("b"), body("c"), body("c")])
    assert unique_server.count == 1
    assert (foreseen.hits, foreseen.misses, foreseen.unknown, foreseen.unbounded) == (2, 2, 0, 0)
    assert 0 < foreseen.least_usd <= foreseen.expected_usd <= foreseen.most_usd
    assert cache.usage().total.spent_usd == spent_before
    assert cache.usage().total.errors == 0
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert foreseen.least_usd <= cache.warm([body("b"), body("c")], progress=False).spent_usd <= foreseen.most_usd


def test_what_can_not_be_foreseen(cache):
    """A price that nobody knows, and a call without a limit, are counted as such."""
    foreseen = cache.estimate([body("a", model="nobody-knows"), {**body("b"), "max_tokens": None}])
    assert (foreseen.misses, foreseen.unknown, foreseen.unbounded) == (2, 1, 1)
    assert foreseen.as_json()["most_usd"] == f"{foreseen.most_usd:f}"


def nested(depth):
    return [nested(depth - 1)] if depth else []


def test_a_dry_run_sends_nothing_whatever_happens(cache, unique_server, monkeypatch):
    """Neither what has no certain key, nor what we fail to judge: of those nobody knows the price."""
    without_key = {**body("a"), "metadata": {"a": nested(300)}}
    foreseen = cache.estimate([without_key])
    assert (foreseen.misses, foreseen.unknown, unique_server.count) == (1, 1, 0)

    def fail(*_, **__):
        raise KeyError("a failure of ours")

    for name in ("estimate", "_judged"):
        with monkeypatch.context() as patch:
            patch.setattr(dry, name, fail)
            foreseen = cache.estimate([body("a")])
        assert (foreseen.misses, foreseen.unknown, unique_server.count) == (1, 1, 0)


def test_the_estimate_of_an_imported_run(cache, unique_server):
    """Its calls have no entries, so all of them would be asked."""
    with openai.OpenAI() as client, llm_cache(run="r"):
        client.chat.completions.create(**body("a"))
    cache.runs.write_bundle("r", Path("r.jsonl"))
    cache.runs.import_("r.jsonl", "theirs")
    assert (cache.estimate(run="theirs").misses, unique_server.count) == (1, 1)


def test_without_a_key_nothing_is_warmed(cache, unique_server, monkeypatch):
    """That no client can be made is said at once, and not counted as a failure of each request."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigurationError, match="set OPENAI_API_KEY"):
        cache.warm([body("a"), body("b")], progress=False)
    assert unique_server.count == 0


def test_the_estimate_of_a_run(cache, unique_server):
    """Of calls that were made it is known what they cost, and which of them are still in the cache."""
    with openai.OpenAI() as client, llm_cache(run="r", tags=("gone",)) as cell:
        client.chat.completions.create(**body("a"))
    with openai.OpenAI() as client, llm_cache(run="r"):
        client.chat.completions.create(**body("b"))
    cache.invalidate_tag("gone")
    foreseen = cache.estimate(run="r")
    assert (foreseen.hits, foreseen.misses) == (1, 1)
    assert foreseen.expected_usd == cell.spent_usd
    assert unique_server.count == 2
    with pytest.raises(ConfigurationError, match="no run"):
        cache.estimate(run="none")


def test_the_budget_stops_and_the_next_time_goes_on(cache, unique_server):
    """What is left is asked with the next budget, and nothing twice."""
    requests = [body(f"{number}") for number in range(8)]
    first = cache.warm(requests, budget="0.0005", max_workers=1, progress=False)
    assert "budget" in first.stopped_by
    assert 0 < first.stored < 8
    assert first.left == 8 - first.stored
    assert first.spent_usd <= Decimal("0.0005")
    second = cache.warm(requests, max_workers=4, progress=False)
    assert (second.hits, second.stored, second.left) == (first.stored, first.left, 0)
    assert unique_server.count == 8


def test_what_fails_is_told_by_its_line(cache, unique_server):
    """One that fails holds nobody up, and is asked again the next time; its text is not told."""
    unique_server.fail_next(Fault.SERVER_ERROR, 9)
    done = cache.warm([body("a secret")], progress=False)
    assert (done.stored, done.failed) == (0, 1)
    assert done.errors == ("request 1: InternalServerError",)
    unique_server.reset()
    assert cache.warm([body("a secret")], progress=False).stored == 1


def test_progress_is_told(cache):
    """A function of the user's own hears how many are done."""
    told = []
    cache.warm([body("a"), body("b")], progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (2, 2)


@pytest.mark.parametrize(
    ("requests", "said"),
    [
        (["text"], "request 1 is no JSON object"),
        ([{"url": "https://elsewhere.example/v1/chat/completions", "body": {}}], "a path, no host"),
        ([{"url": "/v1/batches", "body": {}}], "request 1 is not one"),
        ([line("a"), {**line("b"), "method": "GET"}], "request 2"),
        ([{**line("a"), "body": "x"}], "request 1"),
        ([{"model": MODEL, "input": "a"}], "endpoint"),
        ([body("a"), body("b", temperature=float("nan"))], "request 2 holds what JSON can't say"),
        ([body("\ud800")], "request 1 holds what JSON can't say"),
        ([body("a", seed={1, 2})], "request 1 holds what JSON can't say"),
        ("nowhere.jsonl", "can't be read"),
    ],
)
def test_what_is_no_request(cache, unique_server, requests, said):
    """It is an error that names the line, and nothing is asked."""
    for work in (cache.warm, cache.estimate):
        with pytest.raises(ConfigurationError, match=said):
            work(requests)
    assert unique_server.count == 0


def test_a_file_of_lines(cache, tmp_path, unique_server):
    """A batch file as it is; a line that is no JSON is named."""
    path = tmp_path / "batch.jsonl"
    path.write_text("\n".join([json.dumps(line("a")), "", json.dumps(line("b"))]) + "\n", encoding="utf-8")
    assert cache.warm(path, progress=False).stored == unique_server.count == 2
    embeddings = {"model": "text-embedding-3-small", "input": "a"}
    assert cache.warm([embeddings], endpoint="/v1/embeddings", progress=False).stored == 1
    with openai.OpenAI() as client, llm_cache() as cell:
        client.embeddings.create(**embeddings)
    assert cell.hits == 1
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="line 1"):
        cache.warm(str(path))


def test_the_commands(capsys, tmp_path, unique_server):
    """`estimate` says what `warm` then does; its code tells whether something is left."""
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(json.dumps(body(f"{number}")) for number in range(3)), encoding="utf-8")
    code, out, _ = ran(capsys, "estimate", str(path))
    assert (code, out.partition(",")[0]) == (0, "0 of 3 calls cached")
    assert ran(capsys, "warm", str(path), "--dry-run", "--json")[1].startswith('{"hits": 0, "misses": 3')
    assert unique_server.count == 0
    code, out, _ = ran(capsys, "warm", str(path), "--budget", "0.0003", "--max-workers", "1")
    assert (code, " left, " in out) == (1, True)
    code, out, _ = ran(capsys, "warm", str(path), "--run", "r", "--json")
    done = json.loads(out)
    assert (code, done["left"], done["failed"], done["hits"] + done["stored"]) == (0, 0, 0, 3)
    assert ran(capsys, "estimate", "r")[1].startswith("3 of 3 calls cached")
    assert ran(capsys, "warm", str(path), "--budget", "nothing")[0] == 2
    assert ran(capsys, "estimate", "no-run")[0] == 2


def test_the_magic(capsys, tmp_path, unique_server):
    """In a notebook the same, in the notebook's namespace."""
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps(body("a")), encoding="utf-8")
    commands = Commands(None, None)
    assert commands.run("estimate", str(path)).title.startswith("0 of 1 call cached, about $0.")
    assert commands.run("warm", f"{path} --dry-run").title.startswith("0 of 1 call cached, about $0.")
    assert commands.run("warm", f"{path} --tag t --budget 1").title.startswith("0 cached before, 1 asked and stored")
    assert commands.run("estimate", str(path)).title == "1 of 1 call cached"
    assert unique_server.count == 1
