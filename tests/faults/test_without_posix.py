"""The package where the system lacks what POSIX has: no user numbers, no modes, no ``fcntl``, no flags of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
RELEVANT = (
    "contract/test_document_contract.py",
    "contract/test_store_contract.py",
    "unit/test_cache_api.py",
    "unit/test_cells.py",
    "unit/test_config.py",
    "unit/test_crypto_keyset.py",
    "unit/test_generations.py",
)
# The first starts a process by fork, the second asks for modes.
NOT_THERE = "not (test_processes_lose_nothing or test_only_its_owner_may_read)"

A_NOTEBOOK = """
import os, sys
import without_posix
from IPython.core.interactiveshell import InteractiveShell
from genai_cache_magic.testing.model_server import SimulatedModelServer

with SimulatedModelServer("unique") as server:
    for mode in ("use", "replay"):
        shell = InteractiveShell()
        shell.run_line_magic("load_ext", "genai_cache_magic")
        shell.user_ns["url"] = server.url
        done = shell.run_cell('''%%llm_cache --mode MODE
import httpx
body = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
answer = httpx.post(url + "/v1/chat/completions", json=body).text
'''.replace("MODE", mode))
        done.raise_error()
        print("ANSWER", shell.user_ns["answer"])
        shell.run_line_magic("llm_cache", "config")
        shell.run_line_magic("unload_ext", "genai_cache_magic")
"""


def python(*arguments, home: Path):
    home.mkdir(exist_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GENAI_CACHE_")},
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "GENAI_CACHE_DIR": str(home / "cache"),
        "PYTHONPATH": str(TESTS),
    }
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, check=False, env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=120
    )


def test_the_relevant_tests_pass(tmp_path):
    """Stores, documents, settings, keys and cells do what they promise without anything that POSIX alone has."""
    chosen = [str(TESTS / name) for name in RELEVANT]
    plugins = ["-p", "no:cacheprovider", "-p", "without_posix", f"--basetemp={tmp_path / 'temp'}"]
    done = python("-m", "pytest", "-q", *plugins, "-k", NOT_THERE, *chosen, home=tmp_path / "home")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_a_notebook_is_cached(tmp_path):
    """The extension loads, makes its key and its cache, and replays to a second notebook what the first was told."""
    done = python("-c", A_NOTEBOOK, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    first, second = (line for line in done.stdout.splitlines() if line.startswith("ANSWER"))
    assert first == second
    assert "are not checked on this system" in done.stdout
