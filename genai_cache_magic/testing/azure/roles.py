"""Azure's built-in roles for the keys of a vault, by the actions that they allow."""

from __future__ import annotations

import enum
from fnmatch import fnmatchcase

_KEYS = "Microsoft.KeyVault/vaults/keys"
_POLICIES = "Microsoft.KeyVault/vaults/keyrotationpolicies"


class Role(enum.Enum):
    """A built-in role; its value is its name in Azure."""

    ADMINISTRATOR = "Key Vault Administrator"
    CRYPTO_OFFICER = "Key Vault Crypto Officer"
    CRYPTO_USER = "Key Vault Crypto User"
    CRYPTO_SERVICE_ENCRYPTION_USER = "Key Vault Crypto Service Encryption User"
    READER = "Key Vault Reader"

    def allows(self, action: str) -> bool:
        """Whether the role has `action` among its data actions."""
        return any(fnmatchcase(action, pattern) for pattern in _ALLOWED[self])


def _each(*names: str) -> tuple[str, ...]:
    return tuple(f"{_KEYS}/{name}" for name in names)


_USER = ("read", "update/action", "backup/action", "encrypt/action", "decrypt/action")
_ALLOWED = {
    Role.ADMINISTRATOR: ("Microsoft.KeyVault/vaults/*",),
    Role.CRYPTO_OFFICER: (f"{_KEYS}/*", f"{_POLICIES}/*"),
    Role.CRYPTO_USER: _each(*_USER, "wrap/action", "unwrap/action", "sign/action", "verify/action"),
    Role.CRYPTO_SERVICE_ENCRYPTION_USER: _each("read", "wrap/action", "unwrap/action"),
    Role.READER: ("Microsoft.KeyVault/vaults/*/read",),
}

ACTIONS = {
    "create": f"{_KEYS}/create/action",
    "import": f"{_KEYS}/import/action",
    "get": f"{_KEYS}/read",
    "list": f"{_KEYS}/read",
    "versions": f"{_KEYS}/read",
    "update": f"{_KEYS}/update/action",
    "rotate": f"{_KEYS}/rotate/action",
    "getRotationPolicy": f"{_POLICIES}/read",
    "setRotationPolicy": f"{_POLICIES}/write",
    "delete": f"{_KEYS}/delete",
    "getDeleted": f"{_KEYS}/read",
    "listDeleted": f"{_KEYS}/read",
    "recover": f"{_KEYS}/recover/action",
    "purge": f"{_KEYS}/purge/action",
    "encrypt": f"{_KEYS}/encrypt/action",
    "decrypt": f"{_KEYS}/decrypt/action",
    "wrapKey": f"{_KEYS}/wrap/action",
    "unwrapKey": f"{_KEYS}/unwrap/action",
    "sign": f"{_KEYS}/sign/action",
    "verify": f"{_KEYS}/verify/action",
}
"""By operation, what a role must allow."""
