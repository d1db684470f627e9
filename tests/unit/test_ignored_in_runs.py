"""Imported runs, run files and warming under ``--ignore``: found by whoever has the same rules, by nobody else."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.jupyter.commands import Commands

pytestmark = pytest.mark.timeout(100)

RULE = "memory-address"
ONE, OTHER = "What is <A object at 0x7f3a5c0b1d90>?", "What is <A object at 0x7f3a5c0b1e40>?"
MODEL = "gpt-4.1-mini"


@pytest.fixture
def url(isolated, unique_server):
    return unique_server.openai_url


@pytest.fixture
def runs(url):
    return current_session().cache("default").runs


def ask(url, text):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])


def cassette(url, *texts):
    """Write what vcrpy would have recorded of calls that ask these texts, by this server."""
    interactions = []
    for text in texts:
        body = {"model": MODEL, "messages": [{"role": "user", "content": text}]}
        answer = httpx.post(f"{url}/chat/completions", json=body)
        request = {"method": "POST", "uri": f"{url}/chat/completions", "body": json.dumps(body)}
        request["headers"] = {"content-type": ["application/json"], "user-agent": ["OpenAI/Python"]}
        headers = {"content-type": ["application/json"]}
        response = {"status": {"code": 200}, "headers": headers, "body": {"string": answer.text}}
        interactions.append({"request": request, "response": response})
    path = Path("c.json")
    path.write_text(json.dumps({"version": 1, "interactions": interactions}), encoding="utf-8")
    return path


def test_a_cassette_is_found_without_its_noise(url, runs, unique_server):
    """Imported with the rules of the cells that replay it; without them it is what it was."""
    path = cassette(url, ONE)
    runs.import_(path, "with", source="vcr", ignore=[RULE])
    runs.import_(path, "without", source="vcr")
    asked = unique_server.count
    with llm_cache(run="with", mode="replay", ignore=[RULE]) as cell:
        ask(url, OTHER)
    assert cell.hits == 1
    for options in ({"run": "without", "ignore": [RULE]}, {"run": "with"}):
        with llm_cache(mode="replay", **options), pytest.raises(ReplayMiss):
            ask(url, ONE)
    assert unique_server.count == asked


def test_the_configured_rules_are_taken(url, monkeypatch, unique_server):
    """What is configured holds for imports as for cells; `none` takes a file over as it is."""
    path = cassette(url, ONE)
    monkeypatch.setenv("GENAI_CACHE_IGNORE", RULE)
    reset_session()
    runs = current_session().cache("default").runs
    runs.import_(path, "theirs", source="vcr")
    runs.import_(path, "plain", source="vcr", ignore=["none"])
    with llm_cache(run="theirs", mode="replay") as cell:
        ask(url, OTHER)
    with llm_cache(run="plain", mode="replay", ignore=["none"]) as plain:
        ask(url, ONE)
    assert (cell.hits, plain.hits) == (1, 1)


def test_calls_that_differ_by_noise_are_samples_of_one(url, runs):
    """In their order; none is lost."""
    runs.import_(cassette(url, ONE, OTHER), "theirs", source="vcr", ignore=[RULE])
    with llm_cache(run="theirs", mode="replay", ignore=[RULE], samples="distinct") as cell:
        assert ask(url, OTHER).id != ask(url, OTHER).id
    assert cell.hits == 2


def test_a_run_file_that_was_recorded_without_rules(url, runs, tmp_path, unique_server):
    """In place it is found without rules alone; imported with them, by who has them."""
    path = tmp_path / "sweep.jsonl"
    with llm_cache(mode="record", run_file=str(path)):
        ask(url, ONE)
    current_session().cache("default").clear()
    with llm_cache(mode="replay", run_file=str(path), ignore=[RULE]), pytest.raises(ReplayMiss):
        ask(url, ONE)
    runs.import_(path, "theirs", ignore=[RULE])
    with llm_cache(run="theirs", mode="replay", ignore=[RULE]) as cell:
        ask(url, OTHER)
    assert (cell.hits, unique_server.count) == (1, 1)


def test_a_run_file_keeps_the_rules_that_it_was_recorded_under(url, runs, tmp_path):
    """Importing it with others changes nothing: what was asked is not in it."""
    path = tmp_path / "sweep.jsonl"
    with llm_cache(mode="record", run_file=str(path), ignore=[RULE]):
        ask(url, ONE)
    current_session().cache("default").clear()
    runs.import_(path, "theirs", ignore=["uuid"])
    with llm_cache(run="theirs", mode="replay", ignore=[RULE]) as cell:
        ask(url, OTHER)
    assert cell.hits == 1


def test_the_command_and_the_magic(url, runs, capsys):
    """`--ignore` in a terminal; in a notebook the rules that are on."""
    path = cassette(url, ONE)
    with pytest.raises(SystemExit) as ended:
        main(["runs", "import", str(path), "one", "--from", "vcr", "--ignore", RULE])
    assert ended.value.code == 0
    current_session().turn_on(ignore=(RULE,))
    Commands(None, None).run("runs", f"import {path} --as two --from vcr")
    for name in ("one", "two"):
        with llm_cache(run=name, mode="replay") as cell:
            ask(url, OTHER)
        assert cell.hits == 1
    current_session().turn_off()


def gemini(url, text):
    body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    return httpx.post(f"{url}/v1beta/models/gemini-2.5-flash:generateContent", json=body)


def gemini_with_an_image(url, text):
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
    body = {"contents": [{"role": "user", "parts": [image, {"text": text}]}]}
    return httpx.post(f"{url}/v1beta/models/gemini-2.5-flash:generateContent", json=body)


def bedrock(url, text):
    body = {"messages": [{"role": "user", "content": [{"text": text}]}]}
    return httpx.post(f"{url}/model/amazon.nova-lite-v1:0/converse", json=body)


def bedrock_invoke(url, text):
    message = {"role": "user", "content": text}
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": [message]}
    return httpx.post(f"{url}/model/anthropic.claude-sonnet-5-v1:0/invoke", json=body)


def multipart(url, text):
    files = {"file": ("a.wav", b"RIFF0000WAVE", "audio/wav")}
    return httpx.post(f"{url}/v1/audio/transcriptions", data={"model": "whisper-1", "prompt": text}, files=files)


CALLS = {call.__name__: call for call in (gemini, gemini_with_an_image, bedrock, bedrock_invoke, multipart)}


@pytest.mark.parametrize("name", CALLS)
def test_other_wire_apis_without_noise(url, unique_server, tmp_path, name):
    """Rules take noise out of the texts of each, files and images stay in the key; run files record them so."""
    send, where, path = CALLS[name], unique_server.url, tmp_path / "sweep.jsonl"
    with llm_cache(mode="record", run_file=str(path), ignore=[RULE]) as cell:
        first = send(where, ONE)
        assert send(where, OTHER).content == first.content
        assert send(where, "Something else").content != first.content
    assert first.status_code == 200
    assert [call.outcome.value for call in cell.calls] == ["miss", "hit", "miss"]
    assert b"0x7f3a5c0b1d90" in unique_server.requests[0].body
    recorded = [json.loads(line)["request"] for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    assert [RULE in json.dumps(request["body"]) for request in recorded].count(True) == 1
    assert "0x7f3a" not in json.dumps(recorded)
    current_session().cache("default").clear()
    with llm_cache(mode="replay", run_file=str(path), ignore=[RULE]) as again:
        send(where, OTHER)
    assert (again.hits, unique_server.count) == (1, 2)


def test_a_file_is_no_noise(url, unique_server):
    """Another sound with the same text is another request, whatever the rules."""
    with llm_cache(ignore=[RULE, "uuid", "re:RIFF"]) as cell:
        for content in (b"RIFF0000WAVE", b"RIFF0001WAVE"):
            files = {"file": ("a.wav", content, "audio/wav")}
            httpx.post(f"{unique_server.url}/v1/audio/transcriptions", data={"model": "whisper-1"}, files=files)
    assert (cell.hits, cell.misses) == (0, 2)
