"""What a machine tells its team of its ledger and runs: pages, sealed, each bound to its place.

A page is JSON, packed by zlib, sealed as a column is (`crypto.columns`) for its group and name, which are keyed::

    {"of": what it is about, "version": 1, "serial": n, "writer": whose, "rows": [...]}

The serial rises with each change, so that an older page that somebody puts back is known for one.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson

from genai_cache_magic.core.key import entry_id
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.errors import DecryptionError

if TYPE_CHECKING:
    from genai_cache_magic.entries.keys import Keys

VERSION: Final = 1
MAX_CONTENT_BYTES: Final = 8 * 1024**2
"""What a page holds once unpacked [bytes]."""

_PLACE: Final = b"genai-cache page 1\0"
_LARGEST_SERIAL: Final = 2**62


class PageRefused(Exception):  # noqa: N818 - what became of it
    """A page can't be used; the text says why, without what is in it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page is: 64 hex digits each."""

    group: str = field(repr=False)
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Content:
    """What a page says.

    Attributes
    ----------
    of
        What it is about, such as ``usage``.
    writer
        The ledger that it was made from, 32 hex digits.
    rows
        JSON values; whoever reads them checks them.
    """

    of: str = field(repr=False)
    writer: str = field(repr=False)
    rows: list[Any] = field(repr=False)

    def digest(self) -> bytes:
        """Return what tells it from another: bytes, shape (32,)."""
        return hashlib.sha256(orjson.dumps([self.of, self.writer, self.rows])).digest()


class PageSeal:
    """Names and seals the pages of a namespace. Safe to share between threads."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self._seal = ColumnSeal(keys.mac_key)

    def key(self, *names: str) -> str:
        """Return what `names` are called in a tier: 64 hex digits that nobody without a key can compute."""
        text = orjson.dumps([name.encode("utf-8", "replace").decode() for name in (self._keys.namespace, *names)])
        return entry_id(_PLACE + text, self._keys.id_key)

    def seal(self, place: Place, content: Content, *, serial: int) -> bytes:
        """Return the page at rest."""
        page = {
            "of": content.of,
            "version": VERSION,
            "serial": serial,
            "writer": content.writer,
            "rows": content.rows,
        }
        return self._seal.seal(zlib.compress(orjson.dumps(page)), place=_bound(place))

    def seal_own(self, label: bytes, value: Any) -> bytes:
        """Return a JSON value sealed for the file of this machine, under `label`."""
        return self._seal.seal(orjson.dumps(value), place=b"own" + label)

    def open_own(self, label: bytes, sealed: bytes) -> Any:
        """Return what `seal_own` has sealed; None for what can't be opened."""
        try:
            return orjson.loads(self._seal.open(sealed, place=b"own" + label))
        except (DecryptionError, orjson.JSONDecodeError):
            return None

    def open(self, place: Place, blob: bytes) -> tuple[Content, int]:
        """Return what a page says, and its serial; raises `PageRefused`."""
        try:
            page = orjson.loads(_unpacked(self._seal.open(blob, place=_bound(place))))
        except DecryptionError:
            raise PageRefused("sealed with another key or for another place, or changed") from None
        except orjson.JSONDecodeError:
            raise PageRefused("no page of this format") from None
        if type(page) is not dict or page.get("version") != VERSION:
            raise PageRefused("written by a newer version: update genai-cache-magic")
        of, serial, writer, rows = (page.get(name) for name in ("of", "serial", "writer", "rows"))
        if type(serial) is not int or not 0 < serial < _LARGEST_SERIAL:
            raise PageRefused("no page of this format")
        if type(of) is str and type(writer) is str and type(rows) is list:
            return Content(of, writer, rows), serial
        raise PageRefused("no page of this format")


def _bound(place: Place) -> bytes:
    return f"page {place.group} {place.name}".encode()


def _unpacked(packed: bytes) -> bytes:
    expander = zlib.decompressobj()
    try:
        content = expander.decompress(packed, MAX_CONTENT_BYTES)
    except zlib.error:
        raise PageRefused("no page of this format") from None
    if expander.unconsumed_tail or not expander.eof or expander.unused_data:
        raise PageRefused("larger than any page")
    return content
