"""What each role may do, in the words of each service: what is printed, probed and documented comes from here.

The roles are those of `settings/roles.py`; Azure's own names stand in
learn.microsoft.com/azure/role-based-access-control/built-in-roles, the rules of Redis in
redis.io/docs/latest/operate/oss_and_stack/management/security/acl.
"""

from __future__ import annotations

from typing import Final

from genai_cache_magic.crypto.wrappers.azure_rights import KEY_ADMIN, KEY_SIGNER, KEY_USER
from genai_cache_magic.settings.roles import ADMIN, READER, WRITER, Role
from genai_cache_magic.stores.keys import LAYOUT

READ, WRITE, DELETE, PUBLISH = "read", "write", "delete", "publish"
UNWRAP, SIGN = "unwrap", "sign"

MEANS: Final = {
    READ: "look answers up",
    WRITE: "store answers, and tell the team what is being asked",
    DELETE: "remove what has expired or is invalid",
    PUBLISH: "publish that answers are invalid",
    UNWRAP: "open sealed answers, by the vault's key",
    SIGN: "make and change keysets",
}
"""Each right, and what it is good for."""

RIGHTS: Final[dict[Role, tuple[str, ...]]] = {
    READER: (READ, UNWRAP),
    WRITER: (READ, WRITE, DELETE, PUBLISH, UNWRAP),
    ADMIN: (READ, WRITE, DELETE, PUBLISH, UNWRAP, SIGN),
}

_CONNECT: Final = ("+eval", "+time", "+hello")
_READS: Final = ("+@read", "-@dangerous", *_CONNECT)
_WRITES: Final = ("+@read", "+@write", "-@dangerous", *_CONNECT)
REDIS_RULES: Final[dict[Role, tuple[str, ...]]] = {
    READER: _READS,
    WRITER: _WRITES,
    ADMIN: (*_WRITES, "+info", "+config|set"),
}
"""What a Redis user may do, beside the keys; scripts may do no more than whoever runs them."""
REDIS_RULES_NEWER: Final = ("+client|setinfo",)
"""Beside these, from Redis 7.2 on."""
REDIS_RULES_CLUSTER: Final = ("+cluster|slots", "+command")
"""Beside these, in a cluster."""

BLOB_ROLES: Final[dict[Role, str]] = {
    READER: "Storage Blob Data Reader",
    WRITER: "Storage Blob Data Contributor",
    ADMIN: "Storage Blob Data Contributor",
}
VAULT_ROLES: Final[dict[Role, tuple[str, ...]]] = {
    READER: (KEY_USER,),
    WRITER: (KEY_USER,),
    ADMIN: (KEY_SIGNER, KEY_ADMIN),
}
"""An admin's two: to sign, and to let `genai-cache keys init` make the keys."""


def redis_keys(namespace: str | None = None) -> str:
    """Return the pattern of the keys of `namespace`, None for those of all."""
    below = f"{namespace}:*" if namespace else "*"
    return f"~genai-cache:{LAYOUT}:{below}"
