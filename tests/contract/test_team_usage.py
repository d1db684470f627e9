"""What a team's calls came to, in Redis, a cluster, Azure Blob, and both: each counted once, whatever happens."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.events import CallRecord, Outcome
from genai_cache_magic.jupyter.arguments import parse_usage
from genai_cache_magic.jupyter.shown.usage import usage_report
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer

pytestmark = pytest.mark.service

_WAIT_S = 60
MISS = CallRecord(
    Outcome.MISS, provider="openai.chat", model="secret-model", input_tokens=3, output_tokens=2,
    spent_usd=Decimal("0.0000010"),
)  # fmt: skip
HIT = CallRecord(Outcome.HIT, provider="openai.chat", model="secret-model", saved_usd=Decimal("0.002"))


@pytest.fixture
def machine(isolated, team):
    """Return the cache of a machine of the team: each name has a directory of its own."""

    def make(name, l2):
        where = {"l2_account_key": AZURITE_KEY, "l2_create_container": True} if "http" in l2 else {}
        retry = {"longest_pause": "2s"}
        cache = create_cache(namespace=team, dir=str(isolated / name), l2=l2, retry=retry, **where)
        give_up_at = time.monotonic() + _WAIT_S
        while cache.team is None:  # on a loaded machine it may have to try again
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        return cache

    return make


@pytest.fixture(params=["redis", "cluster", "blob", "both"])
def l2(request):
    redis = "redis_nodes" if request.param == "cluster" else "redis_server"
    urls = [] if request.param == "blob" else [request.getfixturevalue(redis).url]
    if request.param in {"blob", "both"}:
        urls.append(f"{request.getfixturevalue('azurite').account_url}/usage")
    return ",".join(urls)


def note(cache, *calls, run="", person="ann"):
    for call in calls:
        cache.ledger.books.note(call, run=run, person=person)


def seen(cache, misses):
    """Wait until a machine sees that many misses of the team; return the report."""
    give_up_at = time.monotonic() + _WAIT_S
    while (found := cache.usage(team=True)).total.misses != misses:
        assert time.monotonic() < give_up_at, found
        time.sleep(0.1)
    return found


def test_a_team_adds_up(machine, l2):
    """What each machine counted is told behind its calls, and seen by all, while they go on and after they end."""
    with machine("a", l2) as a:
        note(a, MISS, MISS, HIT, run="sweep")
        with machine("b", l2) as b:
            note(b, MISS, person="bob")
            found = seen(b, 3)
            assert {(row.person, row.run): row.misses for row in b.usage(by="person,run").rows} == {
                ("ann", "sweep"): 2,
                ("bob", ""): 1,
            }
            assert (found.team.machines, found.team.here.misses, found.team.trouble) == (2, 1, "")
            assert found.total.spent_usd == Decimal("0.000003")
            assert b.usage(team=False).total.misses == 1
            note(a, MISS)
            seen(b, 4)
    with machine("c", l2) as c:
        assert c.usage().total.misses == 4
        assert c.usage().total.hits == 1


KILLED = """
import os, signal, sys
from genai_cache_magic import create_cache
from genai_cache_magic.events import CallRecord, Outcome
cache = create_cache(namespace=sys.argv[1], dir=sys.argv[2], l2=sys.argv[3])
cache.ledger.books.note(CallRecord(Outcome.MISS, provider="p", model="m"), run="", person="ann")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_nothing_untold(machine, isolated, team, redis_server):
    """The next one of its machine tells it, without a call of its own."""
    words = [sys.executable, "-c", KILLED, team, str(isolated / "a"), redis_server.url]
    assert subprocess.run(words, check=False, timeout=120).returncode == -signal.SIGKILL
    with machine("b", redis_server.url) as b:
        assert b.usage().total.misses == 0
        with machine("a", redis_server.url):
            assert seen(b, 1).team.machines == 2


def test_an_outage_loses_nothing_and_counts_nothing_twice(machine):
    """Calls go on, what is known is shown with the reason, and afterwards the team's numbers are right."""
    with started(RedisServer) as server, machine("a", server.url) as a, machine("b", server.url) as b:
        note(a, MISS)
        seen(b, 1)
        server.stop()
        note(a, MISS, MISS)
        note(b, MISS)
        found = b.usage()
        assert found.total.misses == 2
        assert "refuses connections" in found.team.trouble
        assert found.team.known_at is not None
        assert "the other machines' numbers are as of 20" in " ".join(usage_report(found).notes)
        server.start()  # it kept nothing
        seen(a, 4)
        seen(b, 4)
        seen(a, 4)


def test_a_flush_loses_nothing(machine, redis_server, team):
    """What an outsider removes is told anew by those who had told it, once they use the tier."""
    with machine("a", redis_server.url) as a, machine("b", redis_server.url) as b:
        note(a, MISS)
        seen(b, 1)
        with (
            contextlib.closing(RedisConnection(RedisTarget(redis_server.url))) as connection,
            connection.use() as client,
        ):
            client.delete(*client.scan_iter(match=f"genai-cache:1:{team}:*"))
        assert a.get("anything") is None  # a look-up: it notices
        with machine("c", redis_server.url) as c:
            seen(c, 1)


@pytest.mark.parametrize("where", ["redis", "blob"])
def test_nothing_readable_is_in_a_tier(machine, redis_server, azurite, team, where):
    """Neither models nor runs nor persons, in names or contents."""
    l2 = redis_server.url if where == "redis" else f"{azurite.account_url}/usage"
    with machine("a", l2) as a:
        note(a, MISS, run="secret-run", person="secret-person")
    found = list(in_redis(redis_server, team) if where == "redis" else in_blob(azurite, team))
    assert len(found) >= 1
    for text in found:
        for name in (b"secret", b"openai", b"misses", b"spent"):
            assert name not in text


def in_redis(server, team):
    with contextlib.closing(RedisConnection(RedisTarget(server.url))) as connection, connection.use() as client:
        for key in client.scan_iter(match=f"genai-cache:1:{team}:p:*"):
            yield b"".join([key, *(part for pair in client.hgetall(key).items() for part in pair)])


def in_blob(server, team):
    target = BlobTarget(f"{server.account_url}/usage", account_key=AZURITE_KEY)
    with contextlib.closing(BlobConnection(target)) as connection, connection.use() as container:
        for blob in container.list_blobs(f"genai-cache/1/{team}/p/"):
            yield blob.name.encode() + container.download_blob(blob.name).readall()


@pytest.fixture
def command(team, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--namespace", team])
        assert ended.value.code == 0
        return capsys.readouterr().out

    return run


def test_the_command_says_whose_numbers_they_are(machine, redis_server, isolated, monkeypatch, command):
    """The team's where there is one, with this machine's beside, or this machine's alone if that is asked for."""
    with machine("a", redis_server.url) as a:
        note(a, MISS)
    monkeypatch.setenv("GENAI_CACHE_L2", redis_server.url)
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / "b"))
    for words, misses in (([], 1), (["--team"], 1), (["--this-machine"], 0)):
        found = json.loads(command("usage", "--json", *words))
        assert (found["total"]["misses"], found["team"] is None) == (misses, words == ["--this-machine"])
    assert "of 2 machines; this one: spent $0, saved $0, 0 hits, 0 misses" in command("usage")


def test_what_is_of_use_is_not_collected(machine, azurite):
    """`gc` leaves the team's numbers alone."""
    with machine("a", f"{azurite.account_url}/usage") as a:
        note(a, MISS)
        a.collect()
    with machine("b", f"{azurite.account_url}/usage") as b:
        b.collect()
        assert b.usage().total.misses == 1


def test_without_a_team_its_numbers_are_asked_for_in_vain(isolated):
    """Said with what to do; without being asked for they are this machine's."""
    with create_cache() as cache:
        assert cache.usage().team is None
        with pytest.raises(ConfigurationError, match="no team here"):
            cache.usage(team=True)


def test_the_options_of_the_notebook():
    """The same two words as of the command; both together are a mistake."""
    assert [parse_usage(line)["team"] for line in ("", "--team", "--this-machine")] == [None, True, False]
    with pytest.raises(ConfigurationError, match="contradict"):
        parse_usage("--team --this-machine")
