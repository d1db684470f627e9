"""A team of two machines over each kind of tier, whose ways to it can be cut, and what each machine is told then."""

from __future__ import annotations

import contextlib
import uuid

import pytest
from machines import Team
from simulated import Network, Reached

from genai_cache_magic.entries.link import Link
from genai_cache_magic.entries.team import tier as teams
from genai_cache_magic.events import Trouble
from genai_cache_magic.stores.azure.blob import BlobStore, BlobTier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.redis.by_size import SizedTier
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.servers import AZURITE_KEY
from genai_cache_magic.testing.tier import MemoryServer, MemoryTier

_TIERS = (
    "memory",
    pytest.param("redis", marks=pytest.mark.service),
    pytest.param("azurite", marks=pytest.mark.service),
)
LARGEST_SMALL_BYTES = 10_000
"""Of `both`, a Redis and a container beside it for what is larger [bytes]."""


class Cut(Reached):
    """A tier through a network that can be cut."""

    def __init__(self, inner):
        super().__init__(inner, Network())

    @property
    def is_away(self):
        return self._network.is_cut

    @is_away.setter
    def is_away(self, is_away):
        self._network.is_cut = is_away


@pytest.fixture(name="tier", params=_TIERS)
def way_to_a_tier(request, monkeypatch):
    """Return ways to one tier, which is waited for however loaded this machine is."""
    monkeypatch.setitem(Link.__init__.__kwdefaults__, "deadline_s", 90)
    monkeypatch.setattr(teams, "DEADLINE_S", 90)
    namespace = f"n{uuid.uuid4().hex}"
    with contextlib.ExitStack() as undo:
        if request.param == "memory":
            server = MemoryServer()
            yield lambda: MemoryTier(server)
            return
        if request.param == "azurite":
            blobs = container_of(request, undo)
            yield lambda: BlobTier(blobs, namespace, patience_s=30)
            return
        server = request.getfixturevalue("redis_nodes" if request.param == "cluster" else "redis_server")
        target = RedisTarget(server.url, connect_timeout_s=30, command_timeout_s=30)
        connection = undo.enter_context(contextlib.closing(RedisConnection(target)))
        if request.param != "both":
            yield lambda: RedisTier(connection, namespace)
            return
        blobs = container_of(request, undo)

        def both():
            fast, large = RedisTier(connection, namespace), BlobStore(blobs, namespace, "l")
            return SizedTier(fast, large, Breaker("blob"), limit_bytes=LARGEST_SMALL_BYTES, patience_s=30)

        yield both


def container_of(request, undo):
    url = f"{request.getfixturevalue('azurite').account_url}/away"
    patience = {"connect_timeout_s": 30, "command_timeout_s": 30}
    blobs = BlobConnection(BlobTarget(url, account_key=AZURITE_KEY, create_container=True, **patience))
    undo.callback(blobs.close)
    with blobs.use():
        pass
    return blobs


@pytest.fixture(name="team")
def team_that_can_be_cut(tmp_path, isolated, monkeypatch, tier):
    team = Team(tmp_path, monkeypatch, way=lambda: Cut(tier()))
    yield team
    team.close()


@pytest.fixture(name="a")
def machine_a(team):
    return team.machine("a")


@pytest.fixture(name="b")
def machine_b(team, a):
    return team.machine("b")


def not_kept(machine):
    """Return what a machine was told of values that are not kept."""
    return [event.message for event in machine.events if isinstance(event, Trouble) and event.error == "NotKept"]


def lost_at_once(machine):
    return [event for event in machine.events if isinstance(event, Trouble) and "set and are not kept" in event.message]


def everywhere(machines, key):
    """Return what each machine gets, once it has seen what is valid."""
    for machine in machines:
        machine.goes_stale()
    return [machine.cache.get(key) for machine in machines]


@contextlib.contextmanager
def away(*machines):
    for machine in machines:
        machine.tier.is_away = True
        machine.goes_stale()
    yield
    for machine in machines:
        machine.tier.is_away = False
