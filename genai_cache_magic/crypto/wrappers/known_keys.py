"""What this machine knows of keys that a service guards: which public key it trusts, and until when a key is good.

One small file of JSON for each key, for its owner alone. The first process that meets a key writes it, and only
`trust` replaces what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import KeyUnavailable
from genai_cache_magic.host import create_private, flush_directory, make_private_directories, move, open_to_read

if TYPE_CHECKING:
    from pathlib import Path

_MAX_FILE_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as it was seen: its version, public part, bounds of its validity, and when [s since the epoch]."""

    url: str = field(repr=False)
    version: str
    modulus: int
    exponent: int
    seen_s: float
    starts: float | None = None
    expires: float | None = None

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of SHA-256 over modulus and exponent, for people to compare."""
        return hashlib.sha256(f"{self.modulus:x}.{self.exponent:x}".encode("ascii")).hexdigest()[:16]


class KnownKeys:
    """The keys that this machine knows, in a directory of its own.

    Raises ``KeyUnavailable``, from every method, if the directory can't be used: what can't be remembered can't be
    compared later.

    Parameters
    ----------
    directory
        Made when something is first kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, url: str) -> KnownKey | None:
        """Return what is known of the key at `url`, None if it was never met."""
        path = self._path(url)
        try:
            descriptor = open_to_read(path)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise self._unusable(path, exc) from exc
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(_MAX_FILE_BYTES)
        try:
            found = KnownKey(**_numbers(json.loads(content)))
        except (ValueError, TypeError, KeyError):
            found = None
        if found is None or found.url != url:
            # SECURITY: never taken for a key that was never met: whoever could damage it would choose the next one.
            raise KeyUnavailable(
                f"{path} is damaged: run `genai-cache keys trust`, and compare the fingerprint it shows"
            )
        return found

    def keep(self, key: KnownKey) -> KnownKey:
        """Keep `key` unless one is known under its URL already; return the one that is."""
        path = self._path(key.url)
        draft = self._draft(path, key)
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)  # SECURITY: the first one wins, whole
        except OSError as exc:
            raise self._unusable(path, exc) from exc
        finally:
            draft.unlink(missing_ok=True)
        return self.find(key.url) or key

    def replace(self, key: KnownKey) -> None:
        """Keep `key`, whatever was known under its URL."""
        path = self._path(key.url)
        draft = self._draft(path, key)
        try:
            move(draft, path)
            flush_directory(self._directory)
        except OSError as exc:
            raise self._unusable(path, exc) from exc
        finally:
            draft.unlink(missing_ok=True)

    def _draft(self, path: Path, key: KnownKey) -> Path:
        draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(8).hex()}.new")
        spelled = {**asdict(key), "modulus": f"{key.modulus:x}"}  # JSON's readers don't agree on numbers that long
        try:
            make_private_directories(self._directory)
            with os.fdopen(create_private(draft), "w", encoding="ascii") as file:
                file.write(f"{json.dumps(spelled, indent=1, sort_keys=True)}\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            draft.unlink(missing_ok=True)
            raise self._unusable(path, exc) from exc
        return draft

    def _path(self, url: str) -> Path:
        return self._directory / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"

    @staticmethod
    def _unusable(path: Path, error: OSError) -> KeyUnavailable:
        return KeyUnavailable(
            f"{path}, which says which keys this machine trusts, can't be used ({error.strerror}): "
            "make its directory yours and writable, or set GENAI_CACHE_DIR to one that is"
        )


def _numbers(table: dict[str, Any]) -> dict[str, Any]:
    return {**table, "modulus": int(table["modulus"], 16)}
