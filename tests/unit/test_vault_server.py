"""The simulated Key Vault, used by the unchanged azure-keyvault-keys, sync and async, with its challenge check on."""

import hashlib
import signal
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from vault_clients import (  # noqa: F401 - fixtures
    DIGEST,
    OAEP,
    SECRET,
    crypto,
    cryptography_clients,
    encoded,
    exceptions,
    key_client,
    keys,
    plainly,
    refused,
    signed_in,
    version_of,
)

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.vault_server import SimulatedKeyVault, main

# Keys


@pytest.mark.parametrize(("size", "is_hsm"), [(2048, False), (2048, True), (3072, False), (4096, False)])
def test_rsa_keys_are_made_as_asked(client, vault, size, is_hsm):
    """A key has the asked size, type, operations, tags and dates, and is read back as it was made."""
    made = client.create_rsa_key(
        "cache-key", size=size, hardware_protected=is_hsm, key_operations=["wrapKey", "unwrapKey"], tags={"team": "a"}
    )
    read = client.get_key("cache-key", made.properties.version)
    assert (read.id, read.key.n, read.key.e) == (made.id, made.key.n, made.key.e)
    assert int.from_bytes(read.key.n, "big").bit_length() == size
    assert (read.key_type, read.key_operations) == ("RSA-HSM" if is_hsm else "RSA", ["wrapKey", "unwrapKey"])
    assert (read.properties.tags, read.properties.enabled, read.properties.vault_url) == (
        {"team": "a"},
        True,
        vault.url,
    )
    assert read.key.d is None


@pytest.mark.parametrize(("curve", "algorithm"), [("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512")])
def test_elliptic_keys_sign(client, cryptography, curve, algorithm):
    """A signature of an elliptic key is accepted by the SDK's own check and by the vault's."""
    key = client.create_ec_key("signing", curve=curve)
    algorithm = crypto.SignatureAlgorithm(algorithm)
    digest = hashlib.new({"P-256": "sha256", "P-384": "sha384", "P-521": "sha512"}[curve], b"x").digest()
    signature = cryptography(key.id).sign(algorithm, digest).signature
    assert cryptography(key.id).verify(algorithm, digest, signature).is_valid
    assert not cryptography(key.id).verify(algorithm, digest[::-1], signature).is_valid


def test_versions_are_listed_by_their_ids_and_the_latest_is_read_without_one(client, vault):
    """A rotation adds a version of the same kind; a list says nothing of age, and pages are followed."""
    first = client.create_rsa_key("cache-key", size=3072, key_operations=["wrapKey", "unwrapKey"])
    made = [version_of(first.id), *(version_of(vault.create_key("cache-key")) for _ in range(3))]
    rotated = client.rotate_key("cache-key")
    listed = [one.version for one in client.list_properties_of_key_versions("cache-key", max_page_size=2)]
    assert listed == sorted([*made, rotated.properties.version])
    assert client.get_key("cache-key").id == rotated.id
    assert client.get_key("cache-key", made[0]).key.n == first.key.n
    assert vault.count("versions") == 3


def test_all_keys_are_listed_page_by_page(client, vault):
    """Every key is listed once, however many pages that takes."""
    names = [f"key-{number:02}" for number in range(5)]
    for name in names:
        vault.create_key(name, kty="EC")
    assert [one.name for one in client.list_properties_of_keys(max_page_size=2)] == names
    assert vault.count("list") == 3


def test_a_rotated_key_takes_its_expiry_from_its_policy(client):
    """A rotation policy is kept, and dates the versions that come of it."""
    client.create_rsa_key("cache-key")
    assert client.get_key_rotation_policy("cache-key").lifetime_actions[0].action == "Notify"
    policy = keys.KeyRotationPolicy(expires_in="P90D")
    client.update_key_rotation_policy("cache-key", policy)
    assert client.get_key_rotation_policy("cache-key").expires_in == "P90D"
    rotated = client.rotate_key("cache-key").properties
    assert (rotated.expires_on - rotated.created_on).days == 90


def test_an_imported_key_is_the_same_key(client, cryptography):
    """A key made elsewhere unwraps here what was wrapped for it there."""
    private = rsa.generate_private_key(65537, 2048)
    key = client.import_key("brought", keys.JsonWebKey(kty="RSA", **numbers_of(private)))
    wrapped = private.public_key().encrypt(SECRET, padding.OAEP(padding.MGF1(SHA256()), SHA256(), None))
    assert cryptography(key.id).unwrap_key(OAEP, wrapped).key == SECRET


def test_a_deleted_key_can_be_recovered_and_holds_its_name(client):
    """Deleting is soft: the name is taken until the key is recovered or purged."""
    key = client.create_rsa_key("cache-key")
    deleted = client.begin_delete_key("cache-key").result()
    assert deleted.recovery_id.endswith("/deletedkeys/cache-key")
    with pytest.raises(exceptions.ResourceNotFoundError):
        client.get_key("cache-key")
    with pytest.raises(exceptions.ResourceExistsError) as caught:
        client.create_rsa_key("cache-key")
    assert refused(caught) == (409, "Conflict", "ObjectIsDeletedButRecoverable")
    assert [one.name for one in client.list_deleted_keys()] == ["cache-key"]
    client.begin_recover_deleted_key("cache-key").result()
    assert client.get_key("cache-key").id == key.id
    client.begin_delete_key("cache-key").result()
    client.purge_deleted_key("cache-key")
    assert client.create_rsa_key("cache-key").id != key.id


# Cryptography


@pytest.mark.parametrize("algorithm", ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5"])
def test_what_the_vault_wraps_it_unwraps(vault, cryptography, algorithm):
    """Unwrapping is always the vault's work; a changed byte is refused as a bad parameter."""
    algorithm = crypto.KeyWrapAlgorithm(algorithm)
    client = cryptography(vault.create_key("cache-key"))
    wrapped = client.wrap_key(algorithm, SECRET).encrypted_key
    assert len(wrapped) == 256
    assert client.unwrap_key(algorithm, wrapped).key == SECRET
    if algorithm.value != "RSA1_5":  # whose failures are hidden, so that they tell nothing
        with pytest.raises(exceptions.HttpResponseError) as caught:
            client.unwrap_key(algorithm, wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
        assert refused(caught) == (400, "BadParameter", None)


@pytest.mark.parametrize("algorithm", ["PS256", "RS256", "PS384", "RS512"])
def test_signatures_are_those_of_the_standard(vault, cryptography, client, algorithm):
    """The SDK checks a signature with the public key alone; the vault's own check says the same."""
    key_id = vault.create_key("signing-key", kty="RSA-HSM")
    digest = hashlib.new(f"sha{algorithm[2:]}", b"manifest").digest()
    signature = cryptography(key_id).sign(crypto.SignatureAlgorithm(algorithm), digest).signature
    local = crypto.CryptographyClient.from_jwk(client.get_key("signing-key").key)
    assert local.verify(crypto.SignatureAlgorithm(algorithm), digest, signature).is_valid
    assert not local.verify(crypto.SignatureAlgorithm(algorithm), digest[::-1], signature).is_valid
    path = f"/keys/signing-key/{version_of(key_id)}/verify"
    for body, expected in ((signature, True), (signature[::-1], False)):
        asked = {"alg": algorithm, "digest": encoded(digest), "value": encoded(body)}
        assert plainly(vault, path, asked) == (200, {"value": expected})


def test_one_key_does_not_unwrap_what_another_wrapped(vault, cryptography):
    """A version unwraps what was wrapped for it and no other version's."""
    old = vault.create_key("cache-key")
    wrapped = cryptography(old).wrap_key(OAEP, SECRET).encrypted_key
    new = vault.rotate_key("cache-key")
    with pytest.raises(exceptions.HttpResponseError):
        cryptography(new).unwrap_key(OAEP, wrapped)
    assert cryptography(old).unwrap_key(OAEP, wrapped).key == SECRET


@pytest.mark.parametrize(
    "asked",
    [
        {"alg": "PS256", "value": "AAAA"},
        {"alg": "PS999", "value": "A" * 43},
        {"alg": "PS256"},
        {"value": "A" * 43},
        {"alg": "ES256", "value": "A" * 43},
        {"alg": "PS256", "value": "!" * 43},
        {"alg": "PS256", "value": 7},
        {},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(vault, asked):
    """What is missing, unknown or of the wrong length is a bad parameter, never a failure of the service."""
    key_id = vault.create_key("signing-key")
    status, answer = plainly(vault, f"/keys/signing-key/{version_of(key_id)}/sign", asked)
    assert (status, answer["error"]["code"]) == (400, "BadParameter")


# States of a key


def test_a_disabled_key_does_nothing(client, vault, cryptography):
    """A disabled version is not used and not shown; other versions are not concerned."""
    old = vault.create_key("cache-key")
    new = vault.rotate_key("cache-key")
    wrapped = cryptography(old).wrap_key(OAEP, SECRET).encrypted_key
    client.update_key_properties("cache-key", version_of(old), enabled=False)
    for attempt in (
        lambda: cryptography(old).unwrap_key(OAEP, wrapped),
        lambda: cryptography(old).sign(crypto.SignatureAlgorithm.ps256, DIGEST),
        lambda: client.get_key("cache-key", version_of(old)),
    ):
        with pytest.raises(exceptions.HttpResponseError) as caught:
            attempt()
        assert refused(caught) == (403, "Forbidden", "KeyDisabled")
    assert client.get_key("cache-key").id == new
    assert [one.enabled for one in client.list_properties_of_key_versions("cache-key") if one.id == old] == [False]


def test_an_expired_key_still_unwraps_and_verifies_but_does_not_sign(client, vault, cryptography):
    """As the service documents it: outside its dates a key is good for what was protected before, for nothing new."""
    key_id = vault.create_key("cache-key")
    wrapped = cryptography(key_id).wrap_key(OAEP, SECRET).encrypted_key
    vault.set_attributes("cache-key", exp=1)
    assert cryptography(key_id).unwrap_key(OAEP, wrapped).key == SECRET
    with pytest.raises(exceptions.HttpResponseError) as caught:
        cryptography(key_id).sign(crypto.SignatureAlgorithm.ps256, DIGEST)
    assert refused(caught) == (403, "Forbidden", "KeyExpired")
    assert client.get_key("cache-key").properties.expires_on.timestamp() == 1


def test_a_key_that_is_not_yet_valid_does_not_sign(vault, cryptography):
    """Before its first date a key protects nothing."""
    key_id = vault.create_key("cache-key", attributes={"nbf": 4_000_000_000})
    with pytest.raises(exceptions.HttpResponseError) as caught:
        cryptography(key_id).sign(crypto.SignatureAlgorithm.ps256, DIGEST)
    assert refused(caught) == (403, "Forbidden", "KeyNotYetValid")


def test_a_key_does_only_what_its_maker_allowed(vault, cryptography):
    """An operation that is not in the key's list is refused."""
    key_id = vault.create_key("cache-key", key_ops=["wrapKey", "unwrapKey"])
    with pytest.raises(exceptions.HttpResponseError) as caught:
        cryptography(key_id).sign(crypto.SignatureAlgorithm.ps256, DIGEST)
    assert refused(caught) == (403, "Forbidden", "KeyOperationForbidden")


def test_unknown_keys_versions_and_names(client, vault):
    """What is not there is not found, by name and by version; a name that can't be is a bad parameter."""
    vault.create_key("cache-key")
    for name, version in (("other-key", None), ("cache-key", "0" * 32)):
        with pytest.raises(exceptions.ResourceNotFoundError) as caught:
            client.get_key(name, version)
        assert refused(caught) == (404, "KeyNotFound", None)
    with pytest.raises(exceptions.HttpResponseError) as caught:
        client.get_key("cache_key")
    assert refused(caught) == (400, "BadParameter", None)


def test_requests_of_another_version_of_the_interface(vault, credential):
    """Versions that the service documents are served, none and unknown ones refused; rotation came with 7.3."""
    vault.create_key("cache-key", kty="EC")
    for version in ("7.2", "7.4", "7.5", "7.6", "2025-07-01"):
        assert plainly(vault, "/keys/cache-key", query=f"api-version={version}")[0] == 200
    for path, query in (("/keys/cache-key", ""), ("/keys/cache-key", "api-version=9.9")):
        assert plainly(vault, path, query=query)[0] == 400
    assert plainly(vault, "/keys/cache-key/rotate", {}, query="api-version=7.2")[0] == 400
    with keys.KeyClient(vault.url, credential, api_version="7.4") as client:
        assert client.rotate_key("cache-key").name == "cache-key"


def test_paths_that_are_no_operation_are_not_found(vault):
    """What the service does not have, it does not have here."""
    for path in ("/", "/secrets/x", "/keys/a/b/c/d", "/keys/a/b/attest", "/keys"):
        assert plainly(vault, path, {})[0] == 404


async def test_the_asynchronous_sdk_speaks_to_it_too(vault, identity):
    """The asynchronous clients and credential do the same work."""
    aio = pytest.importorskip("azure.keyvault.keys.aio", reason="pip install azure-keyvault-keys aiohttp")
    crypto_aio = pytest.importorskip("azure.keyvault.keys.crypto.aio", reason="pip install azure-keyvault-keys")
    identity_aio = pytest.importorskip("azure.identity.aio", reason="pip install azure-identity aiohttp")
    verified = {"connection_verify": str(identity.ca_file)}
    async with (
        identity_aio.ManagedIdentityCredential() as credential,
        aio.KeyClient(vault.url, credential, **verified) as client,
    ):
        key = await client.create_rsa_key("cache-key", size=2048)
        async with crypto_aio.CryptographyClient(key.id, credential, **verified) as cryptography:
            wrapped = (await cryptography.wrap_key(OAEP, SECRET)).encrypted_key
            assert (await cryptography.unwrap_key(OAEP, wrapped)).key == SECRET
            signature = (await cryptography.sign(crypto.SignatureAlgorithm.ps256, DIGEST)).signature
            assert (await cryptography.verify(crypto.SignatureAlgorithm.ps256, DIGEST, signature)).is_valid
        assert [one.version async for one in client.list_properties_of_key_versions("cache-key")] == [
            version_of(key.id)
        ]


def test_a_vault_has_an_address_once_it_runs():
    """Before its start a vault has no address, and says how to get one."""
    with SimulatedIdentity() as identity, pytest.raises(ConfigurationError, match="start"):
        _ = SimulatedKeyVault(identity).url


def test_by_hand_it_says_how_to_be_let_in():
    """The command runs a vault and an identity, says their addresses and what to set, and ends with Ctrl-C."""
    command = [sys.executable, "-m", "genai_cache_magic.testing.vault_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        said = []
        while "Ctrl-C" not in (line := process.stdout.readline()):
            said.append(line)
            assert line, process.stderr.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    text = "".join(said)
    assert "https://127.0.0.1:" in text
    assert all(f"export {name}=" in text for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "REQUESTS_CA_BUNDLE"))


def test_a_port_that_is_taken_is_refused(vault, capsys):
    """A port that can't be had is said, by the object and by the command."""
    port = int(vault.url.rpartition(":")[2])
    with SimulatedIdentity() as identity, pytest.raises(ConfigurationError, match="can't be bound"):
        SimulatedKeyVault(identity, port=port).start()
    with pytest.raises(SystemExit):
        main(["--port", str(port)])
    assert "can't be bound" in capsys.readouterr().err


def numbers_of(private):
    """The numbers of an RSA key, as the SDK wants them."""
    numbers = private.private_numbers()
    public = numbers.public_numbers
    named = {"n": public.n, "e": public.e, "d": numbers.d, "p": numbers.p, "q": numbers.q}
    named |= {"dp": numbers.dmp1, "dq": numbers.dmq1, "qi": numbers.iqmp}
    return {name: value.to_bytes((value.bit_length() + 7) // 8, "big") for name, value in named.items()}
