"""What `requests` and `botocore` share, as both stand on urllib3: how an answer is taped, and played again.

Both hand urllib3's own response to their callers, who read it in many ways: whole, in pieces, chunk by
chunk, decoded or not. All of them come down to three methods, which see the bytes of the wire.
"""

from __future__ import annotations

import http.client
import io
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from urllib3 import HTTPResponse
from urllib3.exceptions import DecodeError

from genai_cache_magic.core.model import Form
from genai_cache_magic.intercept import replay
from genai_cache_magic.intercept.clients.wire import framed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.core.model import Headers, Response
    from genai_cache_magic.intercept.recording import Recording

_HTTP_2: Final = 20
"""The first version of HTTP that tells itself where a body ends, as urllib3 says it."""

BUILT_OF: Final = (
    HTTPResponse._raw_read,  # noqa: SLF001 - every way to read comes down to these three
    HTTPResponse._handle_chunk,  # noqa: SLF001
    HTTPResponse._update_chunk_length,  # noqa: SLF001
    HTTPResponse._error_catcher,  # noqa: SLF001 - where a reader leaves
    HTTPResponse._fp_read,  # noqa: SLF001 - what remains is read by it
)
"""What `Tee` overrides. A release of urllib3 without one fails here, and its callers are left alone."""

_DECODED_AT_ONCE_BYTES: Final = 1 << 16
"""So much of a compressed body is unpacked before its size is looked at: at most 64 MiB of gzip."""


class Tee(HTTPResponse):
    """A response of urllib3 whose bytes go to a recording too. It is made of an existing one, by `tee`."""

    _recording: Recording

    def _raw_read(self, amt: int | None = None, **options: Any) -> bytes:
        with _watched(self, self._recording) as recording:
            data = super()._raw_read(amt, **options)
        if data:
            recording.feed(data)
        if self.length_remaining == 0 or (not data and amt != 0) or (amt is None and not options.get("read1")):
            _let_go(self, recording, is_whole=not self.length_remaining)
        return data

    def _update_chunk_length(self) -> None:
        with _watched(self, self._recording) as recording:
            super()._update_chunk_length()
        if self.chunk_left == 0:
            _let_go(self, recording, is_whole=True)

    def _handle_chunk(self, amt: int | None) -> bytes:
        with _watched(self, self._recording) as recording:
            data = super()._handle_chunk(amt)
        recording.feed(data)
        return data

    @contextmanager
    def _error_catcher(self) -> Iterator[None]:
        with super()._error_catcher():
            try:
                yield
            except GeneratorExit:
                # Its reader has left, and the library is about to close the connection.
                if isinstance(self, Tee):
                    self._read_little()
                raise

    def _read_little(self) -> None:
        """Read the little that remains, if it is little and can be had in time."""
        recording = self._recording
        if not recording.lacks_little():
            return
        with recording.little():
            wire = self._fp.fp.raw._sock  # type: ignore[union-attr]  # noqa: SLF001 - whose time-out is the only one
            timeout_s, ends_at = wire.gettimeout(), time.monotonic() + recording.little_s
            left = recording.little_bytes
            try:
                while left > 0 and recording.lacks_little() and (left_s := ends_at - time.monotonic()) > 0:
                    wire.settimeout(left_s)
                    chunk = self._next_of_little(left)
                    if not chunk:
                        recording.ended()
                        break
                    left -= len(chunk)
                    recording.feed(chunk)
            finally:
                wire.settimeout(timeout_s)

    def _next_of_little(self, most: int) -> bytes:
        """Return the next bytes of the body, by the library's own methods; empty at its orderly end."""
        if self.chunked:
            HTTPResponse._update_chunk_length(self)  # noqa: SLF001
            return HTTPResponse._handle_chunk(self, most) if self.chunk_left else b""  # noqa: SLF001
        data = HTTPResponse._fp_read(self, most, read1=True)  # noqa: SLF001
        if not data and self.length_remaining:
            raise EOFError
        if self.length_remaining is not None:
            self.length_remaining -= len(data)
        return data

    def close(self) -> None:
        """Close the response, once the little that remains is read, then note it."""
        recording = self._recording
        try:
            self._read_little()
            super().close()
        finally:
            _let_go(self, recording)


@contextmanager
def _watched(raw: Tee, recording: Recording) -> Iterator[Recording]:
    """Note that `raw` waits for the origin, and how that fails, be it that it closes itself meanwhile."""
    recording.reading()
    try:
        yield recording
    except BaseException as exc:
        recording.broke(exc)
        _let_go(raw, recording)
        raise


def _let_go(raw: HTTPResponse, recording: Recording, *, is_whole: bool = False) -> None:
    """Hand the recording over, and let `raw` be the library's own response again."""
    raw.__class__ = HTTPResponse
    vars(raw).pop("_recording", None)
    if is_whole:
        recording.ended()
    # Nobody closes a response that was read to its end, so this is the close.
    recording.closed()


def tee(raw: object, recording: Recording) -> None:
    """Let `recording` have what passes through `raw` from now on, whoever reads it in whatever way."""
    # What someone puts in the place of urllib3's response may be built differently: it is not recorded.
    if type(raw) is HTTPResponse:
        recording.attempt(raw.status, tuple(raw.headers.items()), is_framed=raw.version >= _HTTP_2)
        told = raw.headers.get("content-length")
        if told is not None and told.strip() != str(raw.length_remaining):
            # The library goes by something else, such as chunks, while callers may check what was told.
            recording.refuse("its length is not what it says")
        raw._recording = recording  # type: ignore[attr-defined]  # noqa: SLF001 - it is a `Tee` in a moment
        raw.__class__ = Tee


class _Wire:
    """As much of a socket as `http.client` reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object, **__: object) -> io.BytesIO:
        """Return the answer as a file."""
        return io.BytesIO(self._data)


def replayed(stored: Response, request_url: str, retries: Any = None) -> HTTPResponse:
    """Return `stored` as urllib3 would have it from the network, unread; a stream is chunked event by event."""
    framing, data = framed(stored)
    # Only status and framing are parsed. SECURITY: a stored header can't add a line to them.
    wire: Any = _Wire(b"HTTP/1.1 %d\r\n%b\r\n\r\n%b" % (stored.status, framing, data))
    source = http.client.HTTPResponse(wire, method="POST")
    source.begin()
    headers = replay.headers(stored)
    if stored.form is Form.STREAM:
        headers = (*headers, ("transfer-encoding", "chunked"))
    played = HTTPResponse(
        source,
        status=stored.status,
        version=11,
        reason=http.client.responses.get(stored.status, ""),
        preload_content=False,
        decode_content=False,
        original_response=source,
        retries=retries,
        request_method="POST",
        request_url=request_url,
    )
    played.version_string = "HTTP/1.1"  # no parameter before urllib3 2.3
    for name, value in headers:
        played.headers.add(name, value)
    played.chunked = stored.form is Form.STREAM
    return played


def decode(headers: Headers, packed: bytes, limit: int) -> bytes | None:
    """Undo the wire's compression with urllib3's own decoders; None if it is beyond `limit` [bytes].

    A body that is cut short gives what could be decoded of it.
    """
    encoding = {name: value for name, value in headers if name.lower() == "content-encoding"}
    if not encoding:
        return packed
    message = HTTPResponse(io.BytesIO(packed), headers=encoding, status=200, preload_content=False)
    decoded = io.BytesIO()  # gives its bytes away without a copy
    try:
        for piece in _pieces(message):
            decoded.write(piece)
            if decoded.tell() > limit:
                return None
    except DecodeError:
        pass
    return decoded.getvalue()


def _pieces(message: HTTPResponse) -> Iterable[bytes]:
    return message.stream(_DECODED_AT_ONCE_BYTES, decode_content=True)
