"""Whatever is wrong with the cache's surroundings, the user's calls go on and the cell says what to do."""

from __future__ import annotations

import os
import sqlite3

import openai
import pytest

from genai_cache_magic import create_cache, llm_cache
from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.errors import ConfigurationError, GenaiCacheError, KeyUnavailable, ReplayMiss
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import SimulatedModelServer


@pytest.fixture
def ask(tmp_path, monkeypatch):
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / "keys" / "key"))
    reset_session()
    with (
        SimulatedModelServer() as server,
        openai.OpenAI(base_url=server.openai_url, api_key="simulated", max_retries=0) as client,
    ):

        def ask(question="hello", **options):
            with llm_cache(**options) as cell:
                messages = [{"role": "user", "content": question}]
                answer = client.chat.completions.create(model="gpt-4.1-mini", messages=messages)
            assert answer.choices[0].message.content
            return cell

        yield ask
    reset_session()


def outcomes(cell):
    return [(call.outcome, call.stored) for call in cell.calls]


def test_a_directory_that_is_a_file(ask, tmp_path):
    """The call goes on, and the trouble names the path."""
    (tmp_path / "cache").write_text("a file")
    cell = ask()
    assert outcomes(cell) == [(Outcome.BYPASS, False)]
    assert str(tmp_path / "cache") in cell.troubles[0].message


def test_a_directory_that_can_not_be_made(ask, monkeypatch):
    """Where nothing can be written, not even by root, the call bypasses the cache visibly."""
    monkeypatch.setenv("GENAI_CACHE_DIR", "/sys/genai-cache")
    cell = ask()
    assert outcomes(cell) == [(Outcome.BYPASS, False)]
    assert "/sys/genai-cache" in cell.troubles[0].message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away: run as root")
def test_someone_elses_directory(ask, tmp_path):
    """A directory of another user is refused by name."""
    (tmp_path / "cache").mkdir(mode=0o700)
    os.chown(tmp_path / "cache", 12345, 12345)
    cell = ask()
    assert outcomes(cell) == [(Outcome.BYPASS, False)]
    assert str(tmp_path / "cache") in cell.troubles[0].message


def test_a_database_that_is_rubbish(ask, tmp_path):
    """A corrupt database is put aside: a miss, then hits again."""
    ask()
    reset_session()
    (tmp_path / "cache" / "v1" / "default" / "l1" / "cache.db").write_bytes(b"rubbish" * 1000)
    assert outcomes(ask()) == [(Outcome.MISS, True)]
    assert outcomes(ask()) == [(Outcome.HIT, True)]


def test_a_corrupt_entry_is_a_miss_and_healed(ask, tmp_path):
    """A damaged row is never served; the next answer takes its place."""
    ask()
    reset_session()
    with sqlite3.connect(tmp_path / "cache" / "v1" / "default" / "l1" / "cache.db") as database:
        database.execute("UPDATE Cache SET value = zeroblob(length(value))")
    database.close()
    assert outcomes(ask()) == [(Outcome.MISS, True)]
    assert outcomes(ask()) == [(Outcome.HIT, True)]


def test_a_lost_generation_document_is_a_miss(ask, tmp_path):
    """Without the document nothing can be known to be valid."""
    ask()
    (tmp_path / "cache" / "v1" / "default" / "generations").unlink()
    assert outcomes(ask()) == [(Outcome.STALE, True)]
    assert outcomes(ask()) == [(Outcome.HIT, True)]


@pytest.mark.parametrize("damage", ["", "genai-cache-key nonsense"])
def test_a_damaged_key_file_fails_closed(ask, tmp_path, damage):
    """Without the key nothing is stored or served, and nothing in plain text either; the call goes on."""
    ask()
    reset_session()
    key = tmp_path / "keys" / "key"
    key.write_text(damage)
    cell = ask()
    assert outcomes(cell) == [(Outcome.BYPASS, False)]
    assert str(key) in cell.troubles[0].message
    with pytest.raises(KeyUnavailable):
        create_cache()


def test_another_key_is_refused_loudly(ask, tmp_path):
    """A cache that was sealed with another key is not silently started over."""
    ask()
    reset_session()
    (tmp_path / "keys" / "key").unlink()
    cell = ask()
    assert outcomes(cell) == [(Outcome.BYPASS, False)]
    assert "keys import" in cell.troubles[0].message


def test_a_key_in_the_cache_is_refused_however_it_is_written(ask, tmp_path, monkeypatch):
    """What is checked is what is used: ``~`` and variables hide no key in the cache's directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GENAI_CACHE_DIR", "$HOME/cache")
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", "~/cache/keys/key")
    cell = ask()
    assert outcomes(cell) == [(Outcome.BYPASS, False)]
    assert "lies inside the cache directory" in cell.troubles[0].message


def test_replay_says_why_nothing_can_be_replayed(ask, tmp_path):
    """In mode replay a cache that can't be opened raises instead of calling the model."""
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ReplayMiss, match="can't be opened"):
        ask(mode="replay")


def test_replay_names_what_differs_from_the_nearest_call(ask):
    """A replay miss says which component of the request differs, never its content."""
    ask("one question")
    with pytest.raises(ReplayMiss) as caught:
        ask("another question", mode="replay")
    assert "body.messages" in str(caught.value)
    assert "question" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [{"ttl": "soon"}, {"mode": "replya"}, {"tag": ("a",)}, {"tags": ("",)}, {"samples": "many"}, {"store": ("all",)},
     {"budget": 0}, {"budget_usd": float("nan")}, {"budget": -1}, {"namespace": "../x"}],
    ids=repr,
)  # fmt: skip
def test_wrong_options_are_refused_before_anything_is_called(ask, given):
    """A wrong option is a short error that names it."""
    with pytest.raises(ConfigurationError):
        ask(**given)


@pytest.mark.parametrize(
    ("name", "value"),
    [("TTL", "soon"), ("CONNECT_TIMEOUT", "soon"), ("MODUS", "use"), ("ORIGINS", '{"no url": "openai"}')],
)
def test_wrong_settings_are_refused_before_anything_is_called(ask, monkeypatch, name, value):
    """A wrong setting is a short error that names it."""
    monkeypatch.setenv(f"GENAI_CACHE_{name}", value)
    with pytest.raises(GenaiCacheError):
        ask()


def test_nothing_readable_is_at_rest(ask, tmp_path):
    """Neither prompt, answer, model nor tag can be read in any file of the cache."""
    cell = ask("a very secret question", tags=("hidden-label",), run="hidden-run")
    assert cell.calls[0].stored
    reset_session()
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for secret in (b"very secret", b"simulated", b"gpt-4.1-mini", b"hidden-label", b"hidden-run"):
                assert secret not in data, path


def test_encryption_off_is_a_separate_plain_cache(ask, monkeypatch):
    """Switched off, sealed entries are not served, and plain ones are kept apart."""
    ask()
    reset_session()
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
    assert outcomes(ask()) == [(Outcome.MISS, True)]
    assert outcomes(ask()) == [(Outcome.HIT, True)]
    reset_session()
    monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "local")
    assert outcomes(ask()) == [(Outcome.HIT, True)]
