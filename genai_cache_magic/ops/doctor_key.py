"""What is well and what is not of the key: a file, the system's keyring, or the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genai_cache_magic.api.team.custody import vault_wrapper
from genai_cache_magic.api.team.installed import ensure_installed
from genai_cache_magic.entries.link import within
from genai_cache_magic.errors import (
    ConfigurationError,
    KeyMissing,
    KeyUnavailable,
    StoreUnavailable,
)
from genai_cache_magic.host import tilde
from genai_cache_magic.ops.checks import KEY, Severity
from genai_cache_magic.ops.findings import Finding, found_by

if TYPE_CHECKING:
    from genai_cache_magic.crypto.wrappers.base import KeyWrapper
    from genai_cache_magic.settings.model import Settings

_VAULT_DEADLINE_S = 10.0
_OPENS = "unwrapKey"
"""The operation without which nothing can be read."""


def of_key(settings: Settings) -> tuple[KeyWrapper | None, tuple[Finding, ...]]:
    """Return what guards the key, None if there is none to be used, and what is to be said of it; makes no key."""
    about = _GUARDS[settings.encryption]
    try:
        if settings.encryption == "off":
            return None, (Finding(KEY, Severity.OK, "none is needed, since encryption is off", about),)
        if settings.encryption == "key-vault":
            return _vault(settings, about)
        key = _own_key(settings)
    except KeyMissing:
        none = f"there is none yet {_place_of_key(settings)}"
        if settings.l2:
            says = f"{none}: run `genai-cache keys import` with the team's, before one is made that opens nothing of it"
            return None, (found_by("key-elsewhere", says, about),)
        says = f"{none}: it is made at first use, unless you import your own from another machine before"
        return None, (Finding(KEY, Severity.OK, says, about),)
    except (ConfigurationError, KeyUnavailable, StoreUnavailable) as exc:
        return None, (found_by("key-unusable", str(exc), about),)
    return key, (Finding(KEY, Severity.OK, f"{key.fingerprint} {_place_of_key(settings)}", about),)


_GUARDS = {
    "off": ("encryption",),
    "local": ("key_file",),
    "keyring": ("encryption", "key_name"),
    "key-vault": ("key_vault_url", "key_name", "signing_key_name"),
}
"""Encryption -> the settings that say where its key is."""


def _own_key(settings: Settings) -> KeyWrapper:
    """Return this machine's own key; raises ``KeyMissing`` if there is none."""
    if settings.encryption == "keyring":
        from genai_cache_magic.crypto.wrappers.keyring import OsKeyring

        ensure_installed("encryption=keyring", "keyring", "keyring")
        return OsKeyring.load(settings.key_name)
    from genai_cache_magic.crypto.wrappers.local import LocalKeyFile

    path = settings.key_file
    try:
        is_there = path.exists()
    except OSError as exc:
        raise KeyUnavailable(f"{path} can't be looked at ({exc.strerror}): set key_file to a file of your own") from exc
    if not is_there:
        raise KeyMissing(f"there is no key at {path}")
    return LocalKeyFile.load(path, cache_directory=settings.dir)


def _place_of_key(settings: Settings) -> str:
    if settings.encryption == "keyring":
        return f"in this system's keyring, called {settings.key_name}"
    return f"at {tilde(str(settings.key_file))}"


def _vault(settings: Settings, about: tuple[str, ...]) -> tuple[KeyWrapper | None, tuple[Finding, ...]]:
    """Ask the vault for all that this identity needs; who may open and not make is well, and told so."""
    wrapper = vault_wrapper(settings)
    late = f"{settings.key_vault_url} does not answer in time: is key_vault_url right, and can it be reached from here?"
    refused = within(_VAULT_DEADLINE_S, wrapper.refusals, overdue=lambda: late)
    closed = [str(refusal) for refusal in refused if refusal.right == _OPENS]
    if closed:
        return None, tuple(found_by("key-unusable", says, about) for says in closed)
    says = f"{wrapper.fingerprint} in {settings.key_vault_url}, which lets this identity use it"
    if refused:
        says = f"this identity can make and change no keyset: {'; '.join(map(str, refused))}"
    return wrapper, (Finding(KEY, Severity.OK, says, about),)
