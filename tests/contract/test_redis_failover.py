"""Which Redis is the primary: a Sentinel is asked as it wants to be, and whom another one has replaced is left."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time

import pytest
from faults.fault_proxy import FaultProxy
from redis.exceptions import ReadOnlyError
from redis_connections import connected
from services import started

from genai_cache_magic.errors import StoreDenied, StoreUnavailable
from genai_cache_magic.stores.redis.store import RedisStore
from genai_cache_magic.testing.contracts.store import key_of
from genai_cache_magic.testing.servers import RedisServer, cut_off, find_program, free_port

pytestmark = pytest.mark.service

TEAM = ("--user", "team", "on", ">s3cret", "~*", "&*", "+@all", "--requirepass", "another")
"""A Redis that knows a user; whoever is none has another password."""

SIGNS_IN = "sentinel auth-user main team\nsentinel auth-pass main s3cret\n"


@contextlib.contextmanager
def sentinel_of(primary, directory, *, signs_in=SIGNS_IN, users=""):
    """Start a Sentinel that knows `primary` as main, and has `users` of its own; yield its process and its port."""
    port = free_port()
    configuration = directory / f"{port}.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {primary.port} 1\n{signs_in}{users}\n"
    )
    command = [find_program("redis-server"), str(configuration), "--sentinel"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as sentinel:
        try:
            _await_port(port)
            yield sentinel, port
        finally:
            sentinel.kill()


def _await_port(port):
    give_up_at = time.monotonic() + 10
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < give_up_at


@pytest.fixture(scope="module")
def primary():
    with started(lambda: RedisServer(*TEAM)) as server:
        yield server


def test_sentinel(tmp_path, team):
    """A Sentinel is asked where the primary is."""
    with (
        started(RedisServer) as primary,
        sentinel_of(primary, tmp_path, signs_in="") as (_, port),
        connected(f"redis+sentinel://127.0.0.1:{port}/main") as connection,
    ):
        store = RedisStore(connection, team)
        store.put(key_of("a"), b"a", ttl_s=60)
        assert store.get(key_of("a")) == b"a"


@pytest.mark.parametrize("users", ["", "user team on >s3cret +@all"], ids=["knows nobody", "knows the user"])
def test_a_sentinel_need_not_know_the_users_of_its_primary(tmp_path, team, primary, users):
    """It is asked as the user of the primary, and as nobody if it knows no such user."""
    with (
        sentinel_of(primary, tmp_path, users=users) as (_, port),
        connected(f"redis+sentinel://team:s3cret@127.0.0.1:{port}/main") as connection,
    ):
        store = RedisStore(connection, team)
        store.put(key_of("a"), b"a", ttl_s=60)
        assert store.get(key_of("a")) == b"a"


def said(url, kind=StoreUnavailable):
    with connected(url, connect_timeout_s=0.3, command_timeout_s=0.3) as connection:
        with pytest.raises(kind) as caught:
            RedisStore(connection, "team").get(key_of("a"))
        assert "s3cret" not in str(caught.value)
        return str(caught.value)


def test_why_a_sentinel_does_not_tell_is_said(tmp_path, primary):
    """That it wants another password, is not there, or is silent is not said to be a name that it does not know."""
    with sentinel_of(primary, tmp_path, users="requirepass its-own") as (_, port):
        text = said(f"redis+sentinel://team:s3cret@127.0.0.1:{port}/main", StoreDenied)
        assert "the Sentinel" in text
        assert "refuses the user name or password" in text
    with sentinel_of(primary, tmp_path) as (sentinel, port):
        assert "knows no such master" in said(f"redis+sentinel://127.0.0.1:{port}/other")
        with cut_off(sentinel):
            assert "does not answer in time" in said(f"redis+sentinel://127.0.0.1:{port}/main")
    assert "no Sentinel answers" in said(f"redis+sentinel://127.0.0.1:{free_port()}/main")


def test_a_primary_whose_name_stands_for_another_server(team):
    """Whoever was demoted ends no connection: it is left with the first write that it refuses, and asked no more."""
    with (
        started(RedisServer) as old,
        started(RedisServer) as new,
        FaultProxy(old.port) as name,
        connected(f"redis://127.0.0.1:{name.port}") as connection,
    ):
        store = RedisStore(connection, team)
        store.put(key_of("a"), b"a", ttl_s=60)
        with connected(old.url) as administrator, administrator.use() as client:
            client.replicaof("127.0.0.1", new.port)
        name.port_behind = new.port
        with pytest.raises(StoreUnavailable, match="read-only replica"):
            store.put(key_of("b"), b"b", ttl_s=60)
        store.put(key_of("c"), b"c", ttl_s=60)
        assert store.get(key_of("c")) == b"c"


def test_who_hears_of_it_late_ends_no_connection_to_the_new_one():
    """Of threads that are told at once only the first one leaves the old one."""
    with connected("redis://127.0.0.1:1") as connection:
        told = [connection.use(), connection.use()]
        for one in told:
            one.__enter__()
        found = []
        for one in told:
            with pytest.raises(StoreUnavailable, match="read-only replica"):
                one.__exit__(ReadOnlyError, ReadOnlyError(), None)
            with connection.use() as client:
                found.append(client)
        assert found[0] is found[1]


def test_a_server_that_admits_no_more_clients_is_said():
    """It is not said to be out of reach."""
    with started(RedisServer) as server, connected(server.url) as other, other.use() as client:
        client.config_set("maxclients", 1)
        assert "raise its maxclients" in said(server.url)
