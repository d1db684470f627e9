"""A keyset that somebody without the signing key has written or changed opens nothing, whoever can wrap keys for it.

Wrapping needs a public key alone, so that it proves nothing: an attacker here can write the team's stores, read both
public keys of the vault, and wrap for it. The vault is one of this process (`memory_vault.py`); the team's keyset in a
shared tier is damaged at the end.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from machines import Origin
from memory_vault import OAEP, PSS, machine, ready_vault
from team_in_memory import team_in_memory  # noqa: F401 - fixtures

from genai_cache_magic.crypto.keyset import KeyTable, create_manifest, open_manifest, write_manifest
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError, KeyUnavailable
from genai_cache_magic.events import Outcome, Trouble

REFUSALS = (DecryptionError, KeyUnavailable)


@pytest.fixture
def vault():
    return ready_vault()


@pytest.fixture
def administrator(vault, tmp_path):
    return machine(vault, tmp_path / "administrator")


@pytest.fixture
def member(vault, administrator, tmp_path):
    """A machine that has opened the team's keyset before, and has met its signer."""
    open_manifest(create_manifest("team", administrator), "team", machine(vault, tmp_path / "member"))
    vault.asked.clear()
    return machine(vault, tmp_path / "member")


class Attacker:
    """A wrapper as an attacker makes one: wraps for the vault, names its keys, and signs with what there is."""

    kind = "key-vault"
    signature_algorithm = "PS256"
    remedy = ""

    def __init__(self, vault, like, sign, **claims) -> None:
        self._public = vault._private[vault.versions["cache-key"][-1].version].public_key()
        self.fingerprint, self.key_id, self.signing_key_id = like.fingerprint, like.key_id, like.signing_key_id
        self.sign = sign
        vars(self).update(claims)

    def wrap(self, secret, context):
        return self._public.encrypt(hashlib.sha256(context).digest() + secret, OAEP)


def forged(vault, administrator, sign, **claims):
    """A whole keyset of keys that the attacker knows, correct in all but who signed it."""
    table = KeyTable(id_key=bytes(32), mac_key=bytes(32), derivation_key=bytes(32), root_keys={1: b"\x01" * 32})
    return write_manifest(table, "team", Attacker(vault, administrator, sign, **claims), version=9)


STRANGER = rsa.generate_private_key(65537, 2048)


def test_the_attack_would_work_with_the_right_signature(vault, administrator, member):
    """The forged keyset is whole: it opens if, and only because, the signing key signed it."""
    manifest = forged(vault, administrator, administrator.sign)
    assert open_manifest(manifest, "team", member).root_keys == {1: b"\x01" * 32}


def signatures(vault, administrator):
    """Ways to sign without the signing key, and what the keyset claims of itself."""
    signer = vault._private[vault.versions["cache-key-sign"][-1].version].public_key().public_numbers()
    public = signer.n.to_bytes(256, "big")
    wrapping = vault._private[vault.versions["cache-key"][-1].version]
    older = create_manifest("team", administrator)
    return {
        "own key": (lambda data: STRANGER.sign(data, PSS, hashes.SHA256()), {}),
        "own key, named": (
            lambda data: STRANGER.sign(data, PSS, hashes.SHA256()),
            {"signing_key_id": f"{administrator.signing_key_url}/{secrets.token_hex(16)}"},
        ),
        "own vault, named": (
            lambda data: STRANGER.sign(data, PSS, hashes.SHA256()),
            {"signing_key_id": f"https://other.vault.azure.net/keys/cache-key-sign/{secrets.token_hex(16)}"},
        ),
        "the key that wraps": (lambda data: wrapping.sign(data, PSS, hashes.SHA256()), {}),
        "the key that wraps, named": (
            lambda data: wrapping.sign(data, PSS, hashes.SHA256()),
            {"signing_key_id": administrator.key_id},
        ),
        "a public key as a secret": (
            lambda data: hmac.digest(public, data, "sha256"),
            {"signature_algorithm": "HMAC-SHA256"},
        ),
        "no algorithm": (lambda _: b"\0", {"signature_algorithm": "none"}),
        "an older padding": (
            lambda data: STRANGER.sign(data, padding.PKCS1v15(), hashes.SHA256()),
            {"signature_algorithm": "RS256"},
        ),
        "another keyset's": (lambda _: older[-256:], {}),
        "nothing": (lambda _: b"\0" * 256, {}),
        "one": (lambda _: b"\0" * 255 + b"\1", {}),
        "the modulus": (lambda _: public, {}),
        "another kind": (lambda _: b"\0" * 32, {"kind": "local"}),
    }


WAYS = (
    "own key", "own key, named", "own vault, named", "the key that wraps", "the key that wraps, named",
    "a public key as a secret", "no algorithm", "an older padding", "another keyset's", "nothing", "one",
    "the modulus", "another kind",
)  # fmt: skip


@pytest.mark.parametrize("how", WAYS)
def test_a_substituted_keyset_is_refused(vault, administrator, member, how, tmp_path):
    """Whatever it is signed with, it opens nothing, nor is the vault asked to unwrap what it holds."""
    sign, claims = signatures(vault, administrator)[how]
    manifest = forged(vault, administrator, sign, **claims)
    for reader in (member, machine(vault, tmp_path / "new")):
        before = vault.count("unwrapKey")
        with pytest.raises(REFUSALS):
            open_manifest(manifest, "team", reader)
        assert vault.count("unwrapKey") == before


def test_no_change_of_a_vaults_keyset_goes_unnoticed(vault, administrator, member):
    """Each bit and each length of a keyset under a vault's keys, and the vault unwraps nothing that was changed."""
    manifest = create_manifest("team", administrator)
    open_manifest(manifest, "team", member)
    vault.asked.clear()
    for bit in range(8 * len(manifest)):
        changed = bytearray(manifest)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(REFUSALS):
            open_manifest(bytes(changed), "team", member)
    for length in range(len(manifest)):
        with pytest.raises(REFUSALS):
            open_manifest(manifest[:length], "team", member)
    assert vault.count("unwrapKey") == 0
    assert open_manifest(manifest, "team", member).epoch == 1


def test_a_local_keyset_of_another_key_that_names_ours_is_refused():
    """Somebody's own keyset under our key's fingerprint is not taken for ours."""
    ours, theirs = LocalKeyFile(b"a" * 32), LocalKeyFile(b"b" * 32)
    theirs.fingerprint = ours.fingerprint
    with pytest.raises(REFUSALS):
        open_manifest(create_manifest("team", theirs), "team", ours)


def test_a_damaged_keyset_in_the_shared_tier_stops_no_call(team):
    """A new machine that finds one says so, works on its own and leaves it there; who has the good one goes on."""
    origin = Origin()
    first = team.machine("a")
    first.ask(origin)
    first.told()
    document = team.server.documents["keyset"]
    good = document.load()
    chance = secrets.SystemRandom()
    for number in range(12):
        bit = chance.randrange(8 * len(good))
        wrong = bytearray(good)
        wrong[bit // 8] ^= 1 << bit % 8
        assert document.replace(bytes(wrong), expected=document.load())
        newcomer = team.machine(f"new-{number}")
        assert newcomer.ask(origin)[1].outcome is Outcome.MISS
        assert newcomer.ask(origin)[1].outcome is Outcome.HIT
        assert [event for event in newcomer.events if isinstance(event, Trouble) and event.where == "L2"]
        assert document.load() == bytes(wrong)
    assert first.ask(origin)[1].outcome is Outcome.HIT
