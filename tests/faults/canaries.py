"""Canaries: texts that occur nowhere else, and a search that finds them in whatever form they were written down."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import re
import sqlite3
import urllib.parse
import zlib
from typing import TYPE_CHECKING

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_LARGEST_BYTES = 1 << 26
_DEPTH = 2
_PACKED = re.compile(rb"\x1f\x8b\x08|\x28\xb5\x2f\xfd|\x78[\x01\x5e\x9c\xda]")
_TEXT64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}")


def spellings(canary: str) -> dict[str, bytes]:
    """Return how a text may have been written, each in so much of it that nothing else is spelled so."""
    raw = canary.encode()
    found = {
        "plain": raw,
        "JSON": json.dumps(canary)[1:-1].encode(),
        "JSON in UTF-8": json.dumps(canary, ensure_ascii=False)[1:-1].encode(),
        "JSON in JSON": json.dumps(json.dumps(canary))[3:-3].encode(),
        "JSON in JSON in UTF-8": json.dumps(json.dumps(canary, ensure_ascii=False), ensure_ascii=False)[3:-3].encode(),
        "hex": raw.hex().encode(),
        "HEX": raw.hex().upper().encode(),
        "URL": urllib.parse.quote(canary, safe="").encode(),
        "form": urllib.parse.quote_plus(canary, safe="").encode(),
        "repr": ascii(canary)[1:-1].encode(),
        "bytes": repr(raw)[2:-1].encode(),
        "UTF-16": canary.encode("utf-16-le"),
        "UTF-32": canary.encode("utf-32-le"),
    }
    for shift in range(3):
        # What stands before a text decides how its bytes fall into groups of three: all but the first and last group.
        whole = base64.b64encode(b"\0" * shift + raw)
        inner = whole[4 if shift else 0 : len(whole) - 4]
        found[f"base64 {shift}"] = inner
        found[f"base64url {shift}"] = inner.replace(b"+", b"-").replace(b"/", b"_")
    return found


def found_in(data: bytes, canaries: dict[str, str], *, depth: int = _DEPTH) -> set[tuple[str, str]]:
    """Return (name of the canary, form) of all that `data` holds, also what was compressed or base64 in it."""
    found = {
        (name, form)
        for name, canary in canaries.items()
        for form, spelled in spellings(canary).items()
        if spelled in data
    }
    if depth:
        for inner in (*_unpacked(data), *_decoded(data)):
            found |= {(name, f"packed, {form}") for name, form in found_in(inner, canaries, depth=depth - 1)}
    return found


def _unpacked(data: bytes) -> Iterator[bytes]:
    """Whatever unpacks from some place of `data` on: gzip, zlib and zstd."""
    view = memoryview(data)
    for match in _PACKED.finditer(data):
        rest = view[match.start() :]
        inner = b""
        with contextlib.suppress(zlib.error, zstandard.ZstdError):
            if match.group().startswith(b"\x28"):
                inner = zstandard.ZstdDecompressor().decompressobj().decompress(rest)[:_LARGEST_BYTES]
            else:
                inner = zlib.decompressobj(47).decompress(rest, _LARGEST_BYTES)
        if inner:
            yield inner


def _decoded(data: bytes) -> Iterator[bytes]:
    """What long runs of base64 stand for, which may be compressed below."""
    for match in _TEXT64.finditer(data):
        run = match.group().replace(b"-", b"+").replace(b"_", b"/")
        for shift in range(4):
            part = run[shift:]
            inner = base64.b64decode(part[: len(part) - len(part) % 4])
            if _PACKED.match(inner):
                yield inner


def files_under(directory: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file; of databases each column of each row too, since pages cut long values."""
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        data = path.read_bytes()
        yield str(path.relative_to(directory)), path.name.encode() + b"\n" + data
        if data.startswith(b"SQLite format 3\0"):
            for at, row in enumerate(_rows(path)):
                yield f"{path.relative_to(directory)} row {at}", row


def _rows(path: Path) -> Iterator[bytes]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):
                yield b"\n".join(value if isinstance(value, bytes) else str(value).encode() for value in row)


def report(places: Iterable[tuple[str, bytes]], canaries: dict[str, str]) -> set[tuple[str, str, str]]:
    """Return (place, canary, form) of every find."""
    return {(place, *find) for place, data in places for find in found_in(data, canaries)}


def planted(canary: str) -> dict[str, bytes]:
    """Return the text as a careless program may leave it, each of which must be found."""
    raw = canary.encode()
    noise = bytes(range(200, 240))
    return {
        "plain": noise + raw,
        "JSON": json.dumps({"messages": [{"content": canary}]}).encode(),
        "JSON in UTF-8": json.dumps({"content": canary}, ensure_ascii=False).encode(),
        "JSON in JSON": json.dumps({"body": json.dumps({"content": canary})}).encode(),
        "hex": raw.hex().encode() + b"00",
        "base64": base64.b64encode(b'{"content": "' + raw + b'"}'),
        "base64, shifted": base64.urlsafe_b64encode(b"x" + raw + b"yz"),
        "gzip": noise + gzip.compress(b"words " * 20 + raw) + noise,
        "zlib": noise + zlib.compress(raw * 3),
        "zstd": noise + zstandard.compress(b"[" + json.dumps(canary).encode() + b"]"),
        "gzip in base64": base64.b64encode(gzip.compress(json.dumps([canary]).encode())),
        "repr": repr({"content": canary.encode()}).encode(),
        "URL": ("?q=" + urllib.parse.quote(canary, safe="") + "&x").encode(),
        "form": ("q=" + urllib.parse.quote_plus(canary, safe="")).encode(),
        "UTF-16": canary.encode("utf-16"),
    }
