"""An edge before a container: a real nginx that caches, before a real Azurite, and machines of a team behind both."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest
from services import LEAVES_SOCKETS, edge_before

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.entries.link import Link
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import Trouble
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.breaker import BreakerConfig
from genai_cache_magic.stores.edge.cdn import Edge, EdgeTier, Rule, Rules
from genai_cache_magic.stores.edge.fetching import Site
from genai_cache_magic.testing.contracts.store import key_of
from genai_cache_magic.testing.contracts.tier import SharedTierContract
from genai_cache_magic.testing.counting_proxy import CountingProxy
from genai_cache_magic.testing.servers import AZURITE_KEY, free_port

pytestmark = [
    pytest.mark.service,
    *LEAVES_SOCKETS,
]
CONTAINER = "edged"


@pytest.fixture(scope="module")
def origin(azurite):
    """What stands before Azurite and counts, for the edge and for machines alike."""
    with CountingProxy(azurite.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def edge(origin):
    with edge_before(origin.port, CONTAINER) as edge:
        yield edge


@pytest.fixture
def connection(origin):
    url, patience = f"{origin.account_url}/{CONTAINER}", {"connect_timeout_s": 30, "command_timeout_s": 30}
    target = BlobTarget(url, account_key=AZURITE_KEY, create_container=True, **patience)
    connection = BlobConnection(target)
    with connection.use():
        pass
    yield connection
    connection.close()


@pytest.fixture
def site(edge):
    return Site(f"{edge.url}/{CONTAINER}", "cdn.endpoint", connect_timeout_s=30, command_timeout_s=30)


@pytest.fixture
def patient(monkeypatch):
    """Wait for edge and container however loaded this machine is."""
    monkeypatch.setattr("genai_cache_magic.stores.edge.cdn.PATIENCE_S", 30)
    monkeypatch.setattr("genai_cache_magic.stores.edge.cdn.LEFT_S", 30)
    monkeypatch.setitem(Link.__init__.__kwdefaults__, "deadline_s", 90)
    monkeypatch.setattr("genai_cache_magic.entries.team.tier.DEADLINE_S", 90)
    monkeypatch.setattr("genai_cache_magic.api.team.line.DEADLINE_S", 90)
    monkeypatch.setattr("genai_cache_magic.ops.doctor_team._EDGE_DEADLINE_S", 90)
    config = BreakerConfig(first_pause_s=600, longest_pause_s=600)
    monkeypatch.setattr("genai_cache_magic.stores.breaker.BreakerConfig", lambda: config)


@pytest.fixture
def machine(isolated, tmp_path, team, origin, edge, connection, patient):  # noqa: PLR0917 - fixtures
    """Open caches of one team, each on a machine of its own."""
    caches = []

    def make(name, *, endpoint=edge.url, events=None, **settings):
        if "l2" not in settings:
            settings |= {"account": origin.account_url, "container": CONTAINER}
        cache = create_cache(
            "azure_cdn",
            endpoint=endpoint,
            l2_account_key=AZURITE_KEY,
            namespace=team,
            dir=tmp_path / name,
            connect_timeout="30s",
            command_timeout="30s",
            on_event=(lambda _: None) if events is None else events.append,
            **settings,
        )
        caches.append(cache)
        return cache

    yield make
    for cache in caches:
        cache.close()


def told(cache):
    assert cache._team.tell(within_s=30)


def troubles(events):
    return [event for event in events if isinstance(event, Trouble)]


class TestTier(SharedTierContract):
    @pytest.fixture
    def tier(self, connection, team, site, monkeypatch):
        for name in ("PATIENCE_S", "LEFT_S"):  # a look-up gives what came in time: here all does
            monkeypatch.setattr(f"genai_cache_magic.stores.edge.cdn.{name}", 30)
        tier = EdgeTier(connection, team, Edge(site), Rules())
        yield tier
        tier.close()


def test_reads_of_further_machines_never_reach_the_container(machine, origin):
    """The edge reads an answer once, and all machines after that have it from there: nobody else reads it."""
    first = machine("a")
    first.mset({f"name {number}": f"value {number}" for number in range(12)})
    told(first)
    origin.asked.clear()
    for name in "bcd":
        cache = machine(name)
        assert cache.mget([f"name {number}" for number in range(12)]) == [f"value {number}" for number in range(12)]
    assert len(origin.reads()) == 12
    assert len(set(origin.reads())) == 12


def test_documents_and_pages_are_never_asked_of_the_edge(machine, edge, origin, monkeypatch):
    """What rules, what opens and what others write is asked of the container itself: the edge hears of values alone."""
    from genai_cache_magic.stores.edge import fetching

    paths = []
    run = fetching.Fetch.run
    monkeypatch.setattr(fetching.Fetch, "run", lambda fetch: paths.append(fetch._path) or run(fetch))
    first = machine("a")
    first.set("name", "value")
    told(first)
    second = machine("b")
    assert second.get("name") == "value"
    second.usage()
    second.keys()
    assert paths
    assert all("/e/" in path and "?" not in path for path in paths)


def test_what_the_edge_still_has_of_something_invalid_is_refused(machine, origin):
    """An object at the edge outlives what it says by a day, and is judged like any other: it is not served."""
    first, second = machine("a"), machine("b")
    ways = ["set", "invalidate", "delete", "tag"]
    for way in ways:
        first.set(way, "old", tags=[way])
    told(first)
    assert second.mget(ways) == ["old"] * len(ways)
    first.set("set", "new")
    first.invalidate("invalidate")
    first.delete("delete")
    first.invalidate_tag("tag")
    told(first)
    events = []
    third = machine("c", events=events)
    assert third.mget(ways) == ["new", None, None, None]
    first.clear()
    assert machine("d", events=events).mget(ways) == [None] * len(ways)
    assert not troubles(events)


def test_a_poisoned_edge_costs_a_round_and_serves_nothing(machine, connection, team, site):
    """What the edge keeps under the name of an answer, and nobody sealed for it, is refused; the container answers."""
    from azure.storage.blob import ContentSettings

    first = machine("a")
    first.mset({"name": "value", "other": "another value"})
    told(first)
    name, other = (f"genai-cache/1/{team}/e/{first._value_id(key)}" for key in ("name", "other"))
    with connection.use() as container:
        ours, others = (container.download_blob(path).readall() for path in (name, other))
        kept = ContentSettings(content_type="application/octet-stream", cache_control="public, max-age=3600")
        container.upload_blob(name, others, overwrite=True, content_settings=kept)
    fetched = Edge(site)
    assert fetched.fetch(name) == others
    fetched.close()
    with connection.use() as container:
        properties = {"ttl_ms": "3600000"}
        container.upload_blob(name, ours, overwrite=True, metadata=properties)
    events = []
    second = machine("b", events=events)
    assert second.mget(["name", "other"]) == ["value", "another value"]
    assert [event.where for event in troubles(events)] == ["edge"]


def test_a_dead_edge_costs_one_time_out(machine, monkeypatch):
    """Where an edge holds connections and says nothing, it is left alone after one look-up; the container answers."""
    monkeypatch.setattr("genai_cache_magic.stores.edge.cdn.PATIENCE_S", 0.3)
    first = machine("a", endpoint="http://127.0.0.1:1")
    first.mset({f"name {number}": "value" for number in range(3)})
    told(first)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        events = []
        second = machine("b", endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}", events=events)
        asked = []
        begin = Edge._fetches
        monkeypatch.setattr(Edge, "_fetches", lambda edge, names: begin(edge, asked.extend(names) or names))
        for number in range(3):
            assert second.get(f"name {number}") == "value"
    assert len(asked) == 1
    (trouble,) = troubles(events)
    assert trouble.where == "edge"
    assert "does not answer in time" in trouble.message


def test_an_edge_that_refuses_connections_is_said_and_left_alone(machine):
    """The same for one that is not there."""
    first = machine("a", endpoint=f"http://127.0.0.1:{free_port()}")
    first.mset({f"name {number}": "value" for number in range(5)})
    told(first)
    events = []
    second = machine("b", endpoint=f"http://127.0.0.1:{free_port()}", events=events)
    for number in range(5):
        assert second.get(f"name {number}") == "value"
    (trouble,) = troubles(events)
    assert "refuses connections" in trouble.message


def test_rules_say_what_the_edge_keeps(machine, connection, team):
    """The first rule that matches is written with each answer, and never says more than the answer itself may live."""
    rules = [{"match": f"{team}/none*", "ttl": "1h"}, {"match": "*.json", "ttl": 3600}, {"match": "*", "ttl": "2d"}]
    cache = machine("a", rules=rules)
    cache.set("long", "value")
    cache.set("brief", "value", ttl=60)
    told(cache)
    said = {}
    with connection.use() as container:
        for row in container.list_blobs(f"genai-cache/1/{team}/"):
            properties = container.get_blob_client(row.name).get_blob_properties()
            said[row.name] = properties.content_settings.cache_control
    prefix = f"genai-cache/1/{team}/e/"
    assert said[prefix + cache._value_id("long")] == "public, max-age=3600"
    assert said[prefix + cache._value_id("brief")] in {"public, max-age=60", "public, max-age=59"}
    assert {value for name, value in said.items() if "/d/" in name} == {"no-store"}


@pytest.mark.parametrize(
    ("ttl_s", "says"),
    [(10, "public, max-age=10"), (1e9, "public, max-age=60"), (0.2, "public, max-age=1")],
)
def test_the_shorter_life_counts(ttl_s, says):
    """What a rule allows and what is left to live: the edge may keep it for the shorter of both."""
    assert Rules((Rule("team/*", 60),)).cache_control("team", key_of("a"), ttl_s) == says


def test_what_no_rule_names_is_not_kept():
    """Without a rule that matches nothing may be kept."""
    assert Rules((Rule("team/*", 60),)).cache_control("other", key_of("a"), 60) == "no-store"
    assert Rules(()).cache_control("other", key_of("a"), 60) == "no-store"


def test_large_answers_beside_a_redis_come_from_the_edge(machine, redis_server, origin):
    """With a Redis that rules, the edge stands before what is large, and what is small never goes there."""
    l2 = f"{redis_server.url},{origin.account_url}/{CONTAINER}"
    values = {"small": "s", "large": os.urandom(1_500_000)}
    first = machine("a", l2=l2)
    first.mset(values)
    told(first)
    origin.asked.clear()
    for name in "bc":
        assert machine(name, l2=l2).mget(list(values)) == list(values.values())
    assert len(origin.reads("/l/")) == 1
    assert origin.reads("/e/") == []
    first.set("large", os.urandom(1_500_000))
    told(first)
    assert machine("d", l2=l2).get("large") == first.get("large") != values["large"]


def test_answers_that_are_not_sealed_go_to_no_edge(machine):
    """Whoever reaches an edge reads what it has, so without encryption there is none."""
    with pytest.raises(ConfigurationError, match="encryption"):
        machine("a", encryption="off")


@pytest.fixture
def findings(machine, origin, team, tmp_path, edge):
    """What the doctor says of the team's tier, in pairs of severity and sentence."""

    def look(endpoint):
        settings = {
            "l2": f"{origin.account_url}/{CONTAINER}",
            "l2_account_key": AZURITE_KEY,
            "namespace": team,
            "dir": tmp_path / "doctor",
            "connect_timeout": "30s",
            "command_timeout": "30s",
            "cdn": {"endpoint": endpoint},
        }
        with contextlib.closing(Session(**settings)) as session:
            return [(one.severity, one.says) for one in examine(session) if "cdn" in one.settings]

    return look


def test_the_doctor_tries_the_way_through_the_edge(findings, edge, origin):
    """It says that the edge hands out what the container holds and keeps it, or what is wrong with that."""
    assert findings(edge.url) == [(Severity.OK, "the edge in front of it hands out what it holds, and keeps it")]
    with edge_before(origin.port, "another-container") as stranger:
        ((severity, says),) = findings(stranger.url)
    assert severity is Severity.WARNING
    assert "sign in at the container" in says
    ((severity, says),) = findings(f"http://127.0.0.1:{free_port()}")
    assert severity is Severity.WARNING
    assert "refuses connections" in says
