"""What vcrpy and pycachy have recorded becomes a run: the model calls that are known, and nothing secret."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
import requests

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.session import current_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs.pyyaml import read_yaml

MODEL = "gpt-4.1-mini"
SECRET = "sk-a-key-that-must-not-travel"

vcr = pytest.importorskip("vcr", reason="pip install vcrpy")


def asked(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], **more}


def post(url, body, path="/chat/completions", **headers):
    sent = {"authorization": f"Bearer {SECRET}", "cookie": f"session={SECRET}", **headers}
    return httpx.post(f"{url}{path}", json=body, headers=sent)


def replayed(url, text, **more):
    with openai.OpenAI(base_url=url, api_key="k", max_retries=0) as client:
        return client.chat.completions.create(**asked(text, **more))


@pytest.fixture
def url(isolated, unique_server):
    return unique_server.openai_url


@pytest.fixture
def runs(url):
    return current_session().cache("default").runs


def cassette(*interactions, path="c.json"):
    """Write a cassette by hand, of (request body, answer) pairs or whole interactions."""
    Path(path).write_text(json.dumps({"version": 1, "interactions": list(interactions)}))
    return path


def interaction(url, body, answer, *, headers=None, status=200):
    return {
        "request": {
            "method": "POST",
            "uri": f"{url}/chat/completions",
            "body": json.dumps(body),
            "headers": {"Content-Type": ["application/json"]},
        },
        "response": {
            "status": {"code": status, "message": ""},
            "headers": headers or {"Content-Type": ["application/json"]},
            "body": {"string": answer},
        },
    }


def answer(said="yes", **more):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return json.dumps(
        {
            "id": f"id-{said}",
            "object": "chat.completion",
            "created": 1,
            "model": MODEL,
            "choices": [choice],
            "usage": usage,
            **more,
        }
    )


@pytest.mark.parametrize("serializer", ["yaml", "json"])
def test_a_cassette_is_replayed(url, runs, unique_server, serializer):
    """Of each client and in each form; what is no model call, or failed, is counted by name."""
    with vcr.use_cassette(f"c.{serializer}", serializer=serializer):
        plain = post(url, asked("a")).json()["id"]
        by_requests = requests.post(f"{url}/chat/completions", json=asked("b"), timeout=30).json()["id"]
        post(url, asked("streamed", stream=True))
        post(url, asked("fails"), **{"x-simulate-fault": "too_many_requests"})
        httpx.get(f"{url}/models")
    before = unique_server.count
    done = runs.import_(f"c.{serializer}", "theirs", source="vcr")
    assert done.count == 3
    assert sorted(done.left_out.values()) == [1, 1]
    said = " ".join(done.left_out)
    assert "status 429: POST 127.0.0.1" in said
    assert "no model call that is known here: GET 127.0.0.1" in said
    with llm_cache(run="theirs", mode="replay") as cell:
        assert replayed(url, "a").id == plain
        assert replayed(url, "b").id == by_requests
        assert "".join(
            chunk.choices[0].delta.content or "" for chunk in replayed(url, "streamed", stream=True) if chunk.choices
        )
    assert cell.hits == 3
    assert unique_server.count == before
    assert current_session().cache("default").stats().entries == 0


def test_no_credential_enters(url, runs, isolated):
    """Neither of headers, cookies, addresses nor answers, in the run and in what is told."""
    with vcr.use_cassette("c.yaml"):
        post(url, asked("a"))
        post(f"{url}/elsewhere", {}, f"?key={SECRET}")
    assert SECRET in Path("c.yaml").read_text()
    done = runs.import_("c.yaml", "theirs", source="vcr")
    assert done.count == 1
    assert SECRET not in str(done.left_out)
    runs.export("theirs", "theirs.jsonl", plaintext=True)
    assert SECRET not in Path("theirs.jsonl").read_text()
    assert "authorization" not in Path("theirs.jsonl").read_text().lower()


def test_compressed_and_binary_answers(url, runs, monkeypatch):
    """As the server packed them, as vcrpy unpacked them, and where the header was left behind."""
    with vcr.use_cassette("c.yaml"):
        packed = post(url, asked("packed"), **{"x-simulate-gzip": "1", "accept-encoding": "gzip"}).json()["id"]
    assert "!!binary" in Path("c.yaml").read_text()
    with vcr.use_cassette("c.yaml", record_mode="new_episodes", match_on=["body"], decode_compressed_response=True):
        unpacked = post(url, asked("unpacked"), **{"x-simulate-gzip": "1", "accept-encoding": "gzip"}).json()["id"]
    assert runs.import_("c.yaml", "theirs", source="vcr").count == 2
    with llm_cache(run="theirs", mode="replay"):
        assert [replayed(url, text).id for text in ("packed", "unpacked")] == [packed, unpacked]
    left_behind = {"Content-Type": ["application/json"], "Content-Encoding": ["gzip"]}
    bomb = base64.b64encode(gzip.compress(b" " * (64 << 20))).decode()
    one = interaction(url, asked("x"), answer(), headers=left_behind)
    two = interaction(url, asked("y"), "", headers=left_behind)
    two["response"]["body"] = {"base64_string": bomb}
    done = runs.import_(cassette(one, two), "more", source="vcr")
    assert (done.count, *done.left_out.values()) == (1, 1)
    assert next(iter(done.left_out)).startswith("its answer can't be unpacked")


def test_equal_requests_are_samples_in_their_order(url, runs):
    """The first answers by default, and each has its turn where samples are told apart."""
    file = cassette(*(interaction(url, asked("a"), answer(said)) for said in ("one", "two")))
    assert runs.import_(file, "theirs", source="vcr").count == 2
    with llm_cache(run="theirs", mode="replay"):
        assert [replayed(url, "a").id, replayed(url, "a").id] == ["id-one", "id-one"]
    with llm_cache(run="theirs", mode="replay", samples="distinct"):
        assert [replayed(url, "a").id, replayed(url, "a").id] == ["id-one", "id-two"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda one: one.pop("request"), "can't be read"),
        (lambda one: one["response"].pop("status"), "can't be read"),
        (lambda one: one["response"].update(status={"code": "200"}), "can't be read"),
        (lambda one: one["response"].update(body=7), "can't be read"),
        (lambda one: one["request"].update(uri=["x"]), "can't be read"),
        (lambda one: one["request"].update(uri="http://[x/chat/completions"), "no model call"),
        (lambda one: one["request"].update(headers=[1]), "can't be read"),
        (lambda one: one["request"].update(body='{"model": 1e999}'), "model call"),
        (lambda one: one["response"].update(headers={"Content-Type": ["a\nb"]}), "can't"),
        (lambda one: one["response"].update(body={"string": answer(error={"message": "no"})}), "not one to keep"),
        (lambda one: one["response"].update(body={"string": answer()[:-9]}), "not one to keep"),
        (lambda one: one["response"].update(body={"string": "\ud800"}), "not one to keep"),
        (lambda one: one["response"].update(body=None), "not one to keep"),
    ],
)
def test_what_is_damaged_is_left_out(url, runs, damage, said):
    """One interaction that is wrong costs no other, and a failure of ours is none of them."""
    wrong = interaction(url, asked("wrong"), answer())
    damage(wrong)
    file = cassette(interaction(url, asked("a"), answer()), wrong)
    done = runs.import_(file, "theirs", source="vcr")
    assert (done.count, *done.left_out.values()) == (1, 1)
    assert said in next(iter(done.left_out))


ALIASES = "a: &a [x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 8)}]" for n in range(9)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("interactions: {}", "no list of interactions"),
        ("", "no list of interactions"),
        ("- request: {}\n  response: {}", "before 1.0"),
        ('{"interactions": ' + "[" * 100_000, "no JSON that can be read"),
        ("interactions: [", "no YAML that can be read"),
        ('{"interactions": [', "no JSON that can be read"),
        ("interactions: !!python/object/apply:os.system ['true']", "objects of a programming language"),
        ("interactions: !!python/name:os.system ''", "objects of a programming language"),
        ("interactions: &x [*x]", "to itself"),
        (ALIASES, "holds more than"),
        ("interactions: " + "[" * 100 + "]" * 100, "nested more than"),
        ("interactions: " + "[" * 100_000, "nested more than|can't be read|no YAML"),
        ("interactions: !!int x", "can't be read"),
        ("interactions: !!int ''", "can't be read"),
        ("interactions: !!float ''", "can't be read"),
        ("interactions: !!bool maybe", "can't be read"),
        ("interactions: !!binary '='", "no YAML|can't be read|no list"),
        ("interactions: []", "holds no call that a run can have"),
    ],
)
def test_a_file_that_is_no_cassette(runs, content, said):
    """It is refused as a whole, in one sentence that begins with its name, and leaves nothing behind."""
    Path("c.yaml").write_text(content)
    with pytest.raises(ConfigurationError, match=f"^c.yaml:? .*({said})") as refused:
        runs.import_("c.yaml", "theirs", source="vcr")
    assert "\n" not in str(refused.value)
    assert runs.list() == ()


def test_aliases_are_followed():
    """Where the same value occurs several times, as PyYAML writes it."""
    assert read_yaml("a: &x {b: [1, 2.5, ~, true, '7']}\nc: *x\nd: !!binary aGk=") == {
        "a": (one := {"b": [1, 2.5, None, True, "7"]}),
        "c": one,
        "d": b"hi",
    }


def test_json_of_aiohttp_is_taken_as_it_was_given(url, runs):
    """Of `json=...` vcrpy keeps the value, and no content type."""
    one = interaction(url, {}, answer())
    one["request"].update(body=asked("a", temperature=0.5), headers={"Accept": "*/*"})
    assert runs.import_(cassette(one), "theirs", source="vcr").count == 1
    with llm_cache(run="theirs", mode="replay"):
        assert replayed(url, "a", temperature=0.5).id == "id-yes"


@pytest.fixture
def cachy(url, monkeypatch):
    """Record with pycachy, in this directory."""
    module = pytest.importorskip("cachy", reason="pip install pycachy")
    monkeypatch.setenv("CACHY_LOG", "asked.log")

    def recording(**more):
        return module.cachy(cache_dir=".", doms=("127.0.0.1",), **more)

    return recording


def test_what_pycachy_recorded_is_replayed(url, runs, unique_server, cachy):
    """With the log that tells what was asked, in each form; what has noise in it is counted."""
    with cachy():
        plain = post(url, asked("a")).json()["id"]
        post(url, asked("streamed", stream=True))
        post(url, asked("an object at 0x7f3a5c0d9e10"))
        post(url, {"model": MODEL, "messages": []})
        claude = {"model": "claude-sonnet-5", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}]}
        post(unique_server.url, claude, "/v1/messages", **{"anthropic-version": "2023-06-01"})
    before = unique_server.count
    done = runs.import_("cachy.jsonl", "theirs", source="cachy", log="asked.log")
    assert done.count == 4  # of Anthropic's, for each version of its API
    said = " ".join(done.left_out)
    assert (said.count("no model call"), said.count("asked with addresses")) == (1, 1)
    with llm_cache(run="theirs", mode="replay"):
        assert replayed(url, "a").id == plain
        assert [*replayed(url, "streamed", stream=True)]
        with anthropic.Anthropic(base_url=unique_server.url, api_key="k", max_retries=0) as client:
            client.messages.create(**claude)
    assert unique_server.count == before
    runs.export("theirs", "theirs.jsonl", plaintext=True)
    assert SECRET not in Path("theirs.jsonl").read_text()


def test_without_its_log_nobody_knows_what_pycachy_was_asked(runs, cachy):
    """It says so, and what to do."""
    Path("cachy.jsonl").write_text('{"key": "12345678", "response": "{}"}\n')
    with pytest.raises(ConfigurationError, match=r"cachy.jsonl: pycachy keeps a digest.*CACHY_LOG.*--log FILE"):
        runs.import_("cachy.jsonl", "theirs", source="cachy")


@pytest.mark.parametrize(
    ("record", "log", "said"),
    [
        ("nonsense\n", "", "no cachy.jsonl"),
        ('{"key": "12345678", "response": "{}"}\n', "nonsense", "none of pycachy's"),
        (
            '{"key": "12345678", "response": "{}"}\n',
            '{"key": "12345678", "url": "http://x", "body": "{}"}',
            "1 answers of which",
        ),
        ('{"key": 1, "response": "{}"}\n[]\n', "", "2 a line that can't be read"),
    ],
)
def test_a_file_that_pycachy_did_not_write(runs, record, log, said):
    """It is refused; a line of the log that is not of its digest tells nothing."""
    Path("cachy.jsonl").write_text(record)
    Path("asked.log").write_text(log)
    with pytest.raises(ConfigurationError, match=f"^cachy.jsonl.*{said}"):
        runs.import_("cachy.jsonl", "theirs", source="cachy", log="asked.log")


def test_older_recordings_of_pycachy_have_no_headers(url, runs, cachy):
    """The answer itself tells what it is."""
    with cachy():
        plain = post(url, asked("a")).json()["id"]
    record = json.loads(Path("cachy.jsonl").read_text())
    Path("cachy.jsonl").write_text(json.dumps({name: record[name] for name in ("key", "response")}))
    assert runs.import_("cachy.jsonl", "theirs", source="cachy", log="asked.log").count == 1
    with llm_cache(run="theirs", mode="replay"):
        assert replayed(url, "a").id == plain


def test_the_command(url, runs, capsys):
    """It takes the name as a word or an option, says what was left out, and counts it for scripts."""
    fails = interaction(url, asked("b"), "{}", status=500)
    file = cassette(interaction(url, asked("a"), answer()), fails)

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(("runs", "import", *arguments))
        captured = capsys.readouterr()
        return ended.value.code, captured.out + captured.err

    code, out = run("--from", "vcr", file, "theirs")
    assert (code, "run theirs, 1 call, is imported" in out, "1 left out: answered with status 500" in out) == (
        0,
        True,
        True,
    )
    code, out = run("--from", "vcr", file, "--as", "again", "--json")
    assert (code, json.loads(out)["calls"], [*json.loads(out)["left_out"].values()]) == (0, 1, [1])
    assert run("--from", "vcr", file, "one", "--as", "other")[0] == 2
    for words, said in [
        ((file,), "import it with --from vcr"),
        (("--from", "vrc", file), "write one of vcr, cachy"),
        (("--from", "vcr", file, "--log", "x"), "--log is for --from cachy"),
        (("--from", "vcr", "nothing.yaml"), "there is no file nothing.yaml"),
    ]:
        code, out = run(*words)
        assert (code, said in out) == (2, True), out
