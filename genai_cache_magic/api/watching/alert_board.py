"""Which alerts are in force in the processes of this machine: a file beside the answers, for whoever else looks.

One JSON object: name of a process, made up at random -> the sentences in force there, and until when that is good
[s since the epoch]. A process that is gone is forgotten by then.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.errors import GenaiCacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from genai_cache_magic.stores.base import Document

    FileOf = Callable[[str], Document]

NAME: Final = "alerts"
_ATTEMPTS: Final = 8
_LONGEST_S: Final = 300.0
"""Nobody says for longer what is in force [s]: a clock that was set would make it stand there for ever."""
_MOST: Final = 100
_MOST_CHARS: Final = 300


class AlertBoard:
    """Where this process says which alerts are in force.

    Parameters
    ----------
    files
        What returns a file by its name beside the answers, of each cache that is open; None of one in memory.
    clock
        The wall clock [s since the epoch], which other processes have too.
    """

    def __init__(self, files: Callable[[], Iterable[FileOf | None]], *, clock: Callable[[], float] = time.time) -> None:
        self._files = files
        self._clock = clock
        self._own = (0, "")

    def publish(self, sentences: tuple[str, ...], good_s: float) -> None:
        """Say what is in force, which is good for `good_s` [s]; what can't be written is not said."""
        if self._own[0] != os.getpid():
            self._own = os.getpid(), os.urandom(8).hex()
        now_s = self._clock()
        for file in self._files():
            if file is not None:
                with suppress(GenaiCacheError, OSError):
                    _write(file(NAME), self._own[1], sentences, now_s=now_s, until_s=now_s + good_s)


def in_force(file: FileOf | None, *, now_s: float | None = None) -> tuple[str, ...]:
    """Return the sentences that are in force in any process; none where that can't be read."""
    if file is None:
        return ()
    now_s = time.time() if now_s is None else now_s
    try:
        found = _read(file(NAME).load(), now_s)
    except (GenaiCacheError, OSError):
        return ()
    return tuple(dict.fromkeys(sentence for _, sentences in found.values() for sentence in sentences))


def _write(document: Document, name: str, sentences: tuple[str, ...], *, now_s: float, until_s: float) -> None:
    for _ in range(_ATTEMPTS):
        before = document.load()
        boards = _read(before, now_s)
        boards.pop(name, None)
        if sentences:
            boards[name] = until_s, sentences
        elif before is None:
            return
        after = orjson.dumps({key: {"until": until, "says": says} for key, (until, says) in boards.items()})
        if document.replace(after, expected=before):
            return


def _read(blob: bytes | None, now_s: float) -> dict[str, tuple[float, tuple[str, ...]]]:
    """Return what is good now; others may have written anything."""
    try:
        given: Any = orjson.loads(blob or b"{}")
    except orjson.JSONDecodeError:
        return {}
    found: dict[str, tuple[float, tuple[str, ...]]] = {}
    for name, board in given.items() if isinstance(given, dict) else ():
        until, says = (board.get("until"), board.get("says")) if isinstance(board, dict) else (None, None)
        if len(found) >= _MOST or not isinstance(until, int | float) or not isinstance(says, list):
            continue
        if now_s < until <= now_s + _LONGEST_S:
            found[name] = float(until), tuple(text[:_MOST_CHARS] for text in says[:_MOST] if isinstance(text, str))
    return found
