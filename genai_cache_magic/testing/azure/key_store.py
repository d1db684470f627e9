"""The keys of a simulated vault by name and version, with their attributes, those deleted included."""

from __future__ import annotations

import re
import secrets
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.azure.errors import (
    bad_parameter,
    deleted_key_not_found,
    key_not_found,
    name_is_deleted,
    not_allowed,
    not_permitted,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.testing.azure.key_material import KeyMaterial

_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_RETENTION_DAYS = 90
_DAY_S = 86_400
_OPERATIONS = frozenset({"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export"})
# What a key goes on doing outside its dates, so that what it protects stays readable.
_TIMELESS = frozenset({"decrypt", "unwrapKey", "verify"})
_DURATION = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?")


@dataclass(slots=True)
class KeyVersion:
    """One version of a key; whoever reads or changes it holds the store's lock."""

    name: str
    version: str
    material: KeyMaterial = field(repr=False)
    operations: list[str]
    created: int
    updated: int
    enabled: bool = True
    not_before: int | None = None
    expires: int | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Key:
    """All versions of a key, oldest first."""

    versions: list[KeyVersion]
    policy: dict[str, Any] | None = None
    deleted_at: int | None = None


class KeyStore:
    """What a vault holds; raises ``VaultRefusalError`` as the service refuses.

    Parameters
    ----------
    url : callable
        Address of the vault.
    clock : callable
        Time since 1970 [s].
    """

    def __init__(self, url: Callable[[], str], clock: Callable[[], float]) -> None:
        self._url = url
        self._clock = clock
        self._lock = threading.RLock()
        self._keys: dict[str, _Key] = {}  # guarded by _lock

    # Making and changing

    def add(self, name: str, material: KeyMaterial, parameters: dict[str, Any]) -> dict[str, Any]:
        """Add a version, the first or another, and return its bundle."""
        operations = parameters.get("key_ops") or list(material.operations)
        with self._lock:
            key = self._keys.get(name)
            if key is not None and key.deleted_at is not None:
                raise name_is_deleted(name)
            now = int(self._clock())
            version = KeyVersion(name, secrets.token_hex(16), material, [], now, now)
            self._change(version, {**parameters, "key_ops": operations})
            if key is None:
                self._keys[name] = _Key([version])
            else:
                key.versions.append(version)
            return self._bundle(version)

    def require_name(self, name: str) -> None:
        """Refuse a name that no key can have."""
        if not _NAME.fullmatch(name):
            raise bad_parameter(f"The request URI contains an invalid name: {name}")

    def material_of_latest(self, name: str) -> KeyMaterial:
        """Return what the latest version consists of, for a rotation."""
        with self._lock:
            return self._version(name, "").material

    def rotate(self, name: str, material: KeyMaterial) -> dict[str, Any]:
        """Add a version like the latest, which expires as the rotation policy says."""
        with self._lock:
            latest = self._version(name, "")
            policy = self._keys[name].policy or {}
            lifetime_s = _seconds((policy.get("attributes") or {}).get("expiryTime"))
            attributes = {"exp": int(self._clock()) + lifetime_s} if lifetime_s else {}
            parameters = {"key_ops": list(latest.operations), "tags": dict(latest.tags), "attributes": attributes}
            return self.add(name, material, parameters)

    def update(self, name: str, version: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Change attributes, operations or tags of a version (empty: of the latest)."""
        with self._lock:
            found = self._version(name, version)
            self._change(found, parameters)
            found.updated = int(self._clock())
            return self._bundle(found)

    def _change(self, version: KeyVersion, parameters: dict[str, Any]) -> None:
        attributes = parameters.get("attributes") or {}
        operations = parameters.get("key_ops")
        if operations is not None:
            if not set(operations) <= _OPERATIONS:
                raise bad_parameter(f"Property key_ops has an invalid value: {operations!r}.")
            version.operations = list(operations)
        if parameters.get("tags") is not None:
            version.tags = dict(parameters["tags"])
        for field_name, attribute in (("enabled", "enabled"), ("not_before", "nbf"), ("expires", "exp")):
            if attributes.get(attribute) is not None:
                setattr(version, field_name, attributes[attribute])

    # Reading

    def get(self, name: str, version: str) -> dict[str, Any]:
        """Return the bundle of a version (empty: of the latest)."""
        with self._lock:
            found = self._version(name, version)
            if not found.enabled:
                raise not_allowed("get", "a disabled", "KeyDisabled")
            return self._bundle(found)

    def list_keys(self) -> list[dict[str, Any]]:
        """Return the latest version of each key, by name."""
        with self._lock:
            names = sorted(name for name, key in self._keys.items() if key.deleted_at is None)
            return [self._item(self._keys[name].versions[-1], is_key=True) for name in names]

    def list_versions(self, name: str) -> list[dict[str, Any]]:
        """Return the versions of a key in the order of their ids, which says nothing of their age."""
        with self._lock:
            self._version(name, "")
            versions = sorted(self._keys[name].versions, key=lambda one: one.version)
            return [self._item(version) for version in versions]

    def usable(self, name: str, version: str, operation: str) -> tuple[KeyMaterial, str]:
        """Return a version's key and id, if it may be used for `operation` now."""
        with self._lock:
            found = self._version(name, version)
            if not found.enabled:
                raise not_allowed(operation, "a disabled", "KeyDisabled")
            now = self._clock()
            if operation not in _TIMELESS and found.not_before is not None and now < found.not_before:
                raise not_allowed(operation, "a not yet valid", "KeyNotYetValid")
            if operation not in _TIMELESS and found.expires is not None and now >= found.expires:
                raise not_allowed(operation, "an expired", "KeyExpired")
            if operation not in found.operations:
                raise not_permitted(operation)
            return found.material, self._id(found)

    # Rotation policies

    def policy(self, name: str) -> dict[str, Any]:
        """Return the rotation policy of a key."""
        with self._lock:
            self._version(name, "")
            notify = {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}
            policy = self._keys[name].policy or {"lifetimeActions": [notify], "attributes": {}}
            return {"id": f"{self._url()}/keys/{name}/rotationpolicy", **policy}

    def set_policy(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Replace the rotation policy of a key."""
        now = int(self._clock())
        attributes = {**(parameters.get("attributes") or {}), "created": now, "updated": now}
        if attributes.get("expiryTime"):
            _seconds(attributes["expiryTime"])
        with self._lock:
            self._version(name, "")
            actions = parameters.get("lifetimeActions") or []
            self._keys[name].policy = {"lifetimeActions": actions, "attributes": attributes}
        return self.policy(name)

    # Deleting

    def delete(self, name: str) -> dict[str, Any]:
        """Delete a key, so that it can be recovered."""
        with self._lock:
            latest = self._version(name, "")
            self._keys[name].deleted_at = int(self._clock())
            return self._deleted(latest)

    def deleted(self, name: str) -> dict[str, Any]:
        """Return the bundle of a deleted key."""
        with self._lock:
            return self._deleted(self._deleted_key(name).versions[-1])

    def list_deleted(self) -> list[dict[str, Any]]:
        """Return the deleted keys, by name."""
        with self._lock:
            names = sorted(name for name, key in self._keys.items() if key.deleted_at is not None)
            return [
                {**self._item(self._keys[name].versions[-1], is_key=True), **self._deletion(name)} for name in names
            ]

    def recover(self, name: str) -> dict[str, Any]:
        """Bring a deleted key back."""
        with self._lock:
            key = self._deleted_key(name)
            key.deleted_at = None
            return self._bundle(key.versions[-1])

    def purge(self, name: str) -> None:
        """Remove a deleted key for good."""
        with self._lock:
            self._deleted_key(name)
            del self._keys[name]

    # In the words of the service; the caller holds the lock.

    def _version(self, name: str, version: str) -> KeyVersion:
        key = self._keys.get(name)
        if key is None or key.deleted_at is not None:
            raise key_not_found(name, version)
        if not version:
            return key.versions[-1]
        for found in key.versions:
            if found.version == version.lower():
                return found
        raise key_not_found(name, version)

    def _deleted_key(self, name: str) -> _Key:
        key = self._keys.get(name)
        if key is None or key.deleted_at is None:
            raise deleted_key_not_found(name)
        return key

    def _id(self, version: KeyVersion) -> str:
        return f"{self._url()}/keys/{version.name}/{version.version}"

    def _attributes(self, version: KeyVersion) -> dict[str, Any]:
        attributes: dict[str, Any] = {"enabled": version.enabled}
        if version.not_before is not None:
            attributes["nbf"] = version.not_before
        if version.expires is not None:
            attributes["exp"] = version.expires
        return attributes | {
            "created": version.created,
            "updated": version.updated,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": _RETENTION_DAYS,
        }

    def _bundle(self, version: KeyVersion) -> dict[str, Any]:
        jwk = {"kid": self._id(version), "key_ops": list(version.operations), **version.material.public_jwk()}
        return {"key": jwk, "attributes": self._attributes(version), "tags": dict(version.tags)}

    def _item(self, version: KeyVersion, *, is_key: bool = False) -> dict[str, Any]:
        kid = f"{self._url()}/keys/{version.name}" if is_key else self._id(version)
        return {"kid": kid, "attributes": self._attributes(version), "tags": dict(version.tags)}

    def _deleted(self, version: KeyVersion) -> dict[str, Any]:
        return {**self._bundle(version), **self._deletion(version.name)}

    def _deletion(self, name: str) -> dict[str, Any]:
        deleted_at = self._keys[name].deleted_at
        assert deleted_at is not None
        return {
            "recoveryId": f"{self._url()}/deletedkeys/{name}",
            "deletedDate": deleted_at,
            "scheduledPurgeDate": deleted_at + _RETENTION_DAYS * _DAY_S,
        }


def _seconds(duration: Any) -> int:
    """Return the seconds of a duration such as ``P90D``; 0 for none."""
    if duration is None:
        return 0
    found = _DURATION.fullmatch(duration) if isinstance(duration, str) else None
    if found is None or not any(found.groups()):
        raise bad_parameter(f"Property expiryTime has an invalid value: {duration!r}.")
    years, months, days = (int(part or 0) for part in found.groups())
    return (years * 365 + months * 30 + days) * _DAY_S
