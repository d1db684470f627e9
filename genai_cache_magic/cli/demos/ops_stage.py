"""What `make ops` plays on: the servers that can be had, the machines of a team, who may do what, and the time left."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from genai_cache_magic.cli.demos.demo import kernel_environment
from genai_cache_magic.cli.demos.team_demo import Machine, counted
from genai_cache_magic.ops.roles import REDIS_RULES, redis_keys
from genai_cache_magic.testing.azure.roles import Role as AzureRole
from genai_cache_magic.testing.counting_proxy import CountingProxy
from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.model_server import SimulatedModelServer
from genai_cache_magic.testing.servers import (
    AZURITE_KEY,
    Azurite,
    NginxEdge,
    RedisServer,
    ServerMissingError,
    free_port,
)
from genai_cache_magic.testing.vault_server import SimulatedKeyVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager, ExitStack

    from rich.console import Console

T = TypeVar("T")

NAMESPACE = "ops-demo"
CONTAINER = "team"
PASSWORD = "simulated"  # noqa: S105 - of a Redis that lives for a minute, on loopback
VAULT_ROLES = {
    "Cache.Reader": AzureRole.CRYPTO_SERVICE_ENCRYPTION_USER,
    "Cache.Writer": AzureRole.CRYPTO_SERVICE_ENCRYPTION_USER,
    "Cache.Admin": AzureRole.CRYPTO_OFFICER,
}
"""Each role of ours -> the narrowest of the vault's roles that does for it here."""


class NotAsPromisedError(Exception):
    """Something that was shown is not what was promised; the message is the reason."""


def promise(is_kept: bool, says: str) -> None:  # noqa: FBT001 - a fact, and what it is called where it fails
    """End the demonstration unless `is_kept`."""
    if not is_kept:
        raise NotAsPromisedError(says)


class Deadline:
    """When all has to be over.

    Parameters
    ----------
    within_s
        From now [s].
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._over_s = time.monotonic() + within_s

    def left_s(self) -> float:
        """Return the time that is left [s]; raises ``NotAsPromisedError`` if none is."""
        left_s = self._over_s - time.monotonic()
        promise(left_s > 0, f"it takes more than {self._within_s:.0f} s")
        return left_s


class Hook:
    """A webhook on loopback that keeps what it is told of alerts. A context manager."""

    def __init__(self) -> None:
        self._told: list[dict[str, Any]] = []  # guarded by _changed
        self._changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response_only(204)
                self.end_headers()
                with hook._changed:
                    hook._told.append(message)
                    hook._changed.notify_all()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/alerts"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def hear(self, state: str, *, within_s: float) -> dict[str, Any]:
        """Return the first message of a state, once it is there."""

        def found() -> dict[str, Any] | None:
            return next((message for message in self._told if message["state"] == state), None)

        with self._changed:
            message = self._changed.wait_for(found, within_s)
        if message is None:
            raise NotAsPromisedError(f"the webhook was not told that the alert is {state}")
        return message

    def __enter__(self) -> Hook:  # noqa: PYI034 - final in practice
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Member:
    """One machine of the team: its commands, and its kernel, which starts with the first cell.

    Parameters
    ----------
    name
        Of the machine and of whoever works there.
    stage
        Where it plays.
    variables
        What it is configured with.
    """

    def __init__(self, name: str, stage: Stage, variables: dict[str, str]) -> None:
        self.name = name
        self.directory = stage.place / name
        self._stage = stage
        self._variables = variables
        self._kernel: Machine | None = None

    def run(self, source: str) -> str:
        """Execute a cell, and return what it shows."""
        left_s = self._stage.deadline.left_s()
        if self._kernel is None:
            self._kernel = Machine(self.name, self._stage.place, self._variables, patience_s=left_s)
            self._stage.ended.callback(self._kernel.close)
            self._kernel.run(SETUP)
        self._kernel.patience_s = self._stage.deadline.left_s()
        return self._kernel.run(source)

    def asks(self) -> tuple[int, int]:
        """Ask the models all questions, in a cell for each tag; return hits and misses."""
        return counted("\n".join(self.run(cell_of(tag)) for tag in QUESTIONS))

    def command(self, *words: str) -> tuple[int, list[Any]]:
        """Run ``genai-cache`` there; return its exit code and the JSON objects that it prints, one a line."""
        own = {"GENAI_CACHE_DIR": str(self.directory), "GENAI_CACHE_PERSON": self.name}
        ran = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, "-m", "genai_cache_magic.cli.main", *words, "--json"],
            env=kernel_environment({**self._variables, **own}),
            cwd=self._stage.place,
            capture_output=True,
            text=True,
            check=False,
            timeout=self._stage.deadline.left_s(),
        )
        promise(bool(ran.stdout), f"{self.name}: genai-cache {' '.join(words)}: {ran.stderr.strip()}")
        return ran.returncode, [json.loads(line) for line in ran.stdout.splitlines()]


QUESTIONS = {
    "reviews": [f"Is review {number} positive, negative or mixed?" for number in range(8)],
    "labels": [f"Which label fits ticket {number}?" for number in range(4)],
}
"""Each tag -> what is asked under it."""
ALL = sum(map(len, QUESTIONS.values()))

SETUP = """\
%load_ext genai_cache_magic
from openai import OpenAI

client = OpenAI(max_retries=0)

def ask(*texts):
    for text in texts:
        client.chat.completions.create(model="gpt-4.1-mini", messages=[{"role": "user", "content": text}])

_ = %llm_cache stats
"""
"""A kernel's first cell. The last line opens the cache: calls of a busy machine would not wait so long for the key."""


def cell_of(tag: str) -> str:
    """Return the cell that asks all questions of a tag."""
    return f"%%llm_cache --tag {tag}\nask({', '.join(map(repr, QUESTIONS[tag]))})"


@dataclass(slots=True, repr=False)
class Stage:
    """Everything that is there; a server that is absent is None."""

    console: Console
    deadline: Deadline
    ended: ExitStack
    place: Path
    models: SimulatedModelServer
    vault: SimulatedKeyVault
    hook: Hook
    people: dict[str, dict[str, str]] = field(repr=False)
    redis: RedisServer | None = None
    proxy: CountingProxy | None = None
    edge: NginxEdge | None = None
    team: dict[str, str] = field(default_factory=dict, repr=False)
    left_out: int = 0

    def had(self, what: str, make: Callable[[], AbstractContextManager[T]], *packages: str, extra: str) -> T | None:
        """Start a server that ends with the stage; if it can't be had, say what installs it, and return None."""
        if any(_is_absent(package) for package in packages):
            self.leave_out(what, f"{sys.executable} -m pip install 'genai-cache-magic[{extra}]'")
            return None
        try:
            return self.ended.enter_context(make())
        except ServerMissingError as error:
            self.leave_out(what, str(error))
            return None

    def leave_out(self, what: str, why: str) -> None:
        """Say that something is not shown."""
        self.left_out += 1
        self.console.print(f"Left out: {what}. {why}", style="bold", markup=False, highlight=False)

    def member(self, name: str, role: str, tier: dict[str, str], **more: str) -> Member:
        """Return a machine whose identity has a role at the vault; `tier` are the variables that lead to the team."""
        shared = {
            "OPENAI_BASE_URL": self.models.openai_url,
            "OPENAI_API_KEY": "simulated",
            "GENAI_CACHE_ENCRYPTION": "key-vault",
            "GENAI_CACHE_KEY_VAULT_URL": self.vault.url,
            "GENAI_CACHE_NAMESPACE": NAMESPACE,
            # Nothing is dead here, and a busy machine is not taken for that.
            "GENAI_CACHE_CONNECT_TIMEOUT": "5s",
            "GENAI_CACHE_COMMAND_TIMEOUT": "15s",
            "GENAI_CACHE_ORIGINS": json.dumps(
                {self.models.openai_url: {"provider": "openai", "alias": "https://simulated-openai.invalid"}}
            ),
            "IPYTHONDIR": str(self.place / "ipython"),
            "XDG_CONFIG_HOME": str(self.place / "config"),
        }
        return Member(name, self, {**shared, **self.people[role], **tier, **more})

    def at_redis(self, role: str) -> dict[str, str]:
        """Return the variables that lead to the Redis as the user of a role; none where there is no Redis."""
        if self.redis is None:
            return {}
        return {
            "GENAI_CACHE_L2": self.redis.url,
            "GENAI_CACHE_L2_USERNAME": role,
            "GENAI_CACHE_L2_PASSWORD": PASSWORD,
        }

    def at_once(self, *jobs: Callable[[], T]) -> list[T]:
        """Do several things at once, and return what came of each."""
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            return [done.result() for done in [pool.submit(job) for job in jobs]]

    def says(self, title: str, sentence: str) -> None:
        """Print what a step showed."""
        from rich.text import Text

        self.console.print(Text.assemble((title, "bold"), " ", sentence))


def _is_absent(package: str) -> bool:
    try:
        return find_spec(package) is None
    except ModuleNotFoundError:  # not even what it lies in
        return True


@contextlib.contextmanager
def opened_stage(console: Console, deadline: Deadline) -> Iterator[Stage]:
    """Start what can be had; all of it ends with the block."""
    with contextlib.ExitStack() as ended:
        place = Path(ended.enter_context(tempfile.TemporaryDirectory(prefix="genai-cache-ops-")))
        identity = ended.enter_context(SimulatedIdentity())
        vault = ended.enter_context(SimulatedKeyVault(identity))
        people = {}
        for role, at_vault in VAULT_ROLES.items():
            principal = identity.add(role)
            vault.grant(principal, at_vault)
            people[role] = identity.environment(principal)
        models = ended.enter_context(SimulatedModelServer(latency_s=0.02))
        hook = ended.enter_context(Hook())
        stage = Stage(console, deadline, ended, place, models, vault, hook, people)
        _start_redis(stage)
        _start_team(stage)
        yield stage


def _start_redis(stage: Stage) -> None:
    """Start a Redis with a user for each role."""
    stage.redis = stage.had("roles at a Redis", RedisServer, "redis", extra="redis")
    if stage.redis is None:
        return
    import redis

    with redis.Redis.from_url(stage.redis.url) as client:
        for role, rules in REDIS_RULES.items():
            client.execute_command("ACL", "SETUSER", role, "reset", "on", f">{PASSWORD}", redis_keys(), *rules)


def _start_team(stage: Stage) -> None:
    """Start the tier that the team shares: a container with an edge before it, or else a Redis of its own."""
    azurite = stage.had("a container (Azurite), and an edge before it", Azurite, "azure.storage.blob", extra="azure")
    if azurite is None:
        if stage.redis is not None:
            stage.team = {"GENAI_CACHE_L2": stage.ended.enter_context(RedisServer()).url}
        return
    proxy = stage.proxy = stage.ended.enter_context(CountingProxy(azurite.port))
    stage.team = {
        "GENAI_CACHE_L2": f"{proxy.account_url}/{CONTAINER}",
        "GENAI_CACHE_L2_ACCOUNT_KEY": AZURITE_KEY,
        "GENAI_CACHE_L2_CREATE_CONTAINER": "true",
    }
    stage.edge = stage.had("an edge (nginx)", lambda: NginxEdge.reading(proxy.port, CONTAINER), extra="azure")
    if stage.edge is not None:
        stage.team["GENAI_CACHE_CDN__ENDPOINT"] = stage.edge.url


def monitored(stage: Stage) -> dict[str, str]:
    """Return the variables of a machine that is watched: an alert that tells the hook, and a page for Prometheus."""
    rule = {"name": "HighMissRate", "threshold": 0.3, "window": "20s"}
    watched = {
        "GENAI_CACHE_MONITORING__ALERTS": json.dumps([rule]),
        "GENAI_CACHE_MONITORING__WEBHOOK": stage.hook.url,
    }
    if not _is_absent("opentelemetry.exporter.prometheus"):
        watched["GENAI_CACHE_MONITORING__EXPORTER"] = "prometheus"
        watched["GENAI_CACHE_MONITORING__LISTEN"] = f"127.0.0.1:{free_port()}"
    return watched
