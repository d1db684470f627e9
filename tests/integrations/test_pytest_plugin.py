"""The pytest plugin: tests replay what was recorded beside them, and say in what a call differs that was not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from genai_cache_magic.integrations.pytest import difference
from genai_cache_magic.runs.lines import decode_file

pytestmark = pytest.mark.timeout(170)

PLUGIN = "genai_cache_magic.integrations.pytest"
# An SDK takes each process, workers too, a second to load, and is of no matter but to who has no key.
BY_SDK = """
import openai

def ask(text):
    with openai.OpenAI(base_url=os.environ["MODEL_URL"], max_retries=0) as client:
        return client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}]).id

async def ask_async(text):
    async with openai.AsyncOpenAI(base_url=os.environ["MODEL_URL"], max_retries=0) as client:
        await client.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
"""
BY_HTTP = """
import httpx

def asked(text):
    messages = [{"role": "user", "content": text}]
    return {"url": os.environ["MODEL_URL"] + "/chat/completions", "json": {"model": "m", "messages": messages}}

def ask(text):
    with httpx.Client() as client:
        return client.post(**asked(text)).raise_for_status().json()["id"]

async def ask_async(text):
    async with httpx.AsyncClient() as client:
        (await client.post(**asked(text))).raise_for_status()
"""
TESTS = """
@pytest.fixture(scope="module")
def early():
    return ask("fixture")

def test_one(early):
    assert ask("one") != early

def test_two():
    thread = threading.Thread(target=ask, args=("two",))
    thread.start()
    thread.join()

async def test_three():
    await ask_async("three")

def test_none():
    pass
"""
IMPORTS = "import os, threading, pytest\n"
CASES = IMPORTS + BY_HTTP + TESTS
CASES_BY_SDK = IMPORTS + BY_SDK + TESTS


@pytest.fixture
def run(isolated, unique_server, monkeypatch):
    """Run pytest on the cases in a process of its own, and return its exit code and what it said."""
    monkeypatch.setenv("MODEL_URL", unique_server.openai_url)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    Path("test_cases.py").write_text(CASES)

    def pytest_run(*arguments, **environment):
        loaded = [argument for name in (PLUGIN, "xdist", "pytest_asyncio.plugin") for argument in ("-p", name)]
        options = ["-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto"]
        command = [sys.executable, "-W", "ignore", "-m", "pytest", *loaded, *options, *arguments]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=150, check=False,
            env={**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return pytest_run


def recorded():
    return len(decode_file(Path("__genai_cache__/test_cases.jsonl").read_bytes()))


def test_what_was_recorded_is_replayed(run, unique_server, tmp_path):
    """Fixtures, threads and coroutines too: from the file alone, without a key and another machine's cache."""
    Path("test_cases.py").write_text(CASES_BY_SDK)
    assert run("--genai-cache=record")[0] == 0
    assert (recorded(), unique_server.count) == (4, 4)
    elsewhere = {"GENAI_CACHE_DIR": str(tmp_path / "elsewhere"), "OPENAI_API_KEY": ""}
    code, said = run("--genai-cache=replay", **elsewhere)
    assert code == 0, said
    assert unique_server.count == 4
    assert not (tmp_path / "elsewhere").exists()
    Path("test_cases.py").write_text(CASES_BY_SDK.replace('"one"', '"changed"'))
    code, said = run("--genai-cache=replay", "-n", "2", **elsewhere)
    assert code == 1
    assert unique_server.count == 4
    assert "m: this call was not recorded. Nor is it in __genai_cache__/test_cases.jsonl" in said
    assert "--genai-cache=record adds it" in said
    assert '+        "content": "changed",' in said


def test_record_drops_what_no_test_asks(run, unique_server):
    """Once all tests of the module have passed; while some are left out, what they ask stays."""
    assert run("--genai-cache=record", "-n", "2")[0] == 0
    assert recorded() == 4
    Path("test_cases.py").write_text(CASES.replace('"one"', '"changed"'))
    assert run("--genai-cache=record", "-k", "one")[0] == 0
    assert recorded() == 5
    assert run("--genai-cache=record")[0] == 0
    assert recorded() == 4
    assert unique_server.count == 5


SHARED = """
from test_cases import ask
import pytest

@pytest.fixture(scope="session")
def shared():
    return ask("session")

@pytest.fixture(scope="module")
def own():
    yield ask("module")
    ask("the end")
"""
USES = "def test_it(shared, own):\n    assert shared\n"


def test_what_serves_several_modules_stands_beside_its_conftest(run, unique_server, tmp_path):
    """Each module replays alone, whichever set the fixture up first; what is asked in the end is answered."""
    Path("conftest.py").write_text(SHARED)
    for name in ("test_first.py", "test_second.py"):
        Path(name).write_text(USES)
    code, said = run("--genai-cache=record", "test_first.py", "test_second.py")
    assert code == 0, said
    asked = unique_server.count
    for arguments in (["test_second.py"], ["test_first.py", "test_second.py", "-n", "2"]):
        code, said = run("--genai-cache=replay", *arguments, GENAI_CACHE_DIR=str(tmp_path / "e"), OPENAI_API_KEY="")
        assert code == 0, said
    assert unique_server.count == asked
    shared = Path("__genai_cache__/conftest.jsonl")
    assert [len(decode_file(file.read_bytes())) for file in (shared, shared.with_name("test_first.jsonl"))] == [1, 2]
    Path("conftest.py").write_text(SHARED.replace('"session")\n\n', '"changed")\n\n'))
    for arguments in (["test_first.py"], ["--ignore=test_second.py"]):
        assert run("--genai-cache=record", *arguments)[0] == 0
        assert len(decode_file(shared.read_bytes())) == 2  # other modules may ask what was there
    Path("test_second.py").write_text(f"import pytest\npytest.importorskip('no_such_module')\n{USES}")
    for arguments in ([], ["-n", "2"]):
        assert run("--genai-cache=record", *arguments)[0] == 0
        assert len(decode_file(shared.read_bytes())) == 2
    Path("test_second.py").write_text(USES)
    assert run("--genai-cache=record")[0] == 0
    assert len(decode_file(shared.read_bytes())) == 1


IN_A_CLASS = """
from test_cases import ask
import pytest

class TestIt:
    @pytest.fixture(scope="session")
    def shared(self):
        return ask("in a class")

    def test_it(self, shared):
        assert shared
"""


def test_what_stands_in_a_class_stands_in_the_file_of_its_module(run, unique_server):
    """A fixture of the session too, which no other module can ask for."""
    Path("test_class.py").write_text(IN_A_CLASS)
    code, said = run("--genai-cache=record", "test_class.py")
    assert code == 0, said
    assert len(decode_file(Path("__genai_cache__/test_class.jsonl").read_bytes())) == 1
    assert not list(Path().glob("*::*"))


def test_the_page_s_example_works_as_it_is_written(run, unique_server, monkeypatch, tmp_path):
    """Recorded beside the tests, where the page says, and replayed by who has neither key nor network."""
    page = (Path(__file__).parents[2] / "docs" / "runs.md").read_text(encoding="utf-8")
    (example,) = [
        block for block in re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) if "def test_" in block
    ]
    Path("test_cases.py").unlink()
    Path("tests").mkdir()
    Path("tests/test_judge.py").write_text(example)
    Path("tests/judge.py").write_text(
        "def verdict(client, statement):\n"
        "    asked = [{'role': 'user', 'content': f'Correct or wrong? {statement}'}]\n"
        "    answer = client.chat.completions.create(model='gpt-4.1-mini', messages=asked)\n"
        "    return 'correct' if answer.choices[0].message.content else 'wrong'\n"
    )
    monkeypatch.setenv("OPENAI_BASE_URL", unique_server.openai_url)
    assert run("--genai-cache=record")[0] == 0
    assert (unique_server.count, Path("tests/__genai_cache__/test_judge.jsonl").is_file()) == (1, True)
    elsewhere = {"GENAI_CACHE_DIR": str(tmp_path / "elsewhere"), "OPENAI_API_KEY": ""}
    code, said = run("--genai-cache=replay", **elsewhere)
    assert (code, unique_server.count) == (0, 1), said


def test_without_the_option_nothing_happens(run):
    """The plugin does nothing until it is asked for."""
    assert run("-k", "none")[0] == 0
    assert not Path("__genai_cache__").exists()


def test_another_word_is_an_error(run):
    """It says which there are."""
    code, said = run("--genai-cache=replya")
    assert code != 0
    assert "choose from" in said


def test_the_difference_of_two_requests():
    """Lines of the nearest request and of this one; all of it is new where there is none."""
    assert '-  "a": 1' in difference({"a": 2}, {"a": 1})
    assert '+  "a": 2' in difference({"a": 2}, None)
