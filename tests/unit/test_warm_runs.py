"""What was recorded in a run file is asked again from it: exactly that, where nobody knows it exactly not at all."""

from __future__ import annotations

import json

import anthropic
import openai
import pytest
from priced_model import MODEL, body, users_cache  # noqa: F401 - fixtures

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.commands import Commands

pytestmark = pytest.mark.timeout(100)

NOISY = "look at <A object at 0x7f3a5c0b1d90>"
KEYED = {"api_key": "of a model behind a gateway"}
PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]


@pytest.fixture(autouse=True)
def _own(isolated, unique_server, monkeypatch):
    """Every test has a cache of its own."""
    monkeypatch.setenv("OPENAI_BASE_URL", unique_server.openai_url)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", unique_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "k")


def ask(*bodies):
    with openai.OpenAI() as client:
        for one in bodies:
            client.chat.completions.create(**one)


def record(path, *bodies, **options):
    with llm_cache(mode="record", run_file=str(path), **options):
        ask(*bodies)
    current_session().cache("default").clear()


@pytest.mark.parametrize("name", ["sweep.jsonl", "sweep.sealed"])
def test_a_run_file_is_asked_again(cache, tmp_path, unique_server, name):
    """Plain or sealed: what it asked is asked, whichever API it was, and the cells that ask so find the answers."""
    path = tmp_path / name
    claude = body("c", model="claude-sonnet-5")
    with llm_cache(mode="record", run_file=str(path)), anthropic.Anthropic() as client:
        ask(body("a"), body("b", temperature=0.5))
        client.messages.create(**claude)
    cache.clear()
    assert cache.estimate(path).misses == 3
    done = cache.warm(path, progress=False)
    assert (done.stored, done.failed, done.left, done.left_out) == (3, 0, 0, {})
    with llm_cache() as cell, anthropic.Anthropic() as client:
        ask(body("a"), body("b", temperature=0.5))
        client.messages.create(**claude)
    assert (cell.hits, cell.misses) == (3, 0)
    assert cache.warm(str(path), progress=False).hits == 3
    assert unique_server.count == 6


def test_what_the_file_does_not_know_is_not_asked(cache, tmp_path, unique_server):
    """Marks of noise, digests of images and of credentials are never sent to a model; it is said how many."""
    path = tmp_path / "sweep.jsonl"
    record(path, body(NOISY), body("a"), body(PICTURE), body("b", extra_body=KEYED), ignore=("memory-address",))
    asked = unique_server.count
    done = cache.warm(path, ignore=("memory-address",), progress=False)
    assert (done.stored, done.failed, sum(done.left_out.values())) == (1, 0, 3)
    assert any("credentials" in why for why in done.left_out)
    assert any("--ignore" in why for why in done.left_out)
    assert any("images" in why for why in done.left_out)
    assert unique_server.count == asked + 1


def test_the_rules_must_be_those_of_the_recording(cache, tmp_path, unique_server):
    """Under other rules another key would be made: the call is not made, and the part is named."""
    path = tmp_path / "sweep.jsonl"
    record(path, body("a"), ignore=("memory-address",))
    asked = unique_server.count
    (why,) = cache.warm(path, progress=False).left_out
    assert "rules" in why
    assert unique_server.count == asked


def test_a_file_can_not_send_a_request_elsewhere(cache, tmp_path, unique_server, monkeypatch):
    """What was recorded at another origin than the environment's is not sent to that."""
    path = tmp_path / "sweep.jsonl"
    record(path, body("a"))
    asked = unique_server.count
    monkeypatch.setenv("OPENAI_BASE_URL", f"{unique_server.url}/elsewhere/v1")
    for left_out in (cache.warm(path, progress=False).left_out, cache.estimate(path).left_out):
        (why,) = left_out
        assert "recorded at" in why
    assert unique_server.count == asked


def test_what_goes_on_from_an_answer_is_not_asked(cache, tmp_path, unique_server):
    """The id of an earlier answer means nothing at its origin any more."""
    path = tmp_path / "sweep.jsonl"
    with llm_cache(mode="record", run_file=str(path)), openai.OpenAI() as client:
        first = client.responses.create(model=MODEL, input="a")
        client.responses.create(model=MODEL, input="b", previous_response_id=first.id)
    cache.clear()
    done = cache.warm(path, progress=False)
    assert (done.stored, done.failed, list(done.left_out.values())) == (1, 0, [1])
    assert unique_server.count == 3


def test_samples_are_one_request(cache, tmp_path, unique_server):
    """Warming makes the first sample; the others are what equal requests of a list are."""
    path = tmp_path / "sweep.jsonl"
    record(path, body("a"), body("a"), samples="distinct")
    assert unique_server.count == 2
    done = cache.warm(path, progress=False)
    assert (done.stored, done.hits) == (1, 1)


def test_a_run_that_keeps_its_requests(cache, tmp_path, unique_server):
    """One that was imported from a run file does; the record of one's own holds digests, and says so."""
    path = tmp_path / "sweep.jsonl"
    record(path, body("a"))
    cache.runs.import_(path, "theirs")
    assert cache.warm(from_run="theirs", progress=False).stored == 1
    with llm_cache(run="own"):
        ask(body("a"))
    cache.runs.pin("own")
    cache.runs.export("own", tmp_path / "own.jsonl", plaintext=True)
    asked = unique_server.count
    with pytest.raises(ConfigurationError, match="digests"):
        cache.warm(from_run="own")
    assert list(cache.warm(tmp_path / "own.jsonl", progress=False).left_out.values()) == [1]
    with pytest.raises(ConfigurationError, match="no run"):
        cache.warm(from_run="none")
    with pytest.raises(ConfigurationError, match="leave one out"):
        cache.warm([body("a")], from_run="theirs")
    assert unique_server.count == asked


def test_a_damaged_file_is_refused_as_a_whole(cache, tmp_path, unique_server):
    """The line is named, and nothing is asked."""
    path = tmp_path / "sweep.jsonl"
    record(path, body("a"), body("b"))
    asked = unique_server.count
    path.write_text(path.read_text(encoding="utf-8").replace('"content":"b"', '"content":"c"'), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="line"):
        cache.warm(path)
    assert unique_server.count == asked


def test_the_rules_and_the_salt_of_the_cells(cache, monkeypatch, unique_server):
    """What is warmed is found under the rules that are configured, those that are given, and a salt."""
    monkeypatch.setenv("GENAI_CACHE_IGNORE", "uuid")
    reset_session()
    session = current_session()
    warmed = session.cache("default").warm([body("a")], ignore=("iso-time",), salt="s", progress=False)
    with llm_cache(ignore=("iso-time",), salt="s") as cell:
        ask(body("a"))
    assert (warmed.stored, cell.hits, unique_server.count) == (1, 1, 1)
    with create_cache() as own:
        assert own.estimate([body("a")], ignore=("iso-time",), salt="s").hits == 1
        assert own.estimate([body("a")]).misses == 1


def test_the_notebooks_own_rules(tmp_path, unique_server):
    """`%llm_cache warm` asks as a cell would here, with what `%llm_cache on` has set."""
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps(body(NOISY)), encoding="utf-8")
    current_session().turn_on(ignore=("memory-address",), salt="s")
    Commands(None, None).run("warm", str(path))
    with llm_cache() as cell:
        ask(body(NOISY.replace("7f3a", "7f3b")))
    current_session().turn_off()
    assert (cell.hits, unique_server.count) == (1, 1)


def test_the_command(capsys, cache, tmp_path):
    """It takes a run file or an imported run, and its code says that something was left out."""
    path = tmp_path / "sweep.jsonl"
    record(path, body("a"), body(PICTURE))
    cache.runs.import_(path, "theirs")
    reset_session()
    for what in (str(path), "theirs"):
        with pytest.raises(SystemExit) as ended:
            main(["warm", what])
        shown = capsys.readouterr().out
        assert ended.value.code == 1
        assert "not asked: 1 call with images" in shown
    with pytest.raises(SystemExit) as ended:
        main(["warm", "no-run"])
    assert ended.value.code == 2
