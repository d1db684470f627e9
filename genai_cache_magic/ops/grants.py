"""The commands that give somebody a role, and the rules of a firewall, as text: nothing here is run.

What is printed may be pasted into a POSIX shell: what others wrote is checked, and quoted.
"""

from __future__ import annotations

import difflib
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.ops.roles import (
    BLOB_ROLES,
    REDIS_RULES,
    REDIS_RULES_CLUSTER,
    REDIS_RULES_NEWER,
    VAULT_ROLES,
    redis_keys,
)
from genai_cache_magic.settings.roles import ADMIN, ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_cache_magic.settings.roles import Role

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# Object ids, names of people (o'brien@example.com, ann_example.com#EXT#@tenant.onmicrosoft.com), users of a Redis.
_PRINCIPAL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+#'-]{0,127}")
_SEGMENT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._()-]{0,89}")
_KINDS: Final = {
    "microsoft.storage/storageaccounts": "storage",
    "microsoft.keyvault/vaults": "vault",
    "microsoft.cache/redis": "redis",
    "microsoft.cache/redisenterprise": "managed",
}
_OWN_REDIS: Final = re.compile(r"(?i:rediss?(?:\+cluster)?)://(?:[^/?#]*@)?([^/?#@]+)")
_AZURES: Final = re.compile(
    r"(?i)\.(?:redis\.cache\.windows|redisenterprise\.cache\.azure|redis\.azure)\.net(?::\d+)?$"
)
_SCOPE_EXAMPLE: Final = (
    "/subscriptions/ID/resourceGroups/GROUP, or with /providers/Microsoft.Storage/storageAccounts/NAME, "
    "/providers/Microsoft.KeyVault/vaults/NAME, /providers/Microsoft.Cache/redis/NAME or "
    "/providers/Microsoft.Cache/redisEnterprise/NAME after it; redis://HOST:PORT is a Redis of your own"
)
_GROUP_PARTS, _RESOURCE_PARTS = 4, 8


@dataclass(frozen=True, slots=True)
class Line:
    """A line to be printed: a command of a shell, a rule of Redis, or (`kind` ``note``) what to know of the next."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Scope:
    """A resource of Azure, taken apart; `kind` is ``group`` for all that a group or a subscription holds.

    It is ``own`` for a Redis that is nobody's resource: all else is empty then.
    """

    path: str
    subscription: str
    group: str
    kind: str
    name: str


def checked_role(name: str) -> Role:
    """Return a role by its name; raises ``ConfigurationError``."""
    if name in ROLES:
        return name
    close = difflib.get_close_matches(name.lower(), [role.lower() for role in ROLES], n=1, cutoff=0.5)
    meant = next((f"; did you mean {role}?" for role in ROLES if close and role.lower() == close[0]), "")
    raise ConfigurationError(f"--role {name!r} is no role: write {', '.join(ROLES)}{meant}")


def checked_principal(text: str) -> str:
    """Return who is to have a role; raises ``ConfigurationError`` for what can be nobody's name."""
    if not _PRINCIPAL.fullmatch(text):
        raise ConfigurationError(
            f"--principal {text[:40]!r} is nobody's name: write an object id, a name such as ann@example.com, or that "
            "of a Redis user"
        )
    return text


def checked_scope(text: str) -> Scope:
    """Return a resource by its id; raises ``ConfigurationError`` for what can't be one, or holds no cache.

    SECURITY: nothing of the address of a Redis is kept or shown, since a password may stand in it.
    """
    own = _OWN_REDIS.match(text)
    if own is not None:
        if _AZURES.search(own[1]):
            raise ConfigurationError(
                "--scope is the address of a Redis of Azure's, which takes no rules by its address: give its id, "
                f"{_SCOPE_EXAMPLE.partition('; ')[0]}"
            )
        return Scope("", "", "", "own", "")
    path = "/" + text.strip("/")
    parts = path.split("/")[1:]
    names = dict(zip((part.lower() for part in parts[::2]), parts[1::2], strict=False))
    is_shaped = (
        len(parts) % 2 == 0
        and all(map(_SEGMENT.fullmatch, parts))
        and bool(_GUID.fullmatch(names.get("subscriptions", "")))
        and parts[0].lower() == "subscriptions"
        and (len(parts) < _GROUP_PARTS or parts[2].lower() == "resourcegroups")
    )
    if not is_shaped:
        raise ConfigurationError(f"--scope {text[:80]!r} is no id of an Azure resource: write {_SCOPE_EXAMPLE}")
    group = names.get("resourcegroups", "")
    if len(parts) <= _GROUP_PARTS:
        return Scope(path, parts[1], group, "group", "")
    kind = _KINDS.get("/".join(parts[5:7]).lower()) if len(parts) >= _RESOURCE_PARTS else None
    if kind is None or parts[4].lower() != "providers":
        raise ConfigurationError(f"--scope {text[:120]!r} is a resource that holds no cache: write {_SCOPE_EXAMPLE}")
    return Scope(path, parts[1], group, kind, parts[7])


def grant(role: Role, principal: str, scope: Scope, namespace: str | None = None) -> tuple[Line, ...]:
    """Return what gives `principal` a role at `scope`; `namespace` is whose keys a Redis user may use, None: all."""
    lines: list[Line] = []
    if scope.kind in {"storage", "group"}:
        lines += _assigned((BLOB_ROLES[role],), principal, scope)
    if scope.kind in {"vault", "group"}:
        lines += _assigned(VAULT_ROLES[role], principal, scope)
    if scope.kind == "redis":
        lines += _policy(role, principal, scope, namespace)
    if scope.kind == "managed":
        lines += _managed(role, principal, scope, namespace)
    if scope.kind in {"redis", "managed", "group", "own"}:
        lines += _acl(role, principal, namespace)
    return tuple(lines)


def _assigned(names: tuple[str, ...], principal: str, scope: Scope) -> Iterator[Line]:
    for name in names:
        yield _az("role", "assignment", "create", role=name, assignee=principal, scope=scope.path)


def rules_of(role: Role, namespace: str | None = None) -> str:
    """Return what a Redis user of a role may do, as an access string of Azure's and an ACL have it."""
    return " ".join((*REDIS_RULES[role], redis_keys(namespace)))


def _policy(role: Role, principal: str, scope: Scope, namespace: str | None) -> Iterator[Line]:
    """Azure Cache for Redis: a policy of its own, since the built-in ones for readers lack scripts."""
    policy = _plain(
        "-".join(("genai-cache", role.removeprefix("Cache.").lower(), *((namespace,) if namespace else ())))
    )
    where = {"name": scope.name, "resource-group": scope.group, "subscription": scope.subscription}
    cluster = f"{rules_of(role, namespace)} {' '.join(REDIS_RULES_CLUSTER)}"
    yield _az("redis", "access-policy", "create", **{**where, "access-policy-name": policy, "permissions": cluster})
    yield from _object_id_note(principal)
    assignment = {
        "policy-assignment-name": _plain(f"{policy}-{principal}"),
        "access-policy-name": policy,
        "object-id": principal,
        "object-id-alias": principal,
    }
    yield _az("redis", "access-policy-assignment", "create", **{**where, **assignment})


def _managed(role: Role, principal: str, scope: Scope, namespace: str | None) -> Iterator[Line]:
    """Azure Managed Redis: `az` knows the policy that allows everything alone; the portal takes an access string."""
    if role != ADMIN:
        access = f"{rules_of(role, namespace)} {' '.join((*REDIS_RULES_CLUSTER, *REDIS_RULES_NEWER))}"
        yield Line(
            "note",
            "az can assign full access alone. In the portal, under Authentication, Microsoft Entra, choose "
            f"{principal} and a custom data access policy, with this access string:",
        )
        yield Line("redis", access)
        return
    yield from _object_id_note(principal)
    yield Line("note", "az knows it by an extension: `az extension add --name redisenterprise`")
    yield _az(
        "redisenterprise",
        "database",
        "access-policy-assignment",
        "create",
        **{
            "access-policy-assignment-name": re.sub(r"[^A-Za-z0-9]", "", f"genaicache{principal}")[:60],
            "access-policy-name": "default",
            "cluster-name": scope.name,
            "database-name": "default",
            "object-id": principal,
            "resource-group": scope.group,
            "subscription": scope.subscription,
        },
    )


def _object_id_note(principal: str) -> Iterator[Line]:
    if not _GUID.fullmatch(principal):
        yield Line(
            "note",
            f"--object-id wants an id: `az ad user show --id {shlex.quote(principal)} --query id --output tsv` says it",
        )


def _acl(role: Role, principal: str, namespace: str | None) -> Iterator[Line]:
    yield Line(
        "note",
        "a Redis of your own: in redis-cli, with a password in the place of PASSWORD; from 7.2 on with "
        f"{' '.join(REDIS_RULES_NEWER)} too, in a cluster with {' '.join(REDIS_RULES_CLUSTER)}, on every node",
    )
    user = principal if re.fullmatch(r"[A-Za-z0-9._@+-]+", principal) else f'"{principal}"'
    keys, rules = redis_keys(namespace), " ".join(REDIS_RULES[role])
    yield Line("redis", f"ACL SETUSER {user} reset on >PASSWORD {keys} {rules}")


def firewall(ranges: tuple[str, ...], scope: Scope | None) -> tuple[Line, ...]:
    """Return the rules that let `ranges` in at `scope`; None: for each service, with a name to be put in.

    Azure's firewalls take public addresses of IPv4; what is private comes by a private endpoint or a subnet's rule.
    """
    from genai_cache_magic.settings.network import parse_range
    from genai_cache_magic.stores.private import is_private

    lines = []
    for number, text in enumerate(ranges, start=1):
        found = parse_range(text)
        first, last = found.network_address, found.broadcast_address
        if found.version != 4:  # noqa: PLR2004 - the version of the protocol
            lines.append(Line("note", f"{text}: Azure's firewalls take IPv4 alone"))
            continue
        if is_private(str(first)):
            lines.append(
                Line(
                    "note", f"{text} is private: the firewalls of Storage and Key Vault refuse it; use a subnet's rule"
                )
            )
        elif scope is None or scope.kind in {"storage", "vault", "group"}:
            # A single address, and a range of two, are written without a prefix.
            lines += _let_in([str(found)] if found.prefixlen < 31 else [str(one) for one in found], scope)  # noqa: PLR2004 - as said
        if scope is None or scope.kind in {"redis", "group"}:
            lines.append(
                _az(
                    *("redis", "firewall-rules", "create"),
                    **_named("name", scope, "redis"),
                    **{"rule-name": f"genai_cache_{number}", "start-ip": str(first), "end-ip": str(last)},
                )
            )
    return tuple(lines)


def _let_in(addresses: list[str], scope: Scope | None) -> Iterator[Line]:
    for address in addresses:
        if scope is None or scope.kind in {"storage", "group"}:
            where = _named("account-name", scope, "storage")
            yield _az("storage", "account", "network-rule", "add", **where, **{"ip-address": address})
        if scope is None or scope.kind in {"vault", "group"}:
            yield _az("keyvault", "network-rule", "add", **_named("name", scope, "vault"), **{"ip-address": address})


def _named(option: str, scope: Scope | None, kind: str) -> dict[str, str]:
    """Return what names a resource of `kind`; in capitals what nobody has said."""
    name = scope.name if scope is not None and scope.kind == kind else "NAME"
    group = scope.group if scope is not None and scope.group else "GROUP"
    more = {"subscription": scope.subscription} if scope is not None else {}
    return {option: name, "resource-group": group, **more}


def _plain(name: str) -> str:
    """Return `name` as the names of policies are written: letters, digits and single hyphens, at most 63."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name)[:63].strip("-")


def _az(*words: str, **options: str) -> Line:
    given = [part for name, value in options.items() for part in (f"--{name}", shlex.quote(value))]
    return Line("az", " ".join(("az", *words, *given)))
