"""The command for scripts: one object on its output, and nothing else."""

from __future__ import annotations

import json

import pytest
from commands import PROMPT, invalidated, one_answer, run_command, unconfigured_home  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.usefixtures("answered")
def test_entries_for_scripts(run):
    """`entries --json` is one JSON object a line, with an id that `invalidate --entry` takes."""
    code, out, _ = run("entries", "--json")
    row = json.loads(out)
    assert code == 0
    assert (row["name"], row["run"], row["tags"]) == ("gpt-4.1-mini", "sweep", ["kept"])
    assert invalidated(run("invalidate", "--entry", row["id"])[1]) == "1"


def test_usage_is_a_table_and_an_object(run, answered):
    """What the calls of a cell came to stands in a table for people and in one JSON object for scripts."""
    code, out, err = run("usage", "--by", "day,model,run")
    assert (code, err) == (0, "")
    assert "gpt-4.1-mini" in out
    assert "sweep" in out
    code, out, _ = run("usage", "--since", "today", "--by", "model", "--json")
    found = json.loads(out)
    assert (code, found["by"], found["total"]["misses"], len(found["rows"])) == (0, ["model"], 1, 1)
    assert found["rows"][0]["model"].startswith("gpt-4.1-mini")
    assert PROMPT not in out


@pytest.mark.parametrize(
    ("words", "holds"),
    [
        (("config",), {"settings", "notes"}),
        (("stats",), {"entries", "hit_rate"}),
        (("optimize",), {"advice"}),
        (("usage",), {"total"}),
        (("invalidate", "gpt-4.1*"), {"count", "known", "published", "dry_run"}),
        (("clear", "--yes"), {"count"}),
        (("gc",), {"entries", "orphan_files"}),
        (("enable",), {"path", "loaded", "changed"}),
        (("trust", "."), {"trusted"}),
        (("trust", "--list"), {"trusted"}),
        (("keys", "show"), {"fingerprint", "place"}),
        (("keys", "export"), {"key"}),
        (("keys", "status"), {"epoch", "kind"}),
        (("keys", "init"), {"made_keys", "status"}),
        (("runs", "list"), {"runs"}),
    ],
)
def test_each_command_speaks_to_scripts(run, answered, home, words, holds):
    """One JSON object on standard output, and nothing else there."""
    (home / "genai-cache.toml").write_text('namespace = "default"\n')
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert holds <= json.loads(out).keys()


def test_what_is_revoked_is_told_to_scripts(run, home):
    """As what is trusted, without a word about secrets."""
    (home / "genai-cache.toml").write_text('l2 = "redis://:secret@127.0.0.1:6379"\n')
    code, out, _ = run("trust", ".", "--json")
    (trusted,) = json.loads(out)["trusted"]
    assert (code, "secret" in out, set(trusted["settings"])) == (0, False, {"l2"})
    assert json.loads(run("trust", "--list", "--json")[1])["trusted"][0]["heard"] is True
    assert json.loads(run("trust", ".", "--revoke", "--json")[1])["revoked"].endswith(home.name)


def test_a_question_is_no_part_of_what_a_script_reads(run, answered, monkeypatch):
    """It stands on standard error, as what came of it."""
    monkeypatch.setattr("genai_cache_magic.cli.main._at_terminal", lambda: True)
    monkeypatch.setattr("typer.confirm", lambda _, err: not err)
    assert run("clear", "--json") == (0, "", "nothing was changed\n")


def test_an_error_is_no_object(run, home):
    """Whatever was asked for: a sentence on standard error, and the exit code."""
    code, out, err = run("runs", "show", "none", "--json")
    assert (code, out, err.startswith("genai-cache: there is no run")) == (2, "", True)
