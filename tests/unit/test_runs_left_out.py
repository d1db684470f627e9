"""What of a run no file can hold: it is left out, by name, and holds nothing else up."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError, ReplayMiss
from genai_cache_magic.jupyter.commands import _runs
from genai_cache_magic.jupyter.shown.runs import described
from genai_cache_magic.runs.summaries import Written
from genai_cache_magic.testing.simulated.call import Fault

MODEL = "gpt-4.1-mini"


@pytest.fixture
def url(isolated, unique_server):
    return unique_server.openai_url


def ask(url, text):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}]).id


def execute(url, *texts, run="sweep", **options):
    with llm_cache(run=run, **options):
        return [ask(url, text) for text in texts]


def runs():
    return current_session().cache("default").runs


def told(capfd, *words):
    with contextlib.suppress(SystemExit):
        main(["runs", *words])
    return capfd.readouterr().out


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (Fault.TRUNCATED, "truncated"),
        (Fault.REFUSAL, "refusal"),
        (Fault.EMPTY, "empty"),
        (Fault.SERVER_ERROR, "status 500"),
        (Fault.TOO_MANY_REQUESTS, "status 429"),
    ],
)
def test_what_was_never_stored_holds_no_run_up(url, unique_server, fault, why):
    """One answer that may not be stored is left out by name, said, and shown; the others are pinned and exported."""
    execute(url, "a")
    unique_server.fail_next(fault)
    with llm_cache(run="sweep"), contextlib.suppress(openai.APIError):
        ask(url, "b")
    stored, other = runs().show("sweep").calls
    assert (stored.not_stored, other.not_stored, other.outcome) == ("", why, "error" if "status" in why else "refused")
    for done in (runs().export("sweep", "sweep.jsonl", plaintext=True), runs().pin("sweep")):
        assert (done.count, dict(done.left_out)) == (1, {f"{why}: {MODEL} {other.digest[:8]}": 1})
    assert f"{other.outcome} ({why})" in described(runs().show("sweep")).table.rows[1]
    with pytest.raises(ReplayMiss), llm_cache(run="sweep", mode="replay"):
        ask(url, "b")
    execute(url, "b")  # and once it is there, it is the run's
    assert runs().export("sweep", "sweep.jsonl", plaintext=True) == Written(2)


def test_a_batch_that_is_larger_than_an_entry_holds_no_run_up(url, monkeypatch):
    """Its texts are stored one by one, the whole is not: it is named, and a recorded run file holds it."""
    monkeypatch.setenv("GENAI_CACHE_MAX_RESPONSE", "40000")
    reset_session()
    texts = [f"text {number}" for number in range(8)]

    def embed():
        with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
            return client.embeddings.create(model="text-embedding-3-small", input=texts).data[-1].embedding

    for _ in range(2):  # asked of the model, and put together of what is stored
        with llm_cache(run="sweep"):
            first = embed()
            ask(url, "a")
        batch = runs().show("sweep").calls[0]
        assert batch.not_stored == "stored text by text alone: the whole is larger than max_response"
        done = runs().export("sweep", "sweep.jsonl", plaintext=True)
        assert (done.count, [*done.left_out.values()]) == (1, [1])
        assert f"max_response: text-embedding-3-small {batch.digest[:8]}" in next(iter(done.left_out))
    with llm_cache(run_file="whole.jsonl", mode="record"):
        embed()
    current_session().cache("default").clear()
    with llm_cache(run_file="whole.jsonl", mode="replay") as cell:
        assert embed() == first
    assert cell.hits == 1


def test_a_run_of_which_nothing_was_stored(url):
    """What answered from a run file, or was not stored as asked, is no answer of the cache: said, and why."""
    execute(url, "a", run=None, mode="record", run_file="recorded.jsonl")
    current_session().cache("default").clear()
    execute(url, "a", run_file="recorded.jsonl")
    with pytest.raises(ConfigurationError, match=r"no answer that a file could hold \(from recorded.jsonl: gpt-"):
        runs().export("sweep", "sweep.jsonl", plaintext=True)
    execute(url, "b", mode="read", run="read")
    with pytest.raises(ConfigurationError, match=r"could hold \(mode read stores nothing: gpt-4.1-mini"):
        runs().pin("read")


def test_what_is_left_out_is_said_in_every_way(url, unique_server, capfd):
    """By the command, as JSON, and by the magic; a replay says it before it begins."""
    execute(url, "a")
    unique_server.fail_next(Fault.TRUNCATED)
    execute(url, "b")
    said = f"1 left out: truncated: {MODEL} "
    assert said in "".join(_runs("pin sweep").notes)
    assert said in told(capfd, "export", "sweep", "sweep.run")
    assert said in told(capfd, "pin", "sweep")
    told(capfd, "pin", "sweep", "--remove")
    about = json.loads(told(capfd, "export", "sweep", "sweep.run", "--json"))
    assert (about["calls"], about["similar"], [*about["left_out"].values()]) == (1, 0, [1])
    Path("script.py").write_text("")
    with pytest.raises(SystemExit, match="0"):
        main(["runs", "replay", "sweep", "script.py"])
    assert said in capfd.readouterr().err
