"""Whom the simulated Key Vault lets in: challenges, tokens, roles, and rights that are taken at once."""

import pytest
from vault_clients import DIGEST, encoded, exceptions, key_client, plainly, refused, signed_in, version_of  # noqa: F401 - fixtures

from genai_cache_magic.testing.identity_server import SimulatedIdentity
from genai_cache_magic.testing.vault_server import Role

HOUR_S = 3600


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
