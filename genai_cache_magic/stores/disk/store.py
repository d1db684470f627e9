"""L1: opaque bytes in a private local directory, shared by all processes of a machine."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores.base import CheckReport, Held, Put
from genai_cache_magic.stores.disk.database import (
    DATABASE_FILES,
    Access,
    audit,
    audit_to_read,
    connect,
    identity,
    quarantine,
    remove_quarantine,
    rewrite,
)
from genai_cache_magic.stores.disk.directory import ensure_private_directory
from genai_cache_magic.stores.disk.diskcache import FOREIGN_ERRORS, BytesCache, DiskConfig, evict
from genai_cache_magic.stores.disk.faults import describe, hinders_writing, is_damage, lacks_room, map_os_errors, remedy
from genai_cache_magic.stores.disk.files import ValueFiles
from genai_cache_magic.stores.disk.home import Home, Losses
from genai_cache_magic.stores.disk.locks import FileLock
from genai_cache_magic.stores.disk.rows import ReadOnlyRows, Rows
from genai_cache_magic.stores.keys import check_blob, check_key, key_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["CheckReport", "DiskConfig", "DiskStore"]

_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")

_LOCK_NAME = "open.lock"
_LOOK_EVERY_S = 1.0  # how often to see whether another process put our database aside, or somebody removed it
_ROOM_BYTES = 1 << 15  # more than the small documents beside the entries take
_SWEEP_AT_OPEN = 64  # files looked at; the rest is for `check`


class DiskStore:
    """Opaque bytes in a local directory, shared by all processes of a machine. A ``Store``.

    Nothing is opened before the first use. A damaged database is put aside and rebuilt: its entries are
    misses. Each thread that uses the store has its own connection, closed with the thread.

    Parameters
    ----------
    directory
        Made private to its owner if it is ours to change; see ``ensure_private_directory``.
    config
        Limits and time-outs.
    clock
        The wall clock [s since 1970]: entries outlive the process.
    on_loss
        Told in a sentence what was lost: a damaged database was put aside, or somebody removed it.
    home
        What `directory` lies in, if that is more than `directory` itself; it tells its own losses.

    Raises
    ------
    ConfigurationError
        The directory can't be used; the message says why and what to do.
    """

    def __init__(
        self,
        directory: Path,
        config: DiskConfig | None = None,
        *,
        clock: Callable[[], float] = time.time,
        on_loss: Callable[[str], None] = lambda _: None,
        home: Home | None = None,
    ) -> None:
        self._home = home or Home(directory, losses=Losses(on_loss))
        self._directory = ensure_private_directory(directory, device=self._home.device)
        self._config = config or DiskConfig()
        self._clock = clock
        self._opening = threading.Lock()
        self._pid = os.getpid()
        self._cache: Rows | None = None  # replaced under _opening
        self._look_at = 0.0  # [s, monotonic]; whoever resets it only makes the next look come sooner
        self._is_closed = False  # written under _opening
        self._rebuilds = 0  # written under _opening

    @property
    def directory(self) -> Path:
        """The private directory: absolute, links resolved."""
        return self._directory

    def get(self, key: str) -> bytes | None:
        """Return the bytes last put under `key`, or None if absent, expired or damaged at rest."""
        check_key(key)
        return self._run(Rows.read, bytes.fromhex(key))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of those `keys` that are there; half the time of as many ``get``."""
        wanted = [_raw(key) for key in keys]
        found = self._run(Rows.read_many, wanted)
        return {key.hex(): blob for key, blob in found.items()}

    def put(self, key: str, blob: bytes, *, ttl_s: float) -> None:
        """Keep `blob` under `key` for `ttl_s` [s], evicting what was stored longest ago to make room."""
        check_key(key)
        check_blob(blob)
        self._write(BytesCache.write, bytes.fromhex(key), blob, ttl_s)

    def held(self, key: str) -> Held | None:
        """Return what `get` would, with its revision: the digest of its record."""
        check_key(key)
        found = self._run(Rows.read_revision, bytes.fromhex(key))
        return None if found is None else Held(*found)

    def put_if(self, key: str, blob: bytes, *, ttl_s: float, held: Held | None) -> bool:
        """Put `blob` if `key` still holds `held`, and return whether it did: one transaction."""
        return self.put_many_if([Put(key, blob, ttl_s, held)])[0]

    def held_many(self, keys: Iterable[str]) -> dict[str, Held]:
        """Return what `held` does of those `keys` that are there."""
        wanted = [_raw(key) for key in keys]
        return {key.hex(): Held(*found) for key, found in self._run(Rows.read_revisions, wanted).items()}

    def put_many_if(self, puts: Sequence[Put]) -> list[bool]:
        """Do for each of `puts` what `put_if` does, in one transaction."""
        for put in puts:
            check_blob(put.blob)
        rows = [(_raw(put.key), put.blob, put.ttl_s, put.held and put.held.revision) for put in puts]
        return self._write(BytesCache.write_many_if, rows) if rows else []

    def delete_many(self, keys: Iterable[str]) -> set[str]:
        """Remove `keys` in one transaction, and return those that were there and had not expired."""
        wanted = [_raw(key) for key in keys]
        return {key.hex() for key in self._free(BytesCache.remove_many, wanted)} if wanted else set()

    def delete(self, key: str) -> bool:
        """Remove `key` and return whether it was there and had not expired."""
        return bool(self.delete_many([key]))

    def scan(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys that start with `prefix` and have not expired, in ascending order."""
        bounds = key_range(prefix)
        last = b""
        while bounds and (batch := self._run(Rows.keys_after, bounds, last)):
            yield from (key.hex() for key in batch if len(key) == 32)  # noqa: PLR2004 - half of 64 hex digits
            last = batch[-1]

    def count(self) -> int:
        """Return the number of entries, expired ones not yet removed included."""
        return self._run(Rows.counter, "count")

    def size_bytes(self) -> int:
        """Return the room taken by the database and the value files [bytes], which is what the limit bounds."""
        return self._run(Rows.volume)

    def log_bytes(self) -> int:
        """Return the room taken by the database's write-ahead log [bytes]: megabytes once something was stored."""
        with contextlib.suppress(OSError):
            return (self._directory / DATABASE_FILES[1]).stat().st_size
        return 0

    def sizes(self) -> dict[str, int]:
        """Return the room that values take, by key [bytes]."""
        return {key.hex(): size_bytes for key, size_bytes in self._run(Rows.sizes) if len(key) == 32}  # noqa: PLR2004 - half of 64 hex digits

    def check(self) -> CheckReport:
        """Read everything, remove what is damaged, expired or left by killed writers, and say what that was."""
        rebuilds = self._rebuilds
        removed_rows = self._free(BytesCache.repair)
        removed_rows += sum(self.get(key) is None for key in self.scan())
        removed_files = self._free(BytesCache.sweep, self._config.orphan_age_s, None)
        return CheckReport(removed_rows, removed_files, is_rebuilt=self._rebuilds > rebuilds)

    def make_room(self) -> None:
        """Give up what was put aside and what was stored longest ago, so that something small can be written.

        Raises
        ------
        StoreUnavailable
            There is nothing that could be given up, or it can't be.
        """
        with map_os_errors(f"making room in {self._directory}"):
            remove_quarantine(self._directory)
        self._free(BytesCache.evict, _ROOM_BYTES)
        self._home.losses.add(
            f"the disk of {self._directory} is full: answers stored longest ago were given up for room"
        )
        self._home.losses.tell()

    def erase(self) -> None:
        """Remove every entry by removing the files that hold them, which needs no room; other processes notice it."""
        with self._opening:
            self._cache = None
            with map_os_errors(f"removing what is in {self._directory}", self._directory):
                remove_quarantine(self._directory)
                remove_quarantine(quarantine(self._directory, now=self._clock()).parent)

    def close(self) -> None:
        """Close every connection; later calls raise ``StoreUnavailable``. May be called twice."""
        with self._opening:
            self._is_closed = True
            self._cache = None  # its connections, one per thread, close themselves

    def _write(self, operation: Callable[[BytesCache, Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        """As `_run`, but see first whether all is still there: nothing is put where nobody will find it."""
        cache = self._cache
        if cache is not None and not (cache.is_in_place() and self._home.is_in_place()):
            self._look_at = 0.0

        def write(rows: Rows) -> _T:
            if isinstance(rows, BytesCache):
                return operation(rows, *args)
            raise StoreUnavailable(rows.reason if isinstance(rows, ReadOnlyRows) else "")

        try:
            return self._run(write)
        except StoreUnavailable as error:
            if not lacks_room(error.__cause__):
                raise
        # What was removed is in the log still, where it takes room instead of giving it.
        self._run(Rows.move_log)
        return self._run(write)

    def _free(self, operation: Callable[[BytesCache, Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        """As `_write`; where there is no room for a log, change the database in place, unless others have it open."""
        try:
            return self._write(operation, *args)
        except StoreUnavailable as error:
            cache = self._cache
            if not lacks_room(error.__cause__) and not (isinstance(cache, ReadOnlyRows) and cache.lacks_room):
                raise
        del cache
        with self._opening:
            self._cache = None  # our own connections would be in the way
            with FileLock(self._directory / _LOCK_NAME).hold(timeout_s=self._config.open_timeout_s):
                try:
                    return self._run_alone(operation, *args)
                except StoreUnavailable as error:
                    if not lacks_room(error.__cause__):
                        raise
                self._rewrite()
                return self._run_alone(operation, *args)

    def _rewrite(self) -> None:
        """Give up what was stored longest ago where there is not even the room to move the log into the database."""
        names: list[object] = []
        try:
            rewrite(
                self._directory,
                self._config.busy_timeout_s,
                change=lambda connection: names.extend(evict(connection, _ROOM_BYTES)),
            )
        except FOREIGN_ERRORS as error:
            raise self._no_room(error) from error
        for name in names:
            ValueFiles(str(self._directory)).remove(name)
        self._home.losses.add(
            f"the disk of {self._directory} is full: answers stored longest ago were given up for room"
        )

    def _no_room(self, error: Exception) -> StoreUnavailable:
        return StoreUnavailable(
            f"there is no room in {self._directory}, and none can be made ({describe(error)}): free some on that disk, "
            "close other notebooks that use the cache, or run `genai-cache clear`"
        )

    def _run_alone(self, operation: Callable[[BytesCache, Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        directory = str(self._directory)
        try:
            with contextlib.closing(connect(directory, self._config.busy_timeout_s, Access.ALONE)) as connection:
                audit(connection, settings=self._config.settings(), is_alone=True)
            with contextlib.closing(BytesCache(directory, self._config, self._clock, Access.ALONE)) as cache:
                return operation(cache, *args)
        except FOREIGN_ERRORS as error:
            raise self._no_room(error) from error

    def _run(self, operation: Callable[[Rows, Unpack[_Ts]], _T], *args: *_Ts) -> _T:
        """Return what `operation` returns, after a rebuild if it finds the database damaged."""
        cache = self._cache
        if cache is None or time.monotonic() >= self._look_at:
            cache = self._ensure_open()
        try:
            return operation(cache, *args)
        except FOREIGN_ERRORS as error:
            cache.drop_connection()
            if cache.is_in_place():
                _raise_unless_damage(error)
        cache = self._ensure_open(damaged=cache)
        try:
            return operation(cache, *args)
        except FOREIGN_ERRORS as error:
            cache.drop_connection()
            _raise_unless_damage(error)
            raise StoreUnavailable(f"{self._directory} is damaged again after a rebuild: {describe(error)}") from error

    def _ensure_open(self, damaged: Rows | None = None) -> Rows:
        """Return a cache on the file that now bears the database's name, and is not the `damaged` one."""
        if self._pid != os.getpid():  # after a fork the lock may be held by a thread that was left behind
            self._pid, self._opening = os.getpid(), threading.Lock()
        try:
            with self._opening:
                return self._look(damaged)
        finally:
            self._home.losses.tell()

    def _look(self, damaged: Rows | None) -> Rows:
        """Return `_ensure_open`'s cache; the caller holds `_opening`."""
        if self._is_closed:
            raise StoreUnavailable(f"the store in {self._directory} was closed")
        was_removed = self._home.restore()
        cache = self._cache
        is_gone = cache is not None and not cache.is_in_place()
        if is_gone and not was_removed:
            self._home.losses.add(
                f"the database of answers in {self._directory} was removed, or begun anew by another process: "
                "what it held is gone",
                part="database",
            )
        if cache is None or cache is damaged or is_gone or isinstance(cache, ReadOnlyRows):
            self._cache = None
            cache = self._open(suspect=None if damaged is None else damaged.identity)
            self._cache = cache
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        return cache

    def _open(self, suspect: tuple[int, int] | None) -> Rows:
        """Open the database, for reading alone where it can't be written now."""
        with _map_configuration():
            ensure_private_directory(self._directory, device=self._home.device)
        try:
            with (
                map_os_errors(f"opening {self._directory}"),
                FileLock(self._directory / _LOCK_NAME).hold(timeout_s=self._config.open_timeout_s),
            ):
                return self._open_to_write(str(self._directory), suspect)
        except StoreUnavailable as error:
            # No name for the cause: a frame that holds an error is held by it, connections and all, until a collection.
            if error.__cause__ is not None and hinders_writing(error.__cause__):
                rows = self._open_to_read(error.__cause__)
                if rows is not None:
                    return rows
            raise

    def _open_to_write(self, directory: str, suspect: tuple[int, int] | None) -> BytesCache:
        """Open the database under the directory's lock; put it aside first if it is damaged or the `suspect`."""
        if suspect is not None and identity(directory) == suspect:
            self._put_aside()
        try:
            return self._open_audited(directory)
        except FOREIGN_ERRORS as error:
            _raise_unless_damage(error)
        self._put_aside()
        try:
            return self._open_audited(directory)
        except FOREIGN_ERRORS as error:
            raise StoreUnavailable(f"no database can be made in {directory}: {describe(error)}") from error

    def _open_to_read(self, error: BaseException) -> ReadOnlyRows | None:
        directory, timeout_s = str(self._directory), self._config.busy_timeout_s
        # In words: the error itself would keep alive what its traceback names, connections among it.
        reason = (
            f"nothing can be stored or removed in {directory} ({describe(error)}), but what is there is served. "
            f"{remedy(error, self._directory)}"
        )
        for access in (Access.READ, Access.UNCHANGED):
            with contextlib.suppress(*FOREIGN_ERRORS):
                with contextlib.closing(connect(directory, timeout_s, access)) as connection:
                    audit_to_read(connection)
                rows = ReadOnlyRows(directory, timeout_s, self._clock, access)
                rows.reason, rows.lacks_room = reason, lacks_room(error)
                return rows
        return None

    def _open_audited(self, directory: str) -> BytesCache:
        with contextlib.closing(connect(directory, self._config.busy_timeout_s, Access.CREATE)) as connection:
            audit(connection, settings=self._config.settings())
            cache = BytesCache(directory, self._config, self._clock)
            cache.sweep(self._config.orphan_age_s, _SWEEP_AT_OPEN)
            return cache

    def _put_aside(self) -> None:
        aside = quarantine(self._directory, now=self._clock())
        self._rebuilds += 1
        self._home.losses.add(
            f"the database of answers in {self._directory} was damaged: it is put aside in {aside.name}, "
            "and its answers are misses"
        )


def _raw(key: str) -> bytes:
    """Return the 32 bytes that `key` stands for; raises ``ValueError`` for one of another shape."""
    check_key(key)
    return bytes.fromhex(key)


@contextlib.contextmanager
def _map_configuration() -> Iterator[None]:
    """Turn a directory that became unfit while it was in use into ``StoreUnavailable``, with the same words."""
    try:
        yield
    except ConfigurationError as error:
        raise StoreUnavailable(str(error)) from error


def _raise_unless_damage(error: Exception) -> None:
    """Map a foreign error of a disk tier to ``StoreUnavailable``; return if it says that the database is damaged."""
    if not is_damage(error):
        raise StoreUnavailable(f"the cache on disk can't be used now: {describe(error)}") from error
