"""Records at rest, one behind the other in one file: added at the end, never changed, whole or cut off.

Layout, integers big-endian::

    offset  bytes  field
         0      4  magic 89 47 43 42 (0x89 "GCB")
         4      1  major version, 1
         5      3  zeros
         8         records, each
                4    length of the record [bytes], 1 to 64 Mi
                4    CRC-32 of the four before: a changed length is not taken for a record that was cut off
              n    the record

A writer that was killed leaves at most one record that is cut off, at the end. Whoever adds the next one cuts it
away; who reads is told.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import struct
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, Protocol

from genai_cache_magic import host
from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.disk.faults import map_os_errors
from genai_cache_magic.stores.disk.locks import FileLock, lock_elsewhere

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_RECORD: Final = 64 * 1024**2

_MAGIC: Final = b"\x89GCB"
_HEAD: Final = _MAGIC + b"\x01\x00\x00\x00"
_LENGTH: Final = struct.Struct(">II")
_LOCK_TIMEOUT_S: Final = 1.0


class Records(Protocol):
    """A chain of records of one place. Opaque bytes: what they are, and that none is missing, others know."""

    @property
    def name(self) -> str:
        """The place, fit to be shown."""

    def read(self) -> Iterator[bytes]:
        """Yield each whole record, the first one first; nothing if there is no such place yet.

        Raises
        ------
        ConfigurationError
            Something else is there, or it is of a newer version, or damaged.
        StoreUnavailable
            It can't be read now.
        """

    @property
    def is_cut_off(self) -> bool:
        """Whether the last reading met, behind the whole records, one that was cut off."""

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Keep others from adding meanwhile; raises ``StoreUnavailable`` if somebody does so now."""

    def append(self, record: bytes) -> None:
        """Add a record behind the last one that was read or added, whole or, whatever happens, not at all.

        Raises
        ------
        ValueError
            No reader accepts one that is so large.
        StoreUnavailable
            It can't be written, or somebody else has added one.
        """


class RecordFile:
    """`Records` in one file, for its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = host.tilde(path)
        self.is_cut_off = False
        self._end = 0  # where the next record belongs [bytes]
        self._size = 0  # of the file, with what is cut off [bytes]

    def read(self) -> Iterator[bytes]:
        """Yield each whole record."""
        self._end, self._size, self.is_cut_off = 0, 0, False
        with map_os_errors(f"reading {self.name}"):
            try:
                descriptor = host.open_to_read(self.path, follow_link=True)
            except FileNotFoundError:
                return
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise ConfigurationError(f"{self.name} is no file: name one that is a backup, or a new one")
            with os.fdopen(descriptor, "rb") as file:
                head = file.read(len(_HEAD))
                if not head:
                    return
                self._check(head)
                self._end = len(_HEAD)
                while (record := self._next(file)) is not None:
                    self._end = file.tell()
                    yield record
                self._size = file.tell()

    def _check(self, head: bytes) -> None:
        if head == _HEAD:
            return
        if head.startswith(_MAGIC) and head[4:5] != _HEAD[4:5]:
            raise ConfigurationError(f"{self.name} was written by a newer version: update genai-cache-magic")
        raise ConfigurationError(f"{self.name} is not a backup: name one, or a file that is not there yet")

    def _next(self, file: IO[bytes]) -> bytes | None:
        prefix = file.read(_LENGTH.size)
        if not prefix:
            return None
        self.is_cut_off = len(prefix) < _LENGTH.size
        if self.is_cut_off:
            return None
        length, check = _LENGTH.unpack(prefix)
        if check != zlib.crc32(prefix[:4]) or not 0 < length <= LARGEST_RECORD:
            raise ConfigurationError(
                f"{self.name} is damaged at byte {file.tell() - _LENGTH.size}: "
                "use another copy of it, or begin a new one"
            )
        record = file.read(length)
        self.is_cut_off = len(record) < length
        return None if self.is_cut_off else record

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock of all processes of this user."""
        lock = FileLock(lock_elsewhere(self.path))
        if not lock.acquire(timeout_s=_LOCK_TIMEOUT_S):
            raise StoreUnavailable(f"{self.name} is being written by another process: wait until it has ended")
        try:
            yield
        finally:
            lock.release()

    def append(self, record: bytes) -> None:
        """Add a record; it counts once all of it is on the disk."""
        framed = _framed(record)
        with map_os_errors(f"writing {self.name}", self.path.parent):
            # On a directory that machines share the lock of this one keeps nobody else from writing.
            if (self.path.stat().st_size if self.path.exists() else 0) != self._size:
                raise StoreUnavailable(f"{self.name} was written by somebody else meanwhile: run it again")
            if not self._end:
                self._create(_HEAD + framed)
                self._end = self._size = len(_HEAD) + len(framed)
                return
            with self.path.open("r+b") as file:
                file.truncate(self._end)  # what a killed writer left
                self._size = self._end
                file.seek(self._end)
                try:
                    _stored(file, framed)
                except OSError:
                    file.truncate(self._end)
                    raise
            self._end += len(framed)
            self._size = self._end

    def _create(self, content: bytes) -> None:
        """Make the file with its first record at once: it is never there without one."""
        target = Path(os.path.realpath(self.path))
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with os.fdopen(host.create_private(draft), "wb") as file:
                _stored(file, content)
            host.move(draft, target)
            host.flush_directory(target.parent)
        finally:
            draft.unlink(missing_ok=True)


def ensure_readable(record: bytes) -> None:
    """Raise ``ValueError`` for a record that no reader accepts: behind it nothing could be read any more."""
    if not 0 < len(record) <= LARGEST_RECORD:
        raise ValueError(f"a record holds 1 to {LARGEST_RECORD:,} bytes, and not {len(record):,}")


def _framed(record: bytes) -> bytes:
    ensure_readable(record)
    length = len(record).to_bytes(4)
    return length + zlib.crc32(length).to_bytes(4) + record


def _stored(file: IO[bytes], content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())
