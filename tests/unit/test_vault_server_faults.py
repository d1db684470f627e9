"""The simulated Key Vault in trouble: refusals of the service, answers cut short or held, a vault that was down."""

import threading

import pytest
from vault_clients import exceptions, key_client, refused, signed_in  # noqa: F401 - fixtures

from genai_cache_magic.testing.vault_server import VaultFault


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
