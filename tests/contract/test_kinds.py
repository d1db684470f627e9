"""``create_cache`` makes each kind of cache from what names its tier: a connection, an account, Azure's variables."""

from __future__ import annotations

import pytest
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.api.kinds import settings_of
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.servers import AZURITE_KEY, RedisServer

AZURES = (
    "AZURE_REDIS_HOST",
    "AZURE_REDIS_KEY",
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
)


@pytest.fixture(autouse=True)
def _bare(isolated, monkeypatch):
    for name in AZURES:
        monkeypatch.delenv(name, raising=False)


def address(kind, **given):
    """The address and password that a cache of `kind` would use."""
    settings = settings_of(kind, given)
    urls = ",".join(url.get_secret_value() for url in settings.l2)
    return urls, settings.l2_password.get_secret_value() or settings.l2_account_key.get_secret_value()


def shared(kind, tmp_path, team, **given):
    """Set with one machine what another gets."""
    told = []
    for machine in ("a", "b"):
        with create_cache(kind, namespace=team, dir=tmp_path / machine, on_event=told.append, **given) as cache:
            if machine == "a":
                cache.set("greeting", {"text": "hello"}, ttl=3600, tags=("demo",))
            assert cache.get("greeting") == {"text": "hello"}
            assert cache.hincrby("token_usage", "2026-11-28", 10) == (10 if machine == "a" else 20)
    assert told == []


@pytest.mark.service
def test_redis(tmp_path, team, redis_server):
    """By a connection without TLS, or by a URL."""
    shared("redis", tmp_path, team, connection={"endpoint": f"127.0.0.1:{redis_server.port}"}, ttl=86_400)
    shared("redis", tmp_path / "url", f"{team}-url", l2=redis_server.url)


@pytest.mark.service
def test_azure_redis(tmp_path, team):
    """By endpoint, key and ssl, as the portal names them."""
    with started(lambda: RedisServer("--requirepass", "s3cret")) as server:
        connection = {"endpoint": f"127.0.0.1:{server.port}", "key": "s3cret", "ssl": False}
        shared("azure_redis", tmp_path, team, connection=connection)


@pytest.mark.service
def test_azure_storage(tmp_path, team, azurite, monkeypatch):
    """By account and container; the key is Azure's own variable, or is given."""
    given = {"account": azurite.account_url, "container": "kinds", "l2_create_container": True}
    shared("azure_storage", tmp_path, team, key=AZURITE_KEY, **given)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string)
    shared("azure_storage", tmp_path / "string", f"{team}-string", container="kinds")


@pytest.mark.parametrize("kind", ["disk", "memory"])
def test_alone(kind, tmp_path, team):
    """On disk, and in memory."""
    with create_cache(kind, namespace=team, ttl=3600) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
        assert cache.hincrby("counts", "x", 2) == 2


@pytest.mark.parametrize(
    ("kind", "given", "url"),
    [
        ("azure_redis", {"connection": {"endpoint": "n.redis.cache.windows.net", "key": "k"}}, "rediss"),
        ("azure_redis", {"endpoint": "n.redis.cache.windows.net", "key": "k", "ssl": True}, "rediss"),
        (
            "azure_redis",
            {"connection": {"endpoint": "rediss+cluster://n.redis.azure.net", "key": "k"}},
            "rediss+cluster",
        ),
        ("redis", {"connection": {"endpoint": "n:6379", "key": "k"}}, "redis"),
        ("redis", {"connection": {"endpoint": "n:6380", "key": "k", "ssl": True}}, "rediss"),
    ],
)
def test_a_connection_is_an_address(kind, given, url):
    """With TLS unless it is said to be without, which is what a plain `redis` is."""
    found, password = address(kind, **given)
    assert found.startswith(f"{url}://n")
    assert password == "k"


def test_azures_own_variables_are_defaults(monkeypatch):
    """Those of the kind that is asked for, whatever `l2` names."""
    monkeypatch.setenv("AZURE_REDIS_HOST", "n.redis.cache.windows.net")
    monkeypatch.setenv("AZURE_REDIS_KEY", "k")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", "account")
    assert address("azure_redis") == ("rediss://n.redis.cache.windows.net", "k")
    assert address("azure_storage")[0] == "https://account.blob.core.windows.net/llm-cache"
    assert address("azure_storage", account="other", container="c-c")[0] == "https://other.blob.core.windows.net/c-c"
    monkeypatch.setenv("GENAI_CACHE_L2", "https://mine.blob.core.windows.net/container")
    assert address("azure_storage")[0] == "https://mine.blob.core.windows.net/container"
    assert address("azure_redis")[0] == "rediss://n.redis.cache.windows.net"
    monkeypatch.setenv("GENAI_CACHE_L2", "redis://a,https://mine.blob.core.windows.net/container")
    assert address("azure_redis")[0].startswith("redis://a,https://mine")


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("azure_rediss", {}, "did you mean 'azure_redis'?"),
        ("azure_cdn", {}, "create_cache('azure_cdn') needs an address: endpoint="),
        ("azure_cdn", {"endpoint": "https://edge.example.com?sig=hush"}, "no signature and no credential"),
        ("azure_cdn", {"endpoint": "content"}, "account='ACCOUNT'"),
        ("azure_cdn", {"cdn": "hush"}, "cdn is a table"),
        ("azure_cdn", {"endpoint": "content", "account": "account", "encryption": "off"}, "encryption is off"),
        ("azure_cdn", {"endpoint": "content", "account": "account", "purge": "azure"}, "cdn.subscription"),
        ("redis", {}, "needs an address: connection="),
        ("azure_redis", {}, "AZURE_REDIS_HOST"),
        ("azure_storage", {}, "AZURE_STORAGE_ACCOUNT"),
        ("azure_redis", {"connection": {"endpont": "h"}}, "did you mean endpoint?"),
        ("redis", {"connection": {"endpoint": "h", "password": "hush"}}, "did you mean key?"),
        ("azure_redis", {"connection": "h"}, "connection is a table"),
        ("redis", {"connection": {"endpoint": "redis://h", "ssl": True}}, "contradict each other"),
        ("azure_storage", {"account": "hush+hush=="}, "3 to 24 lowercase letters and digits"),
        ("azure_storage", {"account": "account", "container": "x"}, "3 characters or more"),
        ("redis", {"connection": {"endpoint": "h:port"}}, "a port that is none from 1 to 65535"),
        ("disk", {"connection": {}}, "connection (option) is no setting"),
    ],
)
def test_what_is_wrong_is_named(kind, given, said):
    """At once, with the fix, and without what may be a secret."""
    with pytest.raises(ConfigurationError) as caught:
        create_cache(kind, **given)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)
