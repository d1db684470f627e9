"""An Azure identity signs in to a Redis by a token, which is renewed on open connections and stands nowhere."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError, ServiceResponseError
from azure.identity import CredentialUnavailableError
from services import started

from genai_cache_magic import create_cache
from genai_cache_magic.api.scopes.session import Session
from genai_cache_magic.errors import ConfigurationError, StoreDenied, StoreThrottled, StoreUnavailable
from genai_cache_magic.stores.redis.connection import RedisConnection, RedisTarget
from genai_cache_magic.stores.redis.store import RedisTier
from genai_cache_magic.testing.identity_server import IdentityFault, SimulatedIdentity
from genai_cache_magic.testing.servers import RedisServer

MISSING = "pip install 'genai-cache-magic[entra]'"
redis = pytest.importorskip("redis", reason=MISSING)
pytest.importorskip("redis_entraid", reason=MISSING)
entra = pytest.importorskip("genai_cache_magic.stores.redis.entraid", reason=MISSING)

pytestmark = pytest.mark.service


class Directory(SimulatedIdentity):
    """An identity service whose last token is the password of its principal at a Redis, as Azure's keep it."""

    def __init__(self, server, **how):
        self.admin = redis.Redis(port=server.port)
        super().__init__(**how)

    def issue(self, audience, principal=None, *, flow="by-hand"):
        token = super().issue(audience, principal, flow=flow)
        assert audience == "https://redis.azure.com"
        user = token.principal.object_id
        self.admin.execute_command("ACL", "SETUSER", user, "reset", "on", f">{token.text}", "~genai-cache:1:*", "+@all")
        return token

    def close(self):
        super().close()
        self.admin.close()


@pytest.fixture
def server():
    with started(RedisServer) as server:
        yield server


@pytest.fixture
def directory(server, isolated, monkeypatch):
    """The service, and this process on a machine with an identity of it."""
    with Directory(server) as service:
        for name, value in service.environment().items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture
def settings(server, team):
    return {"l2": server.url, "l2_credential": "managed-identity", "namespace": team}


def awaited(is_so):
    """Wait until something is so that no event tells."""
    give_up_at = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_a_team_by_identity(directory, settings, tmp_path, caplog):
    """Two machines share; the token stands in no log, repr, message or configuration."""
    caplog.set_level(logging.DEBUG)
    told = []
    seen = ""
    for machine in ("a", "b"):
        with create_cache("redis", dir=tmp_path / machine, on_event=told.append, **settings) as cache:
            if machine == "a":
                cache.set("greeting", "hello")
            assert cache.get("greeting") == "hello"
            tier = cache.team._tier
            seen += f"{cache!r} {tier._connection!r} {tier._connection.target!r} {tier._connection._tokens!r}"
            seen += f"{tier._connection._tokens._token!r} {tier._connection._client!r}"
    seen += str(told) + str(Session(**settings).describe()) + caplog.text
    assert told == []
    assert directory.count >= 2
    for token in directory.issued:
        assert token.text not in seen
        assert token.text.rpartition(".")[2] not in seen


def test_a_token_is_renewed_on_open_connections(directory, settings):
    """While a cache is in use its connections sign in anew: those that are made do so as a part of another command."""
    directory.expires_in_s = 3
    with create_cache("redis", **settings) as cache:
        cache.set("a", 1)
        awaited(lambda: cache.team._outbox.count() == (0, 0))
        signed_in = renewals(directory)
        count = directory.count
        awaited(lambda: directory.count >= count + 2)
        awaited(lambda: renewals(directory) >= signed_in + 2)
        cache.set("a", 2)
        assert cache.get("a") == 2
    awaited(lambda: not any(thread.name == "genai-cache-entra" for thread in threading.enumerate()))


def renewals(directory):
    """How often open connections have signed in anew."""
    return directory.admin.info("commandstats").get("cmdstat_auth", {"calls": 0})["calls"]


def test_a_renewal_that_fails_is_tried_again(directory, settings):
    """The token that is there is good for a while, and what is asked meanwhile is not concerned."""
    directory.expires_in_s = 4
    told = []
    with create_cache("redis", on_event=told.append, **settings) as cache:
        cache.set("a", 1)
        directory.fail(IdentityFault.SERVER_ERROR, times=1)
        count = directory.count
        awaited(lambda: directory.count > count)
        assert cache.get("a") == 1
    assert told == []


@contextlib.contextmanager
def connected(server, identity, **how):
    """A tier of `server`'s as `identity` sees it."""
    connection = RedisConnection(RedisTarget(server.url, identity=identity, **how))
    with contextlib.closing(RedisTier(connection, "team")) as tier:
        yield tier


class Credential:
    """A ``TokenCredential`` that answers what a test says."""

    def __init__(self, answer):
        self.answer = answer

    def get_token(self, *scopes, **how):
        assert scopes == ("https://redis.azure.com/.default",)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def status(code):
    error = Exception("s3cret")
    error.status_code = code
    return error


def because(cause, error=None):
    """Return what the SDK raises where `cause` kept it from signing in."""
    error = error or ClientAuthenticationError("s3cret")
    error.__cause__ = cause
    return error


class Opaque:
    token = "s3cret"


@pytest.mark.parametrize(
    ("answer", "expected", "said"),
    [
        (Exception("s3cret"), StoreDenied, "sign in (az login), or choose another l2_credential"),
        (status(400), StoreDenied, "l2_credential"),
        (status(429), StoreThrottled, "gives out no tokens now"),
        (status(503), StoreThrottled, "gives out no tokens now"),
        (because(ServiceRequestError("s3cret")), StoreThrottled, "sign-in can't be reached"),
        (because(ServiceResponseError("s3cret")), StoreThrottled, "check the network"),
        (
            because(ServiceRequestError("s3cret"), CredentialUnavailableError("s3cret")),
            StoreDenied,
            "sign in (az login)",
        ),
        (Opaque, StoreDenied, "as a token for Redis is none"),
    ],
)
def test_no_token_is_said(server, answer, expected, said):
    """Without what the SDK says, in which tenants and people are named."""
    with connected(server, lambda: Credential(answer)) as tier, pytest.raises(expected) as caught:
        tier.document("keyset").load()
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_user_that_redis_does_not_know(server, directory):
    """The token is good, and its owner has no rights there."""
    text = SimulatedIdentity.issue(directory, "https://redis.azure.com").text
    token = type("Given", (), {"token": text})
    with connected(server, lambda: Credential(token)) as tier, pytest.raises(StoreDenied) as caught:
        tier.document("keyset").load()
    assert "refuses the user name or password" in str(caught.value)
    assert text not in str(caught.value)


def test_an_identity_that_is_not_there(server, directory, settings):
    """A cell works on its own, and says what to do."""
    directory.remove(directory.principal)
    told = []
    with create_cache("redis", on_event=told.append, **settings) as cache:
        cache.set("a", 1)
        assert cache.get("a") == 1
    assert any("l2_credential" in event.message or "in time" in event.message for event in told)


@pytest.mark.parametrize("url", ["redis://cache.example.com", "redis+cluster://10.0.0.1:6379"])
def test_a_token_is_not_sent_in_the_clear(isolated, url):
    """Not to another machine."""
    with pytest.raises(ConfigurationError, match="use TLS"):
        create_cache("redis", l2=url, l2_credential="environment")


@pytest.mark.parametrize(
    ("url", "how", "is_by_identity"),
    [
        ("rediss://n.redis.cache.windows.net", {}, True),
        ("rediss+cluster://n.westeurope.redis.azure.net", {}, True),
        ("rediss://n.redis.cache.windows.net", {"l2_password": "key"}, False),
        ("rediss://:key@n.redis.cache.windows.net", {}, False),
        ("rediss://cache.example.com", {}, False),
        ("rediss://cache.example.com", {"l2_credential": "cli"}, True),
        ("rediss://n.redis.cache.windows.net", {"l2_credential": "default", "l2_password": "key"}, True),
    ],
)
def test_who_signs_in_by_identity(isolated, url, how, is_by_identity):
    """A Redis of Azure's without a key, and any other where an identity is named."""
    from genai_cache_magic.api.team.line import team_line
    from genai_cache_magic.settings.reading import load_settings

    line = team_line(load_settings(l2=url, **how), "team")
    assert (line.tier._connection.target.identity is not None) is is_by_identity


def test_all_pools_hear_of_a_new_token():
    """A cluster has one for each node; a dead one keeps no other from hearing, and who stops hears nothing more."""
    tokens = iter(range(100))
    credentials = entra.EntraCredentials(lambda: None)

    def requested():
        return entra.Token("user", f"token {next(tokens)}", 1.0, time.monotonic() + 1.0)

    credentials._requested = requested
    heard = [[], []]
    ready = threading.Semaphore(0)

    def dead(_):
        raise StoreUnavailable("gone")

    credentials.on_next(dead)
    for one in heard:
        credentials.on_next(lambda token, one=one: one.append(token.get_value()) or ready.release())
    assert credentials.get_credentials() == ("user", "token 0")
    for _ in range(4):
        assert ready.acquire(timeout=60)
    credentials.stop()
    assert heard[0][:2] == heard[1][:2]
    assert len(set(heard[0])) == len(heard[0])
    assert "token" not in repr(credentials) + repr(credentials._token)


def test_a_client_that_can_not_be_made_renews_no_token(monkeypatch):
    """A cluster is asked already when its client is made: each failed attempt gives its credentials up."""
    from genai_cache_magic.stores.redis import connection as redis_connection

    stopped = []

    def stop(self):
        stopped.append(self)

    def unreachable(*_):
        raise redis.exceptions.RedisClusterException("no node answers")

    monkeypatch.setattr(entra.EntraCredentials, "stop", stop)
    monkeypatch.setattr(redis_connection, "_connect", unreachable)
    connection = RedisConnection(RedisTarget("rediss+cluster://127.0.0.1:1", identity=object))
    for attempts in (1, 2):
        with pytest.raises(StoreUnavailable), connection.use():
            pass
        assert len(stopped) == attempts
    connection.close()
    assert len(stopped) == 2
