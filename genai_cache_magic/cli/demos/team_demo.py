"""Two machines of a team, played by two kernels: what one fetched both have, what one invalidates neither is served.

Over a real redis-server, then over Azurite, the emulator of Azure Storage, each started here and ended again. Sealed, a
simulated Key Vault guards the key: one machine may make keys, the other use them.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.cli.demos.demo import kernel_environment, notebook_path
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.azure.roles import Role
from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.model_server import SimulatedModelServer
from genai_cache_magic.testing.servers import AZURITE_KEY, Azurite, RedisServer, ServerMissingError
from genai_cache_magic.testing.vault_server import SimulatedKeyVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

PLAIN, SEALED = "team_cache.ipynb", "sealed_team_cache.ipynb"
TIERS = ("Redis", "Azure Blob")

_TIMEOUT_S = 60
# Longer than GENAI_CACHE_MAX_STALE, the bound for what was invalidated elsewhere.
_PAUSE = "import time; time.sleep(1.2)"
_OPEN = "%llm_cache stats"
_COMMAND = "!{sys.executable} -m genai_cache_magic.cli.main"
_COUNTS = re.compile(r"(\d+) (hit|miss)")
_numbers = itertools.count()
_NEEDED = ("ipykernel", "nbformat", "openai")


class Machine:
    """A kernel with a cache directory of its own.

    Attributes
    ----------
    patience_s : float
        How long a cell, or the kernel's start, may take [s].
    """

    def __init__(self, name: str, place: Path, environment: dict[str, str], *, patience_s: float = _TIMEOUT_S) -> None:
        self.name = name
        self.patience_s = patience_s
        self._settings = {**environment, "GENAI_CACHE_DIR": str(place / name), "GENAI_CACHE_PERSON": name}
        self._has_keys = False
        # Sockets of the file system, not of the network. Their paths must be short.
        self._sockets = tempfile.TemporaryDirectory(prefix="genai-")
        self._start()

    def _start(self) -> None:
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import KernelManager

        # No directory of kernels is searched: this interpreter runs the notebook, not one that is installed elsewhere.
        self._manager = KernelManager(kernel_spec_manager=KernelSpecManager(kernel_dirs=[]))
        self._manager.transport, self._manager.ip = "ipc", f"{self._sockets.name}/k{next(_numbers)}"
        self._manager.start_kernel(env=kernel_environment(self._settings))
        self._client = self._manager.client()
        self._client.start_channels()
        try:
            self._client.wait_for_ready(timeout=self.patience_s)
        except BaseException:  # nobody else knows of this kernel yet
            self._end()
            raise

    def run(self, source: str) -> str:
        """Execute a cell and return all that it shows, as text; a failing cell ends the demonstration."""
        shown: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "error":
                raise SystemExit(f"{self.name}: {content['ename']}: {content['evalue']}")
            shown.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

        try:
            self._client.execute_interactive(source, timeout=self.patience_s, output_hook=hear)
        except TimeoutError as exc:
            raise TimeoutError(f"{self.name}'s kernel does not answer within {self.patience_s:.0f} s") from exc
        return "\n".join(shown)

    def run_notebook(self, name: str) -> str:
        """Execute the notebook's cells, and return what they show."""
        import nbformat

        notebook = nbformat.read(notebook_path(name), as_version=4)  # type: ignore[no-untyped-call]  # it has no types
        shown = []
        for cell in notebook.cells:
            if cell.cell_type != "code" or (cell.source.startswith("!") and self._has_keys):
                continue
            if cell.source.startswith("%%llm_cache"):
                self.run(_OPEN)  # a busy machine may take longer than calls would wait for the key
            shown.append(self.run(cell.source))
        self._has_keys = True
        return "\n".join(shown)

    def restart(self) -> None:
        """End the kernel and begin another one on the same machine."""
        self._end()
        self._start()

    def close(self) -> None:
        """End the kernel."""
        self._end()
        self._sockets.cleanup()

    def _end(self) -> None:
        self._client.stop_channels()
        self._manager.shutdown_kernel()


@dataclass(frozen=True, slots=True)
class _Step:
    """What one machine does, and what is promised of it: hits and misses, and how often models were asked by then."""

    who: Machine = field(repr=False)
    does: str = field(repr=False)
    do: Callable[[], str] = field(repr=False)
    counts: tuple[int, int] | None = field(repr=False)
    calls: int


@dataclass(slots=True)
class _Guard:
    """The vault of a sealed team, the variables of each machine, and what the vault was asked."""

    vault: SimulatedKeyVault = field(repr=False)
    variables: dict[str, dict[str, str]] = field(repr=False)

    def shown(self) -> str:
        """Return how often the vault was asked for what."""
        asked = Counter(request.operation for request in self.vault.requests if request.operation != "challenge")
        return ", ".join(f"{operation} {number}" for operation, number in sorted(asked.items()))


def demonstrate_team(console: Console, *, sealed: bool, needs_all: bool = True) -> int:
    """Play both tiers, and return the exit code: 1 if something was not as promised.

    Parameters
    ----------
    sealed
        Whether a simulated vault guards the key.
    needs_all
        Whether a server that is not installed is a failure, rather than left out if the other one is there.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigurationError(
            f"the demo needs {', '.join(missing)}: run {sys.executable} -m pip install "
            "'genai-cache-magic[demo,redis,azure]'"
        )
    is_right, absent = True, []
    for name in TIERS:
        try:
            with _tier(name) as environment:
                is_right &= _play(name, environment, console, sealed=sealed)
        except ServerMissingError as error:
            absent.append(str(error))
        except (TimeoutError, RuntimeError) as exc:  # a kernel that does not answer, did not come up, or died
            console.print(f"Not as promised: {exc}. Is this machine very busy?", style="bold", markup=False)
            return 1
    if absent and (needs_all or len(absent) == len(TIERS)):
        for text in absent:
            console.print(text, style="bold", markup=False)
        return 1
    console.print("Everything was as promised." if is_right else "[bold]That is not what was promised.[/bold]")
    return 0 if is_right else 1


@contextlib.contextmanager
def _tier(name: str) -> Iterator[dict[str, str]]:
    """Start a server, and give the variables by which machines find it."""
    if name == "Redis":
        with RedisServer() as redis:
            yield {"GENAI_CACHE_L2": redis.url}
        return
    with Azurite() as azurite:
        yield {
            "GENAI_CACHE_L2": f"{azurite.account_url}/team",
            "GENAI_CACHE_L2_ACCOUNT_KEY": AZURITE_KEY,
            "GENAI_CACHE_L2_CREATE_CONTAINER": "true",
        }


def _play(tier: str, environment: dict[str, str], console: Console, *, sealed: bool) -> bool:
    """Let two machines share `tier`; return whether all was as promised."""
    from rich.table import Table

    with contextlib.ExitStack() as ended, SimulatedModelServer(latency_s=0.2) as models:
        place = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="genai-cache-team-")))
        guard = ended.enter_context(_guarded()) if sealed else None
        shared = {
            **environment,
            "OPENAI_BASE_URL": models.openai_url,
            "OPENAI_API_KEY": "simulated",
            "GENAI_CACHE_KEY_FILE": str(place / "team.key"),
            "GENAI_CACHE_MACHINE": "simulated-models",
            "GENAI_CACHE_MAX_STALE": "1s",
            "GENAI_CACHE_NAMESPACE": "team-demo",
            "IPYTHONDIR": str(place / "ipython"),
            "XDG_CONFIG_HOME": str(place / "config"),
        }
        console.print(
            f"ada and ben, each with a kernel and a cache of their own, share through {tier}; models are simulated.",
            highlight=False,
        )
        ada, ben = (ended.enter_context(_machine(name, place, shared, guard)) for name in ("ada", "ben"))
        title = f"Shared through {tier}" + (", sealed: a simulated Key Vault guards the key" if sealed else "")
        table = Table("machine", "does", "hits", "misses", "model calls so far", title=title)
        is_right = True
        for step in _steps(ada, ben, SEALED if sealed else PLAIN, sealed=sealed):
            counts = counted(step.do()) if step.counts else (step.do(), None)[1]
            asked = len(models.requests)
            is_right &= counts == step.counts and asked == step.calls
            table.add_row(step.who.name, step.does, *(map(str, counts) if counts else ("", "")), str(asked))
        console.print(table)
        if guard is not None:
            console.print(f"The vault was asked: {guard.shown()}.", highlight=False)
    return is_right


def _steps(ada: Machine, ben: Machine, notebook: str, *, sealed: bool) -> Iterator[_Step]:
    def runs(who: Machine) -> Callable[[], str]:
        return lambda: who.run_notebook(notebook)

    def later(who: Machine) -> Callable[[], str]:
        return lambda: (who.run(_PAUSE), who.run_notebook(notebook))[1]

    yield _Step(ada, "runs the notebook", runs(ada), (0, 3), 3)
    yield _Step(ben, "runs it too", runs(ben), (3, 0), 3)
    yield _Step(ben, "invalidates the tag", lambda: ben.run("%llm_cache invalidate --tag reviews --yes"), None, 3)
    yield _Step(ada, "runs it again, a moment later", later(ada), (0, 3), 6)
    yield _Step(ben, "runs it again", runs(ben), (3, 0), 6)
    if sealed:

        def anew() -> str:
            ben.restart()
            return ben.run_notebook(notebook)

        yield _Step(ada, "rotates the key", lambda: ada.run(f"{_COMMAND} keys rotate"), None, 6)
        yield _Step(ben, "starts anew: nothing was rewritten", anew, (3, 0), 6)
        yield _Step(ada, "gives up the first key", lambda: ada.run(f"{_COMMAND} keys revoke 1 --yes"), None, 6)
        yield _Step(ben, "starts anew: what it sealed is lost", anew, (0, 3), 9)


@contextlib.contextmanager
def _guarded() -> Iterator[_Guard]:
    """A simulated vault where ada is the administrator, and ben may use the key that wraps, and make none."""
    with SimulatedIdentity() as identity, SimulatedKeyVault(identity) as vault:
        member = identity.add("ben's machine")
        vault.grant(member, Role.CRYPTO_SERVICE_ENCRYPTION_USER)
        common = {"GENAI_CACHE_ENCRYPTION": "key-vault", "GENAI_CACHE_KEY_VAULT_URL": vault.url}
        variables = {
            "ada": {**identity.environment(), **common},
            "ben": {**identity.environment(member), **common},
        }
        yield _Guard(vault, variables)


@contextlib.contextmanager
def _machine(name: str, place: Path, environment: dict[str, str], guard: _Guard | None) -> Iterator[Machine]:
    """A machine that ends with the block."""
    kernel = Machine(name, place, {**environment, **(guard.variables[name] if guard else {})})
    try:
        yield kernel
    finally:
        kernel.close()


def counted(shown: str) -> tuple[int, int]:
    """Return the hits and misses that the lines under the cells tell."""
    found: dict[str, int] = {}
    for number, kind in _COUNTS.findall(shown):
        found[kind] = found.get(kind, 0) + int(number)
    return found.get("hit", 0), found.get("miss", 0)
