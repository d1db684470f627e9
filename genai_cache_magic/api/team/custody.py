"""Custody of the keys: what guards them, as the settings say, and how a cache comes by those of its namespace."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from genai_cache_magic.api.team.installed import ensure_installed
from genai_cache_magic.api.team.line import KEYSET
from genai_cache_magic.api.team.shared_keyset import Keysets, TeamKeyset
from genai_cache_magic.crypto.held_keys import HeldKeys
from genai_cache_magic.entries.highest import highest_keyset, keep_keyset, keep_revoked, revoked_epochs
from genai_cache_magic.errors import ConfigurationError, DecryptionError, KeyDenied, KeysetUnusable, KeyUnavailable
from genai_cache_magic.host import tilde
from genai_cache_magic.stores.keys import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from genai_cache_magic.api.team.line import TeamLine
    from genai_cache_magic.crypto.keyring import Keyring
    from genai_cache_magic.crypto.wrappers.azure_key_vault import AzureKeyVault
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.entries.state import StateFile
    from genai_cache_magic.events import Event
    from genai_cache_magic.settings.model import Settings
    from genai_cache_magic.stores.base import Document
    from genai_cache_magic.stores.disk.home import Home, Losses

_KNOWN = "known-keys"
_held = HeldKeys()
"""One, as the memory of a process is: all its caches and sessions together ask a vault once."""


def is_remote(settings: Settings) -> bool:
    """Return whether a service has to be asked for the key, which may take its time."""
    return settings.encryption == "key-vault"


def is_slow(settings: Settings) -> bool:
    """Return whether the key may take its time: a service is asked, or a person, to unlock a keyring."""
    return settings.encryption in {"key-vault", "keyring"}


def key_wrapper(settings: Settings, *, make: bool = True) -> KeyWrapper:
    """Return what guards the keys, made where it is this machine's own and not there yet, unless `make` is false.

    Raises
    ------
    ConfigurationError
        A setting can't be used, or a package is missing.
    KeyUnavailable
        The key can't be read or made. A vault is asked nothing yet.
    """
    if settings.encryption == "key-vault":
        return vault_wrapper(settings)
    if settings.encryption == "keyring":
        from genai_cache_magic.crypto.wrappers.keyring import OsKeyring

        ensure_installed("encryption=keyring", "keyring", "keyring")
        if not make:
            return OsKeyring.load(settings.key_name)
        return OsKeyring.load_or_create(settings.key_name, directory=settings.dir)
    from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

    how = LocalKeyFile.load_or_create if make else LocalKeyFile.load
    return how(settings.key_file, cache_directory=settings.dir)


def vault_wrapper(settings: Settings) -> AzureKeyVault:
    """Return the keys in a vault; raises as `key_wrapper`."""
    if not settings.key_vault_url:
        raise ConfigurationError(
            "encryption=key-vault needs the vault's address: set GENAI_CACHE_KEY_VAULT_URL=https://NAME.vault.azure.net"
        )
    ensure_installed("encryption=key-vault", "azure", "azure.keyvault.keys", "azure.identity")
    from genai_cache_magic.crypto.wrappers.azure_key_vault import AzureKeyVault
    from genai_cache_magic.crypto.wrappers.azure_vault_client import VaultClient, VaultTarget
    from genai_cache_magic.crypto.wrappers.known_keys import KnownKeys

    target = VaultTarget(
        settings.key_vault_url, settings.key_vault_credential, verify_challenge=settings.verify_challenge
    )
    return AzureKeyVault(
        VaultClient(target),
        known=KnownKeys(settings.dir / _KNOWN),
        held=_held,
        key_name=settings.key_name,
        signing_key_name=settings.signing_key_name,
    )


def layout_directory(layout: int) -> str:
    """Return the name of the directory in which all of a major version lies."""
    return f"v{layout}"


def inside(settings: Settings, namespace: str, line: TeamLine | None) -> list[tuple[str, ...]]:
    """Return the names of the directories below the cache's own in which a namespace lies."""
    # Plain entries have a directory of their own: a cache that was sealed is never filled with them.
    names: list[tuple[str, ...]] = [
        (layout_directory(LAYOUT), namespace),
        *([("plain",)] if settings.encryption == "off" else []),
    ]
    return [*names, (line.place,)] if line else names


def made_home(settings: Settings, namespace: str, line: TeamLine | None, losses: Losses) -> Home:
    """Return the directory of `namespace`, in front of the tier at the other end of `line` if there is one.

    Raises ``ConfigurationError`` if it can't be used.
    """
    from genai_cache_magic.stores.disk.home import Home

    return Home(settings.dir, *inside(settings, namespace, line), losses=losses)


def keyring_of(  # noqa: PLR0913 - what it depends on
    settings: Settings,
    home: Home,
    namespace: str,
    state: StateFile,
    line: TeamLine | None,
    *,
    has_entries: Callable[[], bool],
    tell: Callable[[Event], None],
) -> tuple[Keyring, TeamKeyset | None]:
    """Return the keys of `namespace`: those of the team at the other end of `line`, else this machine's own.

    Beside them, where there is a team, its keyset.

    Raises
    ------
    ConfigurationError, KeyUnavailable, StoreUnavailable
        They can't be had now.
    DecryptionError
        What stands there as their keyset is forged, or older than one that this machine has seen.
    """
    from genai_cache_magic.stores.documents import FileDocument

    manifest = FileDocument(home.path / KEYSET)
    keysets = Keysets(namespace, key_wrapper(settings), highest_keyset(state, namespace))
    team = None
    if line is not None:
        before = (manifest, FileDocument(home.path.parent / KEYSET))
        team = TeamKeyset(line, manifest, keysets, place=tilde(home.path / KEYSET), tell=tell)
        team.fetch(lambda: first_keyset(before, keysets))
    # Whoever is first wins: the manifest that is there afterwards counts.
    is_made = manifest.load() is None and manifest.replace(_made_keyset(keysets), expected=None)
    if is_made and has_entries():
        home.losses.add(
            f"the keyset in {home.path} was gone, and a new one was made: "
            "the answers that the old one sealed are misses"
        )
    blob = manifest.load()
    if blob is None:
        raise KeyUnavailable(f"the keyset of namespace {namespace!r} vanished while it was read: try again")
    keyring = keysets.open(blob)
    _refuse_revoked(keyring, namespace, revoked_epochs(state, namespace))
    keep_keyset(state, namespace, keyring.manifest_version)
    keep_revoked(state, namespace, keyring.revoked)
    home.keep(manifest, blob)
    return keyring, team


def _refuse_revoked(keyring: Keyring, namespace: str, revoked: Collection[int]) -> None:
    # SECURITY: a newer keyset that grew out of an older one, which was put back, may lack what was revoked since.
    if back := sorted(keyring.root_keys.keys() & revoked):
        raise DecryptionError(
            f"the keyset of namespace {namespace!r} brings epoch {back[0]} back, which was revoked: "
            f"let whoever rotated it run `genai-cache keys revoke {back[0]}`"
        )


def first_keyset(before: Iterable[Document], keysets: Keysets) -> bytes:
    """Return what this machine offers to a team that has no keyset: one that it had `before`, else a new one.

    So what it has sealed before stays readable to it, and to its team if that has lost everything. What it would refuse
    itself, since it has seen a newer one, it does not offer. Raises as `keyring_of`.
    """
    for document in before:
        with contextlib.suppress(DecryptionError, KeysetUnusable):
            blob = document.load()
            if blob is not None:
                keysets.open(blob)
                return blob
    return _made_keyset(keysets)


def _made_keyset(keysets: Keysets) -> bytes:
    """Return the first keyset of a namespace, after opening it: what can't be opened is offered to nobody.

    Raises
    ------
    KeyUnavailable
        It can't be made now, or this identity may not make it.
    KeysetOutdated
        There was one before that was changed: a first one would not be believed here.
    """
    from genai_cache_magic.crypto.keyset import create_manifest

    try:
        manifest = create_manifest(keysets.namespace, keysets.wrapper)
    except KeyDenied as exc:
        raise KeyUnavailable(
            f"namespace {keysets.namespace!r} has no keyset yet, and this identity can't make one: "
            f"let an administrator run `genai-cache keys init` ({exc})"
        ) from exc
    keysets.open(manifest)
    return manifest
