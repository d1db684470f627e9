"""The simulated Key Vault, used by the unchanged azure-keyvault-keys, sync and async, with its challenge check on."""

import base64
import hashlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.vault_server import Role, SimulatedKeyVault, VaultFault, main

azure_identity = pytest.importorskip("azure.identity", reason="pip install azure-identity")
keys = pytest.importorskip("azure.keyvault.keys", reason="pip install azure-keyvault-keys")
crypto = pytest.importorskip("azure.keyvault.keys.crypto", reason="pip install azure-keyvault-keys")
exceptions = pytest.importorskip("azure.core.exceptions", reason="pip install azure-keyvault-keys")

OAEP = crypto.KeyWrapAlgorithm.rsa_oaep_256
SECRET = bytes(range(64))
DIGEST = hashlib.sha256(b"manifest").digest()
HOUR_S = 3600


@pytest.fixture
def credential(identity):
    with azure_identity.DefaultAzureCredential() as signed_in:
        yield signed_in


@pytest.fixture
def client(vault, credential):
    with keys.KeyClient(vault.url, credential, retry_total=0) as opened:
        yield opened


@pytest.fixture
def cryptography(credential):
    """Give clients of keys, which end with the test."""
    opened = []

    def of(key_id):
        opened.append(crypto.CryptographyClient(key_id, credential, retry_total=0))
        return opened[-1]

    yield of
    for one in opened:
        one.close()


def refused(caught):
    """Status, code and inner code of a refusal, as the service wrote them."""
    error = json.loads(caught.value.response.text())["error"]
    return caught.value.status_code, error["code"], error.get("innererror", {}).get("code")


def version_of(key_id):
    return key_id.rpartition("/")[2]


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


# Who asks


def test_the_first_request_is_challenged_and_carries_nothing(client, vault, identity):
    """Without a token there is a challenge that names where to get one; with it the vault knows who asks."""
    client.create_rsa_key("cache-key")
    client.get_key("cache-key")
    assert [(one.operation, one.status) for one in vault.requests] == [
        ("challenge", 401),
        ("create", 200),
        ("get", 200),
    ]
    assert [one.object_id for one in vault.requests] == [None, *[identity.principal.object_id] * 2]
    assert identity.issued[-1].audience == vault.resource


@pytest.mark.parametrize(
    "forged", ["of another service", "of another directory", "expired", "cut", "none", "of another scheme"]
)
def test_a_token_that_does_not_count_is_challenged(vault, identity, forged):
    """Only a token of this directory, for this vault, within its time, opens anything."""
    good = identity.issue(vault.resource).text
    with SimulatedIdentity() as elsewhere:
        tokens = {
            "of another service": f"Bearer {identity.issue('https://redis.azure.com').text}",
            "of another directory": f"Bearer {elsewhere.issue(vault.resource).text}",
            "cut": f"Bearer {good[:-9]}",
            "none": "",
            "of another scheme": f"Basic {good}",
        }
    vault.create_key("cache-key", kty="EC")
    if forged == "expired":
        clock = identity._clock
        identity._clock = lambda: clock() - 2 * HOUR_S
        tokens[forged] = f"Bearer {identity.issue(vault.resource).text}"
        identity._clock = clock
    status, answer = plainly(vault, "/keys/cache-key", authorization=tokens[forged])
    assert (status, answer["error"]["code"]) == (401, "Unauthorized")
    assert plainly(vault, "/keys/cache-key", authorization=f"Bearer {good}")[0] == 200


@pytest.mark.parametrize(
    ("role", "may", "may_not"),
    [
        (Role.READER, {"get"}, {"wrapkey", "unwrapkey", "sign", "rotate"}),
        (Role.CRYPTO_SERVICE_ENCRYPTION_USER, {"get", "wrapkey", "unwrapkey"}, {"sign", "rotate", "create"}),
        (Role.CRYPTO_USER, {"get", "wrapkey", "unwrapkey", "sign"}, {"rotate", "create"}),
        (Role.CRYPTO_OFFICER, {"get", "wrapkey", "unwrapkey", "sign", "rotate", "create"}, set()),
        (None, set(), {"get", "wrapkey", "unwrapkey", "sign", "rotate", "create"}),
    ],
)
def test_a_role_allows_what_it_allows_in_azure(vault, identity, role, may, may_not):
    """Who has a role may do what that built-in role allows; all else is forbidden, in the documented words."""
    key_id = vault.create_key("cache-key")
    person = identity.add("person")
    if role is not None:
        vault.grant(person, role)
    wrapped = encoded(b"\0" * 256)
    requests = {
        "get": ("/keys/cache-key", None),
        "wrapkey": (f"/keys/cache-key/{version_of(key_id)}/wrapkey", {"alg": "RSA-OAEP-256", "value": "AAAA"}),
        "unwrapkey": (f"/keys/cache-key/{version_of(key_id)}/unwrapkey", {"alg": "RSA-OAEP-256", "value": wrapped}),
        "sign": (f"/keys/cache-key/{version_of(key_id)}/sign", {"alg": "PS256", "value": encoded(DIGEST)}),
        "rotate": ("/keys/cache-key/rotate", {}),
        "create": ("/keys/other-key/create", {"kty": "EC"}),
    }
    token = f"Bearer {identity.issue(vault.resource, person).text}"
    answers = {name: plainly(vault, *requests[name], authorization=token) for name in may | may_not}
    assert {name for name, (status, _) in answers.items() if status == 403} == may_not
    for name in may_not:
        error = answers[name][1]["error"]
        assert (error["code"], error["innererror"]["code"]) == ("Forbidden", "ForbiddenByRbac")
        assert f"oid={person.object_id}" in error["message"]


def test_rights_are_taken_at_once(client, vault, identity):
    """Somebody whose roles were taken is refused from the next request on."""
    client.create_rsa_key("cache-key")
    vault.revoke(identity.principal)
    with pytest.raises(exceptions.HttpResponseError) as caught:
        client.get_key("cache-key")
    assert refused(caught) == (403, "Forbidden", "ForbiddenByRbac")


# What goes wrong


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (VaultFault.TOO_MANY_REQUESTS, (429, "Throttled", None)),
        (VaultFault.SERVER_ERROR, (500, "InternalServerError", None)),
        (VaultFault.UNAVAILABLE, (503, "ServiceUnavailable", None)),
        (VaultFault.FIREWALL, (403, "Forbidden", "ForbiddenByFirewall")),
    ],
)
def test_faults_are_answers_of_the_service(client, vault, fault, expected):
    """A fault hits the next request of its operation alone, with its documented body, and is over then."""
    vault.create_key("cache-key")
    vault.fail(fault, operation="get")
    assert [one.name for one in client.list_properties_of_keys()] == ["cache-key"]
    with pytest.raises(exceptions.HttpResponseError) as caught:
        client.get_key("cache-key")
    assert refused(caught) == expected
    assert caught.value.response.headers.get("retry-after") == ("1" if expected[0] in {429, 503} else None)
    assert client.get_key("cache-key").name == "cache-key"


@pytest.mark.parametrize("fault", [VaultFault.CUT, VaultFault.BAD_JSON])
def test_a_truncated_answer_is_an_error_of_the_sdk(client, vault, fault):
    """Half an answer is none."""
    vault.create_key("cache-key")
    vault.fail(fault)
    with pytest.raises(exceptions.AzureError):
        client.get_key("cache-key")


def test_a_foreign_challenge_is_refused_by_the_sdk(client, vault, identity):
    """A challenge for another host's resource gets no token: the check of the SDK is on."""
    vault.fail(VaultFault.FOREIGN_CHALLENGE)
    with pytest.raises(ValueError, match="does not match the requested domain"):
        client.get_key("cache-key")
    assert identity.count == 0


def test_held_answers_wait_and_a_stop_ends_them(client, vault):
    """A vault can be slow for as long as a test needs, and stops while somebody waits."""
    vault.create_key("cache-key")
    client.get_key("cache-key")
    for release in (vault.release, vault.stop):
        vault.hold()
        outcome = []

        def ask(outcome=outcome):
            try:
                outcome.append(client.get_key("cache-key").name)
            except exceptions.AzureError as error:
                outcome.append(type(error))

        thread = threading.Thread(target=ask)
        seen = vault.count("get")
        thread.start()
        assert vault.wait_for("get", seen + 1)
        assert outcome == []
        release()
        thread.join(30)
        assert (outcome == ["cache-key"]) == (release == vault.release)


def test_a_vault_that_was_down_comes_back_with_its_keys(client, vault):
    """Between a stop and a start nobody is answered; then address and keys are the same."""
    key_id = vault.create_key("cache-key")
    vault.stop()
    with pytest.raises(exceptions.ServiceRequestError):
        client.get_key("cache-key")
    vault.start()
    assert client.get_key("cache-key").id == key_id


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


def encoded(data):
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def plainly(vault, path, body=None, *, authorization=None, query="api-version=7.4"):
    """Status and JSON of a request without the SDK, by the vault's own machine unless said otherwise."""
    if authorization is None:
        authorization = f"Bearer {vault._identity.issue(vault.resource).text}"
    request = urllib.request.Request(
        f"{vault.url}{path}?{query}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": authorization, "content-type": "application/json"},
    )
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
