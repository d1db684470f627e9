"""What an identity may do is found out by trying, on real servers: rights of Redis, signatures, a vault's roles."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import redis
from services import started

from genai_cache_magic.api.team import custody
from genai_cache_magic.cli.main import main
from genai_cache_magic.crypto.wrappers import azure_vault_client
from genai_cache_magic.ops import access
from genai_cache_magic.ops.access import PROBE, State, examine, in_words
from genai_cache_magic.ops.roles import DELETE, PUBLISH, READ, REDIS_RULES, RIGHTS, SIGN, UNWRAP, WRITE, redis_keys
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.settings.roles import ROLES
from genai_cache_magic.testing.azure.roles import Role as AzureRole
from genai_cache_magic.testing.servers import AZURITE_ACCOUNT, AZURITE_KEY, RedisServer, cut_off

pytestmark = pytest.mark.service

PASSWORD = "secret"
AT_TIER = {READ, WRITE, DELETE, PUBLISH}


@pytest.fixture(scope="module")
def own_server():
    """A Redis with a user for each role, and one of another namespace."""
    rules = {role: (redis_keys(), *given) for role, given in REDIS_RULES.items()}
    rules["elsewhere"] = (redis_keys("another"), *REDIS_RULES["Cache.Writer"])
    with started(RedisServer) as server:
        with redis.Redis.from_url(server.url) as client:
            for user, given in rules.items():
                client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *given)
        yield server


def on_redis(server, user, namespace, role=None):
    settings = load_settings(l2=server.url, l2_username=user, l2_password=PASSWORD)
    return examine(settings, namespace, role)


def states(found):
    return {one.right: one.state for one in found.tried}


def allowed(found):
    return {one.right for one in found.tried if one.state is State.ALLOWED}


@pytest.mark.parametrize("user", ROLES)
@pytest.mark.parametrize("role", [*ROLES, None])
def test_what_is_missing_and_too_much_is_what_the_roles_differ_in(isolated, own_server, team, user, role):
    """Each role's Redis user, compared with each role; and nothing is left on the server."""
    found = on_redis(own_server, user, team, role)
    may = set(RIGHTS[user]) & AT_TIER
    wanted = set(RIGHTS[role or "Cache.Reader"]) & AT_TIER
    assert allowed(found) == may
    assert {one.right for one in found.missing} == wanted - may
    assert {one.right for one in found.too_much} == (may - wanted if role else set())
    assert found.fits == ("Cache.Reader" if user == "Cache.Reader" else "Cache.Admin")  # no vault tells the two apart
    with redis.Redis.from_url(own_server.url) as client:
        assert client.keys(f"*{team}*") == []


def test_rights_for_another_namespace_are_none_here(isolated, own_server, team):
    """Not even to read; and a wrong password is told as such."""
    found = on_redis(own_server, "elsewhere", team)
    assert set(states(found).values()) == {State.REFUSED}
    assert found.fits is None
    settings = load_settings(l2=own_server.url, l2_username="Cache.Writer", l2_password="wrong")
    assert all("l2_password" in one.says for one in examine(settings, team, None).tried)


def test_who_does_not_answer_is_not_said_to_refuse(isolated, team):
    """It is unknown, within one deadline, and that is no role."""
    with started(RedisServer) as server, cut_off(server):
        settings = load_settings(l2=server.url, command_timeout="200ms", connect_timeout="200ms")
        found = examine(settings, team, "Cache.Reader")
        unnamed = examine(settings, team, None)
    assert set(states(found).values()) == {State.UNKNOWN}
    assert [one.right for one in found.missing] == [READ]
    for said in ([*in_words(found)], [*in_words(unnamed)]):
        assert [line for line in said if "grant" in line or "these are" in line or line.startswith("missing")] == []
        assert said[0].startswith("not known, and needed by Cache.Reader: read")


def test_a_check_waits_as_long_as_the_settings_say(isolated, own_server, team, monkeypatch):
    """No cell waits for it, so a slow line is no dead one to who has set longer time-outs."""
    waited = []

    def within(deadline_s, work, *, overdue):
        waited.append(deadline_s)
        return work()

    monkeypatch.setattr(access, "within", within)
    whose = {"l2": own_server.url, "l2_username": "Cache.Admin", "l2_password": PASSWORD}
    found = examine(load_settings(**whose, connect_timeout="5s", command_timeout="20s"), team, None)
    assert allowed(found) >= AT_TIER
    assert set(waited) == {25.0}


def test_a_check_changes_nothing_that_the_team_uses(isolated, own_server, team):
    """Neither the record of what is invalid, nor an answer."""
    with redis.Redis.from_url(own_server.url) as client:
        client.hset(f"genai-cache:1:{team}:d:generations", mapping={"value": "v", "token": "t"})
        client.set(f"genai-cache:1:{team}:e:{'0' * 64}", "answer")
        before = {key: client.dump(key) for key in client.keys(f"*{team}*")}
        on_redis(own_server, "Cache.Admin", team, "Cache.Admin")
        assert {key: client.dump(key) for key in client.keys(f"*{team}*")} == before


SIGNATURES = {
    "rl": {READ},
    "rlcw": {READ, WRITE, PUBLISH},
    "rlcwd": AT_TIER,
    "cw": {WRITE},
    "l": set(),
}


@pytest.fixture(scope="module")
def container(azurite):
    """A container of its own."""
    from azure.storage.blob import BlobServiceClient

    account = BlobServiceClient.from_connection_string(azurite.connection_string)
    with account, account.create_container("rights") as made:
        yield made


def signed(container, permission="rlcwd", *, hours=1, blob=None):
    """Return the settings of somebody with such a signature, for the container or for one blob alone."""
    from azure.storage.blob import generate_blob_sas, generate_container_sas

    named = {"account_name": AZURITE_ACCOUNT, "account_key": AZURITE_KEY, "container_name": container.container_name}
    how = {"permission": permission, "expiry": datetime.now(UTC) + timedelta(hours=hours)}
    token = generate_blob_sas(**named, blob_name=blob, **how) if blob else generate_container_sas(**named, **how)
    return load_settings(l2=f"{container.url}?{token}")


@pytest.mark.parametrize("permission", SIGNATURES)
def test_each_kind_of_signature_is_told_apart(isolated, container, team, permission):
    """By what it lets one do."""
    found = examine(signed(container, permission), team, "Cache.Writer")
    assert allowed(found) == SIGNATURES[permission]
    assert {one.right for one in found.missing} == AT_TIER - SIGNATURES[permission]


def named(container, team):
    return sorted(blob.name for blob in container.list_blobs() if f"/{team}/" in blob.name)


def test_who_may_not_remove_is_told_what_is_left(isolated, container, team):
    """One value and one document, under names of their own, however often it is tried; whoever may removes them."""
    for _ in range(2):
        found = examine(signed(container, "rlcw"), team, "Cache.Writer")
        assert any(PROBE in note for note in found.notes)
        document, value = named(container, team)
        assert document == f"genai-cache/1/{team}/d/{PROBE}"
        assert value.startswith(f"genai-cache/1/{team}/e/")
    found = examine(signed(container), team, "Cache.Writer")
    assert not any(PROBE in note for note in found.notes)
    assert named(container, team) == []


@pytest.mark.parametrize("how", [{"hours": -1}, {"blob": "another"}], ids=["expired", "one blob"])
def test_a_signature_that_is_over_or_for_another_blob_allows_nothing(isolated, container, team, how):
    """Each trial is refused."""
    found = examine(signed(container, **how), team, None)
    assert set(states(found).values()) == {State.REFUSED}
    assert found.fits is None


VAULT_RIGHTS = {
    AzureRole.READER: set(),
    AzureRole.CRYPTO_SERVICE_ENCRYPTION_USER: {UNWRAP},
    AzureRole.CRYPTO_USER: {UNWRAP, SIGN},
    AzureRole.CRYPTO_OFFICER: {UNWRAP, SIGN},
}


@pytest.fixture
def keyed(isolated, vault, monkeypatch):
    """Settings of a cache whose keys the simulated vault guards, as this machine's identity."""
    monkeypatch.setattr(azure_vault_client, "KEY_BITS", 2048)  # quicker to make
    settings = load_settings(encryption="key-vault", key_vault_url=vault.url)
    custody.vault_wrapper(settings).ensure_keys()
    return settings


@pytest.mark.parametrize("azure_role", VAULT_RIGHTS, ids=lambda role: role.value)
def test_rights_at_a_vault_are_told(keyed, vault, identity, team, azure_role):
    """To unwrap without the right to wrap too; a reader who may sign has too much."""
    vault.revoke(identity.principal)
    vault.grant(identity.principal, azure_role)
    found = examine(keyed, team, "Cache.Reader")
    assert allowed(found) == VAULT_RIGHTS[azure_role]
    assert [one.right for one in found.too_much] == [right for right in (SIGN,) if right in VAULT_RIGHTS[azure_role]]
    assert found.fits == {0: None, 1: "Cache.Writer", 2: "Cache.Admin"}[len(VAULT_RIGHTS[azure_role])]
    assert {UUID(one.request_id).version for one in vault.requests} == {4}  # of no time and no machine


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(["access", *arguments])
    return ended.value.code


@pytest.mark.parametrize(
    ("user", "role", "code"), [("Reader", "Reader", 0), ("Reader", "Writer", 1), ("Writer", "Reader", 1)]
)
def test_the_command_ends_by_what_it_found(isolated, own_server, team, capsys, monkeypatch, user, role, code):  # noqa: PLR0917
    """By the setting or the option, for people and for scripts."""
    for name, value in {"L2": own_server.url, "L2_USERNAME": f"Cache.{user}", "L2_PASSWORD": PASSWORD}.items():
        monkeypatch.setenv(f"GENAI_CACHE_{name}", value)
    assert run("check", "--namespace", team, "--role", f"Cache.{role}") == code
    assert PASSWORD not in (shown := capsys.readouterr().out)
    assert ("no less and no more" in shown) == (code == 0)
    monkeypatch.setenv("GENAI_CACHE_ROLE", f"Cache.{role}")
    assert run("check", "--namespace", team, "--json") == code
    told = json.loads(capsys.readouterr().out)
    assert (told["role"], bool(told["missing"] or told["too_much"])) == (f"Cache.{role}", code == 1)
    assert {one["right"] for one in told["tried"]} == AT_TIER


def test_of_two_addresses_each_is_tried(isolated, own_server, azurite, container, team):
    """As what it is."""
    url = signed(container).l2[0].get_secret_value()
    settings = load_settings(l2=f"{own_server.url},{url}", l2_username="Cache.Reader", l2_password=PASSWORD)
    found = examine(settings, team, None)
    assert {one.place.partition(":")[0] for one in found.tried if one.state is State.REFUSED} == {"redis"}
    assert len(found.tried) == 2 * len(AT_TIER)
    assert found.fits == "Cache.Reader"
