"""Whole notebooks: what is saved, and what a tool that executes them sees."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from genai_cache_magic.vectors import INSTALL_LOCAL

pytestmark = pytest.mark.service

MIME = "application/vnd.genai-cache.cell+json"

CELLS = (
    "%%llm_cache --tag a\n[ask(f'q{i}') for i in range(3)]",
    "%%llm_cache\nawait asyncio.gather(*[aask(f'g{i}') for i in range(8)])",
    "%%llm_cache --quiet\nask('quiet');",
    "%%llm_cache --samples distinct\n[ask('the same secret question') for _ in range(3)]",
    (
        "%%llm_cache\nthreads = [threading.Thread(target=ask, args=(f't{i}',)) for i in range(6)]\n"
        "_ = [thread.start() for thread in threads], [thread.join() for thread in threads]"
    ),
)


def test_two_runs_from_the_cache_are_saved_as_the_same_bytes(execute, tmp_path):
    """No clock, place, key, prompt or widget is in the saved notebook, so version control sees no change."""
    execute(*CELLS)
    first, second = (nbformat.writes(execute(*CELLS)) for _ in range(2))
    assert first == second
    assert "3 hits, 0 misses" in first
    saved = json.loads(first)
    assert "widgets" not in saved["metadata"]
    kinds = {kind for cell in saved["cells"] for output in cell["outputs"] for kind in output.get("data", {})}
    assert kinds == {"text/plain", "text/html", MIME}
    badges = [output.data for cell in saved_cells(first) for output in cell.outputs if MIME in output.get("data", {})]
    assert len(badges) == len(CELLS) - 1
    assert all(list(badge) == [MIME, "text/html", "text/plain"] for badge in badges)  # the first that is known is drawn
    said = json.dumps(badges)
    places = [str(tmp_path), platform.node(), "127.0.0.1", "/home", "secret question", "latency", "age"]
    assert [place for place in places if place in said] == []
    assert not re.search(r"[0-9a-f]{17}|20\d\d-\d\d|\d\d:\d\d", said)
    assert_exported(nbformat.reads(first, as_version=4))


def test_what_the_team_had_and_then_this_machine_is_saved_as_the_same_bytes(execute, redis_server, tmp_path):
    """Parallel calls, threads, samples and money too; a second run is answered by this machine's own copies."""
    team = {"GENAI_CACHE_L2": redis_server.url, "GENAI_CACHE_NAMESPACE": "saved-alike"}
    execute(*CELLS, **team, GENAI_CACHE_DIR=str(tmp_path / "colleague"))
    told = "from genai_cache_magic import last_cell\nprint({call.tier.value for call in last_cell().calls})"
    runs = [execute(*CELLS, told, **team) for _ in range(2)]
    assert [run.cells.pop().outputs[0].text for run in runs] == ["{'L2'}\n", "{'L1'}\n"]
    first, second = map(nbformat.writes, runs)
    assert "6 hits, 0 misses" in first
    assert first == second


def test_a_run_is_recorded_replayed_and_compared(server, machine, tmp_path):
    """One kernel records, another with neither key nor cache replays, a third changes one prompt: that call differs."""
    path = Path(__file__).parents[2] / "notebooks" / "shared_run.ipynb"
    (tmp_path / "work").mkdir()
    file = tmp_path / "work" / "reviews.jsonl"

    def executed(whose, key="", **parameters):
        notebook = nbformat.read(path, as_version=4)
        (given,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
        given.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        found = {"OPENAI_BASE_URL": server.openai_url, **({"OPENAI_API_KEY": key} if key else {})}
        place = {"metadata": {"path": str(file.parent)}}
        NotebookClient(notebook, kernel_name="python3", timeout=60, resources=place).execute(
            env=machine(whose, **found)
        )
        outputs = [output for cell in notebook.cells[4:] for output in cell.get("outputs", ())]
        (badge,) = [output.data[MIME] for output in outputs if MIME in output.get("data", {})]
        # A kernel sends what is printed in as many pieces as its clock makes of it.
        printed = "".join(output.text for output in outputs if output.output_type == "stream")
        return (badge["hits"], badge["misses"]), printed, outputs[-1].data["text/plain"]

    before = server.count
    counts, printed, _ = executed("mine", key="k")
    recorded = file.read_bytes()
    assert (counts, server.count - before) == ((0, 3), 3)
    replayed, same, compared = executed("theirs", mode="replay")
    assert (replayed, same) == ((3, 0), printed)
    assert "3 calls the same, 0 differences" in compared
    assert (server.count - before, file.read_bytes()) == (3, recorded)
    changed, _, compared = executed("mine", key="k", run="changed", third="Good lamp, wrong colour.")
    assert (changed, server.count - before) == ((2, 1), 4)
    assert "2 calls the same, 1 difference" in compared
    assert "body.messages[1]" in compared
    assert set(recorded.splitlines()) < set(file.read_bytes().splitlines())


def test_the_notebook_of_vectors_needs_no_key(machine):
    """A question in other words gets the answer to the first, one in which a word was changed does not."""
    pytest.importorskip("all_minilm_l6_v2", reason=INSTALL_LOCAL)
    pytest.importorskip("tokenizers", reason=INSTALL_LOCAL)
    notebook = nbformat.read(Path(__file__).parents[2] / "notebooks" / "vector_cache.ipynb", as_version=4)
    NotebookClient(notebook, kernel_name="python3", timeout=60).execute(env=machine("mine"))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "How do I reset my password?  ->  account/password" in printed
    assert "guarded=False: ['0.99" in printed
    assert "guarded=True: []" in printed
    badges = [output.data[MIME] for output in outputs if MIME in output.get("data", {})]
    assert [(badge["misses"], badge.get("similar", 0)) for badge in badges] == [(1, 0), (0, 1), (1, 0)]
    assert any(hint.endswith("to: How can I reset my password?") for hint in badges[1]["hints"])


def saved_cells(text):
    """The cells of a saved notebook, without the one that sets it up."""
    return nbformat.reads(text, as_version=4).cells[1:]


def assert_exported(notebook):
    """HTML and Markdown show the badge, by words, and no script of ours."""
    from nbconvert import HTMLExporter, MarkdownExporter

    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert "3 hits, 0 misses · " in html
    assert "widget-view" not in html
    markdown, _ = MarkdownExporter().from_notebook_node(notebook)
    assert "3 hits, 0 misses · " in markdown
    for exported in (html, markdown):
        shown = exported[exported.index("3 hits, 0 misses · ") :][:3000]
        assert "<script" not in shown.partition("</details>")[0]


def test_a_late_call_changes_the_saved_badge(execute):
    """The badge of a cell whose task ended later is saved as it was last."""
    notebook = execute(
        "%%llm_cache --tag late\ntask = asyncio.create_task(aask('late'))",
        "await task\nawait asyncio.sleep(1)",
    )
    (output,) = [output for output in notebook.cells[1].outputs if output.output_type == "display_data"]
    assert output.data[MIME]["misses"] == 1


def papermill(tmp_path, environment, *cells):
    path = tmp_path / "in.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, path)
    return subprocess.run(
        [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb"), "--no-progress-bar"],
        capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("%%llm_cache --mode replay\nask('nobody asked this before')", "ReplayMiss"),
        ("%%llm_cache --tags a\n1", "ConfigurationError"),
        ("%%llm_cache\n%%time\nawait aask('x')", "ConfigurationError"),
        ("%llm_cache clear", "ConfigurationError"),
    ],
)
def test_papermill_stops_with_1(tmp_path, isolated_environment, preamble, cell, error):
    """A notebook that went wrong is a failed job, and the log says why."""
    done = papermill(tmp_path, isolated_environment, f"%load_ext genai_cache_magic\n{preamble}", cell)
    assert done.returncode == 1
    assert error in done.stderr


def test_papermill_ends_with_0_when_all_is_well(tmp_path, isolated_environment, preamble):
    """The same harness passes a notebook that works, so that the failures above mean something."""
    done = papermill(tmp_path, isolated_environment, f"%load_ext genai_cache_magic\n{preamble}", CELLS[0])
    assert done.returncode == 0, done.stderr[-2000:]
    assert "0 hits, 3 misses" in (tmp_path / "out.ipynb").read_text()
