"""Which rights a vault's operations need, and the commands by which an administrator grants them."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple

from genai_cache_magic.errors import KeyDenied, KeyUnavailable

KEY_USER: Final = "Key Vault Crypto Service Encryption User"
KEY_SIGNER: Final = "Key Vault Crypto User"
KEY_ADMIN: Final = "Key Vault Crypto Officer"
_ROLES: Final = {"get": KEY_USER, "wrapKey": KEY_USER, "unwrapKey": KEY_USER, "sign": KEY_SIGNER, "create": KEY_ADMIN}
"""Operation -> the least of Azure's own roles that allows it."""


class Asked(NamedTuple):
    """What was asked of which key."""

    operation: str
    key_name: str


def grant(vault: str, asked: Asked) -> str:
    """Return the command that grants `asked` in `vault` (its host), for vaults that go by roles."""
    name = vault.partition(".")[0].partition(":")[0]
    scope = f'"$(az keyvault show --name {name} --query id --output tsv)'
    scope += '"' if asked.operation == "create" else f'/keys/{asked.key_name}"'
    return f'az role assignment create --role "{_ROLES[asked.operation]}" --assignee WHO --scope {scope}'


def policy(vault: str, asked: Asked) -> str:
    """Return the same for vaults that go by access policies."""
    name = vault.partition(".")[0].partition(":")[0]
    return f"az keyvault set-policy --name {name} --upn WHO --key-permissions get {asked.operation}"


def denied(vault: str, asked: Asked, status: int, code: str) -> KeyUnavailable:
    """Return the error for an answer that is a refusal; `code` is what the vault calls it."""
    what = f"vault {vault} refuses {asked.operation} with key {asked.key_name}"
    for part, words in (("disabled", "is disabled"), ("expired", "has expired"), ("notyetvalid", "is not valid yet")):
        if part in code.lower():
            return KeyUnavailable(
                f"{what}: that version {words}; ask your administrator to enable it, or to run "
                "`genai-cache keys rewrap` while it can still be used"
            )
    if "firewall" in code.lower():
        return KeyUnavailable(
            f"{what} (403): its firewall does not let this machine in; ask for its address to be added"
        )
    if "policy" in code.lower():
        return KeyDenied(
            f"{what} (403): ask for the permission: `{policy(vault, asked)}`",
            right=asked.operation,
            key_name=asked.key_name,
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return KeyUnavailable(f"{what}: it does not accept this identity (401): sign in to the vault's own tenant")
    if status == HTTPStatus.FORBIDDEN:
        return KeyDenied(
            f"{what} (403): if the key and its version are enabled, ask for the right {asked.operation}: "
            f"`{grant(vault, asked)}`",
            right=asked.operation,
            key_name=asked.key_name,
        )
    return KeyUnavailable(f"{what} (status {status}{f', {code}' if code else ''})")
