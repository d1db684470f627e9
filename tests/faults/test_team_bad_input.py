"""Whatever is wrong with what names a team's tier: it is said which setting, and what to do, and no secret."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import traceback

import pytest
from machines import Origin
from services import LEAVES_SOCKETS, started
from sessions import session_of
from team_in_memory import team_in_memory  # noqa: F401 - fixtures
from wrong_tiers import CASES, CLOSED, SECRET, wrong

from genai_cache_magic import create_cache
from genai_cache_magic.crypto.document_mac import protect_document
from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.events import Outcome
from genai_cache_magic.ops.checks import Severity
from genai_cache_magic.ops.doctor import examine
from genai_cache_magic.stores.azure.blob import BlobTier
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.servers import RedisServer

pytestmark = [
    pytest.mark.service,
    *LEAVES_SOCKETS,
]


@pytest.fixture(scope="module")
def closed():
    """A server that wants a password, and knows one who may only read."""
    with started(lambda: RedisServer(*CLOSED)) as server:
        yield server


@pytest.mark.parametrize("case", CASES)
def test_the_setting_is_named(isolated, closed, redis_server, azurite, monkeypatch, case):  # noqa: PLR0917
    """In one sentence; values are kept and found all the same."""
    for name in ("ACCOUNT", "KEY", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    settings, said = wrong(case, closed=closed, redis_server=redis_server, azurite=azurite)
    told = []
    with create_cache(
        "disk", on_event=told.append, connect_timeout="300ms", command_timeout="500ms", **settings
    ) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
    (event,) = told
    assert said in event.message
    assert SECRET.rstrip("=") not in event.message


@pytest.mark.parametrize("case", CASES)
def test_the_doctor_names_the_setting_too(isolated, closed, redis_server, azurite, monkeypatch, case):  # noqa: PLR0917
    """As an error of the tier, with the fix, and without the secret."""
    for name in ("ACCOUNT", "KEY", "CONNECTION_STRING"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    settings, said = wrong(case, closed=closed, redis_server=redis_server, azurite=azurite)
    with session_of(monkeypatch, **{"connect_timeout": "10s", "command_timeout": "30s", **settings}) as session:
        findings = examine(session)
    assert said in "\n".join(one.says for one in findings if one.severity is Severity.ERROR)
    assert not any(SECRET.rstrip("=") in one.says for one in findings)


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


def test_loading_the_sdk_is_none_of_the_services_time():
    """It is loaded before the first deadline runs: on a busy machine that takes as long as a deadline."""
    code = (
        "import sys; from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget; "
        "assert 'azure.storage.blob' not in sys.modules; "
        "BlobConnection(BlobTarget('https://a.blob.core.windows.net/team')); "
        "assert 'azure.storage.blob' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
