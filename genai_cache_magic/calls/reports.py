"""What other processes did for a scope: each appends its records to a file of its own, which the scope reads.

The files stand in a directory of the user's alone, made by the process of the scope before it starts another, and
removed with the scope. A line is written at once, so that what a killed process told is told; a line that it did not
finish is none. What is written is what a call record holds: no prompt, no answer, no secret.

Lines are JSON objects with one of: ``hello`` (the process follows the scope), ``open`` (a call that was sent, with its
``ticket``), ``call`` (with the ticket that it ``closes``, or 0), ``trouble``, ``lost`` (a `ReplayMiss` or the like).
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
import weakref
from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from genai_cache_magic import host
from genai_cache_magic.errors import BudgetExceeded, CellInterrupt, NotSent, ReplayMiss, received
from genai_cache_magic.events import CallRecord, Outcome, Tier, Trouble

if TYPE_CHECKING:
    from collections.abc import Iterator

_MONEY: Final = ("spent_usd", "saved_usd")
_LOST: Final = {kind.__name__: kind for kind in (ReplayMiss, BudgetExceeded, NotSent)}
PURSE: Final = "budget"
"""The name of the file beside those lines that says what the scope has spent of its budget."""
_MAX_BYTES: Final = 64 * 1024**2
"""What is read of one process [bytes]: some hundred thousand calls."""


class Told(NamedTuple):
    """Something that another process told.

    `ticket` names its call within all processes, None if it names none; `is_open` says that the call is on its way.
    """

    what: CallRecord | Trouble | CellInterrupt | None
    ticket: tuple[str, int] | None = None
    is_open: bool = False

    def __repr__(self) -> str:
        """Leave the content out."""
        return f"<Told {type(self.what).__name__}>"


class Reports:
    """The files of one scope, seen from any process.

    Parameters
    ----------
    directory
        Given in a process that follows the scope of another one; its files are there.
    """

    def __init__(self, directory: str = "") -> None:
        self.directory = directory or str(Path(tempfile.gettempdir(), f"genai-cache-{secrets.token_hex(16)}"))
        self._owner = 0 if directory else os.getpid()
        self._lock = host.process_lock()
        self._is_made = False  # guarded by _lock, like all below
        self._read: dict[str, int] = {}  # file name -> bytes that were read
        self._file: tuple[int, int] | None = None  # process, descriptor

    @property
    def is_elsewhere(self) -> bool:
        """Whether this process is another than the scope's, which must be told."""
        return self._owner != host.process_id()

    def prepare(self) -> None:
        """Make the directory, before a process is started that may write to it."""
        with self._lock, suppress(OSError):
            if not self._is_made and not self.is_elsewhere:
                # Not if it is there: nobody but us may have made it.
                Path(self.directory).mkdir(mode=host.PRIVATE_DIRECTORY)
                self._is_made = True
                weakref.finalize(self, _remove, self.directory, os.getpid())

    # -- in another process

    @property
    def is_prepared(self) -> bool:
        """Whether there may be other processes that tell something here."""
        return self._is_made

    def hello(self) -> None:
        """Tell that this process follows the scope."""
        if self._file is None or self._file[0] != os.getpid():
            self._write({"hello": True})

    def tell(self, event: CallRecord | Trouble, ticket: int = 0, *, is_open: bool = False) -> None:
        """Tell `event`; of a call, which ticket it has or closes."""
        if isinstance(event, Trouble):
            self._write({"trouble": asdict(event)})
            return
        fields = {**asdict(event), **{name: _text(getattr(event, name)) for name in _MONEY}, "similar_text": ""}
        self._write({"open" if is_open else "call": fields, "ticket": ticket})

    def tell_lost(self, error: CellInterrupt) -> None:
        """Tell that `error` was raised here; if it gets to the scope's process by itself, it is known again there."""
        error.token = secrets.token_hex(8)
        kind = next(name for name, kind in _LOST.items() if isinstance(error, kind))
        self._write({"lost": kind, "text": str(error), "token": error.token})

    def _write(self, line: dict[str, Any]) -> None:
        # A disk that is full, or a scope that is gone: no call fails of that.
        with self._lock, suppress(OSError):
            if self._file is None or self._file[0] != os.getpid():
                path = Path(self.directory, f"{os.getpid()}-{secrets.token_hex(4)}")
                self._file = os.getpid(), host.create_private(path)
            os.write(self._file[1], json.dumps(line).encode() + b"\n")

    # -- in the scope's process

    def read(self) -> Iterator[Told]:
        """Return what was told since the last time."""
        if not self._is_made or self.is_elsewhere:
            return
        with self._lock:
            lines = [(path.name, line) for path in self._files() for line in self._new_lines(path)]
        for name, line in lines:
            with suppress(ValueError, KeyError, TypeError, AttributeError, InvalidOperation):
                yield _told(name, json.loads(line))

    def _files(self) -> list[Path]:
        with suppress(OSError):
            return sorted(path for path in Path(self.directory).iterdir() if not path.name.startswith(PURSE))
        return []

    def _new_lines(self, path: Path) -> list[bytes]:
        start = self._read.get(path.name, 0)
        try:
            with os.fdopen(host.open_to_read(path), "rb") as file:
                file.seek(start)
                data = file.read(max(0, _MAX_BYTES - start))
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._read[path.name] = start + len(whole)
        return whole.splitlines()


def _told(name: str, line: dict[str, Any]) -> Told:
    if "trouble" in line:
        return Told(Trouble(**line["trouble"]))
    if "lost" in line:
        return Told(received(line["token"]) or _LOST[line["lost"]](line["text"]))
    if "hello" in line:
        return Told(None)
    fields = line.get("open") or line["call"]
    fields["outcome"] = Outcome(fields["outcome"])
    fields["tier"] = None if fields["tier"] is None else Tier(fields["tier"])
    fields["differs"] = tuple(fields["differs"])
    fields.update({name: None if fields[name] is None else Decimal(fields[name]) for name in _MONEY})
    return Told(CallRecord(**fields), (name, line["ticket"]), "open" in line)


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else str(amount)


def _remove(directory: str, owner: int) -> None:
    """Remove the files of a scope that is gone; not in a forked child, where the scope is a copy."""
    if os.getpid() == owner:
        shutil.rmtree(directory, ignore_errors=True)
