"""One small value that many processes change, in memory and in a file."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from genai_cache_magic import host
from genai_cache_magic.host import create_private, flush_directory, move, set_time
from genai_cache_magic.stores.disk.faults import lacks_room, map_os_errors
from genai_cache_magic.stores.disk.files import read_regular
from genai_cache_magic.stores.disk.locks import FileLock
from genai_cache_magic.stores.keys import check_blob

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_COARSEST_TIMESTAMP_NS = 2_000_000_000  # FAT keeps times to 2 s; every other file system is finer


class MemoryDocument:
    """A document of this process. A ``Document``; compare-and-swap holds between threads."""

    def __init__(self) -> None:
        self._lock = host.process_lock()
        self._value: bytes | None = None  # guarded by _lock
        self._changes = 0  # guarded by _lock

    def version(self) -> object:
        """Return a token that differs after every change; None if absent."""
        with self._lock:
            return None if self._value is None else self._changes

    def load(self) -> bytes | None:
        """Return the whole value, or None if it was never written."""
        with self._lock:
            return self._value

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Write `new` if the value is still `expected` (None: absent); return whether it was written."""
        check_blob(new)
        with self._lock:
            if self._value != expected:
                return False
            self._value = new
            self._changes += 1
            return True


class FileDocument:
    """A document in a file of a local directory. A ``Document`` between all processes of a machine.

    Readers see the old value or the new one, whole, whatever kills the writer: the new value is written
    beside the file, flushed to the medium, and renamed over it, under a lock that dies with its holder.

    Parameters
    ----------
    path
        The file; beside it appear ``<name>.lock`` and, while a value is written, ``<name>.new``.
    lock_timeout_s
        How long a writer waits for others before it raises ``StoreUnavailable`` [s].
    clock_ns
        The wall clock [ns], from which version tokens start.
    ensure
        Makes the directory if it is not there; called before anything is written.
    most_bytes
        No value is larger [bytes].
    make_room
        Called where there is no room for the new value, which is then tried once more: what makes room by
        forgetting answers has to say so first, on a full disk too.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        path: Path,
        *,
        lock_timeout_s: float = 10.0,
        clock_ns: Callable[[], int] = time.time_ns,
        ensure: Callable[[], None] = lambda: None,
        most_bytes: int = 1 << 26,
        make_room: Callable[[], None] | None = None,
    ) -> None:
        self._path = os.fspath(path)
        self._new_path = path.with_name(f"{path.name}.new")
        self._directory = path.parent
        self._lock_path = path.with_name(f"{path.name}.lock")
        self._lock_timeout_s = lock_timeout_s
        self._clock_ns = clock_ns
        self._ensure = ensure
        self._most_bytes = most_bytes
        self._make_room = make_room

    def version(self) -> object:
        """Return the file's time, number and size, which no two values share; None if absent."""
        try:
            status = os.lstat(self._path)
        except FileNotFoundError:
            return None
        except OSError:
            with map_os_errors(f"reading {self._path}"):
                raise
        return status.st_mtime_ns, status.st_ino, status.st_size

    def load(self) -> bytes | None:
        """Return the whole value, or None if it was never written.

        A link, a pipe or a device in its place is an empty value: damage, which the next value takes the place of.
        """
        with map_os_errors(f"reading {self._path}"):
            try:
                content = read_regular(self._path, lambda size: size <= self._most_bytes)
                if content is None and stat.S_ISDIR(os.lstat(self._path).st_mode):
                    raise IsADirectoryError(errno.EISDIR, "")
            except FileNotFoundError:
                return None
            return content or b""

    def replace(self, new: bytes, *, expected: bytes | None) -> bool:
        """Write `new` if the value is still `expected` (None: absent); return whether it was written."""
        check_blob(new)
        self._ensure()
        if self.load() != expected:
            return False  # spares the lock; the value may come back to `expected`, but this caller asked now
        with FileLock(self._lock_path).hold(timeout_s=self._lock_timeout_s):
            if self.load() != expected:
                return False
            with map_os_errors(f"writing {self._path}", self._directory):
                self._write_with_room(new)
                move(self._new_path, self._path)
                flush_directory(self._directory)
            return True

    def _write_with_room(self, new: bytes) -> None:
        try:
            self._write_aside(new)
        except OSError as error:
            if self._make_room is None or not lacks_room(error):
                raise
            self._make_room()
            self._write_aside(new)

    def _write_aside(self, new: bytes) -> None:
        """Write the file that will take the document's name; the caller holds the lock, so it has one writer."""
        # A fresh file, not a truncated one: whatever a killed writer left, a link included, is not followed.
        self._new_path.unlink(missing_ok=True)
        descriptor = create_private(self._new_path)
        with contextlib.ExitStack() as undo:
            undo.callback(self._new_path.unlink, missing_ok=True)
            with os.fdopen(descriptor, "wb") as file:
                file.write(new)
                file.flush()
                self._date(descriptor)
                os.fsync(descriptor)
            undo.pop_all()

    def _date(self, descriptor: int) -> None:
        """Give the new file a later time than the one it replaces.

        Two writes can fall into one tick of the kernel's clock, and the second may get the number of the
        file that the first removed, so the time that the kernel sets does not tell versions apart.
        """
        try:
            before_ns = os.lstat(self._path).st_mtime_ns
        except FileNotFoundError:
            return
        for step_ns in (1, _COARSEST_TIMESTAMP_NS):
            moment_ns = max(self._clock_ns(), before_ns + step_ns)
            set_time(descriptor, self._new_path, moment_ns)
            if os.fstat(descriptor).st_mtime_ns > before_ns:
                return
