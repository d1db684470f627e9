"""Ends this process, or raises, at the n-th step of writing: a record half written, a document or an answer put."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai_cache_magic.entries.placing import Places
from genai_cache_magic.ops import backup
from genai_cache_magic.stores import records
from genai_cache_magic.stores.documents import FileDocument

if TYPE_CHECKING:
    from collections.abc import Callable


class Killed(BaseException):
    """What stands for the end of the process."""


def killed() -> None:
    """Stand for the end of the process."""
    raise Killed


def dies_at(point: int, patch: Callable[[Any, str, Any], None], die: Callable[[], None] = killed) -> None:
    """Let the writing of backups and restores die at its step `point`, counted from 0; each answer is a record."""
    step = itertools.count()

    def stepped() -> None:
        if next(step) == point:
            die()

    stored, replaced, placed = records._stored, FileDocument.replace, Places.place

    def store(file: Any, content: bytes) -> None:
        file.write(content[: len(content) // 2])
        file.flush()
        stepped()
        stored(file, content[len(content) // 2 :])
        stepped()

    def replace(self: FileDocument, new: bytes, *, expected: bytes | None) -> bool:
        stepped()
        is_replaced = replaced(self, new, expected=expected)
        stepped()
        return is_replaced

    def place(self: Places, *arguments: Any, **how: Any) -> Any:
        stepped()
        filled = placed(self, *arguments, **how)
        stepped()
        return filled

    patch(backup, "_RECORD_BYTES", 1)
    patch(records, "_stored", store)
    patch(FileDocument, "replace", replace)
    patch(Places, "place", place)


def main(what: str, directory: str, file: str, point: int) -> None:
    """Back up from, or restore into, `directory`, and be killed at step `point`."""
    from backups import Machine

    dies_at(point, setattr, lambda: os.kill(os.getpid(), signal.SIGKILL))
    machine = Machine(Path(directory))
    (machine.backs_up if what == "backup" else machine.restores)(Path(file))


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))  # type: ignore[call-arg]
