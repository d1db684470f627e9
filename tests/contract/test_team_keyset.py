"""Which keyset of a team counts: an older one gives way to the newer that a machine holds, and is used by nobody."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from memory_vault import machine as vault_machine
from memory_vault import ready_vault
from team_in_memory import numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.api.team import keysets
from genai_cache_magic.api.team.keysets import keyset_of
from genai_cache_magic.api.team.line import TeamLine
from genai_cache_magic.crypto.keyset import open_table, write_manifest
from genai_cache_magic.crypto.wrappers.azure_key_vault import SIGNING
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import KeyUnavailable, StoreDenied, StoreUnavailable
from genai_cache_magic.settings.reading import load_settings
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.documents import MemoryDocument
from genai_cache_magic.testing.servers import AZURITE_ACCOUNT, AZURITE_KEY
from genai_cache_magic.testing.tier import MemoryTier

_numbers = itertools.count(1)


@pytest.fixture
def team_name():
    """A name space, container and user that no other test uses."""
    return f"keyset-{os.getpid()}-{next(_numbers)}"


def wrapper_of(team):
    return LocalKeyFile.load(team.key_file(), cache_directory=team.key_file().parent / "none")


def changed(blob, wrapper, *, version=None, revoked=()):
    """Return the next version of a keyset, with one more epoch, as an administrator makes it."""
    head, table = open_table(blob, "default", wrapper)
    root_keys = {**table.root_keys, max(table.root_keys) + 1: bytes(range(32))}
    table = replace(table, root_keys=root_keys | dict.fromkeys(revoked))
    return write_manifest(table, "default", wrapper, version=version or head.version + 1)


def put(document, blob):
    assert document.replace(blob, expected=document.load())


def directory_of(team, name):
    (path,) = (team.key_file().parent / name).rglob("team-*")
    return path


def said(machine):
    return " ".join(event.message for event in machine.events)


@pytest.fixture
def revoked(team, origin):
    """A team whose first epoch was revoked: `ada` has seen that, `ben` has not; return both keysets and both names."""
    ada = team.machine("ada")
    ada.ask(origin)
    ada.told()
    team.machine("ben")
    document = team.server.documents["keyset"]
    old = document.load()
    new = changed(old, wrapper_of(team), revoked=[1])
    put(document, new)
    assert team.machine("ada").ask(origin)[1].outcome == "miss"  # what epoch 1 sealed
    return old, new


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_an_older_keyset_gives_way_to_the_newer(team, origin, revoked, is_forgotten):
    """Also where only the copy tells that there was a newer one, and not the number beside it."""
    old, new = revoked
    document = team.server.documents["keyset"]
    put(document, old)
    if is_forgotten:
        for machine in team.machines:
            machine.cache.close()
        (directory_of(team, "ada") / "state.db").unlink()
    ada = team.machine("ada")
    assert document.load() == new
    assert "version 1 gave way to version 2" in said(ada)
    text, _ = ada.ask(origin, "another")
    ada.told()
    assert team.machine("ben").ask(origin, "another")[0] == text


def test_whoever_only_knows_that_there_was_a_newer_one_refuses(team, origin, revoked):
    """It has no newer one to put there; what was revoked does not come back, and nobody is served or stores."""
    old, _ = revoked
    document = team.server.documents["keyset"]
    put(document, old)
    (directory_of(team, "ada") / "keyset").unlink()
    ada = team.machine("ada")
    assert "rolled back" in said(ada)
    assert ada.cache._team is None
    assert ada.ask(origin, "another")[1].tier is None
    assert document.load() == old


def test_a_tier_that_lost_everything_and_got_the_older_one_heals(team, origin, revoked):
    """A machine that had not seen the newer one was faster; the next one that has it puts it there for both."""
    _, new = revoked
    team.server.flush()
    ben = team.machine("ben")
    ben.ask(origin, "before")
    ben.told()
    ada = team.machine("ada")
    assert team.server.documents["keyset"].load() == new
    text, _ = ada.ask(origin, "another")
    ada.told()
    again = team.machine("ben").ask(origin, "another")
    assert (again[0], again[1].tier) == (text, "L2")


def test_a_kernel_that_is_open_heals_it_too(team, origin, revoked):
    """It notices that all was begun anew, though a keyset and a record of what is valid stand there again."""
    _, new = revoked
    ada = team.machines[-1]
    team.server.flush()
    ben = team.machine("ben")
    ben.ask(origin, "before")
    ben.told()
    assert team.server.documents["keyset"].load() != new
    ada.goes_stale()
    ada.ask(origin, "another")
    assert team.server.documents["keyset"].load() == new


def test_whoever_lost_the_newer_one_offers_no_first_one(team, origin, revoked):
    """A keyset that it would refuse itself does not become its team's."""
    team.server.flush()
    (directory_of(team, "ada") / "keyset").unlink()
    shutil.rmtree(directory_of(team, "ada") / "l1")
    assert team.machine("ada").cache._team is None
    assert "keyset" not in team.server.documents


def test_two_newer_ones_are_a_fork(team, origin, revoked):
    """Nobody can tell which of the two revoked what: the second machine refuses, says so, and changes nothing."""
    old, _ = revoked
    document = team.server.documents["keyset"]
    fork = changed(old, wrapper_of(team))
    put(document, fork)
    ada = team.machine("ada")
    assert ada.cache._team is None
    assert "two of version 2" in said(ada)
    assert "keyset here" in said(ada)
    assert document.load() == fork
    assert ada.ask(origin)[1].tier is None


def test_of_two_first_ones_the_one_in_the_tier_counts(team, origin):
    """Neither has revoked anything, so a team that lost everything goes on with whoever was first."""
    ada = team.machine("ada")
    ada.ask(origin)
    ada.told()
    team.server.flush()
    ben = team.machine("ben")
    ben.ask(origin)
    ben.told()
    again = team.machine("ada").ask(origin)
    assert (again[0], again[1].tier) == ("answer 2", "L2")


def test_what_was_revoked_stays_so_in_a_newer_one_that_lacks_it(team, origin, revoked):
    """It grew out of one that was put back: refused, until the epoch is revoked in it as well."""
    old, _ = revoked
    document, wrapper = team.server.documents["keyset"], wrapper_of(team)
    put(document, changed(old, wrapper, version=3))
    ada = team.machine("ada")
    assert ada.cache._team is None
    assert "`genai-cache keys revoke 1`" in said(ada)
    put(document, changed(document.load(), wrapper, revoked=[1]))
    assert team.machine("ada").cache._team is not None


def test_a_machine_that_may_not_write_refuses(team, origin, revoked, monkeypatch):
    """It says why it works alone, and who can help."""
    old, _ = revoked
    document = team.server.documents["keyset"]
    put(document, old)
    with monkeypatch.context() as patch:
        patch.setattr(MemoryDocument, "replace", denied)
        ada = team.machine("ada")
    assert ada.cache._team is None
    assert "rolled back to version 1" in said(ada)
    assert "may not put its newer one there" in said(ada)
    assert document.load() == old


def denied(*_, **__):
    raise StoreDenied("no right to write")


def test_a_tier_that_goes_away_meanwhile_is_joined_later(team, origin, revoked, monkeypatch):
    """The older one is not used in between."""
    old, new = revoked
    document = team.server.documents["keyset"]
    put(document, old)

    def away(*_, **__):
        raise StoreUnavailable("it went away")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryDocument, "replace", away)
        ada = team.machine("ada")
    assert ada.cache._team is None
    assert "it went away" in said(ada)
    give_up_at = time.monotonic() + 30
    while ada.cache.team is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    assert document.load() == new


def test_a_newer_one_that_comes_meanwhile_stays(team, revoked, monkeypatch):
    """An administrator was faster: compare-and-swap fails, and what stands there now is judged anew."""
    old, new = revoked
    document = team.server.documents["keyset"]
    put(document, old)
    newest = changed(new, wrapper_of(team))
    replace_ = MemoryDocument.replace

    def overtaken(self, blob, *, expected):
        if self is document and blob == new:
            replace_(self, newest, expected=old)
        return replace_(self, blob, expected=expected)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryDocument, "replace", overtaken)
        assert team.machine("ada").cache._team is not None
    assert document.load() == newest
    assert (directory_of(team, "ada") / "keyset").read_bytes() == newest


def test_what_another_signer_signed_is_left_alone(team):
    """It may be the newer one of a team that trusts another signer by now: whoever can't judge it changes nothing."""
    vault = ready_vault()
    team.machine("ada", vault=vault)
    document = team.server.documents["keyset"]
    vault.create("cache-key-sign", SIGNING)
    administrator = vault_machine(vault, team.key_file("administrator").parent / "administrator")
    head, table = open_table(document.load(), "default", vault_machine(vault, team.key_file("first").parent / "first"))
    of_another = write_manifest(table, "default", administrator, version=head.version + 1)
    put(document, of_another)
    with pytest.raises(KeyUnavailable, match="genai-cache keys trust"):
        team.machine("ada", vault=vault)
    assert document.load() == of_another


def test_the_keys_commands_put_the_newer_one_back_too(team, revoked, monkeypatch):
    """An administrator's machine heals its team whatever it is asked."""
    old, new = revoked
    document = team.server.documents["keyset"]
    put(document, old)
    base = team.key_file().parent
    settings = load_settings(dir=str(base / "ada"), key_file=str(team.key_file()))
    tier = MemoryTier(team.server)
    monkeypatch.setattr(keysets, "team_line", lambda *_: TeamLine(tier, Breaker(tier.name), 5.0))
    with keyset_of(settings, "default") as keyset:
        status = keyset.status()
    assert (status.version, status.revoked) == (2, (1,))
    assert document.load() == new


# Over real tiers


def opened(tmp_path, name, namespace, events, **how):
    return create_cache(
        "disk",
        on_event=events.append,
        namespace=namespace,
        dir=str(tmp_path / name),
        key_file=str(tmp_path / "key"),
        **how,
    )


def heals(tmp_path, namespace, own, may_read):
    """Roll a keyset back; a machine that may only read refuses it, one that may write puts the newer there."""
    events = []
    for name in ("ada", "eve"):
        opened(tmp_path, name, namespace, events, **own).close()
    settings = load_settings(
        dir=str(tmp_path / "administrator"), key_file=str(tmp_path / "key"), namespace=namespace, **own
    )
    with keyset_of(settings, namespace) as keyset:
        document = keyset._document
        old = document.load()
        keyset.revoke(1)
        new = document.load()
        for name in ("ada", "eve"):
            opened(tmp_path, name, namespace, events, **own).close()
        put(document, old)
        assert events == []
        with opened(tmp_path, "eve", namespace, events, **may_read) as eve:
            assert eve._team is None
        assert "may not put its newer one there" in events.pop().message
        assert document.load() == old
        with opened(tmp_path, "ada", namespace, events, **own) as ada:
            assert ada._team is not None
        assert "gave way to version 2" in events.pop().message
        assert document.load() == new


@pytest.mark.service
def test_over_redis(redis_server, tmp_path, isolated, team_name):
    """By an ACL user that may read alone, and by one that may write."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command(
            "ACL", "SETUSER", team_name, "on", ">secret", "+@read", "+@connection", "+@scripting", "+time", "~*"
        )
    heals(
        tmp_path,
        team_name,
        {"l2": redis_server.url},
        {"l2": redis_server.url, "l2_username": team_name, "l2_password": "secret"},
    )


@pytest.mark.service
def test_over_blob(azurite, tmp_path, isolated, team_name):
    """By a signature that may read alone, and by an account key."""
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    signature = generate_container_sas(
        AZURITE_ACCOUNT,
        team_name,
        account_key=AZURITE_KEY,
        permission=ContainerSasPermissions(read=True, list=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    url = f"{azurite.account_url}/{team_name}"
    own = {"l2": url, "l2_account_key": AZURITE_KEY, "l2_create_container": True}
    heals(tmp_path, team_name, own, {"l2": f"{url}?{signature}"})


@pytest.mark.service
def test_over_both_at_once(redis_server, azurite, tmp_path, isolated, team_name):
    """Redis rules, so its keyset is the one that is put right; the container is not asked for one."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        client.execute_command(
            "ACL", "SETUSER", team_name, "on", ">secret", "+@read", "+@connection", "+@scripting", "+time", "~*"
        )
    both = f"{redis_server.url},{azurite.account_url}/{team_name}"
    own = {"l2": both, "l2_account_key": AZURITE_KEY, "l2_create_container": True}
    heals(tmp_path, team_name, own, own | {"l2_username": team_name, "l2_password": "secret"})
