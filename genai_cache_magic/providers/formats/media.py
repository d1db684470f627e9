"""Images, audio and files inside a request, by the digest of their bytes (`spec/key.md` §2.4).

The same picture has many base64 spellings; a megabyte of it would also travel through every later step.
"""

from __future__ import annotations

import hashlib
from binascii import a2b_base64
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_cache_magic.core.model import JsonObject, JsonValue

URL: Final = "url"
"""Kind of a list's texts: addresses, of which data URLs are folded."""

BARE: Final = "data"
"""Kind of a list's texts: base64 or data URLs."""

_SCHEME: Final = "data:"
_BASE64: Final = ";base64"

_BARE: Final = frozenset({"data", "file_data"})
"""Fields whose text may be base64 without being a data URL. An address is never read so."""

_STANDARD: Final = str.maketrans("-_", "+/")
"""From the URL-safe alphabet of base64 to the standard one."""


def fold_parts(parts: JsonValue, path: str, spots: Mapping[str, tuple[str, str]], folded: list[str]) -> None:
    """Fold what each object of the list `parts`, at JSON pointer `path`, carries; see `fold_part`."""
    for index, part in enumerate(parts) if type(parts) is list else ():
        if type(part) is dict:
            fold_part(part, f"{path}/{index}", spots, folded)


def fold_part(part: JsonObject, path: str, spots: Mapping[str, tuple[str, str]], folded: list[str]) -> None:
    """Fold what `part` carries, in place.

    Parameters
    ----------
    part
        A content part with a ``type``.
    path
        JSON pointer to `part` in the body.
    spots
        Type of part -> (field, field within it or empty) where its media lie.
    folded
        Receives the JSON pointer of each text that was replaced by a digest.
    """
    kind = part.get("type")
    spot = spots.get(kind) if type(kind) is str else None
    if spot is None:
        return
    field, inner = spot
    holder = part.get(field)
    if inner and type(holder) is dict:
        fold(holder, inner, f"{path}/{field}", folded)
    else:
        fold(part, field, path, folded)


def fold(holder: JsonObject, field: str, path: str, folded: list[str]) -> None:
    """Replace the data URL or base64 text in ``holder[field]`` by a digest, in place.

    What is neither, such as a plain URL, stays as it is. `folded` receives the JSON pointer of a digest, so that
    a literal that looks like one can't pose as one.
    """
    text = holder.get(field)
    if type(text) is not str:
        return
    media_type, data = _split(text, bare=field in _BARE)
    content = None if data is None else decode_base64(data)
    if content is not None:
        holder[field] = f"{media_type};sha256={hashlib.sha256(content).hexdigest()}"
        folded.append(f"{path}/{field}")


def fold_either_alphabet(holder: JsonObject, field: str, path: str, folded: list[str]) -> None:
    """Fold base64 of the standard or the URL-safe alphabet in ``holder[field]``, in place; see `fold`.

    Readers of protobuf's JSON take both, so both are one picture.
    """
    text = holder.get(field)
    if type(text) is str and ("-" in text or "_" in text):
        standard = text.translate(_STANDARD)
        if decode_base64(standard) is not None:
            holder[field] = standard
    fold(holder, field, path, folded)


def fold_texts(texts: JsonValue, kind: str, path: str, folded: list[str]) -> None:
    """Replace each text of the list `texts`, at JSON pointer `path`, that holds media by a digest, in place.

    `kind` is `URL` or `BARE`; `folded` receives the JSON pointer of each digest.
    """
    for index, text in enumerate(texts) if type(texts) is list else ():
        holder: JsonObject = {kind: text}
        done: list[str] = []
        fold(holder, kind, path, done)
        if done and type(texts) is list:
            texts[index] = holder[kind]
            folded.append(f"{path}/{index}")


def _split(text: str, *, bare: bool) -> tuple[str, str | None]:
    """Return the media type and the base64 data of `text`, None for data if it holds none."""
    if text[: len(_SCHEME)].lower() != _SCHEME:
        return "", text if bare else None
    head, _, data = text.partition(",")
    if head[-len(_BASE64) :].lower() != _BASE64:
        return "", None
    return head[len(_SCHEME) : -len(_BASE64)], data


def decode_base64(text: str) -> bytes | None:
    """Return the bytes that `text` encodes, None if it is not base64.

    White space and missing or surplus padding are forgiven, as decoders do; a foreign character is not,
    since what a model's server would make of it can't be known.
    """
    try:
        return a2b_base64(text, strict_mode=True)
    except ValueError:
        pass
    bare = "".join(text.split()).rstrip("=")
    try:
        return a2b_base64(bare + "=" * (-len(bare) % 4), strict_mode=True)
    except ValueError:
        return None
