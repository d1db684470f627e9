"""A team whose keyset lies in its tier, guarded by a vault: one keyset for all, and none of an attacker's."""

from __future__ import annotations

import io
import re
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from memory_vault import machine, ready_vault
from team_in_memory import numbering_origin, team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic import create_cache
from genai_cache_magic.cli.main import main
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest, open_table, write_manifest
from genai_cache_magic.crypto.wrappers.azure_key_vault import SIGNING
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError, KeyUnavailable
from genai_cache_magic.events import Tier
from genai_cache_magic.stores.documents import MemoryDocument

WAIT_S = 30


@pytest.fixture
def vault():
    return ready_vault()


def newer(document, wrapper, *, root_keys=None) -> bytes:
    """Return the next version of a keyset, as an administrator makes it."""
    head, table = open_table(document.load(), "default", wrapper)
    table = replace(table, root_keys=root_keys(table.root_keys) if root_keys else table.root_keys)
    return write_manifest(table, "default", wrapper, version=head.version + 1)


def test_a_team_shares_through_the_vault(team, vault, origin):
    """What one machine stored another opens; neither signs but the first, which made the keyset."""
    ada, ben = team.machine("ada", vault=vault), team.machine("ben", vault=vault)
    assert ada.ask(origin)[0] == "answer 1"
    ada.told()
    text, record = ben.ask(origin)
    assert (text, record.tier) == ("answer 1", "L2")
    assert vault.count("sign") == 1
    assert b"cache-key" in team.server.documents["keyset"].load()


def test_those_who_make_the_keyset_at_once_get_one(team, vault):
    """Set if absent: whoever loses opens the winner's."""
    document, start, ids = MemoryDocument(), threading.Barrier(4), []

    def work(number):
        start.wait(WAIT_S)
        wrapper = machine(vault, team.key_file(str(number)).parent / str(number))
        document.replace(create_manifest("team", wrapper), expected=None)
        return open_manifest(document.load(), "team", wrapper).id_key

    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(work, range(4)))
    assert len(set(ids)) == 1


def test_a_rolled_back_keyset_gives_way_to_the_newer(team, vault, origin):
    """The next machine that has seen that puts it back: what was revoked does not come back, and the team goes on."""
    ada = team.machine("ada", vault=vault)
    ada.ask(origin)
    ada.told()
    document = team.server.documents["keyset"]
    old = document.load()
    administrator = machine(vault, team.key_file("administrator").parent / "administrator")
    document.replace(
        newer(document, administrator, root_keys=lambda keys: {**keys, 1: None, 2: bytes(range(32))}), expected=old
    )
    again = team.machine("ada", vault=vault)
    assert again.ask(origin)[1].outcome == "miss"  # epoch 1 is revoked
    newest = document.load()
    document.replace(old, expected=newest)
    after = team.machine("ada", vault=vault)
    assert any("version 1 gave way to version 2" in event.message for event in after.events)
    assert document.load() == newest
    assert after.ask(origin)[1].tier == "L1"  # the answer that epoch 2 sealed
    assert team.machine("ben", vault=vault).ask(origin, "another")[1].outcome == "miss"


@pytest.mark.parametrize("how", ["another namespace", "another signer", "flipped", "unsigned", "older suite"])
def test_a_substituted_keyset_is_neither_used_nor_kept(team, vault, origin, how):
    """Whoever can write to the tier puts no keys of theirs in the place of the team's."""
    ada = team.machine("ada", vault=vault)
    ada.ask(origin)
    ada.told()
    document, good = team.server.documents["keyset"], team.server.documents["keyset"].load()
    document.replace(substituted(vault, team, good, how), expected=good)
    ben_before = vault.count("unwrapKey")
    try:
        after = team.machine("ada", vault=vault)
    except KeyUnavailable:
        pass  # closed: nothing is stored or served
    else:
        assert after.cache._team is None
        assert after.ask(origin)[1].tier is None
    assert vault.count("unwrapKey") - ben_before <= 1  # the machine's own keyset alone
    document.replace(good, expected=document.load())
    assert team.machine("ada", vault=vault).ask(origin)[0] == "answer 1"


def substituted(vault, team, good: bytes, how: str) -> bytes:
    wrapper = machine(vault, team.key_file("attacker").parent / "attacker")
    match how:
        case "another namespace":
            return create_manifest("another", wrapper)
        case "another signer":
            vault.create("cache-key-sign", SIGNING)
            forged = create_manifest("default", machine(vault, team.key_file("x").parent / "attacker 2"))
            vault.versions["cache-key-sign"].pop()
            return forged
        case "flipped":
            return good[:400] + bytes([good[400] ^ 1]) + good[401:]
        case "unsigned":
            return good[:-256] + bytes(256)
        case _:
            return good[:6] + struct.pack(">H", 2) + good[8:]


def test_suite_epoch_and_namespace_come_from_the_manifest(team, vault):
    """An envelope that says otherwise is refused, and nothing but the signed manifest is asked what to seal with."""
    from genai_cache_magic.crypto.envelope import Sealer

    wrapper = machine(vault, team.key_file("a").parent / "administrator")
    document = MemoryDocument()
    document.replace(create_manifest("default", wrapper), expected=None)
    document.replace(
        newer(document, wrapper, root_keys=lambda keys: {**keys, 2: bytes(range(32))}), expected=document.load()
    )
    keyring = open_manifest(document.load(), "default", wrapper)
    sealer = Sealer(keyring, "default")
    envelope = sealer.seal("0" * 64, b"", b"m", b"b")
    assert struct.unpack_from(">HI", envelope, 6) == (1, 2)
    assert sealer.open("0" * 64, envelope).body == b"b"
    for changed in (
        envelope[:6] + struct.pack(">H", 2) + envelope[8:],
        envelope[:8] + struct.pack(">I", 1) + envelope[12:],
        envelope[:8] + struct.pack(">I", 3) + envelope[12:],
    ):
        with pytest.raises(DecryptionError):
            sealer.open("0" * 64, changed)
    with pytest.raises(DecryptionError):
        Sealer(keyring, "another").open("0" * 64, envelope)


def test_a_vault_that_is_down_closes_the_team_too(team, vault, origin):
    """What lies in the tier stays sealed, and no keyset is made beside the team's."""
    ada = team.machine("ada", vault=vault)
    ada.ask(origin)
    ada.told()
    before = dict(team.server.documents), len(list(team.server.store.scan()))
    vault.trouble = KeyUnavailable("the vault is down")
    with pytest.raises(KeyUnavailable, match="down"):
        team.machine("ben", vault=vault)
    assert (dict(team.server.documents), len(list(team.server.store.scan()))) == before


def test_a_tier_that_is_away_leaves_a_member_uncached_not_unsealed(team, vault, origin):
    """A member that may not sign makes no keyset of its own: that is said, with the tier's trouble."""
    team.machine("ada", vault=vault)
    vault.forbidden.add("sign")
    with pytest.raises(KeyUnavailable, match="genai-cache keys init"):
        team.machine("ben", vault=vault, is_away=True)


def test_two_keys_on_one_tier_are_told_in_words(team, origin, tmp_path, monkeypatch):
    """The second laptop works on its own, with a keyset and a directory of its own, and is told the way out.

    What is printed works when it is typed as it stands, and is all that is needed.
    """
    ada, ben = team.machine("ada"), team.machine("ben", key="another")
    ada.ask(origin)
    ada.told()
    assert ben.ask(origin)[1].tier is None
    assert ben.cache._team is None
    (event,) = [event for event in ben.events if event.where == "L2"]
    assert ben.ask(origin)[1].tier == "L1"
    command = re.search(r"`genai-cache (keys import[^`]*)`", event.message)
    assert command is not None
    assert "restart the kernel" in event.message
    monkeypatch.setenv("GENAI_CACHE_KEY_FILE", str(team.key_file("another")))
    exported = LocalKeyFile.load(team.key_file(), cache_directory=tmp_path / "ada").export_text()
    monkeypatch.setattr("sys.stdin", io.StringIO(exported))
    with pytest.raises(SystemExit) as ended:
        main(command[1].split())
    assert not ended.value.code
    restarted = team.machine("ben", key="another")
    assert restarted.ask(origin)[1].tier is Tier.L2


@pytest.mark.service
def test_two_teams_on_one_redis_neither_confirm_nor_open_each_others_entries(redis_server, tmp_path, isolated):
    """Equal names have other ids; what is copied over is a miss, and a copied keyset is refused."""
    import redis

    events = []

    def opened(name, place=""):
        key = tmp_path / f"{name}.key"
        how = {"namespace": name, "l2": redis_server.url, "dir": str(tmp_path / f"{name}{place}"), "key_file": str(key)}
        return create_cache("disk", on_event=events.append, **how)

    with redis.Redis.from_url(redis_server.url) as client, opened("sealed-a") as a, opened("sealed-b") as b:
        for cache in (a, b):
            cache.set("the same name", cache.namespace)
            assert cache._team._drain.finish(within_s=WAIT_S)
        prefixes = [f"genai-cache:1:{name}:".encode() for name in ("sealed-a", "sealed-b")]
        keys_a, keys_b = ({key.removeprefix(p) for key in client.scan_iter(p + b"*")} for p in prefixes)
        assert keys_a & keys_b == {key for key in keys_a if len(key) < 64}  # documents; no entry bears another's name
        (entry_a,), (entry_b,) = keys_a - keys_b, keys_b - keys_a
        assert client.copy(prefixes[0] + entry_a, prefixes[1] + entry_b, replace=True)
        with opened("sealed-b", " on another machine") as other:
            assert other.get("the same name") is None
        assert [event.error for event in events] == ["DecryptionError"]
        (document,) = [key for key in keys_a if b"keyset" in key]
        assert client.copy(prefixes[0] + document, prefixes[1] + document, replace=True)
        with opened("sealed-b", " on a third machine") as alone:
            assert alone._team is None
    assert "answers stay on this machine" in events[-1].message
