"""Bodies of httpx and httpx2 that are not buffered: forms with files, read so that they are sent as if nobody had.

The library makes a form anew each time that it is sent, from the start of every file. So can we, before it is sent, if
its files are ordinary ones: reading them has no other effect than to move their position, which is put back.
`request.read` would do that too, but keep the whole form in memory, and change what follows if it fails half-way.
"""

from __future__ import annotations

import functools
import io
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.formats.multipart import MAX_FORM_BYTES, TOO_LONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORMS: Final = frozenset({("httpx._multipart", "MultipartStream"), ("httpx2._multipart", "MultipartStream")})
_BUFFERS: Final = (io.BufferedReader, io.BufferedRandom)
_FILES: Final = (io.BytesIO, io.FileIO, *_BUFFERS)
_READING: Final = ("read", "readinto", "seek", "tell")


def reader_of(request: Any) -> Callable[[], bytes] | None:
    """Return what reads the body of `request` without a trace; None if it is no form of the library's own."""
    stream = getattr(request, "stream", None)
    return functools.partial(_rendered, stream) if _is_form(stream) else None


def pass_over(request: Any) -> None:
    """Leave the files of a form that is not going to be sent where sending would have left them: at their end."""
    stream = getattr(request, "stream", None)
    for file in _files(stream) if _is_form(stream) else ():
        with suppress(AttributeError, OSError, ValueError):
            file.seek(0, io.SEEK_END)


def _is_form(stream: object) -> bool:
    kind = type(stream)
    return (kind.__module__, kind.__qualname__) in _FORMS


def _rendered(stream: Any) -> bytes:
    """Return the form as the library is going to send it, and leave its files at the positions where they are.

    Raises
    ------
    UncacheableRequest
        It is too long, or one of its files can't be read twice without harm.
    """
    try:
        places = list(_places(stream))
        try:
            return _joined(stream)
        finally:
            for file, place in places:
                file.seek(place)
    except (OSError, ValueError) as exc:
        raise UncacheableRequest("a file in the request can't be read, so the call was sent uncached") from exc


def _places(stream: Any) -> Iterator[tuple[Any, int]]:
    """Yield every file of a form with its position, all of them before one is read."""
    for file in _files(stream):
        if not _is_ordinary(file):
            raise UncacheableRequest(
                "a file in the request may not bear to be read twice, so the call was sent uncached; pass bytes instead"
            )
        yield file, file.tell()


def _joined(stream: Any) -> bytes:
    whole = io.BytesIO()  # holds the form once, where chunks and what they are joined to would hold it twice
    for chunk in stream:
        if whole.tell() + len(chunk) > MAX_FORM_BYTES:
            raise UncacheableRequest(TOO_LONG)
        whole.write(chunk)
    return whole.getvalue()


def _files(stream: Any) -> Iterator[Any]:
    """Yield what a form reads from, without the parts that are bytes or texts."""
    for field in stream.fields:
        file = getattr(field, "file", b"")
        if not isinstance(file, bytes | str):
            yield file


def _is_ordinary(file: Any) -> bool:
    """Tell whether reading `file` a second time costs nothing and tells nobody.

    A file of the standard library does. One that is fetched from a remote store, or whose reading moves a progress
    bar, has methods of its own.
    """
    if type(file) is tempfile.SpooledTemporaryFile:
        file = file._file  # noqa: SLF001 - it forwards to this
    elif type(file) is tempfile._TemporaryFileWrapper:  # noqa: SLF001 - what NamedTemporaryFile returns
        file = file.file
    kind = next((kind for kind in _FILES if isinstance(file, kind)), None)
    if kind is None or any(getattr(type(file), name) is not getattr(kind, name) for name in _READING):
        return False
    if vars(file).keys() & set(_READING) or not file.seekable():
        return False
    return kind not in _BUFFERS or _is_ordinary(file.raw)
