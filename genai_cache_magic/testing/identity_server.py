"""A simulated Microsoft Entra ID on loopback: gives out tokens to the unchanged ``azure-identity``, and needs no cloud.

It speaks the managed identity endpoints of App Service (``IDENTITY_ENDPOINT``, ``IDENTITY_HEADER``) and of virtual
machines (IMDS, by ``AZURE_POD_IDENTITY_AUTHORITY_HOST``) over HTTP, and the token endpoint of version 2.0 for client
secrets and workload identities, with the discovery documents that clients ask for first, over HTTPS with a certificate
authority of its own. Tokens are JSON web tokens with ``oid``, ``aud`` and ``exp``, signed with a key that is made at
its start; no real service accepts them.

    with SimulatedIdentity() as identity:
        os.environ.update(identity.environment())
        DefaultAzureCredential().get_token("https://vault.azure.net/.default")

Limits: nobody signs in by hand (no device code, no browser; ``az`` is a stand-in), and there is one tenant.
"""

from __future__ import annotations

import enum
import os
import secrets
import sys
import threading
import time
import urllib.parse
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.azure.certificates import LoopbackCertificates
from genai_cache_magic.testing.azure.service import Listener, SimulatedService
from genai_cache_magic.testing.azure.tokens import InvalidTokenError, IssuedToken, Principal, TokenSigner
from genai_cache_magic.testing.simulated.replying import Reply, json_reply

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from genai_cache_magic.testing.simulated.http_server import ReceivedRequest

__all__ = ["IdentityFault", "InvalidTokenError", "IssuedToken", "Principal", "SimulatedIdentity"]

_APP_SERVICE = "/msi/token"
_IMDS = "/metadata/identity/oauth2/token"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FEDERATED_AUDIENCE = "api://AzureADTokenExchange"
_LONGEST_S = 86_400


class IdentityFault(enum.Enum):
    """What can be made to go wrong with a request for a token."""

    TOO_MANY_REQUESTS = "too_many_requests"
    INVALID_CLIENT = "invalid_client"
    SERVER_ERROR = "server_error"
    CUT = "cut"


class SimulatedIdentity(SimulatedService[IdentityFault]):
    """Gives out tokens, and remembers to whom.

    Parameters
    ----------
    expires_in_s : int
        How long a token is good for [s]; may be changed at any time.
    latency_s : float
        Time before every answer [s].
    port : int
        Of the managed identity endpoint; 0 for any free one. The token endpoint takes any.
    clock : callable
        Time since 1970 [s].

    Attributes
    ----------
    principal : Principal
        Whose managed identity a machine has unless another is said.
    tenant_id : str
        Of its only tenant.

    Raises
    ------
    ConfigurationError
        A setting can't be used. `start` raises it for a port that is taken.
    """

    def __init__(
        self,
        *,
        expires_in_s: int = 3600,
        latency_s: float = 0.0,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(latency_s)
        if not 1 <= expires_in_s <= _LONGEST_S:
            raise ConfigurationError(f"expires_in_s={expires_in_s!r}: use seconds from 1 to {_LONGEST_S}")
        self.expires_in_s = expires_in_s
        self.tenant_id = str(uuid.uuid4())
        self._clock = clock
        self._signer = TokenSigner()
        self._certificates = LoopbackCertificates()
        self._managed = Listener(port)
        self._authority = Listener(0, tls=self._certificates.server_context)
        self._listeners = [self._managed, self._authority]
        self._lock = threading.Lock()
        # Guarded by _lock:
        self._principals: list[Principal] = []
        self._issued: list[IssuedToken] = []
        self.principal = self.add("simulated-machine")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._managed.url}, {self.count} tokens)"

    # Who there is

    def add(self, name: str) -> Principal:
        """Return a new principal, which has no rights anywhere."""
        principal = Principal(name)
        with self._lock:
            self._principals.append(principal)
        return principal

    def remove(self, principal: Principal) -> None:
        """Forget a principal: it gets no more tokens."""
        with self._lock:
            self._principals.remove(principal)

    # Where it is

    @property
    def authority_url(self) -> str:
        """Where clients that name an authority ask (``AZURE_AUTHORITY_HOST``), without the tenant."""
        return self._authority.url

    @property
    def ca_file(self) -> Path:
        """The certificate (PEM) that clients of the authority have to trust."""
        return self._certificates.ca_file

    @property
    def server_context(self) -> ssl.SSLContext:
        """For other services on loopback, which then need no authority of their own."""
        return self._certificates.server_context

    def environment(self, principal: Principal | None = None) -> dict[str, str]:
        """Return the variables of a machine that has a managed identity in App Service's form.

        Parameters
        ----------
        principal
            Whose it is; by default `principal`.
        """
        return {
            "IDENTITY_ENDPOINT": f"{self._managed.url}{_APP_SERVICE}",
            "IDENTITY_HEADER": (principal or self.principal).machine_secret,
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
        }

    def imds_environment(self) -> dict[str, str]:
        """Return the variables of a virtual machine, whose managed identity is `principal`'s."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self._managed.url, "REQUESTS_CA_BUNDLE": str(self.ca_file)}

    def secret_environment(self, principal: Principal | None = None) -> dict[str, str]:
        """Return the variables by which ``EnvironmentCredential`` knows a service principal and its secret.

        The authority is unknown to Microsoft: construct the credential with ``disable_instance_discovery=True``.
        """
        return {**self._client(principal), "AZURE_CLIENT_SECRET": (principal or self.principal).client_secret}

    def workload_environment(self, principal: Principal | None = None) -> dict[str, str]:
        """Return the variables of a pod with a workload identity; its token file lasts until `close`.

        The authority is unknown to Microsoft: construct the credential with ``disable_instance_discovery=True``.
        """
        whose = principal or self.principal
        file = self._certificates.directory / f"{whose.client_id}.token"
        file.write_text(self._signer.sign({"aud": _FEDERATED_AUDIENCE, "sub": whose.client_id}), encoding="ascii")
        return {**self._client(principal), "AZURE_FEDERATED_TOKEN_FILE": str(file)}

    def cli_environment(self, principal: Principal | None = None) -> dict[str, str]:
        """Return the variables of a shell where somebody has signed in with ``az login``; not on Windows.

        The command ``az`` that stands first in its PATH does nothing but ask for a token, and lasts until `close`.
        """
        whose = principal or self.principal
        directory = self._certificates.directory / f"az-{whose.client_id}"
        directory.mkdir(mode=0o700, exist_ok=True)
        command = directory / "az"
        asked = f"{self._managed.url}{_APP_SERVICE}?api-version=2019-08-01&resource="
        # -I: nothing of the user's own is imported.
        command.write_text(
            f"#!{sys.executable} -I\n" + _AZ.format(asked=asked, secret=whose.machine_secret, tenant=self.tenant_id),
            encoding="utf-8",
        )
        command.chmod(0o700)
        path = os.pathsep.join((str(directory), os.environ.get("PATH", os.defpath)))
        return {"PATH": path, "REQUESTS_CA_BUNDLE": str(self.ca_file)}

    def _client(self, principal: Principal | None) -> dict[str, str]:
        return {
            "AZURE_AUTHORITY_HOST": self.authority_url,
            "AZURE_TENANT_ID": self.tenant_id,
            "AZURE_CLIENT_ID": (principal or self.principal).client_id,
            "REQUESTS_CA_BUNDLE": str(self.ca_file),
        }

    # What it gave out

    @property
    def issued(self) -> tuple[IssuedToken, ...]:
        """The tokens given out, in order."""
        with self._lock:
            return tuple(self._issued)

    @property
    def count(self) -> int:
        """Number of tokens given out."""
        with self._lock:
            return len(self._issued)

    def issue(self, audience: str, principal: Principal | None = None, *, flow: str = "by-hand") -> IssuedToken:
        """Give out a token, as a request for one does."""
        whose = principal or self.principal
        now = int(self._clock())
        issuer = f"https://sts.windows.net/{self.tenant_id}/"
        claims = {
            "aud": audience,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + self.expires_in_s,
            "appid": whose.client_id,
            "appidacr": "2",
            "idp": issuer,
            "idtyp": "app",
            "oid": whose.object_id,
            "sub": whose.object_id,
            "tid": self.tenant_id,
            "uti": secrets.token_urlsafe(16),
            "ver": "1.0",
        }
        token = IssuedToken(whose, flow, audience, now, now + self.expires_in_s, self._signer.sign(claims))
        with self._lock:
            self._issued.append(token)
        return token

    def claims_of(self, token: str, audience: str) -> dict[str, Any]:
        """Return what a token claims, as a service checks it.

        Raises
        ------
        InvalidTokenError
            It was not given out here, has expired, or is for another audience.
        """
        claims = self._signer.claims_of(token)
        if not claims["nbf"] <= self._clock() < claims["exp"]:
            raise InvalidTokenError("Lifetime validation failed. The token is expired.")
        if claims["aud"].rstrip("/") != audience.rstrip("/"):
            raise InvalidTokenError(f"Invalid audience. Expected {audience}, found: {claims['aud']}.")
        return claims

    # What goes wrong

    def fail(self, fault: IdentityFault, *, times: int | None = 1) -> None:
        """Let the next requests for a token fail so, or all of them (None) until `heal`."""
        self._troubles.fail(fault, times=times, operation=None)

    def close(self) -> None:
        """Stop, for good, and remove the certificates."""
        super().close()
        self._certificates.close()

    # Answering

    def respond(self, request: ReceivedRequest) -> Reply:
        """Answer one HTTP request."""
        if request.path in {_APP_SERVICE, _IMDS}:
            answer: Callable[[ReceivedRequest], Reply] = self._managed_token
        elif request.method == "POST" and request.path.endswith("/oauth2/v2.0/token"):
            answer = self._client_token
        else:
            return self._discovery(request)
        fault = self._troubles.next_fault("token")
        self._troubles.keep_back()
        if fault in _FAULT_REPLIES:
            return _FAULT_REPLIES[fault]()
        return replace(answer(request), is_cut=fault is IdentityFault.CUT)

    def _managed_token(self, request: ReceivedRequest) -> Reply:
        query = dict(urllib.parse.parse_qsl(request.query))
        is_imds = request.path == _IMDS
        machine = self._machine(request)
        if machine is None:
            if is_imds:
                return _oauth_error(400, "invalid_request", "Required metadata header not specified")
            return json_reply(401, {"statusCode": 401, "message": "The header X-IDENTITY-HEADER is wrong."})
        whose = self._user_assigned(query, machine)
        if whose is None:
            if is_imds:
                return _oauth_error(400, "invalid_request", "Identity not found")
            text = "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId."
            return json_reply(400, {"statusCode": 400, "message": text, "correlationId": str(uuid.uuid4())})
        if not query.get("resource"):
            return _oauth_error(400, "invalid_request", "The parameter 'resource' is missing")
        return json_reply(200, self._managed_answer(query["resource"], whose, is_imds=is_imds))

    def _machine(self, request: ReceivedRequest) -> Principal | None:
        """Whose managed identity the asking machine has; None if it does not ask as one has to."""
        if request.path == _IMDS:
            return self.principal if request.headers.get("metadata", "").lower() == "true" else None
        return self._found(machine_secret=request.headers.get("x-identity-header", ""))

    def _managed_answer(self, resource: str, whose: Principal, *, is_imds: bool) -> dict[str, str]:
        token = self.issue(resource, whose, flow="imds" if is_imds else "app-service")
        answer = {
            "access_token": token.text,
            "client_id": whose.client_id,
            "expires_on": str(token.expires_at),
            "not_before": str(token.issued_at),
            "resource": resource,
            "token_type": "Bearer",
        }
        if is_imds:
            answer |= {"expires_in": str(token.expires_at - token.issued_at), "refresh_token": ""}
        return answer

    def _user_assigned(self, query: dict[str, str], machine: Principal) -> Principal | None:
        """Whose identity a machine asks for: its own, or one that the request names."""
        if "client_id" in query:
            return self._found(client_id=query["client_id"])
        object_id = query.get("object_id", query.get("principal_id"))
        if object_id is not None:
            return self._found(object_id=object_id)
        return None if {"mi_res_id", "msi_res_id"} & query.keys() else machine

    def _client_token(self, request: ReceivedRequest) -> Reply:
        form = dict(urllib.parse.parse_qsl(request.body.decode("utf-8", "replace")))
        whose = self._found(client_id=form.get("client_id", ""))
        if whose is None:
            return _oauth_error(400, "unauthorized_client", "AADSTS700016: Application not found.", 700016)
        problem = self._problem_of(request, form, whose)
        if problem is not None:
            return problem
        flow = "workload" if "client_assertion" in form else "client-secret"
        token = self.issue(form["scope"].removesuffix("/.default"), whose, flow=flow)
        expires_in_s = token.expires_at - token.issued_at
        answer = {"token_type": "Bearer", "expires_in": expires_in_s, "ext_expires_in": expires_in_s}
        return json_reply(200, {**answer, "access_token": token.text})

    def _problem_of(self, request: ReceivedRequest, form: dict[str, str], whose: Principal) -> Reply | None:
        """Why a client gets no token."""
        if request.path.split("/")[1] != self.tenant_id:
            return _oauth_error(400, "invalid_request", "AADSTS90002: Tenant not found.", 90002)
        if form.get("grant_type") != "client_credentials":
            return _oauth_error(400, "unsupported_grant_type", "AADSTS70003: The grant type is not supported.", 70003)
        if not form.get("scope", "").endswith("/.default"):
            return _oauth_error(400, "invalid_scope", "AADSTS70011: The scope has to end with /.default.", 70011)
        if "client_assertion" in form:
            if not self._is_federated(form, whose):
                return _oauth_error(401, "invalid_client", "AADSTS700213: No matching federated identity.", 700213)
        elif not secrets.compare_digest(form.get("client_secret", "").encode(), whose.client_secret.encode()):
            return _oauth_error(401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", 7000215)
        return None

    def _is_federated(self, form: dict[str, str], whose: Principal) -> bool:
        try:
            claims = self._signer.claims_of(form["client_assertion"])
        except InvalidTokenError:
            return False
        is_ours = claims.get("aud") == _FEDERATED_AUDIENCE and claims.get("sub") == whose.client_id
        return is_ours and form.get("client_assertion_type") == _ASSERTION_TYPE

    def _found(self, **wanted: str) -> Principal | None:
        ((attribute, value),) = wanted.items()
        with self._lock:
            found = (one for one in self._principals if getattr(one, attribute) == value)
            return next(found, None)

    def _discovery(self, request: ReceivedRequest) -> Reply:
        tenant = f"{self.authority_url}/{self.tenant_id}"
        if request.path.endswith("/.well-known/openid-configuration"):
            return json_reply(200, _openid_configuration(tenant, self.tenant_id))
        if request.path.endswith("/discovery/instance"):
            where = f"{tenant}/v2.0/.well-known/openid-configuration"
            host = self.authority_url.partition("://")[2]
            known = [{"preferred_network": host, "preferred_cache": host, "aliases": [host]}]
            return json_reply(200, {"tenant_discovery_endpoint": where, "api-version": "1.1", "metadata": known})
        if request.path.endswith("/discovery/v2.0/keys"):
            return json_reply(200, self._signer.key_set())
        return json_reply(404, {"error": "not_found", "error_description": f"nothing is at {request.path}"})


_AZ = """\
import json, sys, time, urllib.request
if sys.argv[1:3] != ["account", "get-access-token"] or "--resource" not in sys.argv:
    sys.exit("this simulated az only gets access tokens")
url = {asked!r} + sys.argv[sys.argv.index("--resource") + 1]
request = urllib.request.Request(url, headers={{"X-IDENTITY-HEADER": {secret!r}}})
with urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(request) as answer:
    token = json.load(answer)
ends = int(token["expires_on"])
local = time.strftime("%Y-%m-%d %H:%M:%S.000000", time.localtime(ends))
print(json.dumps({{"accessToken": token["access_token"], "expiresOn": local, "expires_on": ends,
                   "subscription": "simulated", "tenant": {tenant!r}, "tokenType": "Bearer"}}))
"""
"""What asks for a token in the place of the Azure CLI."""


def _openid_configuration(tenant: str, tenant_id: str) -> dict[str, Any]:
    return {
        "token_endpoint": f"{tenant}/oauth2/v2.0/token",
        "authorization_endpoint": f"{tenant}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{tenant}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{tenant}/discovery/v2.0/keys",
        "issuer": f"https://sts.windows.net/{tenant_id}/",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["code"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "tenant_region_scope": "EU",
    }


def _oauth_error(status: int, error: str, text: str, code: int | None = None, *headers: tuple[str, str]) -> Reply:
    body: dict[str, Any] = {"error": error, "error_description": text}
    if code is not None:
        trace = str(uuid.uuid4())
        body |= {"error_codes": [code], "trace_id": trace, "correlation_id": trace}
    return json_reply(status, body, *headers)


_FAULT_REPLIES: dict[IdentityFault | None, Callable[[], Reply]] = {
    IdentityFault.TOO_MANY_REQUESTS: lambda: _oauth_error(
        429, "temporarily_unavailable", "AADSTS90055: Too many requests.", 90055, ("retry-after", "0")
    ),
    IdentityFault.INVALID_CLIENT: lambda: _oauth_error(
        400, "invalid_client", "AADSTS7000215: Invalid client secret provided.", 7000215
    ),
    IdentityFault.SERVER_ERROR: lambda: _oauth_error(500, "server_error", "AADSTS90033: A transient error.", 90033),
}
