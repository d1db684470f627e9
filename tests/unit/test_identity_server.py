"""The simulated identity service, asked by the unchanged azure-identity and over plain HTTP."""

import base64
import json
import ssl
import urllib.error
import urllib.request

import pytest

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.identity_server import IdentityFault, InvalidTokenError, SimulatedIdentity

azure_identity = pytest.importorskip("azure.identity", reason="pip install azure-identity")
exceptions = pytest.importorskip("azure.core.exceptions", reason="pip install azure-identity")

SCOPE = "https://vault.azure.net/.default"
AUDIENCE = "https://vault.azure.net"
FORMS = {
    "app-service": ("environment", azure_identity.ManagedIdentityCredential, {}),
    "imds": ("imds_environment", azure_identity.ManagedIdentityCredential, {}),
    "client-secret": ("secret_environment", azure_identity.EnvironmentCredential, {"disable_instance_discovery": True}),
    "cli": ("cli_environment", azure_identity.AzureCliCredential, {}),
    "workload": ("workload_environment", azure_identity.DefaultAzureCredential, {"disable_instance_discovery": True}),
}


FLOWS = {"cli": "app-service"}
"""What the service sees, where that is another form: its `az` asks as a machine does."""


@pytest.fixture
def service():
    with SimulatedIdentity() as running:
        yield running


def claims_in(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def machine(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def signed_in(service, monkeypatch, flow, principal=None):
    form, credential, options = FORMS[flow]
    whose = (principal,) if principal and flow != "imds" else ()
    machine(monkeypatch, getattr(service, form)(*whose))
    return credential(**options)


@pytest.mark.parametrize("flow", FORMS)
def test_each_form_of_sign_in_gets_a_token_that_names_its_owner(service, monkeypatch, flow):
    """A machine, a pod and a service principal each get a token by the unchanged SDK, and the service remembers it."""
    with signed_in(service, monkeypatch, flow) as credential:
        token = credential.get_token(SCOPE)
    (issued,) = service.issued
    claims = claims_in(token.token)
    assert (issued.flow, issued.text, issued.audience) == (FLOWS.get(flow, flow), token.token, AUDIENCE)
    assert (claims["oid"], claims["aud"], claims["exp"]) == (service.principal.object_id, AUDIENCE, issued.expires_at)
    assert service.claims_of(token.token, AUDIENCE) == claims


@pytest.mark.parametrize("flow", ["app-service", "client-secret", "workload", "cli"])
def test_two_machines_are_two_principals(service, monkeypatch, flow):
    """Whose machine it is decides whose token it gets."""
    other = service.add("a-colleague")
    with signed_in(service, monkeypatch, flow, other) as credential:
        assert claims_in(credential.get_token(SCOPE).token)["oid"] == other.object_id


@pytest.mark.parametrize("flow", ["app-service", "client-secret"])
def test_redis_entraid_is_the_user_that_the_token_names(service, monkeypatch, flow):
    """The unchanged redis-entraid takes the object id as the name of the Redis user, and the token as its password."""
    entraid = pytest.importorskip("redis_entraid.cred_provider", reason="pip install redis-entraid")
    identity = pytest.importorskip("redis_entraid.identity_provider", reason="pip install redis-entraid")
    if flow == "app-service":
        machine(monkeypatch, service.environment())
        kind = identity.ManagedIdentityType.SYSTEM_ASSIGNED
        provider = entraid.create_from_managed_identity(kind, resource="https://redis.azure.com")
    else:
        machine(monkeypatch, service.secret_environment())
        # Its form for service principals knows Microsoft's own authority alone.
        scopes = ("https://redis.azure.com/.default",)
        options = {"disable_instance_discovery": True}
        provider = entraid.create_from_default_azure_credential(
            scopes, authority=service.authority_url, app_kwargs=options
        )
    try:
        user, password = provider.get_credentials()
    finally:
        provider._token_mgr.stop()
    (issued,) = service.issued
    assert (user, password) == (service.principal.object_id, issued.text)
    assert issued.audience == "https://redis.azure.com"


def test_a_user_assigned_identity_is_chosen_by_its_ids(service, monkeypatch):
    """A machine that names a client id or an object id gets that identity's token, and none for an unknown one."""
    other = service.add("assigned")
    machine(monkeypatch, service.environment())
    for names in ({"client_id": other.client_id}, {"identity_config": {"object_id": other.object_id}}):
        with azure_identity.ManagedIdentityCredential(**names) as credential:
            assert claims_in(credential.get_token(SCOPE).token)["oid"] == other.object_id
    unknown = azure_identity.ManagedIdentityCredential(client_id="unknown")
    with unknown, pytest.raises(exceptions.ClientAuthenticationError):
        unknown.get_token(SCOPE)


@pytest.mark.parametrize(
    ("form", "replaced"),
    [("secret_environment", "AZURE_CLIENT_SECRET"), ("workload_environment", "AZURE_FEDERATED_TOKEN_FILE")],
)
def test_who_proves_nothing_gets_no_token(service, monkeypatch, form, replaced):
    """A secret, or a pod's token, of another directory is refused as invalid_client."""
    with SimulatedIdentity() as elsewhere:
        proof = {replaced: getattr(elsewhere, form)()[replaced]}
        machine(monkeypatch, {**getattr(service, form)(), **proof})
        credential = azure_identity.DefaultAzureCredential(disable_instance_discovery=True)
        with credential, pytest.raises(exceptions.ClientAuthenticationError, match="AADSTS"):
            credential.get_token(SCOPE)
    assert service.count == 0


def test_a_wrong_identity_header_gets_no_token(service, monkeypatch):
    """Only who knows the machine's secret is that machine."""
    machine(monkeypatch, {**service.environment(), "IDENTITY_HEADER": "guessed"})
    credential = azure_identity.ManagedIdentityCredential()
    with credential, pytest.raises(exceptions.ClientAuthenticationError):
        credential.get_token(SCOPE)
    assert service.count == 0


def test_a_token_is_good_as_long_as_it_says_and_for_its_audience_alone():
    """Tokens live as long as is set, and are refused after that, elsewhere, and when anything in them was changed."""
    now = [1_000_000.0]
    with SimulatedIdentity(expires_in_s=60, clock=lambda: now[0]) as service:
        token = service.issue(AUDIENCE).text
        assert service.claims_of(token, f"{AUDIENCE}/")["exp"] == 1_000_060
        with pytest.raises(InvalidTokenError, match="audience"):
            service.claims_of(token, "https://redis.azure.com")
        head, body, signature = token.split(".")
        for forged in (f"{head}.{body[:-4]}AAAA.{signature}", f"{head}.{body}.", "nothing", f"{head}.{body}"):
            with pytest.raises(InvalidTokenError):
                service.claims_of(forged, AUDIENCE)
        now[0] += 60
        with pytest.raises(InvalidTokenError, match="expired"):
            service.claims_of(token, AUDIENCE)


def test_the_sdk_fetches_another_token_when_one_has_expired(service, monkeypatch):
    """Short-lived tokens are asked for again, and changing how long they live takes effect at once."""
    service.expires_in_s = 1
    with signed_in(service, monkeypatch, "app-service") as credential:
        first = credential.get_token(SCOPE)
        service.expires_in_s = 3600
        again = azure_identity.ManagedIdentityCredential()
        second = again.get_token(SCOPE)
        again.close()
    assert first.expires_on < second.expires_on
    assert service.count == 2


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (IdentityFault.TOO_MANY_REQUESTS, 429),
        (IdentityFault.INVALID_CLIENT, 400),
        (IdentityFault.SERVER_ERROR, 500),
    ],
)
def test_faults_come_as_often_as_they_were_asked_for(service, fault, status):
    """A fault is an error of OAuth with its status, and what follows is answered."""
    service.fail(fault)
    with pytest.raises(urllib.error.HTTPError) as caught:
        asked(service)
    with caught.value as answer:
        assert (answer.status, "error" in json.load(answer)) == (status, True)
    assert asked(service)["access_token"] == service.issued[0].text


def test_a_lasting_fault_ends_when_it_is_healed(service):
    """With no number a fault lasts until `heal`."""
    service.fail(IdentityFault.SERVER_ERROR, times=None)
    for _ in range(3):
        with pytest.raises(urllib.error.HTTPError) as caught:
            asked(service)
        caught.value.close()
    service.heal()
    assert asked(service)["token_type"] == "Bearer"


def test_the_authority_describes_itself(service):
    """The discovery documents name the token endpoint and the key that tokens are signed with."""
    context = ssl.create_default_context(cafile=str(service.ca_file))
    base = f"{service.authority_url}/{service.tenant_id}"

    def document(path):
        with urllib.request.urlopen(base + path, context=context) as answer:
            return json.load(answer)

    about = document("/v2.0/.well-known/openid-configuration")
    assert about["token_endpoint"] == f"{base}/oauth2/v2.0/token"
    with urllib.request.urlopen(about["jwks_uri"], context=context) as answer:
        (key,) = json.load(answer)["keys"]
    head = service.issue(AUDIENCE).text.split(".")[0]
    assert json.loads(base64.urlsafe_b64decode(head + "=="))["kid"] == key["kid"]
    with pytest.raises(urllib.error.URLError):  # nobody trusts it who was not told to
        urllib.request.urlopen(about["jwks_uri"])


def test_nothing_secret_is_shown(service):
    """Secrets and tokens are in no repr."""
    token = service.issue(AUDIENCE)
    shown = f"{service!r} {service.principal!r} {token!r} {service.issued!r}"
    for secret in (service.principal.client_secret, service.principal.machine_secret, token.text):
        assert secret not in shown


@pytest.mark.parametrize("setting", [{"expires_in_s": 0}, {"latency_s": -1}, {"latency_s": float("nan")}])
def test_settings_that_cannot_be_used_are_refused(setting):
    """A wrong setting is refused at once."""
    with pytest.raises(ConfigurationError):
        SimulatedIdentity(**setting)


def asked(service):
    """The answer to a machine's plain request."""
    variables = service.environment()
    request = urllib.request.Request(
        f"{variables['IDENTITY_ENDPOINT']}?resource={AUDIENCE}&api-version=2019-08-01",
        headers={"X-IDENTITY-HEADER": variables["IDENTITY_HEADER"]},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
