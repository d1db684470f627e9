"""The demonstration: one notebook executed twice, with real SDKs, in real kernels.

The first run asks the models, the second must not. The models are simulated, on this machine, unless the
user says ``--live``. Everything it writes lies in one directory of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.calls.spending import dollars
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter.shown.call_report import MIME
from genai_cache_magic.runs.lines import decode_line, encode_file
from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

NOTEBOOK = "quickstart.ipynb"
RUN_FILE = "quickstart.jsonl"
LATENCY_S = 0.4
"""How long a simulated model thinks [s]: long enough that a person sees who waits."""

PROVIDERS = {"openai": "/v1", "anthropic": ""}
"""Whose SDKs the notebook uses -> what follows the host in their base URL."""

_MARKER = ".genai-cache-demo"
_HOME = "home"
_NEEDED = ("anthropic", "ipykernel", "nbclient", "nbformat", "openai")
_CELL_TIMEOUT_S = 120
_SHOWN_LINES = 3
_HEADINGS = {1: "an empty cache", 2: "the same cells again, in a new kernel"}


@dataclass(frozen=True, slots=True)
class CellResult:
    """What the badge under one cell said. None is unknown, for tokens and for money [USD]."""

    name: str
    hits: int
    misses: int
    others: int
    tokens: int | None
    spent_usd: Decimal | None
    saved_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class RunResult:
    """One execution of the notebook.

    Attributes
    ----------
    upstream
        Model calls that the simulated servers counted; None where a real endpoint was asked.
    seconds
        Time that the cells with model calls took [s].
    failure
        The error that ended the run, in one line; empty if none did.
    """

    notebook: Path
    cells: tuple[CellResult, ...]
    upstream: int | None
    seconds: float
    failure: str = ""

    @property
    def hits(self) -> int:
        """Calls that the cache answered."""
        return sum(cell.hits for cell in self.cells)

    @property
    def fetched(self) -> int:
        """Calls that the cache did not answer, for whatever reason."""
        return sum(cell.misses + cell.others for cell in self.cells)


@dataclass(frozen=True, slots=True)
class DemoResult:
    """Both runs."""

    runs: tuple[RunResult, ...]
    is_live: bool

    @property
    def problem(self) -> str:
        """What was not as promised, in one sentence; empty if all was."""
        for number, run in enumerate(self.runs, 1):
            if run.failure:
                return f"run {number} failed: {run.failure}"
        first, second = self.runs
        if first.hits or not first.fetched:
            return f"run 1 found {first.hits} answers in a cache that should have been empty"
        if second.fetched or second.hits != first.fetched:
            return f"run 2 was to find all {first.fetched} answers in the cache, and found {second.hits}"
        if second.upstream:
            return f"run 2 asked the models {second.upstream} times"
        return ""


def run_demo(output: Path, *, live: bool = False, progress: Callable[[int, int], None] = lambda *_: None) -> DemoResult:
    """Execute the notebook twice on an empty cache in `output`.

    Parameters
    ----------
    output
        Made anew; refused if it holds what no earlier demonstration left there.
    live
        Ask real endpoints, with the keys of the environment.
    progress
        Called with the number of cells done and of all.

    Raises
    ------
    ConfigurationError
        Something is missing: a package, a key, a directory to write to.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the demo needs {', '.join(missing)}: run {sys.executable} -m pip install 'genai-cache-magic[demo]'"
        )
    if live and not os.environ.get("OPENAI_API_KEY"):
        raise ConfigurationError("--live asks OpenAI's own endpoint: set OPENAI_API_KEY, or leave --live out")
    source = notebook_path()
    home = fresh_directory(output) / _HOME
    (output / RUN_FILE).write_bytes(encode_file(()))  # there from the start, whatever mode a cell names
    with ExitStack() as stack:
        servers, endpoints = simulated_models(stack, os.environ if live else {})
        environment = {**endpoints, **private_places(home)}
        runs: list[RunResult] = []
        for number in (1, 2):
            before = sum(server.count for server in servers)
            # The first run keeps what it asked and was answered in a file, which the second does without.
            kept = {"GENAI_CACHE_MODE": "record", "GENAI_CACHE_RUN_FILE": str(output.resolve() / RUN_FILE)}
            more = kept if number == 1 else {}
            run = _execute(source, output / f"run-{number}.ipynb", {**environment, **more}, _Progress(progress, number))
            upstream = None if live else sum(server.count for server in servers) - before
            runs.append(RunResult(run.notebook, run.cells, upstream, run.seconds, run.failure))
            if run.failure:
                break
    return DemoResult(tuple(runs), live)


def demonstrate(output: Path, *, live: bool = False) -> int:
    """Run the demonstration for a person at a terminal, and return its exit code: 1 if it failed.

    Raises as `run_demo`.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console()
    models = _models(simulated_providers(os.environ if live else {}))
    if console.is_terminal:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"asking {models.partition(':')[0]}", total=None)
            result = run_demo(output, live=live, progress=lambda n, of: progress.update(task, completed=n, total=of))
    else:
        result = run_demo(output, live=live)  # older releases of rich leave an empty line of a bar that is not shown
    console.print(f"The quickstart notebook, executed twice against {models}.\n")
    for number, run in enumerate(result.runs, 1):
        console.print(_table(f"Run {number}: {_HEADINGS[number]}", run))
        console.print()
    _print_outcome(result, console)
    _print_run_file(output / RUN_FILE, console)
    return 1 if result.problem else 0


def notebook_path(name: str = NOTEBOOK) -> Path:
    """Return where a notebook lies, the quickstart by default: in the installed package, or in the checkout beside it.

    Raises
    ------
    ConfigurationError
        It is in neither place.
    """
    package = Path(__file__).resolve().parents[2]
    for path in (package / "notebooks" / name, package.parent / "notebooks" / name):
        if path.is_file():
            return path
    raise ConfigurationError(f"{name} is missing from this installation: reinstall genai-cache-magic")


def fresh_directory(output: Path) -> Path:
    """Return `output` as an empty directory of ours, after removing what an earlier demonstration left.

    Raises
    ------
    ConfigurationError
        It can't be written, or holds files of others.
    """
    marker = output / _MARKER
    try:
        # SECURITY: nothing is removed from a directory that no demonstration has made.
        if output.is_dir() and any(output.iterdir()) and not marker.is_file():
            raise ConfigurationError(f"{output} holds other files: name an empty or new directory with --output")
        output.mkdir(mode=0o700, parents=True, exist_ok=True)
        marker.touch()
        if (output / _HOME).exists():
            shutil.rmtree(output / _HOME)
        (output / _HOME).mkdir(mode=0o700)
        for path in (*output.glob("run-[12].ipynb"), *output.glob(RUN_FILE)):
            path.unlink()
    except OSError as exc:
        raise ConfigurationError(f"{output} can't be written ({exc.strerror}): name another with --output") from exc
    return output


def simulated_models(
    stack: ExitStack, given: Mapping[str, str]
) -> tuple[Sequence[SimulatedModelServer], dict[str, str]]:
    """Start a server for each of the `simulated_providers`; they stop with `stack`.

    Returns the servers, and the variables by which SDKs find them. Their addresses have aliases, so that
    answers outlive the ports, and providers, so that tokens have prices.
    """
    servers = []
    variables = {}
    origins = {}
    for provider in simulated_providers(given):
        server = stack.enter_context(SimulatedModelServer(latency_s=LATENCY_S))
        servers.append(server)
        url = server.url + PROVIDERS[provider]
        variables.update({f"{provider.upper()}_BASE_URL": url, f"{provider.upper()}_API_KEY": "simulated"})
        origins[url] = {"provider": provider, "alias": f"https://simulated-{provider}.invalid"}
    variables["GENAI_CACHE_ORIGINS"] = json.dumps(origins)
    return servers, variables


def simulated_providers(given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the providers for which the environment `given` holds no key."""
    return tuple(provider for provider in PROVIDERS if not given.get(f"{provider.upper()}_API_KEY"))


def private_places(home: Path) -> dict[str, str]:
    """Return the variables that keep a kernel to `home`, and to the settings that this demonstrates."""
    home = home.resolve()
    return {
        "GENAI_CACHE_DIR": str(home / "cache"),
        "GENAI_CACHE_KEY_FILE": str(home / "keys" / "demo.key"),
        "GENAI_CACHE_MODE": "use",
        "GENAI_CACHE_NAMESPACE": "quickstart",
        "GENAI_CACHE_ENCRYPTION": "local",
        "IPYTHONDIR": str(home / "ipython"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }


def kernel_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with `variables`, and without what could lead a call elsewhere."""
    replaced = tuple(f"{name.partition('_')[0]}_" for name in variables if name.endswith("_BASE_URL"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENAI_CACHE_", *replaced))}
    # A proxy of the user's would be asked for the simulated servers too.
    direct = {name: ",".join(filter(None, (kept.get(name), "127.0.0.1"))) for name in ("NO_PROXY", "no_proxy")}
    return {**kept, **direct, **variables}


def read_cells(notebook: Mapping[str, Any]) -> tuple[CellResult, ...]:
    """Return what the badges of an executed notebook say, each named by the heading above its cell."""
    results = []
    heading = ""
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" and source.startswith("#"):
            heading = source.splitlines()[0].strip("# ")
        results += [_cell_result(heading, badge) for badge in _badges(cell)]
    return tuple(results)


def _badges(cell: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [output["data"][MIME] for output in cell.get("outputs", ()) if MIME in output.get("data", {})]


def _cell_result(name: str, badge: Mapping[str, Any]) -> CellResult:
    totals = badge["totals"] or {}
    tokens_in, tokens_out = totals.get("input_tokens"), totals.get("output_tokens")
    return CellResult(
        name=name,
        hits=badge["hits"],
        misses=badge["misses"],
        others=badge["bypassed"] + badge["errors"],
        tokens=None if tokens_in is None or tokens_out is None else tokens_in + tokens_out,
        spent_usd=_amount(totals.get("spent_usd")),
        saved_usd=_amount(totals.get("saved_usd")),
    )


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _table(title: str, run: RunResult) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_footer=True)
    table.add_column("cell", "all", overflow="fold")
    for name, footer in (
        ("hits", str(run.hits)),
        ("misses", str(run.fetched)),
        ("tokens", _sum(cell.tokens for cell in run.cells)),
        ("spent", _sum(cell.spent_usd for cell in run.cells)),
        ("saved", _sum(cell.saved_usd for cell in run.cells)),
    ):
        table.add_column(name, footer, justify="right")
    for cell in run.cells:
        amounts = map(_shown, (cell.hits, cell.misses + cell.others, cell.tokens, cell.spent_usd, cell.saved_usd))
        table.add_row(cell.name, *amounts)
    return table


def _print_outcome(result: DemoResult, console: Console) -> None:
    for number, run in enumerate(result.runs, 1):
        asked = "" if run.upstream is None else f"; the simulated servers counted {run.upstream} model calls"
        console.print(f"Run {number}: {run.seconds:.1f} s in these cells{asked}.", highlight=False)
    if not result.is_live:
        console.print("Tokens are counted by the simulated servers, and priced as if the real models had answered.")
    paths = "\n".join(f"  {run.notebook}" for run in result.runs)
    console.print(f"Executed notebooks, with what happened under each cell:\n{paths}", markup=False, highlight=False)
    if result.problem:
        console.print(f"Not as promised: {result.problem}", style="bold red", markup=False, highlight=False)


def _print_run_file(path: Path, console: Console) -> None:
    """Show what the first run kept: a line a call."""
    if not path.is_file():
        return
    calls = [decode_line(line) for line in path.read_bytes().splitlines()[1:]]
    says = (
        f"The run as a file of {len(calls)} calls, a line each, from which mode replay answers without a key:\n  {path}"
    )
    console.print(says, markup=False, highlight=False)
    for call in calls[:_SHOWN_LINES]:
        said = f"  {call.name.digest[:8]}  {call.surface}  {call.model}  {len(call.response.body):,} bytes answered"
        console.print(said, markup=False, highlight=False)
    if len(calls) > _SHOWN_LINES:
        console.print(f"  and {len(calls) - _SHOWN_LINES} more", highlight=False)


def _models(simulated: Sequence[str]) -> str:
    """Return who is asked, in words; what is simulated is called so."""
    if len(simulated) == len(PROVIDERS):
        return "simulated models: answers are made up, nothing is billed"
    return f"real models, with your keys{''.join(f'; those of {name} are simulated' for name in simulated)}"


def _sum(amounts: Iterable[int | Decimal | None]) -> str:
    """Return what is known of a sum, marked if some of it is not."""
    parts = list(amounts)
    known = [part for part in parts if part is not None]
    return f"{'' if len(known) == len(parts) else 'at least '}{_shown(sum(known))}"


def _shown(amount: int | Decimal | None) -> str:
    if amount is None:
        return "unknown"
    return dollars(amount) if isinstance(amount, Decimal) else f"{amount:,}"


class _Progress:
    """Counts the cells of one run, and the time that those with model calls take."""

    def __init__(self, tell: Callable[[int, int], None], number: int) -> None:
        self._tell = tell
        self._number = number
        self._done = 0
        self._started = 0.0
        self.total = 0
        self.seconds = 0.0

    def started(self, **_: Any) -> None:
        """Take note that a cell begins: a hook of `nbclient`."""
        self._started = time.perf_counter()

    def executed(self, *, cell: Mapping[str, Any], **_: Any) -> None:
        """Take note that a cell ended: a hook of `nbclient`."""
        if _badges(cell):
            self.seconds += time.perf_counter() - self._started
        self._done += 1
        self._tell((self._number - 1) * self.total + self._done, 2 * self.total)


def _execute(source: Path, target: Path, environment: Mapping[str, str], progress: _Progress) -> RunResult:
    """Execute the notebook at `source` in a kernel of its own, and save it as `target`."""
    import nbformat
    from jupyter_client.kernelspec import KernelSpecManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has no types
    progress.total = sum(cell.cell_type == "code" for cell in notebook.cells)
    client = NotebookClient(
        notebook,
        timeout=_CELL_TIMEOUT_S,
        coalesce_streams=True,
        record_timing=False,
        resources={"metadata": {"path": str(target.parent)}},
        on_cell_execute=progress.started,
        on_cell_executed=progress.executed,
    )
    # No directory of kernels is searched: this interpreter runs the notebook, not one that is installed elsewhere.
    kernel = client.create_kernel_manager()
    kernel.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])
    failure = ""
    # Sockets of the file system, not of the network. Their paths must be short.
    with tempfile.TemporaryDirectory(prefix="genai-") as sockets:
        kernel.transport, kernel.ip = "ipc", f"{sockets}/k"
        try:
            client.execute(env=kernel_environment(environment))
        except CellExecutionError as exc:
            failure = f"{exc.ename}: {exc.evalue}"
        except (TimeoutError, RuntimeError) as exc:  # a cell that takes too long, a kernel that died or never came up
            failure = str(exc).partition("\n")[0]
    nbformat.write(notebook, target)  # type: ignore[no-untyped-call]  # as above
    return RunResult(target, read_cells(notebook), None, progress.seconds, failure)
