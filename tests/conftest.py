"""Fixtures that all tests share: a cache of its own for each test, a simulated model, and no way out to the network."""

from __future__ import annotations

import functools
import gc
import ipaddress
import os
import signal
import socket
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import wrapt
from browsers import axe, chromium  # noqa: F401 - fixtures
from certificates import make_certificate
from keyrings import os_keyring  # noqa: F401 - a fixture
from services import azurite, identity, no_id_of_time, redis_nodes, redis_server, sockets_collected, team, vault  # noqa: F401 - fixtures

from genai_cache_magic.testing.model_server import SimulatedModelServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType


# A deadline would be a timing assertion: a busy machine is no fault of ours. In CI the examples are the same each time,
# so that a change is judged by what it changed; new ones are looked for by everybody who runs the tests.
hypothesis.settings.register_profile("here", deadline=None, derandomize=os.environ.get("CI") == "true")
# Where the same examples were tried before, on another Python.
hypothesis.settings.register_profile("few", hypothesis.settings.get_profile("here"), max_examples=25)
hypothesis.settings.load_profile("here")


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Let the garbage collector look through what tests make, and not again through all that they were collected from.

    SDKs and thousands of tests are many objects: tenths of a second of each test that collects what it left open.
    """
    gc.collect()
    gc.freeze()


@wrapt.when_imported("botocore.loaders")
def _described_once(loaders: ModuleType) -> None:
    """Let all sessions of botocore have one loader of what describes services: megabytes of JSON, in many files."""
    loaders.create_loader = functools.cache(loaders.create_loader)


class NetworkAccessError(AssertionError):
    """A test tried to reach another machine."""


@pytest.fixture(scope="session", autouse=True)
def _network_guard() -> Iterator[None]:
    """Let sockets connect to loopback only: no test ever reaches a real provider."""
    originals = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex")}

    def guarded(name: str) -> Any:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(address[0]):
                raise NetworkAccessError(f"a test connects to {address[0]!r}: only loopback is allowed")
            return originals[name](self, address)

        return connect

    with pytest.MonkeyPatch.context() as patch:
        for name in originals:
            patch.setattr(socket.socket, name, guarded(name))
        yield


@pytest.fixture(scope="session", autouse=True)
def _nobody_is_vouched_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let HTTP clients trust one authority, which vouches for nobody: each client reads all that it trusts.

    The public ones, some 150, take 35 ms of each client that a test or a kernel makes, and are of no use on loopback.
    """
    place = tmp_path_factory.mktemp("authority")
    # Of a name of its own: an authority is looked for by its name, and one that bears another's is taken for it.
    make_certificate(place, "nobody", days=2, subject="nobody")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(place / "nobody.pem"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _interrupts_are_heard() -> None:
    """Let Ctrl-C reach the tests that send it: where a run is started in the background, it is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_loopback(host: str) -> bool:
    try:
        return host in {"localhost", ""} or ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache directory and key, no settings of the user's, a session of its own, and no patch left behind."""
    from genai_cache_magic.api.scopes.cells import uninstall
    from genai_cache_magic.api.scopes.session import reset_session

    for name in ("GENAI_CACHE_MODE", "GENAI_CACHE_NAMESPACE", "GENAI_CACHE_ENCRYPTION", "GENAI_CACHE_TTL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("GENAI_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(tmp_path / "keys" / "default.key"))
    monkeypatch.setenv("GENAI_CACHE_PERSON", "tester")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.chdir(home)
    reset_session()
    yield tmp_path
    uninstall()
    reset_session()


@pytest.fixture
def server() -> Iterator[SimulatedModelServer]:
    """A simulated model provider whose equal requests get equal answers."""
    with SimulatedModelServer() as running:
        yield running


@pytest.fixture
def unique_server() -> Iterator[SimulatedModelServer]:
    """A simulated model provider that never gives the same answer twice."""
    with SimulatedModelServer("unique") as running:
        yield running


@pytest.fixture
def no_pause_between_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the SDKs of OpenAI and Anthropic ask again at once after an error."""
    import anthropic._base_client
    import openai._base_client

    for module in (anthropic._base_client, openai._base_client):
        monkeypatch.setattr(module, "INITIAL_RETRY_DELAY", 0.0)
