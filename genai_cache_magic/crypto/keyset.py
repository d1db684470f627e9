"""Creating and opening the keyset manifest of a namespace (its bytes: ``manifest.py``).

One wrapped *namespace key* seals the root keys per epoch, the id key, the MAC key and the derivation
key, so that a process asks its KEK once. Normative text: ``spec/envelope.md`` §5.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from genai_cache_magic.crypto.aead import KEY_BYTES, SALT_BYTES, open_box, seal_box
from genai_cache_magic.crypto.keyring import SUITE_AES256GCM_HKDFSHA512, Keyring, encode_namespace
from genai_cache_magic.crypto.manifest import (
    KeyTable,
    ManifestHead,
    ManifestParts,
    decode_table,
    encode_table,
    prefixed,
    split_manifest,
)
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, KeysetOutdated, KeysetUnusable

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.crypto.wrappers.base import KeyWrapper

__all__ = [
    "KeyTable",
    "Keyring",
    "create_manifest",
    "open_manifest",
    "open_table",
    "verified_manifest",
    "write_manifest",
]

_KINDS: Final = ("local", "key-vault")
_TABLE_DOMAIN: Final = b"genai-cache-magic/keyset/v1/aes-256-gcm+hkdf-sha512"
_TABLE_LABEL: Final = b"genai-cache-magic/keyset/v1/table\x00"
_SIGNATURE_LABEL: Final = b"genai-cache-magic/keyset/v1/signature\x00"
_WRAP_LABEL: Final = b"genai-cache-magic/keyset/v1/namespace-key\x00"


def create_manifest(namespace: str, wrapper: KeyWrapper, *, random: Callable[[int], bytes] = os.urandom) -> bytes:
    """Return the first manifest of a namespace: fresh keys, version 1, epoch 1.

    Publish it by set-if-absent; whoever loses that race opens the winner's.

    Raises
    ------
    ConfigurationError
        If the namespace's name can't be used.
    KeyUnavailable
        If `wrapper` can't wrap or sign now.
    """
    table = KeyTable(
        id_key=random(KEY_BYTES),
        mac_key=random(KEY_BYTES),
        derivation_key=random(KEY_BYTES),
        root_keys={1: random(KEY_BYTES)},
    )
    return write_manifest(table, namespace, wrapper, version=1, random=random)


def write_manifest(
    table: KeyTable,
    namespace: str,
    wrapper: KeyWrapper,
    *,
    version: int,
    random: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """Return a manifest of `table` under a fresh namespace key; the highest epoch is the current one.

    `version` is one more than that of the manifest it replaces. Raises as `create_manifest` does.
    """
    encoded = encode_namespace(namespace)
    namespace_key = random(KEY_BYTES)
    bound = ManifestHead(
        suite=SUITE_AES256GCM_HKDFSHA512,
        version=version,
        epoch=max(table.root_keys),
        namespace=encoded,
        kind=wrapper.kind,
        key_id=wrapper.key_id,
        fingerprint=wrapper.fingerprint,
        signature_algorithm=wrapper.signature_algorithm,
        signing_key_id=wrapper.signing_key_id,
        wrapped_key=wrapper.wrap(namespace_key, _WRAP_LABEL + encoded),
    ).encode()
    salt = random(SALT_BYTES)
    box = seal_box(namespace_key, _TABLE_DOMAIN, encode_table(table), associated=_TABLE_LABEL + bound, salt=salt)
    signed = bound + prefixed(box)
    return signed + prefixed(wrapper.sign(_SIGNATURE_LABEL + signed))


def open_manifest(manifest: bytes, namespace: str, wrapper: KeyWrapper, *, lowest_version: int = 0) -> Keyring:
    """Return the keys that `manifest` holds for `namespace`; parameters and errors as `open_table`."""
    return _keyring(*open_table(manifest, namespace, wrapper, lowest_version=lowest_version))


def open_table(
    manifest: bytes, namespace: str, wrapper: KeyWrapper, *, lowest_version: int = 0
) -> tuple[ManifestHead, KeyTable]:
    """Return what `manifest` says in the open, authenticated, and its key table: what the next one is made from.

    Parameters
    ----------
    manifest : bytes
        As stored; not trusted.
    namespace : str
        The namespace that was asked for.
    wrapper : KeyWrapper
        Holds the key that wrapped the namespace key.
    lowest_version : int
        The highest version of it that this machine ever saw.

    Raises
    ------
    KeyUnavailable
        If the manifest is damaged or newer than this code, or `wrapper` has another key or can't use it.
    DecryptionError
        If the signature is wrong, or it is another namespace's manifest.
    KeysetOutdated
        If it is older than `lowest_version`.
    """
    head, bound, sealed_table, _, _ = verified_manifest(manifest, namespace, wrapper)
    # SECURITY: an old manifest, though authentic, would bring revoked keys back.
    if head.version < lowest_version:
        raise KeysetOutdated(
            f"the keyset of namespace {namespace!r} was rolled back: version {head.version}, seen: {lowest_version}. "
            "Put the newer file `keyset` back; if it is lost for good, use another GENAI_CACHE_NAMESPACE"
        )
    namespace_key = wrapper.unwrap(head.wrapped_key, _WRAP_LABEL + head.namespace, key_id=head.key_id)
    plaintext = open_box(namespace_key, _TABLE_DOMAIN, sealed_table, associated=_TABLE_LABEL + bound)
    try:
        table = decode_table(plaintext)
    except EntryUndecodable as exc:
        raise _unreadable(namespace, exc) from exc
    return head, table


def verified_manifest(manifest: bytes, namespace: str, wrapper: KeyWrapper) -> ManifestParts:
    """Take `manifest` apart, once its signature proves that it is one of `namespace`, of whatever age.

    Raises as `open_table`. Nothing is unwrapped.
    """
    try:
        parts = split_manifest(manifest)
    except EntryUndecodable as exc:
        raise _unreadable(namespace, exc) from exc
    head = parts.head
    _require_key(head, namespace, wrapper)
    # SECURITY: the algorithm is the wrapper's. Data that name another are refused, never obeyed.
    if head.signature_algorithm != wrapper.signature_algorithm:
        raise DecryptionError(f"a keyset failed authentication (key {wrapper.fingerprint})")
    wrapper.verify(_SIGNATURE_LABEL + parts.signed, parts.signature, key_id=head.signing_key_id)
    if head.namespace != encode_namespace(namespace):
        raise DecryptionError(f"the keyset of another namespace stands where that of {namespace!r} belongs")
    return parts


def _require_key(head: ManifestHead, namespace: str, wrapper: KeyWrapper) -> None:
    """Refuse, with the fix, what this version or this key can't open."""
    if head.suite != SUITE_AES256GCM_HKDFSHA512:
        raise KeysetUnusable(
            f"namespace {namespace!r} uses cipher suite {head.suite}, unknown to this version: update genai-cache-magic"
        )
    if head.kind != wrapper.kind:
        raise KeysetUnusable(
            f"namespace {namespace!r} is sealed with a key of kind {head.kind!r}, this process uses {wrapper.kind!r}: "
            f"{_way_to(head.kind)}, or another GENAI_CACHE_NAMESPACE"
        )
    if head.fingerprint != wrapper.fingerprint:
        raise KeysetUnusable(
            f"namespace {namespace!r} is sealed with key {head.fingerprint}, this machine has key "
            f"{wrapper.fingerprint}: {wrapper.remedy}"
        )


def _way_to(kind: str) -> str:
    # SECURITY: nobody has authenticated `kind` yet; what is no kind of ours must not become advice.
    return f"set GENAI_CACHE_ENCRYPTION={kind}" if kind in _KINDS else "update genai-cache-magic"


def _keyring(head: ManifestHead, table: KeyTable) -> Keyring:
    active = {epoch: root_key for epoch, root_key in table.root_keys.items() if root_key is not None}
    if head.epoch not in active:
        raise DecryptionError(f"the current epoch {head.epoch} of a keyset is revoked or missing")
    return Keyring(
        epoch=head.epoch,
        suite=head.suite,
        manifest_version=head.version,
        fingerprint=head.fingerprint,
        id_key=table.id_key,
        mac_key=table.mac_key,
        derivation_key=table.derivation_key,
        root_keys=active,
    )


def _unreadable(namespace: str, cause: EntryUndecodable) -> KeysetUnusable:
    # Not EntryUndecodable, whose disposition is to delete: without its keyset a namespace is lost.
    return KeysetUnusable(
        f"the keyset of namespace {namespace!r} can't be read ({cause}): update genai-cache-magic; "
        "if that does not help it is damaged: put `keyset` back from a backup, or remove it; "
        "a new one is made then, and what the old one sealed is lost"
    )
