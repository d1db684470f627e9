"""What a namespace takes in each tier is counted there, compared with what there is, and foretold."""

from __future__ import annotations

import contextlib
import json
import os
import random
from types import SimpleNamespace

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.session import current_session, reset_session
from genai_cache_magic.cli.main import main
from genai_cache_magic.entries.growth import DAY_MS, Growth
from genai_cache_magic.entries.listing.holdings import Limited
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.jupyter import commands
from genai_cache_magic.jupyter.shown.insight import room_notes
from genai_cache_magic.ops import rooms
from genai_cache_magic.ops.rooms import TierRoom
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.azure import room as azure_room
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis import limits
from genai_cache_magic.stores.redis import room as redis_room
from genai_cache_magic.stores.redis.by_size import LARGE_BYTES
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.contracts.store import key_of
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer

MB = 1 << 20
DAYS, EACH, VALUE_BYTES = 5, 4, 18_000

pytestmark = pytest.mark.usefixtures("sockets_collected")  # of Azure Blob


@pytest.fixture
def container(azurite):
    """Return its address, once it is there: making it may take longer than a tier is waited for."""
    url = f"{azurite.account_url}/rooms-{os.getpid()}"
    patience = {"connect_timeout_s": 30, "command_timeout_s": 30}
    target = BlobTarget(url, account_key=AZURITE_KEY, create_container=True, **patience)
    with contextlib.closing(BlobConnection(target)) as connection, connection.use():
        return url


@pytest.fixture
def used(isolated, monkeypatch, team):
    """Fill a namespace as some days would, over given tiers, and let commands see it."""
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    monkeypatch.setenv("GENAI_CACHE_L2_ACCOUNT_KEY", AZURITE_KEY)
    monkeypatch.setenv("GENAI_CACHE_CONNECT_TIMEOUT", "30s")
    monkeypatch.setenv("GENAI_CACHE_COMMAND_TIMEOUT", "30s")

    def fill(*l2, large=0):
        monkeypatch.setenv("GENAI_CACHE_L2", ",".join(l2))
        noise = random.Random(0)
        events = []
        with create_cache("disk", on_event=events.append) as cache:
            assert cache.team is not None, events
            for number in range(DAYS * EACH):
                cache.set(str(number), noise.randbytes(VALUE_BYTES), tags=["even" if number % 2 else "odd"])
            for number in range(large):
                cache.set(f"large-{number}", noise.randbytes(LARGE_BYTES + 1), tags=["large"])
            assert cache.team.tell(within_s=60)
            # What is older than a day is told to nobody any more: so rows alone are made older.
            cache.catalogue.rows.state.write(
                lambda db: db.execute("UPDATE entry SET created_ms = created_ms - (n % ?) * ?", (DAYS, DAY_MS))
            )

    return fill


def said(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    out = capsys.readouterr()
    assert ended.value.code == 0, out.err
    return out.out


@pytest.mark.service
def test_a_redis_that_will_be_full(used, monkeypatch, capsys, team):
    """Its own limit, and what all who use it take, say when; gc, stats and the magic tell the same."""
    with RedisServer("--maxmemory", "3mb") as server:
        used(server.url)
        told = json.loads(said(capsys, "stats", "--json"))["rooms"]
        assert [one["name"] for one in told] == ["L1", server.url.removesuffix("/0")]
        room = told[1]
        assert room["entries"] == DAYS * EACH
        assert VALUE_BYTES * DAYS * EACH < room["size_bytes"] < 1.5 * VALUE_BYTES * DAYS * EACH
        assert room["limit_bytes"] == 3 * MB
        assert room["beside_bytes"] > 0
        assert room["size_bytes"] + room["beside_bytes"] < room["used_bytes"] < 3 * MB
        daily = room["daily_bytes"]
        assert daily > VALUE_BYTES * EACH
        free = 3 * MB - room["used_bytes"]
        assert abs(room["full_in_days"] - free / daily) <= 1
        forecast = f"are added in a day: full in {room['full_in_days']} day"
        assert forecast in said(capsys, "stats")
        assert forecast in said(capsys, "gc")
        assert json.loads(said(capsys, "gc", "--json"))["rooms"][1]["full_in_days"] == room["full_in_days"]
        reset_session()
        assert forecast in "\n".join(commands._stats("").notes)
        current_session().close()
        reset_session()


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_container_has_the_limit_that_is_set(used, container, monkeypatch, capsys):
    """Nobody else's: without one there is no forecast, and what is added is told all the same."""
    used(container)
    room = json.loads(said(capsys, "stats", "--json"))["rooms"][1]
    assert (room["limit_bytes"], room["full_in_days"]) == (None, None)
    assert room["daily_bytes"] > VALUE_BYTES * EACH
    monkeypatch.setenv("GENAI_CACHE_LIMITS__CONTAINER", "1MB")
    room = json.loads(said(capsys, "stats", "--json"))["rooms"][1]
    assert room["size_bytes"] > VALUE_BYTES * DAYS * EACH
    assert 0 < room["full_in_days"] < 14
    assert f"full in {room['full_in_days']} day" in said(capsys, "stats")


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_over_both_each_has_its_own(used, container, redis_server, capsys):
    """The Redis has pointers to what is large, and the container what is large alone."""
    used(redis_server.url, container, large=2)
    _, redis, blob = json.loads(said(capsys, "stats", "--json"))["rooms"]
    assert (redis["entries"], blob["entries"]) == (DAYS * EACH + 2, 2)
    assert redis["size_bytes"] < MB
    assert blob["size_bytes"] > 2 * LARGE_BYTES


@pytest.mark.service
def test_tags_and_models_have_limits_in_each_tier(used, redis_server, monkeypatch, capsys):
    """What carries a tag is compared with its limit here and there, with a forecast; one that nobody has is empty."""
    limits = {"tags": {"even": "1MB", "odd": "50kB", "none": "1MB"}, "models": {"gpt-4.1": "1MB"}}
    monkeypatch.setenv("GENAI_CACHE_LIMITS", json.dumps(limits))
    used(redis_server.url)
    told = json.loads(said(capsys, "stats", "--json"))["rooms"]
    for room in told:
        found = {(one["kind"], one["name"]): (one["entries"], one["growth"]) for one in room["limited"]}
        assert [found["tag", name][0] for name in ("even", "odd", "none")] == [DAYS * EACH / 2, DAYS * EACH / 2, 0]
        assert found["model", "gpt-4.1"][0] == 0
        assert found["tag", "even"][1]["full_in_days"] > 0
        assert found["tag", "odd"][1]["size_bytes"] > 50_000
    lines = said(capsys, "stats").splitlines()
    (odd,) = [line for line in lines if line.startswith(f"tag odd in {told[1]['name']}: ")]
    assert odd.endswith(": full")
    assert any(line.startswith("tag even in L1: 10 answers, ") and "full in" in line for line in lines)


@pytest.mark.service
def test_what_others_have_in_a_redis_is_theirs(redis_server, team):
    """Neither another namespace's nor what is no value of ours is counted as an answer."""
    with contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as connection:
        with connection.use() as client:
            client.set(f"genai-cache:1:{team}:e:{key_of('a')}", b"x" * 1000)
            client.set(f"genai-cache:1:{team}-2:e:{key_of('b')}", b"x" * 1000)
            client.hset(f"genai-cache:1:{team}:e:{key_of('c')}", "value", "x")
            client.set(f"genai-cache:1:{team}:e:short", b"x")
            client.hset(f"genai-cache:1:{team}:d:keyset", "value", b"x" * 1000)
        room = redis_room.room_of(connection, team)
    assert room.sizes.keys() == {key_of("a"), key_of("c")}
    assert room.sizes[key_of("a")] >= 1000
    assert room.beside_bytes >= 1000
    assert room.limit_bytes is None


@pytest.mark.service
def test_who_may_not_ask_for_memory_is_told_lengths(redis_server, team):
    """A reader's rights are enough: what values take is told by their lengths, and the server's limit is not."""
    with contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as admin, admin.use() as client:
        client.set(f"genai-cache:1:{team}:e:{key_of('a')}", b"x" * 1000)
        client.execute_command(
            *f"ACL SETUSER {team} on >secret resetkeys ~genai-cache:1:{team}:* -@all".split(),
            *("+get", "+strlen", "+scan", "+eval", "+hello"),
        )
        target = RedisTarget(redis_server.url, username=team, password="secret")
        with contextlib.closing(RedisConnection(target)) as connection:
            room = redis_room.room_of(connection, team)
        client.execute_command("ACL", "DELUSER", team)
    assert room.sizes == {key_of("a"): 1000}
    assert (room.used_bytes, room.limit_bytes) == (None, None)


@pytest.mark.service
def test_a_cluster_is_counted_whole(redis_nodes, team):
    """Whichever node has what."""
    with contextlib.closing(RedisConnection(RedisTarget(redis_nodes.url))) as connection:
        keys = {key_of(str(number)) for number in range(20)}
        with connection.use() as client:
            for key in keys:
                client.set(f"genai-cache:1:{team}:e:{key}", b"x" * 100)
        room = redis_room.room_of(connection, team)
    assert room.sizes.keys() == keys


class _Cluster:
    """A cluster's client, and what its servers say of their memory."""

    def __init__(self, **memory):
        self.memory = memory

    def get_primaries(self):
        return list(self.memory)

    def info(self, section, target_nodes):
        used, most = self.memory[target_nodes]
        return {"used_memory": used, "maxmemory": most}


@pytest.mark.parametrize(
    ("memory", "together"),
    [
        ({"a": (60, 100), "b": (20, 100), "c": (40, 100)}, (120, 240)),
        ({"a": (60, 100), "b": (20, 0)}, (80, 160)),
        ({"a": (100, 100), "b": (0, 100)}, (100, 100)),
        ({"a": (60, 0), "b": (20, 0)}, (80, 0)),
    ],
)
def test_a_cluster_is_full_when_its_fullest_server_is(memory, together):
    """What is added is spread over all of them, so each may take as much more as the fullest one may."""

    @contextlib.contextmanager
    def use():
        yield _Cluster(**memory)

    assert limits.whole_memory_of(SimpleNamespace(use=use)) == together


@pytest.mark.service
def test_a_clusters_memory_is_that_of_its_primaries(redis_nodes):
    """Copies of them take no more of what there is."""
    with contextlib.closing(RedisConnection(RedisTarget(redis_nodes.url))) as connection:
        with connection.use() as client:
            used = [client.info("memory", target_nodes=node)["used_memory"] for node in client.get_primaries()]
        found, most = limits.whole_memory_of(connection)
    assert len(used) == 3
    assert found == pytest.approx(sum(used), rel=0.2)
    assert most == 0


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_container_is_counted_by_folder(container, team):
    """Values, large values, and what stands beside them; nothing of others."""
    target = BlobTarget(container, account_key=AZURITE_KEY, create_container=True, command_timeout_s=30)
    with contextlib.closing(BlobConnection(target)) as connection:
        with connection.use() as client:
            for name in (f"e/{key_of('a')}", f"l/{key_of('b')}", "e/short", "d/keyset"):
                client.upload_blob(f"genai-cache/1/{team}/{name}", bytes(100))
            client.upload_blob(f"genai-cache/1/{team}-2/e/{key_of('c')}", bytes(100))
        room = azure_room.room_of(connection, team, limit_bytes=1000)
    assert (room.sizes, room.large) == ({key_of("a"): 100}, {key_of("b"): 100})
    assert (room.beside_bytes, room.used_bytes, room.limit_bytes) == (200, 400, 1000)


@pytest.mark.service
def test_a_tier_that_is_away_is_said(used, redis_server, monkeypatch, capsys):
    """All else is told."""
    used(redis_server.url)
    monkeypatch.setattr(redis_room, "room_of", lambda *_: (_ for _ in ()).throw(ConfigurationError("away")))
    out = said(capsys, "stats")
    assert "what the team's tier takes can't be told: away" in out
    assert "kept in" in out


def test_a_machine_alone_tells_its_own(isolated, monkeypatch, capsys):
    """There is no tier to ask, and the limits of tags and models count here."""
    monkeypatch.setenv("GENAI_CACHE_LIMITS__TAGS", '{"a": "1MB"}')
    with create_cache("disk") as cache:
        cache.set("k", b"x", tags=["a"])
        assert [one.name for one in rooms.look(cache, load_settings())] == ["L1"]
    assert "tag a in L1: 1 answer, " in said(capsys, "stats")


@pytest.mark.parametrize("command", ["stats", "gc"])
def test_no_name_of_a_limit_commands_the_terminal(isolated, monkeypatch, capsys, command):
    """A project's file may name any: it is shown as it would be in a table."""
    monkeypatch.setenv("GENAI_CACHE_LIMITS__TAGS", json.dumps({"a\x1b[2J": "1MB"}))
    assert "tag a\N{REPLACEMENT CHARACTER}[2J in L1: " in said(capsys, command)


def room(**given):
    usual = {"name": "redis://x", "entries": 2, "size_bytes": MB, "beside_bytes": 0, "used_bytes": 2 * MB}
    rest = {"limit_bytes": 10 * MB, "daily_bytes": MB, "full_in_days": 9, "limited": ()}
    return TierRoom(**{**usual, **rest, **given})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "redis://x: 2 answers, 1.0 MB; 2.0 MB of 10.0 MB are taken; 1.0 MB are added in a day: full in 9 days"),
        ({"used_bytes": 10 * MB},
         "redis://x: 2 answers, 1.0 MB; 10.0 MB of 10.0 MB are taken; 1.0 MB are added in a day: full"),
        ({"limit_bytes": None, "full_in_days": None}, "redis://x: 2 answers, 1.0 MB; 1.0 MB are added in a day"),
        ({"daily_bytes": None, "full_in_days": None, "beside_bytes": MB},
         "redis://x: 2 answers, 1.0 MB and 1.0 MB beside them; 2.0 MB of 10.0 MB are taken"),
        ({"used_bytes": None, "daily_bytes": None, "full_in_days": 1},
         "redis://x: 2 answers, 1.0 MB; 1.0 MB of 10.0 MB are taken; full in 1 day"),
    ],
)  # fmt: skip
def test_in_words(given, says):
    """A sentence with the amounts, and the day if there is one."""
    assert room_notes([room(name="L1"), room(**given)]) == (says,)


def test_limits_in_words():
    """L1's are told apart from a tier's; what is over its limit is full."""
    over = Limited("tag", "a", 1, Growth(2 * MB, MB, None, None))
    soon = Limited("model", "m", 3, Growth(MB, 2 * MB, MB, 1))
    assert room_notes([room(name="L1", limited=(over, soon))]) == (
        "tag a in L1: 1 answer, 2.0 MB of 1.0 MB; full",
        "model m in L1: 3 answers, 1.0 MB of 2.0 MB; 1.0 MB are added in a day: full in 1 day",
    )
