"""Two machines of a team, played by two kernels: what one fetched both have, what one invalidates neither is served.

Over a real redis-server, then over Azurite, the emulator of Azure Storage, each started here and ended again.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from jupyter_client.manager import start_new_kernel
from rich.console import Console
from rich.table import Table

from genai_cache_magic.testing.model_server import SimulatedModelServer
from genai_cache_magic.testing.servers import AZURITE_KEY, Azurite, RedisServer, ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "team_cache.ipynb"
TIMEOUT_S = 60
# Longer than GENAI_CACHE_MAX_STALE, the bound for what was invalidated elsewhere.
PAUSE = "import time; time.sleep(1.2)"
_COUNTS = re.compile(r"(\d+) (hit|miss)")


class Machine:
    """A kernel with a cache directory of its own."""

    def __init__(self, name: str, place: Path, environment: dict[str, str]) -> None:
        self.name = name
        settings = {**os.environ, **environment, "GENAI_CACHE_DIR": str(place / name), "GENAI_CACHE_PERSON": name}
        self._manager, self._client = start_new_kernel(env=settings)

    def run(self, source: str) -> str:
        """Execute a cell and return all that it shows, as text; a failing cell ends the tool."""
        shown: list[str] = []

        def hear(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "error":
                raise SystemExit(f"{self.name}: {content['ename']}: {content['evalue']}")
            shown.append(content.get("text") or content.get("data", {}).get("text/plain", ""))

        self._client.execute_interactive(source, timeout=TIMEOUT_S, output_hook=hear)
        return "\n".join(shown)

    def run_notebook(self) -> str:
        """Execute the notebook's cells, and return what they show."""
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        return "\n".join(self.run(cell.source) for cell in notebook.cells if cell.cell_type == "code")

    def close(self) -> None:
        """End the kernel."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()


def play(tier: str, environment: dict[str, str], console: Console) -> bool:
    """Let two machines share `tier`; return whether all was as promised."""
    with contextlib.ExitStack() as ended, SimulatedModelServer(latency_s=0.2) as models:
        place = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="genai-cache-team-")))
        shared = {
            **environment,
            "OPENAI_BASE_URL": models.openai_url,
            "OPENAI_API_KEY": "simulated",
            "GENAI_CACHE_KEY_FILE": str(place / "team.key"),
            "GENAI_CACHE_MACHINE": "simulated-models",
            "GENAI_CACHE_MAX_STALE": "1s",
        }
        ada, ben = (ended.enter_context(machine(name, place, shared)) for name in ("ada", "ben"))
        table = Table("machine", "does", "hits", "misses", "model calls", title=f"Shared through {tier}")
        promised = [
            (ada, "runs the notebook", ada.run_notebook, (0, 3), 3),
            (ben, "runs it too", ben.run_notebook, (3, 0), 3),
            (ben, "invalidates the tag", lambda: ben.run("%llm_cache invalidate --tag reviews --yes"), None, 3),
            (ada, "runs it again, a moment later", lambda: (ada.run(PAUSE), ada.run_notebook())[1], (0, 3), 6),
            (ben, "runs it again", ben.run_notebook, (3, 0), 6),
        ]
        is_right = True
        for who, what, do, expected, calls in promised:
            counts = counted(do()) if expected else (do(), None)[1]
            asked = len(models.requests)
            is_right &= counts == expected and asked == calls
            table.add_row(who.name, what, *(map(str, counts) if counts else ("", "")), str(asked))
        console.print(table)
    return is_right


@contextlib.contextmanager
def machine(name: str, place: Path, environment: dict[str, str]) -> Iterator[Machine]:
    """A machine that ends with the block."""
    kernel = Machine(name, place, environment)
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


def main() -> int:
    """Play both tiers; 1 if something was not as promised, also if a server is not installed."""
    console = Console()
    is_right = True
    try:
        with RedisServer() as redis:
            is_right &= play("Redis", {"GENAI_CACHE_L2": redis.url}, console)
        with Azurite() as azurite:
            blob = {
                "GENAI_CACHE_L2": f"{azurite.account_url}/team",
                "GENAI_CACHE_L2_ACCOUNT_KEY": AZURITE_KEY,
                "GENAI_CACHE_L2_CREATE_CONTAINER": "true",
            }
            is_right &= play("Azure Blob", blob, console)
    except ServerMissingError as error:
        console.print(f"[bold]{error}[/bold]")
        return 1
    console.print("Everything was as promised." if is_right else "[bold]That is not what was promised.[/bold]")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
