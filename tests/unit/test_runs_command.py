"""Named runs by the command and the magic: listed, compared, and a script or a notebook replayed from one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from named_runs import MODEL, execute
from run_files import origin_url  # noqa: F401 - a fixture

from genai_cache_magic.api.scopes.session import reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.arguments import parse_runs


@pytest.fixture
def command(url, capsys):
    """Run the command after two runs were made; return its exit code, output and error output."""
    execute(url, "a", "b", run="one")
    execute(url, "a", "changed", run="two")
    reset_session()

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(("runs", *arguments))
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_the_command(command):
    """Each does its work in words and as JSON, and exits as documented."""
    code, out, _ = command("list")
    assert (code, "one" in out, "two" in out) == (0, True, True)
    assert len(json.loads(command("list", "--json")[1])["runs"]) == 2
    assert "2 calls" in command("show", "one")[1]
    assert len(json.loads(command("show", "one", "--json")[1])["calls"]) == 2
    code, out, _ = command("diff", "one", "two")
    assert (code, "body.messages[0]" in out) == (1, True)
    assert command("diff", "one", "one")[0] == 0
    code, out, _ = command("diff", "one", "two", "--json")
    assert (code, json.loads(out)["same"]) == (1, 1)
    assert "is pinned" in command("pin", "one")[1]
    assert json.loads(command("pin", "one", "--remove", "--json")[1]) == {"run": "one", "pinned": False}
    assert json.loads(command("export", "one", "x.jsonl", "--plaintext", "--json")[1])["calls"] == 2
    assert "run theirs, 2 calls, is imported" in command("import", "x.jsonl", "--as", "theirs")[1]
    code, _, err = command("show", "none")
    assert (code, "known are one, theirs, two" in err) == (2, True)
    assert command("import", "nothing.jsonl")[0] == 2


SCRIPT = """
import openai
import genai_cache_magic
client = openai.OpenAI(base_url={url!r}, max_retries=0)
for text in ("a", "b"):
    client.chat.completions.create(model={model!r}, messages=[{{"role": "user", "content": text}}])
"""


def test_a_script_is_replayed_from_its_run(command, url, unique_server):
    """The command executes it with the run's answers and with its exit code, and pins nothing."""
    text = SCRIPT.format(url=url, model=MODEL)
    Path("again.py").write_text(text)
    asked = unique_server.count
    assert command("replay", "one", "again.py")[0] == 0
    assert not any(run["is_pinned"] for run in json.loads(command("list", "--json")[1])["runs"])
    code, out, _ = command("replay", "one", "again.py", "--json")
    assert (code, json.loads(out)["code"]) == (0, 0)
    Path("again.py").write_text(text.replace('"b"', '"unknown"'))
    assert command("replay", "one", "again.py")[0] != 0
    assert unique_server.count == asked
    assert command("replay", "one", "nowhere.py")[0] == 2


STRANGER = """
import sys
import openai
client = openai.OpenAI(base_url={url!r}, max_retries=0)
for text in {texts}:
    client.chat.completions.create(model={model!r}, messages=[{{"role": "user", "content": text}}])
"""


def test_a_script_that_knows_nothing_of_us_calls_no_model(command, url, unique_server, monkeypatch):
    """Nor needs it a key; it gets its arguments, and its traceback is its own."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    Path("stranger.py").write_text(STRANGER.format(url=url, model=MODEL, texts="sys.argv[1:]"))
    asked = unique_server.count
    assert command("replay", "one", "stranger.py", "a", "b")[0] == 0
    assert command("replay", "one", "stranger.py", "--", "--unknown")[0] == 1
    words = [sys.executable, "-P", "-m", "genai_cache_magic.cli.script", "stranger.py", "new"]
    force = {**os.environ, "GENAI_CACHE_MODE": "replay"}
    said = subprocess.run(words, capture_output=True, text=True, check=False, timeout=90, env=force).stderr
    assert unique_server.count == asked
    assert "not in the cache" in said
    assert f'File "{Path("stranger.py").absolute()}", line 6, in <module>' in said
    assert "cli/script.py" not in said.replace(os.sep, "/")
    code, _, err = command("replay", "one", "a.ipynb", "x")
    assert (code, "there is no file a.ipynb" in err) == (2, True)


def test_a_script_is_executed_as_python_does(command):
    """Its name, its place, what lies beside it, and processes that it starts anew."""
    Path("beside").mkdir()
    Path("beside/neighbour.py").write_text("WORD = 'here'")
    Path("beside/main.py").write_text(
        "import multiprocessing, neighbour, pathlib, sys\n"
        "def told(number):\n"
        "    return number, __name__ != '__main__'\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        found = pool.map(told, [3])\n"
        "    same = sys.modules['__main__'].told is told and pathlib.Path(__file__).samefile('beside/main.py')\n"
        "    sys.exit(7 if found == [(3, True)] and same and sys.argv == ['beside/main.py', 'x'] else 1)\n"
    )
    assert command("replay", "one", "beside/main.py", "x")[0] == 7


@pytest.mark.service
def test_a_notebook_that_knows_nothing_of_us_calls_no_model(command, url, unique_server):
    """From its first cell on; what is saved is as it was, and no cell runs where the package can't be imported."""
    import nbformat

    def write(text):
        cells = [nbformat.v4.new_markdown_cell("A notebook"), nbformat.v4.new_code_cell(text)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), "a.ipynb")

    asked = unique_server.count
    write(STRANGER.format(url=url, model=MODEL, texts=["a", "b"]) + "text")
    assert command("replay", "one", "a.ipynb", "--output", "out.ipynb")[0] == 0
    cell = nbformat.read("out.ipynb", as_version=4).cells[1]
    assert (cell.execution_count, len(cell.outputs), cell.outputs[0].data["text/plain"]) == (1, 1, "'b'")
    write(STRANGER.format(url=url, model=MODEL, texts=["unknown"]))
    code, _, err = command("replay", "one", "a.ipynb")
    assert (code, "ReplayMiss" in err) == (1, True)
    code, _, err = command("replay", "one", "a.ipynb", "x")
    assert (code, "takes no arguments" in err) == (2, True)
    assert unique_server.count == asked


@pytest.mark.service
def test_a_notebook_is_replayed_from_its_run(command, url, unique_server):
    """Whole, in a kernel of its own, and what is saved names the run and no place of this machine."""
    import nbformat

    cells = [
        nbformat.v4.new_code_cell(text) for text in ("%load_ext genai_cache_magic", SCRIPT.format(url=url, model=MODEL))
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), "a.ipynb")
    asked = unique_server.count
    assert command("replay", "one", "a.ipynb", "--output", "out.ipynb")[0] == 0
    assert unique_server.count == asked
    assert "2 hits (from one.run)" in Path("out.ipynb").read_text()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["list"]),
        ("show a", ["show", "a"]),
        ("diff a 'b c'", ["diff", "a", "b c"]),
        ("export a f.jsonl --plaintext", ["export", "a", "f.jsonl", "--plaintext"]),
        ("import runs/f.jsonl", ["import", "runs/f.jsonl", "f", "", ""]),
        ("import f.jsonl --as g", ["import", "f.jsonl", "g", "", ""]),
        ("import --from vcr f.yaml g", ["import", "f.yaml", "g", "vcr", ""]),
        ("import cachy.jsonl --as g --from=cachy --log l", ["import", "cachy.jsonl", "g", "cachy", "l"]),
    ],
)
def test_the_magic_s_words(line, words):
    """What may be written after ``%llm_cache runs``."""
    assert parse_runs(line) == words


@pytest.mark.parametrize("line", ["replay a b.py", "pin a --remove"])
def test_what_the_command_alone_can_do(line):
    """The magic says where it is done."""
    with pytest.raises(ConfigurationError, match=f"in a terminal it is genai-cache runs {line}$"):
        parse_runs(line)


@pytest.mark.parametrize(
    "line",
    [
        "shw a",
        "show",
        "diff a",
        "export a",
        "import",
        "import a --as",
        "import a b c",
        "import a --form vcr",
        "import a b --as c",
        "show --all",
        "pin 'a",
        "list a",
    ],
)
def test_wrong_words_after_the_magic(line):
    """Each names what should stand there."""
    with pytest.raises(ConfigurationError, match=r"%llm_cache runs"):
        parse_runs(line)
