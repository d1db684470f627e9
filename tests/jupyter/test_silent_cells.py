"""Cells that IPython runs silently: an explicit magic is obeyed there, and ends with its cell."""

from __future__ import annotations

import json
import subprocess
import sys

import nbformat
import pytest

pytestmark = pytest.mark.service


def write(path, *cells):
    """Write a notebook of code cells."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(notebook, path)
    return path


def test_a_notebook_that_is_run_keeps_its_scopes_to_itself(kernel, server, tmp_path):
    """Each cell of a ``%run x.ipynb`` has the scope that it asks for, and what follows it has none of them."""
    inner = write(
        tmp_path / "x.ipynb",
        "%%llm_cache --tag inner\nask('inner')",
        "from genai_cache_magic.intercept.active import active\nbetween = active.get()",
        "",
        "%%llm_cache --tag other\nask('other')",
    )
    ran = kernel.run(f"%run {inner}\nafter = active.get()\nask('after')")
    assert ran.status == "ok", ran.error
    assert [(badge["tags"], badge["misses"]) for badge in ran.badges] == [(["inner"], 1), (["other"], 1)]
    assert kernel.run("between, after").result == "(None, None)"
    before = server.count
    assert kernel.run(f"%run {inner}").badges[0]["hits"] == 1
    assert server.count == before


def test_a_notebook_that_is_run_within_a_scope(kernel, tmp_path):
    """Within a cell that has a scope, cells without a magic belong to it, and it is in force again afterwards."""
    inner = write(tmp_path / "x.ipynb", "%%llm_cache --tag own\nask('own')", "ask('of the outer')")
    script = tmp_path / "y.ipy"
    script.write_text("%%llm_cache --tag script\nask('of the script')\n")
    ran = kernel.run(f"%%llm_cache --tag outer\n%run {inner}\n%run {script}\nask('last')")
    assert [(badge["tags"], badge["misses"]) for badge in ran.badges] == [(["own"], 1), (["script"], 1), (["outer"], 2)]


def test_on_holds_in_silent_cells(kernel, tmp_path):
    """``%llm_cache on`` gives a scope to what ``%run`` runs as to any other code of the cell."""
    inner = write(tmp_path / "x.ipynb", "ask('on')")
    kernel.run("%llm_cache on")
    try:
        assert kernel.run(f"%run {inner}").counts == (0, 1)
    finally:
        kernel.run("%llm_cache off")


@pytest.fixture
def ipython(tmp_path, isolated_environment, preamble):
    """Run a file with ``ipython FILE``, with the extension and clients in place."""
    (tmp_path / "clients.py").write_text(preamble)

    def run(path, **environment):
        options = ["--simple-prompt", "--colors=nocolor", "--no-banner", "--ext=genai_cache_magic"]
        # What it prints last is a line of JSON.
        done = subprocess.run(
            [sys.executable, "-m", "IPython", *options, str(path)],
            env={**isolated_environment, **environment}, cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        return done.stdout

    return run


STATE = "import json\nfrom genai_cache_magic.intercept.active import active\nprint(json.dumps(active.get() is None))"


@pytest.mark.parametrize("kind", ["ipynb", "ipy"])
def test_a_file_given_to_ipython(ipython, tmp_path, server, kind):
    """``ipython x.ipynb`` and ``ipython x.ipy`` obey the magic, show its badge as text, and end its scope."""
    body = "%%llm_cache --tag file\nfrom clients import *\nprint(ask('given to ipython'), ask('given to ipython'))"
    if kind == "ipynb":
        path = write(tmp_path / "x.ipynb", body, STATE)
    else:
        path = tmp_path / "x.ipy"
        path.write_text(body)
    ipython(path)
    before = server.count
    said = ipython(path)
    assert "2 hits" in said
    assert server.count == before
    if kind == "ipynb":
        assert json.loads(said.splitlines()[-1]) is True


def test_a_missing_call_stops_a_notebook_given_to_ipython(ipython, tmp_path, server):
    """A ``ReplayMiss`` in a thread of a silent cell ends that cell, and so the notebook."""
    path = write(
        tmp_path / "x.ipynb",
        "%%llm_cache --mode replay\nfrom clients import *\n"
        "thread = threading.Thread(target=ask, args=('missing in a silent cell',))\nthread.start()\nthread.join()",
        "print('not reached')",
    )
    before = server.count
    said = ipython(path)
    assert "ReplayMiss" in said
    assert "not reached" not in said
    assert server.count == before
