"""Values too large for a database row: one file each, under names of one shape that are never trusted."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from genai_cache_magic.host import PRIVATE_DIRECTORY, create_private, open_to_read
from genai_cache_magic.stores.disk.faults import FOREIGN_FILE_ERRNOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEY_DIGITS = 20  # a name starts with digits of its key, so that the row of a file is found by the key's index
_RANDOM_BYTES = 6  # and ends at random, so that a new value never overwrites the file that a reader may have open
_CREATE_TRIES = 100
_is_name = re.compile(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{28}\.val").fullmatch
_is_shard = re.compile(r"[0-9a-f]{2}").fullmatch


def read_regular(path: str, fits: Callable[[int], bool]) -> bytes | None:
    """Return what is in a file; None if a link, a pipe, a directory or a device is in its place, or its size is wrong.

    SECURITY: asked before anything is read: who can put a pipe or a link in its place keeps nobody waiting, and sends
    nobody to ``/dev/zero``.

    Parameters
    ----------
    fits
        Says whether a file of this size [bytes] may be ours.

    Raises
    ------
    OSError
        It is absent, or the medium or the process is in trouble.
    """
    try:
        descriptor = open_to_read(path)
    except OSError as error:
        if error.errno in FOREIGN_FILE_ERRNOS:
            return None
        raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or not fits(status.st_size):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


class ValueFiles:
    """The value files ``xx/yy/<28 hex>.val`` of one directory.

    SECURITY: names come from a database that somebody may have edited. A name of another shape (absolute,
    ``..``, not a text) and a path that leads through a link are never opened and never removed.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def new_name(self, key: bytes) -> str:
        """Return an unused name for a value of the 32-byte `key`."""
        digits = key.hex()[:_KEY_DIGITS] + os.urandom(_RANDOM_BYTES).hex()
        return f"{digits[:2]}/{digits[2:4]}/{digits[4:]}.val"

    def write(self, name: str, data: bytes) -> None:
        """Write a new file, readable by its owner alone; whole or, with an ``OSError``, not at all."""
        path = os.path.join(self._directory, name)  # noqa: PTH118 - names are texts, as the database keeps them
        descriptor = self._create(path)
        with contextlib.ExitStack() as undo:
            undo.callback(self.remove, name)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            undo.pop_all()

    def read(self, name: object, size: object) -> bytes | None:
        """Return the `size` [bytes] of a file, or None if it is not a regular file of ours of that size.

        Raises
        ------
        OSError
            The medium or the process is in trouble; says nothing about the file.
        """
        path = self._locate(name)
        if path is None:
            return None
        try:
            return read_regular(path, lambda found: found == size)  # a row can't make us fill memory from a huge file
        except FileNotFoundError:
            return None

    def remove(self, name: object) -> None:
        """Remove a file and its directories if that empties them; does nothing if it can't."""
        path = self._locate(name)
        if path is None:
            return
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108 - see above; removes a link itself, not what it points to
        with contextlib.suppress(OSError):
            inner = os.path.dirname(path)  # noqa: PTH120 - see above
            os.rmdir(inner)  # noqa: PTH106 - see above
            os.rmdir(os.path.dirname(inner))  # noqa: PTH106, PTH120 - see above

    def scan(self, *, first_shard: int = 0) -> Iterator[tuple[str, float]]:
        """Yield the name and the time [s since 1970] of every file, from shard `first_shard` (0-255) on, round."""
        shards = sorted(name for name in _names(Path(self._directory)) if _is_shard(name))
        after = [shard for shard in shards if int(shard, 16) >= first_shard]
        for shard in after + shards[: len(shards) - len(after)]:
            for inner in _names(Path(self._directory, shard)):
                for leaf in _names(Path(self._directory, shard, inner)):
                    name = f"{shard}/{inner}/{leaf}"
                    path = self._locate(name)
                    if path is not None:
                        with contextlib.suppress(OSError):
                            yield name, os.lstat(path).st_mtime

    def sweep(self, is_used: Callable[[str], bool], *, before: float, at_most: int | None, first_shard: int = 0) -> int:
        """Remove files that no row names, as killed writers leave them; return how many.

        Parameters
        ----------
        is_used
            Whether a row names this file.
        before
            Younger files [s since 1970] stay: their writer may be about to write the row.
        at_most
            How many files to look at; None for all.
        first_shard
            Where to start, 0-255.
        """
        removed = 0
        for seen, (name, modified_at) in enumerate(self.scan(first_shard=first_shard)):
            if at_most is not None and seen >= at_most:
                break
            if modified_at < before and not is_used(name):
                self.remove(name)
                removed += 1
        return removed

    def _create(self, path: str) -> int:
        inner = Path(path).parent
        for _ in range(_CREATE_TRIES - 1):
            with contextlib.suppress(FileNotFoundError):
                return create_private(path)
            # Another process may empty and remove a directory again at any moment: before the other one is made in
            # it, or (FileExistsError) before it is seen to be one.
            with contextlib.suppress(FileNotFoundError, FileExistsError):
                for directory in (inner.parent, inner):
                    directory.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
        return create_private(path)

    def _locate(self, name: object) -> str | None:
        """Return the path of `name` if it is of our shape and leads through real directories."""
        if not isinstance(name, str) or not _is_name(name):
            return None
        for depth in (2, 5):  # "xx" and "xx/yy"
            path = os.path.join(self._directory, name[:depth])  # noqa: PTH118 - see above
            try:
                if not stat.S_ISDIR(os.lstat(path).st_mode):
                    return None
            except OSError:
                return None
        return os.path.join(self._directory, name)  # noqa: PTH118 - see above


def key_bounds(name: str) -> tuple[bytes, bytes]:
    """Return the lowest and highest 32-byte keys that a file called `name` may belong to."""
    digits = (name[:2] + name[3:5] + name[6:])[:_KEY_DIGITS]
    return bytes.fromhex(digits.ljust(64, "0")), bytes.fromhex(digits.ljust(64, "f"))


def _names(directory: Path) -> list[str]:
    # SECURITY: a link in place of a shard would make us look at, and sweep, files of others.
    if directory.is_symlink():
        return []
    try:
        return [path.name for path in directory.iterdir()]
    except OSError:
        return []
