"""The vault's wrapper: one unwrap, two keys, the signer pinned, and a refusal for every key that should not be used."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from memory_vault import MemoryVault, machine, ready_vault

from genai_cache_magic.crypto.held_keys import HeldKeys
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
from genai_cache_magic.crypto.wrappers.azure_key_vault import SIGNING, WRAPPING
from genai_cache_magic.crypto.wrappers.azure_rights import Asked, grant, policy
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyDenied, KeyMissing, KeyUnavailable


@pytest.fixture
def vault():
    return ready_vault()


@pytest.fixture
def manifest(vault, tmp_path):
    made = create_manifest("team", machine(vault, tmp_path / "administrator"))
    vault.asked.clear()
    return made


def test_the_unwrap_is_all_that_a_known_machine_asks(vault, manifest, tmp_path):
    """A machine that has opened the keyset before asks the vault one thing: to unwrap."""
    open_manifest(manifest, "team", machine(vault, tmp_path))
    vault.asked.clear()
    keyring = open_manifest(manifest, "team", machine(vault, tmp_path))
    assert vault.asked == [("unwrapKey", "cache-key")]
    assert keyring.epoch == 1


def test_64_threads_unwrap_once(vault, manifest, tmp_path):
    """Whoever opens the keyset at one time in one process waits for one answer of the vault."""
    held, start = HeldKeys(), threading.Barrier(64)

    def opened(_):
        start.wait(30)
        return open_manifest(manifest, "team", machine(vault, tmp_path, held=held)).id_key

    with ThreadPoolExecutor(64) as pool:
        assert len(set(pool.map(opened, range(64)))) == 1
    assert vault.count("unwrapKey") == 1


def test_what_was_unwrapped_is_held_for_a_bounded_time(vault, manifest, tmp_path):
    """Afterwards the vault is asked again, and a right that is gone by then is a key that is gone."""
    now = [0.0]
    wrapper = machine(vault, tmp_path, held=HeldKeys(max_age_s=60, clock=lambda: now[0]))
    open_manifest(manifest, "team", wrapper)
    now[0] = 59.0
    vault.forbidden.add("unwrapKey")
    open_manifest(manifest, "team", wrapper)
    now[0] = 61.0
    for _ in range(2):
        with pytest.raises(KeyDenied):
            open_manifest(manifest, "team", wrapper)
    assert "bytes" not in repr(wrapper._held)


def test_a_failed_unwrap_is_not_remembered(vault, manifest, tmp_path):
    """The next one who asks gets the key, if the vault is there by then."""
    wrapper = machine(vault, tmp_path)
    vault.trouble = KeyUnavailable("the vault is down")
    with pytest.raises(KeyUnavailable, match="down"):
        open_manifest(manifest, "team", wrapper)
    vault.trouble = None
    assert open_manifest(manifest, "team", wrapper).epoch == 1


def test_a_signing_key_of_another_version_is_refused_until_it_is_trusted(vault, manifest, tmp_path):
    """Also if the vault itself says that it is the current one; the message names both and the command."""
    reader = machine(vault, tmp_path)
    open_manifest(manifest, "team", reader)
    pinned = reader.trusted
    new = vault.create("cache-key-sign", SIGNING)
    newer = create_manifest("team", machine(vault, tmp_path / "another administrator"))
    with pytest.raises(KeyUnavailable, match="genai-cache keys trust") as caught:
        open_manifest(newer, "team", machine(vault, tmp_path))
    assert pinned.version in str(caught.value)
    assert new.version in str(caught.value)
    with pytest.raises(KeyUnavailable, match="keys trust"):
        machine(vault, tmp_path).sign(b"data")
    reader.trust(reader.offered(f"{reader.signing_key_url}/{new.version}"))
    assert open_manifest(newer, "team", machine(vault, tmp_path)).epoch == 1
    with pytest.raises(KeyUnavailable, match="keys trust"):
        open_manifest(manifest, "team", machine(vault, tmp_path))


def test_another_public_key_under_the_same_version_verifies_nothing(vault, manifest, tmp_path):
    """A vault that was put in the place of the team's can't sign for it: the public key is pinned, not its name."""
    open_manifest(manifest, "team", machine(vault, tmp_path))
    impostor = ready_vault(first=4)
    for name, versions in vault.versions.items():
        version = versions[-1].version
        (made,) = impostor.versions[name]
        impostor._private[version] = impostor._private[made.version]
        impostor.change(name, version=version)
    forged = create_manifest("team", machine(impostor, tmp_path / "impostor"))
    with pytest.raises(DecryptionError):
        open_manifest(forged, "team", machine(impostor, tmp_path))


def test_nothing_is_pinned_that_has_signed_nothing(vault, manifest, tmp_path):
    """A keyset that is damaged, or that names a signing key of its own, leaves no trust behind."""
    reader = machine(vault, tmp_path)
    with pytest.raises((DecryptionError, KeyUnavailable)):
        open_manifest(manifest[:-1] + bytes([manifest[-1] ^ 1]), "team", reader)
    assert reader.trusted is None


def test_a_damaged_pin_is_no_first_use(vault, manifest, tmp_path):
    """Whoever can damage what a machine remembers does not choose whom it trusts next."""
    reader = machine(vault, tmp_path)
    open_manifest(manifest, "team", reader)
    for path in (tmp_path / "known").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        path.write_text("{}")
    with pytest.raises(KeyUnavailable, match=r"is damaged.*keys trust"):
        open_manifest(manifest, "team", machine(vault, tmp_path))


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"is_enabled": False}, "is disabled"),
        ({"expires": 1_000.0}, "has expired"),
        ({"starts": 3_000.0}, "is not valid yet"),
        ({"kind": "EC"}, "is no RSA key of 2048 bits"),
        ({"modulus": 2**1023 + 1}, "is no RSA key of 2048 bits"),
        ({"operations": ("encrypt",)}, "is not made for"),
    ],
)
def test_a_key_that_should_not_be_used_gains_no_secret(vault, tmp_path, attributes, words):
    """Neither the one that wraps nor the one that signs, whatever the vault itself would do."""
    for name, use in (("cache-key", lambda w: w.wrap(bytes(32), b"")), ("cache-key-sign", lambda w: w.sign(b"data"))):
        before = vault.versions[name][-1]
        vault.change(name, **attributes)
        vault.asked.clear()
        with pytest.raises(KeyUnavailable, match=words):
            use(machine(vault, tmp_path, now_s=lambda: 2_000.0))
        assert [operation for operation, _ in vault.asked] == ["get"]
        vault.versions[name][-1] = before


@pytest.mark.parametrize(
    ("attributes", "words"),
    [({"is_enabled": False}, "is disabled"), ({"expires": 1_000.0}, "has expired")],
)
def test_a_version_that_is_over_opens_nothing(vault, manifest, tmp_path, attributes, words):
    """On a machine that meets it first, on one that saw it a day ago, and where the vault still unwraps with it."""
    now = [500.0]

    def reader(name):
        return machine(vault, tmp_path / name, now_s=lambda: now[0])

    open_manifest(manifest, "team", reader("old"))
    vault.change("cache-key", **attributes)
    now[0] += 86_401.0
    for name in ("new", "old"):
        with pytest.raises(KeyUnavailable, match=words):
            open_manifest(manifest, "team", reader(name))
    assert vault.count("unwrapKey") == 1


def test_an_expiry_that_was_seen_holds_without_asking(vault, manifest, tmp_path):
    """What a machine knows of a version's end it does not ask for again."""
    now = [500.0]
    vault.change("cache-key", expires=1_000.0)
    open_manifest(manifest, "team", machine(vault, tmp_path, now_s=lambda: now[0]))
    now[0] = 1_000.0
    vault.asked.clear()
    with pytest.raises(KeyUnavailable, match="has expired"):
        open_manifest(manifest, "team", machine(vault, tmp_path, now_s=lambda: now[0]))
    assert vault.asked == []


def test_init_makes_what_is_missing_and_adopts_what_is_there(tmp_path):
    """With the operations that each is for, and no others; a key that can't serve is refused with the command."""
    vault = MemoryVault()
    wrapper = machine(vault, tmp_path)
    assert wrapper.ensure_keys() == ("cache-key", "cache-key-sign")
    assert vault.versions["cache-key"][0].operations == WRAPPING
    assert vault.versions["cache-key-sign"][0].operations == SIGNING
    assert wrapper.ensure_keys() == ()
    vault.change("cache-key", operations=("encrypt", "wrapKey"))
    with pytest.raises(
        KeyUnavailable, match=r"not made for unwrapKey: `az keyvault key set-attributes --id https://team"
    ):
        wrapper.ensure_keys()


def test_what_is_refused_is_named_with_the_command_that_grants_it(vault, tmp_path):
    """Each right by the role that holds it, at the key that it is for."""
    wrapper = machine(vault, tmp_path)
    assert wrapper.refusals() == ()
    vault.forbidden |= {"unwrapKey", "sign"}
    unwrap, sign = wrapper.refusals()
    assert (unwrap.right, unwrap.key_name) == ("unwrapKey", "cache-key")
    assert (sign.right, sign.key_name) == ("sign", "cache-key-sign")
    assert 'az role assignment create --role "Key Vault Crypto Service Encryption User"' in str(unwrap)
    assert 'az role assignment create --role "Key Vault Crypto User"' in str(sign)
    assert "/keys/cache-key-sign" in str(sign)
    assert policy(vault.name, Asked("sign", "x")).startswith("az keyvault set-policy --name team")
    assert "/keys/" not in grant(vault.name, Asked("create", "x"))


def test_looking_at_rights_trusts_nobody(vault, manifest, tmp_path):
    """A machine that was asked what it may do still trusts whoever signed the keyset that it meets first."""
    vault.create("cache-key-sign", SIGNING)
    reader = machine(vault, tmp_path)
    assert reader.refusals() == ()
    assert reader.trusted is None
    assert open_manifest(manifest, "team", reader).epoch == 1


def test_one_key_for_both_is_refused(vault, tmp_path):
    """Whoever may unwrap must not be able to sign."""
    with pytest.raises(ConfigurationError, match="two keys"):
        machine(vault, tmp_path, key_name="cache-key", signing_key_name="Cache-Key")


def test_a_key_that_is_not_there_is_an_order_to_make_it(tmp_path):
    """The message of a vault without keys names the command."""
    with pytest.raises(KeyMissing):
        machine(MemoryVault(), tmp_path).wrap(bytes(32), b"")
