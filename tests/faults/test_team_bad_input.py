"""Whatever is wrong with what names a team's tier: it is said which setting, and what to do, and no secret."""

from __future__ import annotations

import contextlib
import gc
import logging
import traceback

import pytest
from machines import Origin, Team
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.crypto.document_mac import protect_document
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Outcome
from genai_cache_magic.stores.azure_blob import BlobTier
from genai_cache_magic.stores.azure_connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis import RedisTier
from genai_cache_magic.stores.redis_connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer

SECRET = "aHVzaA=="  # a key, as Azure writes them

CASES = {
    "scheme": ({"l2": "reds://h"}, "l2 is no address"),
    "port": ({"l2": "redis://h:port"}, "the Redis URL in l2"),
    "refused": ({"l2": "redis://:{secret}@127.0.0.1:1"}, "It stands in l2"),
    "host": ({"l2": "redis://:{secret}@no-such-host.invalid"}, "check its spelling in l2"),
    "database": ({"l2": "{open}/99"}, "write another path in l2"),
    "password": ({"l2": "{closed}", "l2_password": SECRET}, "l2_username and l2_password"),
    "no password": ({"l2": "{closed}"}, "l2_username and l2_password"),
    "rights": ({"l2": "{closed}", "l2_username": "reader", "l2_password": "reader"}, "l2_username"),
    "no redis": ({"l2": "redis://:{secret}@127.0.0.1:{azurite}"}, "check host, port and TLS in l2"),
    "no authorities": ({"l2": "rediss://127.0.0.1:1", "l2_ca_file": __file__}, "l2_ca_file"),
    "no file": ({"l2": "rediss://127.0.0.1:1", "l2_ca_file": "/no/such.pem"}, "l2_ca_file"),
    "no container": ({"l2": "{account}/missing", "l2_account_key": AZURITE_KEY}, "l2_create_container"),
    "name": ({"l2": "{account}/Bad_Name", "l2_account_key": AZURITE_KEY}, "the container that l2 names"),
    "key": ({"l2": "{account}/team", "l2_account_key": SECRET}, "l2_account_key"),
    "no key": ({"l2": "{account}/team", "l2_account_key": f"{SECRET}!"}, "l2_account_key is no key"),
    "signature": ({"l2": "{account}/team?sv=2020-01-01&sig={secret}"}, "the signature in l2"),
    "string": ({"l2": "azure-blob://team", "l2_connection_string": f"AccountKey={SECRET}"}, "l2_connection_string"),
    "no account": ({"l2": "azure-blob://team"}, "l2_account"),
    "no storage": ({"l2": "http://127.0.0.1:{redis}/a/team", "l2_account_key": SECRET}, "check the URL in l2"),
    "no TLS": ({"l2": "https://127.0.0.1:{azurite}/a/team", "l2_account_key": SECRET}, "check the port in l2"),
    "another account": ({"l2": "http://127.0.0.1:{azurite}/a/team", "l2_account_key": SECRET}, "account and URL in l2"),
    "no secret": ({"l2": "{account}/team"}, "set l2_account_key"),
    "no cluster": ({"l2": "redis+cluster://127.0.0.1:{redis}"}, "is no cluster: write redis://127.0.0.1:{redis} in l2"),
    "no Sentinel": (
        {"l2": "redis+sentinel://127.0.0.1:{redis}"},
        "is no Sentinel: write redis://127.0.0.1:{redis} in l2",
    ),
    "high port": ({"l2": "redis://h:99999"}, "from 1 to 65535"),
    "in the clear": ({"l2": "http://example.com/team?sig={secret}"}, "starts with https://"),
}

pytestmark = [
    pytest.mark.service,
    # The SDK leaves the socket of a download that fails to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _collected():
    """Let those sockets go here, and not in the middle of another module's test."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def closed():
    """A server that wants a password, and knows one who may only read."""
    user = ("--user", "reader", "on", ">reader", "~*", "+@read", "+hello", "--requirepass", "right")
    with started(lambda: RedisServer(*user)) as server:
        yield server


@pytest.mark.parametrize("case", CASES)
def test_the_setting_is_named(isolated, closed, redis_server, azurite, monkeypatch, case):  # noqa: PLR0917
    """In one sentence; values are kept and found all the same."""
    for name in ("ACCOUNT", "KEY", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    given, said = CASES[case]
    where = {"secret": SECRET, "closed": closed.url, "open": redis_server.url.removesuffix("/0")}
    where |= {"azurite": azurite.port, "redis": redis_server.port, "account": azurite.account_url}
    told = []
    settings = {name: value.format(**where) for name, value in given.items()}
    with create_cache(
        "disk", on_event=told.append, connect_timeout="300ms", command_timeout="500ms", **settings
    ) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
    (event,) = told
    assert said.format(**where) in event.message
    assert SECRET.rstrip("=") not in event.message


def tiers(port):
    """Tiers that can't be used, each with a secret."""
    url = f"http://127.0.0.1:{port}/account/team"
    string = f"DefaultEndpointsProtocol=http;AccountName=x;AccountKey={SECRET};BlobEndpoint=http://127.0.0.1:{port}/x;"
    targets = [
        BlobTarget(f"{url}?sv=2020-01-01&sig={SECRET}"),
        BlobTarget(url, account_key=SECRET),
        BlobTarget("azure-blob://team", connection_string=string),
    ]
    yield from (BlobTier(BlobConnection(target), "team") for target in targets)
    yield RedisTier(RedisConnection(RedisTarget(f"redis://:{SECRET}@127.0.0.1:{port}")), "team")


@pytest.mark.parametrize("who", ["nobody", "redis", "azurite"])
def test_no_secret_in_tracebacks_nor_logs(redis_server, azurite, caplog, who):
    """Not even where local variables are shown with them, and whatever is logged."""
    caplog.set_level(logging.DEBUG)
    port = {"nobody": 1, "redis": redis_server.port, "azurite": azurite.port}[who]
    seen = ""
    for tier in tiers(port):
        with contextlib.closing(tier):
            for ask in (
                tier.document("x").load,
                lambda t=tier: t.store.get("0" * 64),
                lambda t=tier: [*t.store.scan()],
            ):
                try:
                    ask()
                except StoreUnavailable as error:
                    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                    seen += "".join(line for line in shown.format() if "test_team_bad_input" not in line)
            seen += f"{tier!r} {vars(tier)!r}"
    assert seen
    assert SECRET.rstrip("=") not in seen
    assert SECRET.rstrip("=") not in caplog.text


@pytest.fixture
def team(tmp_path, isolated, monkeypatch):
    team = Team(tmp_path, monkeypatch)
    yield team
    team.close()


def test_a_record_of_a_newer_version_is_left_alone(team):
    """Nobody takes it for damage and begins anew: what is here goes on, and it says what to do."""
    origin, a = Origin(), team.machine("a")
    a.ask(origin)
    a.told()
    document = team.server.documents["generations"]
    before = document.load()
    live = a.cache._entries.generations
    newer = protect_document(live._mac_key, live._context, b"GCGD\x02 and more")
    assert document.replace(newer, expected=before)
    a.goes_stale()
    assert a.ask(origin)[1].outcome is Outcome.HIT
    assert a.cache.invalidate_tag("t").published == "queued"
    assert document.load() == newer
    b = team.machine("b")
    assert b.ask(origin)[0] == "answer 2"
    assert document.load() == newer
    assert document.replace(before, expected=newer)
    b.goes_stale()
    assert b.ask(origin, "another")[1].stored


def test_a_keyset_of_a_newer_version_is_left_alone(team):
    """The machine works on its own, and says so."""
    team.machine("a")
    document = team.server.documents["keyset"]
    before = document.load()
    newer = before[:4] + b"\x02" + before[5:]
    assert document.replace(newer, expected=before)
    c = team.machine("c")
    (event,) = c.events
    assert "stay on this machine" in event.message
    assert "update genai-cache-magic" in event.message
    assert document.load() == newer


def test_an_entry_of_a_newer_version_is_left_alone(team):
    """It is a miss, said in words."""
    origin, a = Origin(), team.machine("a")
    _, record = a.ask(origin)
    a.told()
    store = team.server.store
    envelope = store.get(record.entry_id)
    newer = envelope[:4] + b"\x02" + envelope[5:]
    store.put(record.entry_id, newer, ttl_s=3600)
    b = team.machine("b")
    text, record = b.ask(origin)
    assert (text, record.outcome) == ("answer 2", Outcome.MISS)
    assert any("version" in event.message for event in b.events) or "could not be opened" in record.reason
