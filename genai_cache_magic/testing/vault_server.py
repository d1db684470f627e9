"""A simulated Azure Key Vault on loopback: real cryptography over the documented REST interface of keys, and no cloud.

The unchanged ``azure-keyvault-keys`` talks to it over HTTPS, with the challenge check on. It knows callers by the
tokens of a `SimulatedIdentity`, allows them what Azure's built-in roles allow, and refuses with the documented error
bodies. Keys are RSA (2048, 3072, 4096 bits) and elliptic, of software or "HSM" type; all are in memory only.
``python -m genai_cache_magic.testing.vault_server`` runs both by hand.

    with SimulatedIdentity() as identity, SimulatedKeyVault(identity) as vault:
        os.environ.update(identity.environment())
        KeyClient(vault.url, DefaultAzureCredential()).create_rsa_key("cache-key", size=3072)

As with the real service, a key outside its dates still decrypts, unwraps and verifies; a disabled one does nothing.

Limits: no secrets, certificates, backups, attestation or release; only RSA keys can be imported.
"""

from __future__ import annotations

import argparse
import enum
import shlex
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.azure import errors
from genai_cache_magic.testing.azure.key_material import generate
from genai_cache_magic.testing.azure.key_store import KeyStore
from genai_cache_magic.testing.azure.operations import Operation, operation_of, perform, require_api_version
from genai_cache_magic.testing.azure.roles import ACTIONS, Role
from genai_cache_magic.testing.azure.service import Listener, SimulatedService
from genai_cache_magic.testing.identity_server import InvalidTokenError, Principal, SimulatedIdentity
from genai_cache_magic.testing.simulated.replying import Reply, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from genai_cache_magic.testing.simulated.http_server import ReceivedRequest

__all__ = ["Role", "SimulatedKeyVault", "VaultFault", "VaultRequest"]

_NAME = "simulated-vault"
_FOREIGN_RESOURCE = "https://vault.azure.net"


class VaultFault(enum.Enum):
    """What can be made to go wrong with a request."""

    TOO_MANY_REQUESTS = "too_many_requests"
    FOREIGN_CHALLENGE = "foreign_challenge"
    FIREWALL = "firewall"
    CUT = "cut"
    BAD_JSON = "bad_json"
    SERVER_ERROR = "server_error"
    UNAVAILABLE = "unavailable"


_REQUEST_ID = "x-ms-client-request-id"
_FOREIGN = frozenset({VaultFault.FOREIGN_CHALLENGE})


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """A request that was answered.

    Attributes
    ----------
    operation : str
        ``challenge`` for one without a token that counts, else as Key Vault names it: ``get``, ``unwrapKey``, ...
    key, version : str
        Empty where the request names none.
    object_id : str or None
        Who asked.
    request_id : str
        The id that the client gave it; empty if none.
    """

    operation: str
    key: str
    version: str
    object_id: str | None
    status: int
    request_id: str = ""


class SimulatedKeyVault(SimulatedService[VaultFault]):
    """A vault, whose keys stay while it is stopped and go when the object does.

    Parameters
    ----------
    identity : SimulatedIdentity
        Whose tokens it accepts, and whose certificate authority it uses.
    latency_s : float
        Time before every answer [s].
    retry_after_s : int
        What a throttled client is told to wait [s].
    port : int
        0 for any free one; after a stop and a start it is the same.
    clock : callable
        Time since 1970 [s].

    Raises
    ------
    ConfigurationError
        A setting can't be used. `start` raises it for a port that is taken.
    """

    def __init__(
        self,
        identity: SimulatedIdentity,
        *,
        latency_s: float = 0.0,
        retry_after_s: int = 1,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(latency_s)
        self._identity = identity
        self._retry_after_s = retry_after_s
        self._listener = Listener(port, tls=identity.server_context)
        self._listeners = [self._listener]
        self._store = KeyStore(lambda: self.url, clock)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        # Guarded by _lock:
        self._roles: dict[str, set[Role]] = {}
        self._requests: list[VaultRequest] = []
        self._arrived: Counter[str] = Counter()
        self.grant(identity.principal, Role.CRYPTO_OFFICER)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._listener.url}, {len(self.requests)} requests)"

    @property
    def url(self) -> str:
        """The vault's address."""
        if not self._listener.port:
            raise ConfigurationError("the simulated vault has no address yet: call start(), or use it in 'with'")
        return self._listener.url

    @property
    def resource(self) -> str:
        """What a token must be for: the client checks that the vault's host ends with a dot and this one's."""
        return f"https://{self.url.removeprefix('https://').partition('.')[2]}"

    # Who may do what

    def grant(self, principal: Principal, *roles: Role) -> None:
        """Give somebody roles, beside those that they have."""
        with self._lock:
            self._roles.setdefault(principal.object_id, set()).update(roles)

    def revoke(self, principal: Principal) -> None:
        """Take all roles from somebody."""
        with self._lock:
            self._roles.pop(principal.object_id, None)

    # Its keys, without a client

    def create_key(self, name: str, *, kty: str = "RSA", size: int = 2048, **more: Any) -> str:
        """Add a key, or a version of one, and return its id; `more` as the REST interface names it."""
        self._store.require_name(name)
        parameters = {"kty": kty, "key_size": size, **more}
        kid: str = self._store.add(name, generate(parameters), parameters)["key"]["kid"]
        return kid

    def rotate_key(self, name: str) -> str:
        """Add a version like the latest one and return its id."""
        kid: str = self._store.rotate(name, self._store.material_of_latest(name).renewed())["key"]["kid"]
        return kid

    def set_attributes(self, name: str, version: str = "", **attributes: Any) -> None:
        """Change attributes of a version (empty: of the latest), such as ``enabled=False`` or ``exp=0``."""
        self._store.update(name, version, {"attributes": attributes})

    # What it was asked

    @property
    def requests(self) -> tuple[VaultRequest, ...]:
        """The requests answered, in order."""
        with self._lock:
            return tuple(self._requests)

    def count(self, operation: str) -> int:
        """Number of requests for an operation that arrived with a good token; of ``challenge``, without one."""
        with self._lock:
            return self._arrived[operation]

    def wait_for(self, operation: str, n: int = 1, timeout_s: float = 30.0) -> bool:
        """Wait until `n` requests for an operation have arrived; False if they haven't after `timeout_s` [s]."""
        with self._lock:
            return self._changed.wait_for(lambda: self._arrived[operation] >= n, timeout_s)

    def reset(self) -> None:
        """Forget the requests and the faults, and release what is held."""
        with self._lock:
            self._requests.clear()
            self._arrived.clear()
        self.heal()

    # What goes wrong

    def fail(self, fault: VaultFault, *, times: int | None = 1, operation: str | None = None) -> None:
        """Let the next requests (of an operation) fail so, or all of them (None) until `heal` or `reset`."""
        self._troubles.fail(fault, times=times, operation=operation)

    # Answering

    def respond(self, request: ReceivedRequest) -> Reply:
        """Answer one HTTP request."""
        operation = operation_of(request)
        if operation is None:
            return self._finished(request, errors.VaultRefusalError(404, "NotFound", "Nothing is here.").reply())
        claims: dict[str, Any] | None = None
        problem = ""
        try:
            claims = self._claims(request)
        except InvalidTokenError as exc:
            problem = str(exc)
        if claims is None:
            operation = replace(operation, name="challenge")
        self._note_arrival(operation.name)
        fault = self._troubles.next_fault(operation.name, _FOREIGN if claims is None else None)
        self._troubles.keep_back()
        if claims is None or fault is VaultFault.FOREIGN_CHALLENGE:
            reply = self._challenge(problem, is_foreign=fault is VaultFault.FOREIGN_CHALLENGE)
        else:
            reply = self._answer(operation, request, claims, fault)
        self._note_answer(operation, claims, reply.status, request.headers.get(_REQUEST_ID, ""))
        return self._finished(request, reply)

    def _claims(self, request: ReceivedRequest) -> dict[str, Any]:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise InvalidTokenError("AKV10000: Request is missing a Bearer or PoP token.")
        try:
            return self._identity.claims_of(token.strip(), self.resource)
        except InvalidTokenError as exc:
            raise InvalidTokenError(f"AKV10022: {exc}") from exc

    def _challenge(self, problem: str, *, is_foreign: bool) -> Reply:
        authority = f"{self._identity.authority_url}/{self._identity.tenant_id}"
        resource = _FOREIGN_RESOURCE if is_foreign else self.resource
        challenge = f'Bearer authorization="{authority}", resource="{resource}"'
        message = problem or "AKV10000: Request is missing a Bearer or PoP token."
        return errors.unauthorized(message).reply(("www-authenticate", challenge))

    def _answer(
        self, operation: Operation, request: ReceivedRequest, claims: dict[str, Any], fault: VaultFault | None
    ) -> Reply:
        try:
            self._require_health(fault)
            require_api_version(request, operation)
            self._require_right(operation, claims)
            answer = perform(operation, request, self._store)
        except errors.VaultRefusalError as refusal:
            waits = (("retry-after", str(self._retry_after_s)),) if refusal.status in {429, 503} else ()
            return refusal.reply(*waits)
        if answer is None:
            return Reply(204, ())
        reply = json_reply(200, answer)
        if fault is VaultFault.BAD_JSON:
            return replace(reply, body=reply.body[: len(reply.body) // 2])
        return replace(reply, is_cut=fault is VaultFault.CUT)

    def _require_health(self, fault: VaultFault | None) -> None:
        match fault:
            case VaultFault.TOO_MANY_REQUESTS:
                raise errors.throttled()
            case VaultFault.FIREWALL:
                raise errors.forbidden_by_firewall("127.0.0.1", _NAME)
            case VaultFault.SERVER_ERROR:
                raise errors.server_error()
            case VaultFault.UNAVAILABLE:
                raise errors.unavailable()

    def _require_right(self, operation: Operation, claims: dict[str, Any]) -> None:
        action = ACTIONS[operation.name]
        with self._lock:
            roles = set(self._roles.get(claims["oid"], ()))
        if not any(role.allows(action) for role in roles):
            caller = f"appid={claims['appid']};oid={claims['oid']};iss={claims['iss']}"
            group = "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/simulated"
            resource = f"{group}/providers/microsoft.keyvault/vaults/{_NAME}/keys/{operation.key}".rstrip("/")
            raise errors.forbidden_by_rbac(caller, action, resource, _NAME)

    def _note_arrival(self, operation: str) -> None:
        with self._lock:
            self._arrived[operation] += 1
            self._changed.notify_all()

    def _note_answer(self, operation: Operation, claims: dict[str, Any] | None, status: int, request_id: str) -> None:
        who = None if claims is None else claims["oid"]
        noted = VaultRequest(operation.name, operation.key, operation.version, who, status, request_id)
        with self._lock:
            self._requests.append(noted)

    def _finished(self, request: ReceivedRequest, reply: Reply) -> Reply:
        headers = (
            ("server", "simulated-key-vault"),
            ("x-simulated", "1"),
            ("cache-control", "no-cache"),
            ("x-ms-keyvault-region", "loopback"),
            (_REQUEST_ID, request.headers.get(_REQUEST_ID, "")),
            ("x-ms-request-id", str(uuid.uuid4())),
            ("x-ms-keyvault-service-version", "1.9.0.0"),
            ("x-ms-keyvault-network-info", "conn_type=Ipv4;addr=127.0.0.1;act_addr_fam=InterNetwork;"),
        )
        return replace(reply, headers=(*reply.headers, *headers))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an identity and a vault until they are interrupted."""
    parser = argparse.ArgumentParser(prog="vault_server", description="A simulated Azure Key Vault on loopback.")
    parser.add_argument("--port", type=int, default=0, help="of the vault; 0 for any free one (default: %(default)s)")
    parser.add_argument("--latency-s", type=float, default=0.0, metavar="SECONDS")
    options = parser.parse_args(arguments)
    identity = SimulatedIdentity()
    try:
        vault = SimulatedKeyVault(identity, port=options.port, latency_s=options.latency_s)
        identity.start()
        vault.start()
    except ConfigurationError as error:
        identity.close()
        parser.error(str(error))
    lines = [f"export {name}={shlex.quote(value)}" for name, value in identity.environment().items()]
    exports = "\n".join(f"  {line}" for line in lines)
    try:
        sys.stdout.write(
            f"Simulated Key Vault: its keys live in this process, no cloud is called.\n  {vault.url}  the vault's URL\n"
            f"To be the machine that it lets in:\n{exports}\nStop it with Ctrl-C.\n"
        )
        sys.stdout.flush()
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        vault.close()
        identity.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
