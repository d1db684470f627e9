"""What an older major version has left is shown, and goes only when somebody says so."""

from __future__ import annotations

import contextlib
import gc
import json
import os

import pytest

from genai_cache_magic import create_cache
from genai_cache_magic.cli.main import main
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.ops import old_versions
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.azure.connection import BlobConnection, BlobTarget
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.testing.servers import AZURITE_KEY


@pytest.fixture(scope="module", autouse=True)
def _collected():
    """Let sockets that Azure's SDK leaves go here, and not in the middle of another module's test."""
    yield
    gc.collect()


@pytest.fixture
def next_version(monkeypatch):
    """Let all that there is be of the version before this one."""
    monkeypatch.setattr(old_versions, "LAYOUT", 2)


def said(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        main(["gc", "--old-versions", *words])
    out = capsys.readouterr()
    return ended.value.code, out.out, out.err


def test_there_is_none(isolated, capsys):
    """What this version has stored is no older one's, whatever is asked for."""
    with create_cache("disk") as cache:
        cache.set("k", 1)
    assert said(capsys, "--yes") == (0, "no older version has left anything of namespace default\n", "")
    with create_cache("disk") as cache:
        assert cache.get("k") == 1


def test_on_this_machine(isolated, capsys, next_version):
    """It is shown, kept unless that is confirmed, and goes for this namespace alone."""
    for namespace in ("default", "other"):
        with create_cache("disk", namespace=namespace) as cache:
            cache.set("k", 1)
    directory = load_settings().dir
    code, out, _ = said(capsys)
    assert code == 0
    first, last = out.splitlines()
    assert first.startswith("version 1 in ")
    assert last == "nothing was removed: add --yes"
    assert (directory / "v1" / "default").exists()
    told = json.loads(said(capsys, "--json")[1])
    assert told["removed"] is False
    assert told["left"][0].keys() == {"where", "version", "count", "size_bytes"}
    assert json.loads(said(capsys, "--json", "--yes")[1])["removed"] is True
    assert [path.name for path in (directory / "v1").iterdir()] == ["other"]
    assert said(capsys)[1] == "no older version has left anything of namespace default\n"


@pytest.mark.service
@pytest.mark.usefixtures("no_id_of_time")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_in_the_tiers(isolated, capsys, next_version, redis_server, azurite, team, monkeypatch):  # noqa: PLR0917
    """Of this namespace alone, and never a backup."""
    url = f"{azurite.account_url}/old-{os.getpid()}"
    patience = {"connect_timeout_s": 30, "command_timeout_s": 30}
    redis = RedisConnection(RedisTarget(redis_server.url))
    blob = BlobConnection(BlobTarget(url, account_key=AZURITE_KEY, create_container=True, **patience))
    with contextlib.closing(redis), contextlib.closing(blob):
        with redis.use() as client, blob.use() as container:
            for of in (team, f"{team}-2"):
                client.set(f"genai-cache:1:{of}:e:a", b"x" * 100)
                client.hset(f"genai-cache:1:{of}:d:keyset", "value", b"x")
                for name in ("e/a", "l/a", "b/1"):
                    container.upload_blob(f"genai-cache/1/{of}/{name}", bytes(100))

        def left():
            with redis.use() as client, blob.use() as container:
                keys = [key.decode() for key in client.keys(f"genai-cache:1:{team}*")]
                return sorted([*keys, *(one.name for one in container.list_blobs(f"genai-cache/1/{team}"))])

        before = left()
        for name, value in (("L2", f"{redis_server.url},{url}"), ("L2_ACCOUNT_KEY", AZURITE_KEY), ("NAMESPACE", team)):
            monkeypatch.setenv(f"GENAI_CACHE_{name}", value)
        monkeypatch.setenv("GENAI_CACHE_COMMAND_TIMEOUT", "30s")
        assert "2 values, 200 bytes" in said(capsys)[1]
        assert left() == before
        monkeypatch.setenv("GENAI_CACHE_ROLE", "Cache.Reader")
        code, _, err = said(capsys, "--yes")
        assert (code, left()) == (2, before)
        assert "a Cache.Reader removes nothing" in err
        monkeypatch.delenv("GENAI_CACHE_ROLE")
        assert said(capsys, "--yes")[1].endswith("removed\n")
        kept = [name for name in before if f"{team}-2" in name or "/b/" in name]
        assert left() == kept
        with pytest.raises(ConfigurationError):
            old_versions.look(load_settings(l2="gopher://x"), team)


@pytest.mark.service
def test_in_a_cluster(isolated, capsys, next_version, redis_nodes, team, monkeypatch):  # noqa: PLR0917
    """Whichever node has what."""
    monkeypatch.setenv("GENAI_CACHE_L2", redis_nodes.url)
    monkeypatch.setenv("GENAI_CACHE_NAMESPACE", team)
    with contextlib.closing(RedisConnection(RedisTarget(redis_nodes.url))) as connection, connection.use() as client:
        for number in range(20):
            client.set(f"genai-cache:1:{team}:e:{number}", b"x")
    assert ": 20 values, " in said(capsys)[1]
    assert said(capsys, "--yes")[1].endswith("removed\n")
    assert said(capsys)[1].startswith("no older version")
