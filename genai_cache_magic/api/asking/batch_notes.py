"""Notes of batches that were submitted, or were about to be: sealed, in the cache's directory, one file each.

A note is written before anything is sent, and says what was asked. So whatever is interrupted, it is known what may be
under way, and nothing is submitted twice; it is removed once the results are in the cache.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.api.asking.requests_file import Wanted
from genai_cache_magic.core.options import Options
from genai_cache_magic.crypto.aead import SALT_BYTES, derive_key, open_box, seal_box
from genai_cache_magic.errors import ConfigurationError, DecryptionError, StoreUnavailable
from genai_cache_magic.stores.disk.locks import FileLock
from genai_cache_magic.stores.documents import FileDocument

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

_DOMAIN: Final = b"genai-cache-magic/batch-note/v1"
_HEAD: Final = b"genai-cache batch note 1\0"
_PREFIX: Final = "batch-"
_SUFFIX: Final = ".note"
_MOST_BYTES: Final = 1 << 31
"""More than the requests come to that a batch may hold, or that a file of requests may."""
_PATIENCE_S: Final = 600.0
"""How long somebody else may submit or collect [s]: large files are sent meanwhile."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request of a batch, and the entry that its answer makes."""

    line: int
    path: str
    body: dict[str, Any] = field(repr=False)
    entry_id: str = field(repr=False)

    @property
    def wanted(self) -> Wanted:
        """As it is asked by itself."""
        return Wanted(self.path, self.body, self.line)


@dataclass(frozen=True, slots=True)
class Note:
    """One batch.

    Attributes
    ----------
    name
        By which it is known here, and which it carries along.
    kind
        Whose it is: ``openai``, ``anthropic``.
    origin
        Where it was submitted.
    begun_s
        When [s since the epoch].
    options
        Of the scope that its answers are stored in, as far as they matter.
    remote
        What the provider calls it; empty as long as that is not known.
    """

    name: str
    kind: str
    origin: str = field(repr=False)
    begun_s: float
    requests: tuple[Asked, ...] = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    remote: str = field(repr=False, default="")

    def custom_id(self, number: int) -> str:
        """Return what the request of this number is called in the batch."""
        return f"{self.name}-{number}"

    def number(self, custom_id: str) -> int | None:
        """Return the number of the request that is called so, None for none of this batch."""
        name, _, number = custom_id.rpartition("-")
        known = number.isascii() and number.isdecimal() and int(number) < len(self.requests)
        return int(number) if name == self.name and known else None

    def scope_options(self, namespace: str) -> Options:
        """Return the options to store its answers with."""
        kept = {**self.options, "tags": tuple(self.options["tags"]), "ignore": tuple(self.options["ignore"])}
        return Options(namespace=namespace, **kept)


def kept_options(options: Options) -> dict[str, Any]:
    """Return what of `options` a note keeps."""
    names = ("run", "tags", "ttl_s", "ignore", "salt")
    return {name: getattr(options, name) for name in names}


class Notes:
    """The notes of one cache.

    Parameters
    ----------
    directory
        Where the cache lies.
    seal_key : bytes, shape (32,)
        What seals them.
    """

    def __init__(self, directory: Path, seal_key: bytes) -> None:
        self._directory = directory
        self._key = derive_key(seal_key, _DOMAIN)
        self._lock = FileLock(directory / "batches.lock")

    def alone(self) -> AbstractContextManager[None]:
        """Keep others from submitting and collecting meanwhile; raises ``StoreUnavailable``."""
        return self._lock.hold(timeout_s=_PATIENCE_S)

    def new_name(self) -> str:
        """Return a name that no other batch has."""
        return secrets.token_hex(8)

    def all(self) -> Iterator[Note]:
        """Return them, in the order in which they were begun; one that can't be read raises ``ConfigurationError``."""
        found = [self._read(path) for path in self._directory.glob(f"{_PREFIX}*{_SUFFIX}")]
        yield from sorted(found, key=lambda note: note.begun_s)

    def write(self, note: Note) -> Note:
        """Keep `note` before anything else is done, in the place of what was there; return it."""
        plain = orjson.dumps({**asdict(note), "version": 1})
        sealed = seal_box(self._key, _DOMAIN, plain, associated=_HEAD, salt=os.urandom(SALT_BYTES))
        document = FileDocument(self._path(note.name), most_bytes=_MOST_BYTES)
        while not document.replace(_HEAD + sealed, expected=document.load()):
            pass  # somebody else wrote it, who should have waited for the lock
        return note

    def submitted(self, note: Note, remote: str) -> Note:
        """Keep what the provider calls it."""
        return self.write(replace(note, remote=remote))

    def remove(self, note: Note) -> None:
        """Forget it: its answers are stored, or it was never submitted."""
        path = self._path(note.name)
        path.unlink(missing_ok=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{_PREFIX}{name}{_SUFFIX}"

    def _read(self, path: Path) -> Note:
        try:
            content = FileDocument(path, most_bytes=_MOST_BYTES).load() or b""
            plain = open_box(self._key, _DOMAIN, content.removeprefix(_HEAD), associated=_HEAD)
            fields = orjson.loads(plain)
            fields.pop("version")
            requests = tuple(Asked(**one) for one in fields.pop("requests"))
            return Note(**fields, requests=requests)
        except (StoreUnavailable, DecryptionError, ValueError, TypeError, KeyError) as exc:
            raise ConfigurationError(
                f"the note of a batch can't be read ({type(exc).__name__}): what it says was submitted would be asked "
                f"twice. Remove {path.name} from the cache's directory if that may be"
            ) from exc
