"""The local key in the keyring of the operating system, through the package ``keyring``.

The same line as in a key file, under the service ``genai-cache`` and the name of the key. What it wraps a key file
with the same KEK unwraps, and the other way round.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Final, Self

from genai_cache_magic.crypto.aead import KEY_BYTES
from genai_cache_magic.crypto.wrappers.key_file import format_key, parse_key
from genai_cache_magic.crypto.wrappers.local_key import LocalKey
from genai_cache_magic.errors import ConfigurationError, KeyMissing, KeyUnavailable
from genai_cache_magic.host import make_private_directories, open_lock, try_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SERVICE: Final = "genai-cache"

_LOCK: Final = "keyring.lock"
_LOCK_TIMEOUT_S: Final = 30.0
_GLANCE_S: Final = 0.05
_ELSE: Final = "or set GENAI_CACHE_ENCRYPTION=local to keep the key in a file"


class OsKeyring(LocalKey):
    """A local key in the operating system's keyring; made by `load_or_create`, `load` or `import_text`."""

    __slots__ = ()

    @classmethod
    def load_or_create(cls, name: str, *, directory: Path, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Return the key called `name`, making it if the keyring has none.

        Parameters
        ----------
        name
            What the key is called there.
        directory
            Where a lock lies that lets one process of several make it: keyrings themselves know no order.

        Raises
        ------
        KeyUnavailable
            There is no keyring, it is locked, or what it holds is no key.
        """
        with contextlib.suppress(_NoKey):
            return cls.load(name, random=random)
        with _locked(directory):
            with contextlib.suppress(_NoKey):
                return cls.load(name, random=random)
            _write(name, random(KEY_BYTES))
            return cls.load(name, random=random)

    @classmethod
    def load(cls, name: str, *, random: Callable[[int], bytes] = os.urandom) -> Self:
        """Return the key called `name`. Raises as `load_or_create` does, and KeyUnavailable if there is none."""
        return cls(_read(name), random=random)

    @classmethod
    def import_text(
        cls,
        name: str,
        text: str,
        *,
        directory: Path,
        replaces: bool = False,
        random: Callable[[int], bytes] = os.urandom,
    ) -> Self:
        """Put a key that `export_text` gave elsewhere into the keyring; harmless if it is there already.

        A different one that is there stays beside it if the new one `replaces` it: its name ends with its fingerprint
        then.

        Raises
        ------
        ConfigurationError
            If `text` is not a key, or the keyring holds a different one of that name that it shall not replace.
        KeyUnavailable
            As `load_or_create`.
        """
        kek = parse_key(text.strip())
        if kek is None:
            raise ConfigurationError("this is not a key: paste the whole line that `genai-cache keys export` prints")
        with _locked(directory):
            with contextlib.suppress(_NoKey):
                there = cls.load(name, random=random)
                if there.is_same(kek):
                    return there
                if not replaces:
                    raise ConfigurationError(
                        f"the keyring holds another key called {name} ({there.fingerprint}), which is never "
                        "overwritten: `genai-cache keys import --replace` puts this one in its place, and keeps that "
                        "one beside it"
                    )
                _write(f"{name}.{there.fingerprint}", _read(name))
            _write(name, kek)
            return cls.load(name, random=random)


class _NoKey(KeyMissing):
    """The keyring can be used, and has no key of that name."""


def _read(name: str) -> bytes:
    import keyring

    with _translated():
        line = keyring.get_password(SERVICE, name)
    if line is None:
        raise _NoKey(f"the keyring of this system holds no key called {name}: run `genai-cache keys import`")
    kek = parse_key(line)
    if kek is None:
        raise KeyUnavailable(
            f"what the keyring of this system holds as {SERVICE}/{name} is no key of ours: remove it, and run "
            "`genai-cache keys import`, or let a new one be made (what the old one sealed is then lost)"
        )
    return kek


def _write(name: str, kek: bytes) -> None:
    import keyring

    with _translated():
        keyring.set_password(SERVICE, name, format_key(kek))


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn what backends raise into KeyUnavailable. SECURITY: none of their texts is shown, whatever it holds."""
    from keyring import errors

    try:
        yield
    except errors.NoKeyringError as exc:
        raise KeyUnavailable(f"this system has no keyring that can be used: install one, {_ELSE}") from exc
    except errors.KeyringLocked as exc:
        raise KeyUnavailable(f"the keyring of this system is locked: unlock it, {_ELSE}") from exc
    except Exception as exc:  # backends are foreign code, and raise what their systems do
        raise KeyUnavailable(
            f"the keyring of this system can't be used ({type(exc).__name__}): see `keyring diagnose`, {_ELSE}"
        ) from exc


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time make a key."""
    path = directory / _LOCK
    try:
        make_private_directories(directory)
        descriptor = open_lock(path)
    except OSError as exc:
        raise KeyUnavailable(
            f"can't make a key, since {path} can't be written ({exc.strerror}): set GENAI_CACHE_DIR to a "
            "directory of your own on a local disk"
        ) from exc
    try:
        ends_at = time.monotonic() + _LOCK_TIMEOUT_S
        while not _is_locked(descriptor, path):
            if time.monotonic() > ends_at:
                raise KeyUnavailable(f"another process has been making a key for {_LOCK_TIMEOUT_S:g} s: try again")
            time.sleep(_GLANCE_S)
        yield
    finally:
        os.close(descriptor)


def _is_locked(descriptor: int, path: Path) -> bool:
    try:
        return try_lock(descriptor)
    except OSError as exc:
        raise KeyUnavailable(
            f"{path} can't be locked ({exc.strerror}): set GENAI_CACHE_DIR to a directory on a local disk"
        ) from exc
