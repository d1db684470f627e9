"""The demonstration: it pays once, says that it is simulated, keeps to its directory, and notices when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import nbformat
import pytest

from genai_cache_magic.cli.demos import demo
from genai_cache_magic.cli.demos.demo import (
    CellResult,
    DemoResult,
    RunResult,
    fresh_directory,
    kernel_environment,
    notebook_path,
    read_cells,
    run_demo,
    simulated_models,
    simulated_providers,
)
from genai_cache_magic.errors import ConfigurationError

CALL = """
%%llm_cache {options}
import openai
with openai.OpenAI(max_retries=0) as client:
    client.chat.completions.create(model="gpt-4.1-mini", messages=[{{"role": "user", "content": "hello"}}])
"""


def notebook_with(path, *sources):
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in ("%load_ext genai_cache_magic", *sources)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return path


def a_run(*, hits=0, misses=0, upstream=None, failure=""):
    cell = CellResult("calls", hits, misses, 0, 10, Decimal(0), Decimal(0))
    return RunResult(Path("run.ipynb"), (cell,), upstream, 0.1, failure)


@pytest.mark.service
def test_second_run_is_all_hits(tmp_path):
    """`genai-cache demo` pays in its first run alone, whatever the user's settings, keys and proxy are."""
    user = {
        "GENAI_CACHE_MODE": "off",
        "GENAI_CACHE_DIR": "/nonexistent",
        "OPENAI_API_KEY": "sk-the-users-own",
        "OPENAI_BASE_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-m", "genai_cache_magic.cli.main", "demo", "--output", "out"]
    ended = subprocess.run(
        command, check=False, cwd=tmp_path, env={**os.environ, **user}, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    said = " ".join(ended.stdout.split())
    assert "simulated models" in said
    assert "simulated servers counted 13 model calls" in said
    assert "simulated servers counted 0 model calls" in said
    lines = (tmp_path / "out" / "quickstart.jsonl").read_text().splitlines()
    assert (len(lines), "The run as a file of 13 calls" in said, "openai.chat gpt-4.1-mini" in said) == (14, True, True)
    first, second = (
        read_cells(nbformat.read(tmp_path / "out" / f"run-{number}.ipynb", as_version=4)) for number in (1, 2)
    )
    assert [(cell.name, cell.misses, cell.hits) for cell in first] == [
        (cell.name, cell.hits, cell.misses) for cell in second
    ]
    assert sum(cell.hits for cell in second) == 13
    assert [cell.spent_usd for cell in first] == [cell.saved_usd for cell in second]
    assert all(cell.spent_usd == 0 for cell in second)
    assert not (tmp_path / "home").exists()


@pytest.mark.service
def test_answers_that_are_not_kept_are_noticed(tmp_path, monkeypatch):
    """A second run that asks the models again fails the demonstration, and is counted by the servers."""
    source = notebook_with(tmp_path / "read.ipynb", CALL.format(options="--mode read"))
    monkeypatch.setattr(demo, "notebook_path", lambda: source)
    result = run_demo(tmp_path / "out")
    assert [run.upstream for run in result.runs] == [1, 1]
    assert "found 0" in result.problem


@pytest.mark.service
def test_a_failing_notebook_is_named(tmp_path, monkeypatch):
    """An error in the notebook ends the demonstration with that error, and the notebook is kept to look at."""
    source = notebook_with(tmp_path / "broken.ipynb", "1 / 0")
    monkeypatch.setattr(demo, "notebook_path", lambda: source)
    result = run_demo(tmp_path / "out")
    assert result.problem == "run 1 failed: ZeroDivisionError: division by zero"
    assert "ZeroDivisionError" in (tmp_path / "out" / "run-1.ipynb").read_text()


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (a_run(misses=3, upstream=3), a_run(hits=3, upstream=0), ""),
        (a_run(misses=3), a_run(hits=3), ""),
        (a_run(misses=3, upstream=3), a_run(hits=3, upstream=1), "asked the models 1 times"),
        (a_run(misses=3, upstream=3), a_run(hits=2, misses=1, upstream=1), "found 2"),
        (a_run(misses=3, upstream=3), a_run(hits=2, upstream=0), "found 2"),
        (a_run(hits=1, misses=2, upstream=2), a_run(hits=3, upstream=0), "run 1 found 1"),
        (a_run(), a_run(), "run 1 found 0"),
        (a_run(misses=3, upstream=3), a_run(failure="KeyError: 'x'"), "run 2 failed: KeyError"),
    ],
)
def test_verdict(first, second, said):
    """The demonstration succeeds only if the first run fetched and the second fetched nothing."""
    problem = DemoResult((first, second), is_live=False).problem
    assert (said in problem) if said else problem == ""


def test_other_peoples_files_stay(tmp_path):
    """A directory that no demonstration made is refused, and nothing in it is touched."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigurationError, match="holds other files"):
        fresh_directory(tmp_path)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"


def test_an_earlier_demonstration_is_replaced(tmp_path):
    """What an earlier demonstration cached and wrote is removed; a notebook that the user keeps there is not."""
    output = fresh_directory(tmp_path / "out")
    for name in ("home/cache.db", "run-1.ipynb", "quickstart.ipynb"):
        (output / name).write_text("x")
    fresh_directory(output)
    assert sorted(path.name for path in output.rglob("*") if path.is_file()) == [
        ".genai-cache-demo",
        "quickstart.ipynb",
    ]


def test_a_place_that_can_not_be_used(tmp_path):
    """A file in the place of the directory is named, with the way out."""
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigurationError, match="--output"):
        fresh_directory(tmp_path / "out")


def test_keys_of_the_user_stay_out(monkeypatch):
    """A kernel that asks simulated models gets neither the user's keys nor settings, nor a proxy for loopback."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "secret")
    monkeypatch.setenv("GENAI_CACHE_MODE", "off")
    monkeypatch.setenv("NO_PROXY", "example.com")
    with ExitStack() as stack:
        _, variables = simulated_models(stack, {})
        environment = kernel_environment(variables)
    assert environment["OPENAI_API_KEY"] == environment["ANTHROPIC_API_KEY"] == "simulated"
    assert not {"OPENAI_ORG_ID", "ANTHROPIC_AUTH_TOKEN", "GENAI_CACHE_MODE"} & environment.keys()
    assert environment["NO_PROXY"] == "example.com,127.0.0.1"


def test_live_uses_the_keys_that_there_are(monkeypatch):
    """Live, a provider whose key is set is asked itself; one without a key stays simulated."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-own")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with ExitStack() as stack:
        servers, variables = simulated_models(stack, os.environ)
        environment = kernel_environment(variables)
    assert len(servers) == 1
    assert environment["OPENAI_API_KEY"] == "sk-own"
    assert environment["ANTHROPIC_BASE_URL"] == servers[0].url
    assert "anthropic are simulated" in demo._models(simulated_providers(os.environ))


def test_missing_packages_are_named(tmp_path, monkeypatch):
    """Without the extra the demonstration says what to install, before it writes anything."""
    monkeypatch.setattr(demo, "_NEEDED", ("nbformat", "no_such_package_here"))
    with pytest.raises(ConfigurationError, match=r"needs no_such_package_here: .*genai-cache-magic\[demo\]"):
        run_demo(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_notebook_is_saved_without_outputs():
    """The repository's notebook holds no output, no execution count and no state of a front end."""
    notebook = nbformat.read(notebook_path(), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert not any(cell.metadata for cell in notebook.cells)
