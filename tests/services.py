"""Fixtures of real servers, each started once for a session; what a server holds is parted by name spaces.

Where one is absent its tests skip with the command that installs it; where it was promised (``CI=true``) they fail.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import socket
import threading
import uuid
from typing import TYPE_CHECKING, NoReturn, TypeVar

import pytest

from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.servers import (
    Azurite,
    NginxEdge,
    RedisNodes,
    RedisServer,
    ServerMissingError,
)
from genai_cache_magic.testing.vault_server import SimulatedKeyVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
_numbers = itertools.count(1)


def started(make: Callable[[], T]) -> T:
    """Return the server that `make` starts, or skip, or fail where it was promised."""
    try:
        return make()
    except ServerMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A redis-server."""
    with started(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def redis_nodes() -> Iterator[RedisNodes]:
    """A cluster of six."""
    with started(RedisNodes) as nodes:
        yield nodes


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """An Azurite."""
    with started(Azurite) as server:
        yield server


# The SDK of Azure Blob leaves the socket of a download that fails to the collector.
LEAVES_SOCKETS = (
    pytest.mark.usefixtures("sockets_collected"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
)


@pytest.fixture(scope="module")
def sockets_collected() -> Iterator[None]:
    """Let those sockets go here, and not in the middle of another module's test."""
    yield
    gc.collect()


@contextlib.contextmanager
def edge_before(port: int, container: str) -> Iterator[NginxEdge]:
    """An nginx that caches what Azurite, or what stands before it, has in a container, and may only read there."""
    pytest.importorskip("azure.storage.blob", reason="pip install 'genai-cache-magic[azure]'")
    with started(lambda: NginxEdge.reading(port, container)) as edge:
        yield edge


@pytest.fixture
def identity(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedIdentity]:
    """A simulated identity service, and this process on a machine that has a managed identity of it."""
    with SimulatedIdentity() as service:
        for name, value in service.environment().items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture
def vault(identity: SimulatedIdentity) -> Iterator[SimulatedKeyVault]:
    """A simulated Key Vault without keys, where this machine is a crypto officer."""
    with SimulatedKeyVault(identity) as service:
        yield service


@pytest.fixture
def no_id_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody make an id of the time and this machine's address: see `host.request_id`."""

    def refuse(*_: object) -> NoReturn:
        raise AssertionError("uuid1 was asked for")

    monkeypatch.setattr(uuid, "uuid1", refuse)


@pytest.fixture
def team() -> str:
    """A name space that no other test uses."""
    return f"team-{os.getpid()}-{next(_numbers)}-own"  # no name is the beginning of another


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Serve `answer` to whatever is asked on a port of loopback, and close each connection then."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=10)
