"""Real kernels, notebooks and terminals, each with a home of its own, and a simulated model behind them."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIME = "application/vnd.genai-cache.cell+json"
TIMEOUT_S = 60

PREAMBLE = """
import asyncio, threading
import openai
client = openai.OpenAI(base_url={url!r}, api_key="k", max_retries=0)
aclient = openai.AsyncOpenAI(base_url={url!r}, api_key="k", max_retries=0)
def ask(text, **more):
    answer = client.chat.completions.create(
        model="gpt-4.1-mini", messages=[{{"role": "user", "content": text}}], **more)
    return answer.choices[0].message.content[:11]
async def aask(text):
    answer = await aclient.chat.completions.create(
        model="gpt-4.1-mini", messages=[{{"role": "user", "content": text}}])
    return answer.choices[0].message.content[:11]
"""


def isolated(home: Path, **more: str) -> dict[str, str]:
    """Return an environment in which nothing of the user's is read or written."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENAI_CACHE_", "OPENAI_"))}
    places = {
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter"),
        "JUPYTER_DATA_DIR": str(home / "jupyter-data"),
        "JUPYTER_RUNTIME_DIR": str(home / "jupyter-runtime"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "GENAI_CACHE_DIR": str(home / "llm-cache"),
        "PYTHONWARNINGS": "default",
    }
    return {**kept, **places, **more}


@dataclass
class Ran:
    """What one cell put out."""

    reply: dict[str, Any]
    outputs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        return self.reply["status"]

    @property
    def error(self) -> str:
        """Text of the errors shown, with colours."""
        return "\n".join("\n".join(o["traceback"]) for o in self.outputs if o["output_type"] == "error")

    @property
    def text(self) -> str:
        return "".join(o["text"] for o in self.outputs if o["output_type"] == "stream")

    @property
    def result(self) -> str | None:
        return next((o["data"]["text/plain"] for o in self.outputs if o["output_type"] == "execute_result"), None)

    @property
    def shown(self) -> list[str]:
        """Texts of what was displayed, badges apart."""
        displayed = [o["data"] for o in self.outputs if o["output_type"] == "display_data"]
        return [data["text/plain"] for data in displayed if MIME not in data]

    @property
    def badges(self) -> list[dict[str, Any]]:
        displayed = [o["data"] for o in self.outputs if o["output_type"] == "display_data"]
        return [data[MIME] for data in displayed if MIME in data]

    @property
    def counts(self) -> tuple[int, int]:
        """Hits and misses of the only badge."""
        (badge,) = self.badges
        return badge["hits"], badge["misses"]


class Kernel:
    """A real ipykernel in a process of its own."""

    def __init__(self, home: Path, **environment: str) -> None:
        home.mkdir(exist_ok=True)
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=isolated(home, **environment), cwd=str(home))
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=TIMEOUT_S)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    def run(self, source: str, *, silent: bool = False, store_history: bool = True) -> Ran:
        """Execute a cell and wait until it is done."""
        outputs: list[dict[str, Any]] = []

        def collect(message: dict[str, Any]) -> None:
            if message["msg_type"] in {"stream", "display_data", "update_display_data", "execute_result", "error"}:
                outputs.append({"output_type": message["msg_type"], **message["content"]})

        reply = self.client.execute_interactive(
            source,
            silent=silent,
            store_history=store_history,
            allow_stdin=False,
            timeout=TIMEOUT_S,
            output_hook=collect,
        )
        return Ran(reply["content"], outputs)

    def interrupt(self) -> None:
        """Do what the stop button does; from any thread, where the manager would leave an event loop behind."""
        os.kill(self.manager.provisioner.pid, signal.SIGINT)

    def is_complete(self, source: str) -> str:
        self.client.is_complete(source)
        return self.client.get_shell_msg(timeout=TIMEOUT_S)["content"]["status"]

    def complete(self, source: str) -> list[str]:
        self.client.complete(source)
        return self.client.get_shell_msg(timeout=TIMEOUT_S)["content"]["matches"]


@pytest.fixture(scope="module")
def server() -> Iterator[SimulatedModelServer]:
    with SimulatedModelServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _released(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that fails while it holds answers back hold up none that follows in the same kernel."""
    yield
    if "server" in request.fixturenames:
        request.getfixturevalue("server").release()


@pytest.fixture(scope="module")
def kernel(server: SimulatedModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """One kernel for a module, with the extension loaded; its tests ask different questions."""
    running = Kernel(tmp_path_factory.mktemp("home"))
    try:
        loaded = running.run(f"%load_ext genai_cache_magic\n{PREAMBLE.format(url=server.openai_url)}")
        assert loaded.status == "ok", loaded.error
        yield running
    finally:
        running.close()


@pytest.fixture(scope="module")
def preamble(server: SimulatedModelServer) -> str:
    """Code that makes clients of the simulated model, and ``ask`` and ``aask``."""
    return PREAMBLE.format(url=server.openai_url)


@pytest.fixture(scope="module")
def make_kernel(tmp_path_factory: pytest.TempPathFactory):
    """Start kernels without the extension, in homes with given files."""
    running: list[Kernel] = []

    def make(*, files: dict[str, str] | None = None, **environment: str) -> Kernel:
        home = tmp_path_factory.mktemp("home")
        for name, text in (files or {}).items():
            (home / name).write_text(text)
        running.append(Kernel(home, **environment))
        return running[-1]

    yield make
    for kernel in running:
        kernel.close()


@pytest.fixture
def isolated_environment(tmp_path: Path) -> dict[str, str]:
    """An environment for programs of a test, with a home of its own."""
    return isolated(tmp_path)


@pytest.fixture
def machine(tmp_path: Path):
    """Return environments for programs on several machines, each with a home of its own."""

    def environment(name: str, **more: str) -> dict[str, str]:
        home = tmp_path / name
        home.mkdir(exist_ok=True)
        return isolated(home, **more)

    return environment


@pytest.fixture
def execute(tmp_path: Path, server: SimulatedModelServer):
    """Run cells as a notebook, in a kernel of their own, and return the notebook as it would be saved."""

    def run(*cells: str, allow_errors: bool = False, **environment: str) -> nbformat.NotebookNode:
        first = f"%load_ext genai_cache_magic\n{PREAMBLE.format(url=server.openai_url)}"
        sources = [first, *cells]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
        for number, cell in enumerate(notebook.cells):
            cell.id = f"cell-{number}"  # they are random, and saved
        executor = NotebookClient(
            notebook,
            kernel_name="python3",
            timeout=TIMEOUT_S,
            allow_errors=allow_errors,
            record_timing=False,
            resources={"metadata": {"path": str(tmp_path)}},
        )
        executor.execute(env=isolated(tmp_path, **environment))
        return notebook

    return run
