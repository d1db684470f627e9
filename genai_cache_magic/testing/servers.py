"""Real servers for tests: a redis-server, a cluster of six, Azurite, nginx as an edge before it.

They listen on free ports of loopback, and end with their test.

None is installed by importing or constructing: what is absent raises ``ServerMissingError``, whose text is the command
that installs it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

_START_TIMEOUT_S = 30.0
_NODE_TIMEOUT_MS = 30_000  # a busy machine is silent too, and whoever takes over may lack the last writes
_CLUSTER_NODES = 6
_SLOTS = 16384

AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What every Azurite has, learn.microsoft.com/azure/storage/common/storage-use-azurite: no secret."""


class ServerMissingError(RuntimeError):
    """A server that tests need is not installed; the message is the command that installs it."""


class Process:
    """A server process of ours: started in a directory of its own, awaited until it listens, ended by its id.

    Parameters
    ----------
    command
        The program and its arguments.
    port
        Where it will listen, on loopback.
    directory
        Its working directory; what it writes to its terminal goes to ``log`` there.
    """

    def __init__(self, command: list[str], *, port: int, directory: Path) -> None:
        self.port = port
        self._log = directory / "log"
        self._program = Path(command[0]).name
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program that the caller found, without a shell
                command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        self._await_listening()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> None:
        """End the process, by force if asking does not help; may be called twice."""
        self._process.terminate()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process at once, as a failing machine does."""
        self._process.kill()
        self._process.wait()

    def _await_listening(self) -> None:
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        while not _listens(self.port):
            has_ended = self._process.poll() is not None
            if has_ended or time.monotonic() > give_up_at:
                self.kill()
                how = "has ended at its start" if has_ended else f"does not listen within {_START_TIMEOUT_S:.0f} s"
                raise RuntimeError(f"{self._program} {how}: {self._log.read_text(errors='replace').strip() or 'mute'}")
            time.sleep(0.005)  # a port that begins to listen is no event that can be awaited


class Server(ABC):
    """A server that runs in a directory of its own, from now until it is closed. A context manager.

    Parameters
    ----------
    port
        Where it listens.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._directory = tempfile.TemporaryDirectory(prefix="genai-cache-server-")
        self._process: Process | None = None
        try:
            self.start()
        except BaseException:
            self._directory.cleanup()
            raise

    @property
    def pid(self) -> int:
        """The process id of the server that runs."""
        assert self._process is not None
        return self._process.pid

    @abstractmethod
    def command(self) -> list[str]:
        """Return the program and its arguments."""

    def start(self) -> None:
        """Start it, empty, after it was stopped."""
        self._process = Process(self.command(), port=self.port, directory=Path(self._directory.name))

    def stop(self) -> None:
        """End it as a failing machine does; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """End it and remove its directory."""
        self.stop()
        self._directory.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class RedisServer(Server):
    """A redis-server of its own that keeps nothing on disk.

    Parameters
    ----------
    arguments
        More of its configuration, such as ``("--maxmemory", "10mb")``.
    port
        Where it listens; by default a free port.
    """

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        self._arguments = arguments
        super().__init__(port or free_port())

    @property
    def url(self) -> str:
        """The server's address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        plain = () if "--tls-port" in self._arguments else ("--port", str(self.port))
        nowhere = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
        return [find_program("redis-server"), *plain, *nowhere, *self._arguments]


class RedisNodes:
    """A cluster of six redis-servers, three of them replicas. A context manager."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = []
        try:
            for _ in range(_CLUSTER_NODES):
                self.servers.append(_cluster_node())
            self._join()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """The address of one of them, which knows the others."""
        return f"redis+cluster://127.0.0.1:{self.servers[0].port}"

    def run(self, server: RedisServer, *words: str) -> str:
        """Send a command to one server and return its answer as text."""
        program = find_program("redis-cli")
        answer = subprocess.run(  # noqa: S603 - a program that we found, without a shell
            [program, "-p", str(server.port), *words], capture_output=True, text=True, check=True, timeout=30
        )
        return answer.stdout.strip()

    def close(self) -> None:
        """End all of them."""
        for server in self.servers:
            server.close()

    def _join(self) -> None:
        addresses = [f"127.0.0.1:{server.port}" for server in self.servers]
        program = find_program("redis-cli")
        command = [program, "--cluster", "create", *addresses, "--cluster-replicas", "1", "--cluster-yes"]
        subprocess.run(command, capture_output=True, check=True, timeout=60)  # noqa: S603 - as above
        self.await_complete()

    def reshard(self, source: str, target: str, *, slots: int) -> None:
        """Move `slots` slots, with what is in them, from the node of one id to that of another."""
        program = find_program("redis-cli")
        address = f"127.0.0.1:{self.servers[0].port}"
        command = [program, "--cluster", "reshard", address, "--cluster-from", source, "--cluster-to", target]
        command += ["--cluster-slots", str(slots), "--cluster-yes"]
        subprocess.run(command, capture_output=True, check=True, timeout=60)  # noqa: S603 - as above

    def mend(self) -> None:
        """Bring what was left half-way between two nodes to one of them."""
        program = find_program("redis-cli")
        command = [program, "--cluster", "fix", f"127.0.0.1:{self.servers[0].port}", "--cluster-yes"]
        subprocess.run(command, capture_output=True, check=False, timeout=60)  # noqa: S603 - as above

    def give_up_after(self, timeout_ms: int = _NODE_TIMEOUT_MS) -> None:
        """Let a node that is silent for so long count as dead, so that its replica takes over."""
        for server in self.servers:
            self.run(server, "config", "set", "cluster-node-timeout", str(timeout_ms))

    def await_complete(self) -> None:
        """Wait until every node knows all slots to be served, and each of three nodes to have a replica."""
        give_up_at = time.monotonic() + _START_TIMEOUT_S
        while not all(self._is_complete(server) for server in self.servers):
            if time.monotonic() > give_up_at:
                raise RuntimeError("the cluster does not come together")
            time.sleep(0.05)  # gossip is no event that can be awaited

    def _is_complete(self, server: RedisServer) -> bool:
        state = self.run(server, "cluster", "info")
        replicas = self.run(server, "cluster", "nodes").count("slave ")
        return "cluster_state:ok" in state and f"cluster_slots_ok:{_SLOTS}" in state and replicas == _CLUSTER_NODES // 2

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Azurite(Server):
    """An Azurite that serves blobs from memory.

    Parameters
    ----------
    arguments
        More of its arguments, such as ``("--oauth", "basic", "--cert", ..., "--key", ...)``.
    """

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._scheme = "https" if "--cert" in arguments else "http"
        super().__init__(free_port())

    @property
    def account_url(self) -> str:
        """The address of the account."""
        return f"{self._scheme}://127.0.0.1:{self.port}/{AZURITE_ACCOUNT}"

    @property
    def connection_string(self) -> str:
        """The connection string of its account."""
        return (
            f"DefaultEndpointsProtocol={self._scheme};AccountName={AZURITE_ACCOUNT};AccountKey={AZURITE_KEY};"
            f"BlobEndpoint={self.account_url};"
        )

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        return [
            find_program("azurite-blob"),
            *("--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"),
            *("--blobHost", "127.0.0.1", "--blobPort", str(self.port), *self._arguments),
        ]


class NginxEdge(Server):
    """An nginx that caches what it fetches from a container, where it signs in by itself: an edge.

    Parameters
    ----------
    origin_port
        Where the service listens that holds the container, on loopback.
    signature
        The query that it adds to what it asks there: a shared access signature. No address of its own holds it.
    account
        What paths begin with there.
    """

    def __init__(self, origin_port: int, signature: str = "", account: str = AZURITE_ACCOUNT) -> None:
        self._origin = f"http://127.0.0.1:{origin_port}/{account}"
        self._signature = f"?{signature}" if signature else ""
        super().__init__(free_port())

    @classmethod
    def reading(cls, origin_port: int, container: str) -> Self:
        """Return one that may read in a container of Azurite, or of what stands before it, and do nothing else."""
        from azure.storage.blob import generate_container_sas

        until = datetime.now(UTC) + timedelta(days=1)
        signature = generate_container_sas(
            AZURITE_ACCOUNT, container, account_key=AZURITE_KEY, permission="r", expiry=until
        )
        return cls(origin_port, signature)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        """Return the program and its arguments."""
        program = find_program("nginx")
        place = Path(self._directory.name)
        scratch = "".join(
            f"{kind}_temp_path {place / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = place / "nginx.conf"
        # One process, since a master that is killed leaves its workers behind.
        configuration.write_text(
            f"""
            daemon off; master_process off; pid {place / "pid"}; error_log stderr error;
            events {{ worker_connections 256; }}
            http {{
                access_log off; {scratch}
                proxy_cache_path {place / "cache"} keys_zone=edge:1m;
                server {{
                    listen 127.0.0.1:{self.port};
                    location / {{
                        proxy_pass {self._origin}$uri{self._signature};
                        proxy_http_version 1.1;
                        proxy_set_header Connection "";
                        proxy_cache edge;
                        proxy_cache_key $uri;
                        proxy_cache_lock on;
                    }}
                }}
            }}
            """
        )
        return [program, "-p", os.fspath(place), "-c", os.fspath(configuration), "-e", "stderr"]


def find_program(name: str) -> str:
    """Return the path of a server's program.

    Raises
    ------
    ServerMissingError
        It is not installed.
    """
    beside = Path(sys.prefix) / "services" / "node_modules" / ".bin"
    # Servers lie where an ordinary user's search does not go.
    found = shutil.which(name) or shutil.which(name, path=f"{beside}:/usr/local/sbin:/usr/sbin")
    if found is None:
        raise ServerMissingError(f"{name} is not installed: make services")
    return found


def free_port() -> int:
    """Return a port of loopback that nobody listens on now, and whose number leaves room for a cluster's bus."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port < 2**16 - 10_000 - 1:  # a cluster node listens 10,000 above its port too
            return port


@contextlib.contextmanager
def cut_off(server: Server) -> Iterator[None]:
    """Stop a server's process for a block: it holds connections and answers nothing, as behind a broken network."""
    import signal

    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


def _cluster_node() -> RedisServer:
    return RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", str(_NODE_TIMEOUT_MS))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0
