"""The unchanged clients of azure-keyvault-keys for the simulated Key Vault, and requests without them."""

import base64
import hashlib
import json
import os
import ssl
import urllib.error
import urllib.request

import pytest

azure_identity = pytest.importorskip("azure.identity", reason="pip install azure-identity")
keys = pytest.importorskip("azure.keyvault.keys", reason="pip install azure-keyvault-keys")
crypto = pytest.importorskip("azure.keyvault.keys.crypto", reason="pip install azure-keyvault-keys")
exceptions = pytest.importorskip("azure.core.exceptions", reason="pip install azure-keyvault-keys")
challenges = pytest.importorskip("azure.keyvault.keys._shared.http_challenge_cache")

OAEP = crypto.KeyWrapAlgorithm.rsa_oaep_256
SECRET = bytes(range(64))
DIGEST = hashlib.sha256(b"manifest").digest()


@pytest.fixture(name="credential")
def signed_in(identity):
    with azure_identity.DefaultAzureCredential() as signed_in:
        yield signed_in


@pytest.fixture(name="client")
def key_client(vault, credential):
    # The SDK keeps for the whole process what it was asked for at an address, and a port may be had twice.
    challenges.clear()
    with keys.KeyClient(vault.url, credential, retry_total=0) as opened:
        yield opened


@pytest.fixture(name="cryptography")
def cryptography_clients(credential):
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
