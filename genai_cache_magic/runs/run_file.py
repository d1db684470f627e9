"""A run file on disk: read as a whole or not at all, and brought up to date by many at once."""

from __future__ import annotations

import errno
import os
import secrets
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from genai_cache_magic import host
from genai_cache_magic.errors import ConfigurationError, DecryptionError, StoreUnavailable, UncacheableRequest
from genai_cache_magic.runs.lines import HEAD, MAX_LINE_BYTES, decode_file, decode_line, encode_file, encode_line
from genai_cache_magic.runs.sealing import is_sealed, open_file, seal_file
from genai_cache_magic.stores.disk.faults import map_os_errors
from genai_cache_magic.stores.disk.locks import FileLock, lock_elsewhere

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from genai_cache_magic.runs.lines import CallName, RecordedCall

PLAIN_SUFFIX: Final = ".jsonl"
"""A new file of this name is one that people can read; of any other it is sealed."""

MAX_FILE_BYTES: Final = 1 << 30
_LOCK_TIMEOUT_S: Final = 30.0
_BETWEEN_S: Final = 1.0
"""How long what was recorded may wait for more while its cell is running [s]."""


class RunFile:
    """The calls in one file. Safe to share between threads, processes and forked children.

    Parameters
    ----------
    path
        Absolute.
    label
        How people are told of it.
    seal_key
        Returns the key that seals it, if it is sealed; raises ``GenaiCacheError`` where there is none.
    is_sealed
        Whether it is to be sealed; None: as the file that is there, and a new one by its name.
    is_private
        Whether it is made for the user alone, with its directory.
    recorded_by
        What people do to have calls recorded in it; empty where nothing does that.
    """

    def __init__(  # noqa: PLR0913 - what it is, by name
        self,
        path: Path,
        *,
        label: str = "",
        seal_key: Callable[[], bytes],
        is_sealed: bool | None = None,
        is_private: bool = False,
        recorded_by: str = "",
    ) -> None:
        self.path = path
        self.label = label or path.name
        self.recorded_by = recorded_by
        self._seal_key = seal_key
        self._sealed = is_sealed
        self._is_private = is_private
        self._lock = host.process_lock()
        self._lines: dict[CallName, bytes] = {}  # guarded by _lock, like the next four
        self._new: dict[CallName, bytes] = {}
        self._used: set[CallName] = set()
        self._seen: tuple[int, ...] | None = None
        self._flushed_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<RunFile {self.label!r}>"

    def __len__(self) -> int:
        with self._lock:
            return len(self._lines.keys() | self._new.keys())

    def load(self, *, may_be_missing: bool = False) -> None:
        """Read it, unless that was done and it has not changed since.

        Raises
        ------
        ConfigurationError
            It is not there, or any part of it can't be used; what was read before stays as it was.
        StoreUnavailable
            It can't be read now.
        """
        with self._lock:
            self._load(may_be_missing=may_be_missing)

    def find(self, name: CallName) -> RecordedCall | None:
        """Return the call of that name."""
        with self._lock:
            line = self._new.get(name) or self._lines.get(name)
            if line is not None:
                self._used.add(name)
        return None if line is None else decode_line(line)

    @property
    def used(self) -> frozenset[CallName]:
        """The calls that were found or kept."""
        with self._lock:
            return frozenset(self._used)

    def retain(self, names: Collection[tuple[str, int]]) -> None:
        """Drop all calls but those of `names`; raises as `flush`."""
        with self._locked():
            kept = {name: line for name, line in self._lines.items() if name in names}
            if kept != self._lines:
                self._write(kept)
                self._lines = kept

    def calls(self) -> list[RecordedCall]:
        """Return all calls, in the order of the file."""
        with self._lock:
            lines = {**self._lines, **self._new}
        return [decode_line(line) for _, line in sorted(lines.items())]

    def keep(self, call: RecordedCall, *, instead: bool = False) -> None:
        """Add `call` unless it is there; `instead` puts it in the place of one that could not be used.

        It is in the file after `flush`.

        Raises
        ------
        UncacheableRequest
            It can't be said in JSON, or is longer than a line may be.
        """
        line = encode_line(call)
        if len(line) > MAX_LINE_BYTES:
            raise UncacheableRequest(f"the answer is longer than a line may be ({MAX_LINE_BYTES:,} bytes)")
        with self._lock:
            if instead or (call.name not in self._lines and call.name not in self._new):
                self._new[call.name] = line
            self._used.add(call.name)

    def is_due(self) -> bool:
        """Tell whether something has waited to be written for so long that a killed kernel would lose it."""
        with self._lock:
            return bool(self._new) and time.monotonic() - self._flushed_at > _BETWEEN_S

    def flush(self) -> None:
        """Write what is new, beside what others have written meanwhile; an unchanged file is not touched.

        Raises
        ------
        ConfigurationError, StoreUnavailable
            It can't be written, or is no run file any more; what is new waits for the next time.
        """
        with self._lock:
            if not self._new:
                return
            self._flushed_at = time.monotonic()
            before = self._lines
            with self._locked():
                # A file that was removed meanwhile lacks what has answered from it: a replay will ask that too.
                lost = {name: before[name] for name in self._used & before.keys()} if self._seen is None else {}
                merged = {**lost, **self._lines, **self._new}
                if merged != self._lines or self._seen is None:
                    self._write(merged)
                self._lines, self._new = merged, {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing meanwhile, with what they have written read."""
        lock = FileLock(lock_elsewhere(self.path))
        with self._lock:
            if not lock.acquire(timeout_s=_LOCK_TIMEOUT_S):
                raise StoreUnavailable(f"{self.label} is being written by another process for long: try again")
            try:
                self._load(may_be_missing=True)
                yield
            finally:
                lock.release()

    def replace(self, calls: Iterable[RecordedCall]) -> None:
        """Put a file of just these `calls` in the place of what is there; raises as `flush`."""
        with self._lock:
            lines = {call.name: encode_line(call) for call in calls}
            self._write(lines)
            self._lines, self._new = lines, {}

    def _load(self, *, may_be_missing: bool) -> None:
        seen = _state_of(self.path)
        if seen is None:
            if may_be_missing:
                self._lines, self._seen = {}, None
                return
            first = f"record it with {self.recorded_by}, or " if self.recorded_by else ""
            raise ConfigurationError(f"there is no run file {self.label}: {first}write its name as it is")
        if seen == self._seen:
            return
        try:
            content = content_of(self.path, f"run file {self.label}", MAX_FILE_BYTES)
            self._lines = decode_file(open_file(content, self._seal_key()) if is_sealed(content) else content)
        except DecryptionError as exc:
            raise ConfigurationError(f"run file {self.label}: {exc}") from exc
        except ConfigurationError as exc:
            raise ConfigurationError(f"run file {self.label}: {exc}") from exc
        self._seen = seen

    def _write(self, lines: dict[CallName, bytes]) -> None:
        content = encode_file(lines.items())
        if len(content) > MAX_FILE_BYTES:
            raise ConfigurationError(
                f"run file {self.label} would be larger than {MAX_FILE_BYTES:,} bytes: record into several files"
            )
        if self._is_to_be_sealed():
            content = seal_file(content, self._seal_key())
        target = Path(os.path.realpath(self.path))
        draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        with map_os_errors(f"writing run file {self.label}", target.parent):
            if self._is_private:
                host.make_private_directories(target.parent)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
            try:
                if self._is_private:
                    os.close(host.create_private(draft))
                with draft.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())  # before it takes the place of what is whole
                host.move(draft, target)
            finally:
                draft.unlink(missing_ok=True)
        self._seen = _state_of(self.path)

    def _is_to_be_sealed(self) -> bool:
        """Return whether it is sealed."""
        if self._sealed is not None:
            return self._sealed
        try:
            with self.path.open("rb") as file:
                return is_sealed(file.read(8))
        except OSError:
            return self.path.suffix != PLAIN_SUFFIX


def is_run_file(path: Path) -> bool:
    """Tell whether the file at `path` begins as a run file does, plain or sealed."""
    try:
        with path.open("rb") as file:
            begins = file.read(len(HEAD))
    except OSError:
        return False
    return begins == HEAD or is_sealed(begins)


def content_of(path: Path, label: str, limit: int) -> bytes:
    """Return what is in the file at `path`, which people know as `label`, if that is no more than `limit` [bytes].

    Raises
    ------
    ConfigurationError
        It is larger.
    StoreUnavailable
        It can't be read.
    """
    with map_os_errors(f"reading {label}"):
        descriptor = host.open_to_read(path, follow_link=True)
        with os.fdopen(descriptor, "rb") as file:
            content = file.read(limit + 1)
    if len(content) > limit:
        raise ConfigurationError(f"it is larger than {limit} bytes")
    return content


def _state_of(path: Path) -> tuple[int, ...] | None:
    """Return what changes when the file is written: device, number, size, time; None if there is none.

    Raises
    ------
    ConfigurationError
        No file can have that name.
    """
    try:
        status = path.stat()
    except ValueError:
        raise ConfigurationError(f"run file {path.name!r}: no file can be called so") from None
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise ConfigurationError(f"run file {path.name[:40]}...: no file can have so long a name") from None
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
