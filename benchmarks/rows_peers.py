"""Other caches in the same run: one hit each, and how often they ask when many ask at once.

Each lives in an environment of its own under ``.venv-bench/``, so that no two need to agree on a version, and
is spoken to through a worker (``workers/protocol.py``).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from canned import AT_LENGTH, answer_to, messages, prose
from harness import BenchmarkError, Finding, Row, exactly, take_turns
from rows_stampede import CALLERS, LATENCY_S

from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Effort

_HERE = Path(__file__).parent
ENVIRONMENTS = _HERE.parent / ".venv-bench"
_INSTALL_TIMEOUT_S = 900
FLOOR = "no cache, no network"
_OTHERS = 300
"""So many other answers each cache holds, as that of a notebook does."""
QUESTIONS: dict[str, dict[str, Any]] = {
    "a short prompt": {"do": "hit", "messages": messages(1)},
    "20 messages of 2 KB": {"do": "hit", "messages": messages(20, chars=2048)},
    "an answer of 1 MB": {"do": "hit", "messages": [{"role": "user", "content": AT_LENGTH}]},
    "100 vectors of 1,536 numbers": {"do": "embed", "texts": [prose(80, seed) for seed in range(100)]},
}
"""What everyone is asked: named as the report names it."""

_LARGE = {"an answer of 1 MB", "100 vectors of 1,536 numbers"}
_LARGE_CALLS = 3
"""A sample of what takes long is the median of fewer calls."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A cache to measure: the name of its worker, what has to be installed for it, and the environment of that."""

    name: str
    title: str
    requirements: tuple[str, ...]
    environment: str = ""

    @property
    def home(self) -> Path:
        """Its environment, which it may share with others."""
        return ENVIRONMENTS / (self.environment or self.name)

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.home / "bin" / "python"

    @property
    def is_installed(self) -> bool:
        """Whether its environment was completed."""
        return (self.home / ".complete").exists() and self.python.exists()

    @property
    def log(self) -> Path:
        """What went wrong when it was last installed."""
        return self.home.with_suffix(".log")

    @property
    def command(self) -> str:
        """What installs it, to be read by a person."""
        where = f"{ENVIRONMENTS.name}/{self.home.name}"
        wanted = " ".join(f"'{requirement}'" for requirement in self.requirements)
        return f"python -m venv {where} && {where}/bin/pip install {wanted} && touch {where}/.complete"


_LANGCHAIN = ("langchain-community>=0.4,<1", "langchain-openai>=1,<2")
_DSPY = ("dspy>=3,<4", "litellm", "numpy")
PEERS = (
    Peer("hishel", "hishel (SQLite)", ("hishel[httpx2]>=1.4,<2", "openai>=3,<4")),
    Peer("pycachy", "pycachy (JSON lines)", ("pycachy>=0.0.22", "openai>=3,<4", "httpx2>=2")),
    # Later releases have no disk cache.
    Peer("litellm", "LiteLLM disk cache", ("litellm[caching]>=1.80,<1.85",)),
    Peer("langchain", "LangChain SQLiteCache", _LANGCHAIN),
    Peer("langchain_memory", "LangChain InMemoryCache", _LANGCHAIN, "langchain"),
    Peer("dspy", "DSPy disk cache", _DSPY),
    Peer("dspy_memory", "DSPy memory cache", _DSPY, "dspy"),
)


@dataclass(frozen=True, slots=True)
class _Setting:
    """Who is asked, who would answer, and how long to measure."""

    workers: dict[str, Worker]
    server: CannedServer
    effort: Effort


def prepare(effort: Effort) -> None:
    """Make the environments that are not there; a quick run makes do with those that are."""
    if not effort.is_quick:
        for peer in PEERS:
            if not peer.is_installed:
                install(peer)


def install(peer: Peer) -> None:
    """Make the environment of `peer`, or leave a log that says why it can't be made."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    (ENVIRONMENTS / ".gitignore").write_text("*\n", encoding="utf-8")
    home = peer.home
    shutil.rmtree(home, ignore_errors=True)
    pip = (str(peer.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    try:
        for command in ((sys.executable, "-m", "venv", str(home)), (*pip, *peer.requirements)):
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S)
    except subprocess.CalledProcessError as exc:
        peer.log.write_text(exc.stderr, encoding="utf-8")
    except subprocess.TimeoutExpired:
        peer.log.write_text(f"pip took longer than {_INSTALL_TIMEOUT_S} s", encoding="utf-8")
    else:
        peer.log.unlink(missing_ok=True)
        (home / ".complete").touch()


def run(effort: Effort) -> Iterator[Finding]:
    """Measure ours and every peer that is installed; say how to install the others."""
    absent: list[Finding] = []
    with ExitStack() as stack:
        server = stack.enter_context(CannedServer())
        own = {"ours": "ours", FLOOR: "floor"}.items()
        workers = {title: stack.enter_context(Worker(Path(sys.executable), name, server.url)) for title, name in own}
        for peer in PEERS:
            if not peer.is_installed:
                absent.append(Finding(peer.title, None, note=not_installed(peer)))
                continue
            try:
                workers[peer.title] = stack.enter_context(Worker(peer.python, peer.name, server.url))
            except BenchmarkError as exc:
                absent.append(Finding(peer.title, None, note=f"does not start: {exc}"))
        others = [f"What is {number} in words?" for number in range(effort.pick(_OTHERS, _OTHERS // 10))]
        for worker in workers.values():
            worker.ask(do="each", prompts=others)
        for what, question in QUESTIONS.items():
            yield from _hits(what, question, _Setting(workers, server, effort))
    yield from _storms({title: worker.how for title, worker in workers.items() if title != FLOOR})
    yield from absent


def not_installed(peer: Peer) -> str:
    """Return what to say of a peer that is not there, and what installs it."""
    said = peer.log.read_text(encoding="utf-8").strip().splitlines() if peer.log.exists() else []
    reason = f" ({said[-1]})" if said else ""
    return f"not installed{reason}: {peer.command}"


def _hits(what: str, question: dict[str, Any], setting: _Setting) -> Iterator[Finding]:
    """Compare a hit of each worker, whose answers are equal, with ours: `question` is what it is asked."""
    told: dict[str, str] = {}
    for title, worker in setting.workers.items():
        try:
            told[title] = worker.ask(**question, calls=1)["text"]
        except BenchmarkError as exc:
            if title == "ours":
                raise
            yield Finding(f"{what}: {title}", None, note=str(exc))
    for title, text in told.items():
        if text != told["ours"]:
            raise BenchmarkError(f"{title} gave another answer to {what}")
    asked = setting.server.requests
    calls = setting.effort.pick(_LARGE_CALLS if what in _LARGE else 20, _LARGE_CALLS)
    cases = {
        title: lambda worker=setting.workers[title]: worker.ask(**question, calls=calls)["seconds"] for title in told
    }
    samples = take_turns(cases, rounds=setting.effort.pick(40, 7), warm_up=2)
    reached = setting.server.requests - asked
    if reached:
        raise BenchmarkError(f"{what}: {reached} hits reached the model")
    medians = samples.medians
    for title in told:
        if title != "ours":
            both = {name: medians[name] for name in (title, "ours")}
            note = setting.workers[title].versions
            yield Finding(f"{what}: {title} / ours", samples.ratio(title, "ours"), medians=both, note=note)


def _storms(workers: dict[str, tuple[Path, str]]) -> Iterator[Finding]:
    with SimulatedModelServer("unique", latency_s=LATENCY_S) as server:
        for title, (python, name) in workers.items():
            server.reset()
            with Worker(python, name, server.openai_url) as worker:
                said = worker.ask(do="storm", prompt=f"A new question of {title}?", callers=CALLERS)
            what = f"upstream calls, {CALLERS} threads, one new prompt: {title}"
            failed = CALLERS - said["answered"]
            note = f"{failed} of {CALLERS} threads failed ({', '.join(said['errors'])})" if failed else ""
            yield Finding(what, exactly(server.count), "calls", 1 if title == "ours" else None, note=note)


class Worker:
    """A process that asks through one cache; lives as long as the ``with`` block."""

    def __init__(self, python: Path, name: str, url: str) -> None:
        self.how = (python, name)
        self._command = [str(python), str(_HERE / "workers" / f"ask_{name}.py"), url]
        self._log = Path(f"worker-{name}.log")

    def __enter__(self) -> Self:
        environment = {**os.environ, "DSPY_CACHEDIR": str(Path("dspy-default").absolute())}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=environment
            )
        packages = self._heard()["packages"]
        self.versions = ", ".join(f"{name} {version}" for name, version in packages.items())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return the reply; raises ``BenchmarkError`` with what came in the place of one."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        said = self._heard()
        if "error" in said:
            raise BenchmarkError(said["error"])
        return said

    def _heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise BenchmarkError(f"{self._command[1]} ended: {self._log.read_text(errors='replace')[-2000:]}")
        said: dict[str, Any] = json.loads(line)
        return said


class CannedServer:
    """A model on loopback that says the same to everyone and counts; plain HTTP/1.1 for every client."""

    def __init__(self) -> None:
        self.requests = 0
        counter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                counter.requests += 1
                body = answer_to(self.path, self.rfile.read(int(self.headers.get("content-length", 0))))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


ROW = Row("peers", "other caches / ours, each in its own environment", run, prepare)
