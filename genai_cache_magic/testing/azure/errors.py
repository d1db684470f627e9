"""The errors of Key Vault's REST interface, as its documentation shows them: a status, a code and an inner code."""

from __future__ import annotations

from typing import Any

from genai_cache_magic.testing.simulated.replying import Reply, json_reply

_HELP = "For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid="


class VaultRefusalError(Exception):
    """A request is answered with an error.

    Parameters
    ----------
    status : int
        Of HTTP.
    code : str
        Such as ``Forbidden``.
    message : str
        For people.
    inner : str or None
        The code that says more, such as ``KeyDisabled``.
    """

    def __init__(self, status: int, code: str, message: str, inner: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self._error: dict[str, Any] = {"code": code, "message": message}
        if inner is not None:
            self._error["innererror"] = {"code": inner}

    def reply(self, *headers: tuple[str, str]) -> Reply:
        """Return the answer."""
        return json_reply(self.status, {"error": self._error}, *headers)


def bad_parameter(message: str) -> VaultRefusalError:
    """The request itself is wrong."""
    return VaultRefusalError(400, "BadParameter", message)


def unauthorized(message: str) -> VaultRefusalError:
    """Nobody knows who asks."""
    return VaultRefusalError(401, "Unauthorized", message)


def key_not_found(name: str, version: str = "") -> VaultRefusalError:
    """There is no such key, or no such version of it."""
    what = f"{name}/{version}" if version else name
    return VaultRefusalError(
        404,
        "KeyNotFound",
        f"A key with (name/id) {what} was not found in this key vault. If you recently deleted this key you may be "
        f"able to recover it using the correct recovery command. {_HELP}2125182",
    )


def deleted_key_not_found(name: str) -> VaultRefusalError:
    """There is no deleted key of that name."""
    return VaultRefusalError(404, "KeyNotFound", f"Deleted Key not found: {name}")


def name_is_deleted(name: str) -> VaultRefusalError:
    """A deleted key holds its name until it is recovered or purged."""
    return VaultRefusalError(
        409,
        "Conflict",
        f"Key {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, "
        "the key can only be recovered or purged.",
        "ObjectIsDeletedButRecoverable",
    )


def not_allowed(operation: str, state: str, inner: str) -> VaultRefusalError:
    """A key is not in a state for this operation, such as ``disabled``."""
    return VaultRefusalError(403, "Forbidden", f"Operation {operation} is not allowed on {state} key.", inner)


def not_permitted(operation: str) -> VaultRefusalError:
    """The key's own list of operations does not have this one."""
    message = f"Operation {operation} is not permitted on this key."
    return VaultRefusalError(403, "Forbidden", message, "KeyOperationForbidden")


def forbidden_by_rbac(caller: str, action: str, resource: str, vault: str) -> VaultRefusalError:
    """Who asks has no role that allows this."""
    return VaultRefusalError(
        403,
        "Forbidden",
        "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
        f"definitions were changed recently, please observe propagation time.\r\nCaller: {caller}\r\n"
        f"Action: '{action}'\r\nResource: '{resource}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"
        f"DecisionReason: null \r\nVault: {vault};location=loopback\r\n",
        "ForbiddenByRbac",
    )


def forbidden_by_firewall(address: str, vault: str) -> VaultRefusalError:
    """The network that the request comes from is not let in."""
    return VaultRefusalError(
        403,
        "Forbidden",
        "Client address is not authorized and caller is not a trusted service.\r\n"
        f"Client address: {address}\r\nVault: {vault};location=loopback",
        "ForbiddenByFirewall",
    )


def throttled() -> VaultRefusalError:
    """Too many requests."""
    return VaultRefusalError(
        429,
        "Throttled",
        "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached",
    )


def server_error() -> VaultRefusalError:
    """The service itself failed."""
    return VaultRefusalError(500, "InternalServerError", "An internal server error occurred.")


def unavailable() -> VaultRefusalError:
    """The service is away for a moment."""
    return VaultRefusalError(503, "ServiceUnavailable", "The service is temporarily unavailable.")
