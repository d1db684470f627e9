"""Media that stand bare in lists, or in the URL-safe alphabet, by the rule of `spec/key.md` §2.4."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from genai_cache_magic.providers.media import decode_base64, fold

if TYPE_CHECKING:
    from genai_cache_magic.core.model import JsonObject, JsonValue

URL: Final = "url"
"""Items are addresses, of which data URLs are folded."""

BARE: Final = "data"
"""Items are base64 or data URLs."""

_STANDARD: Final = str.maketrans("-_", "+/")


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


def fold_either_alphabet(holder: JsonObject, field: str, path: str, folded: list[str]) -> None:
    """Fold base64 of the standard or the URL-safe alphabet in ``holder[field]``, in place.

    Readers of protobuf's JSON take both, so both are one picture.
    """
    text = holder.get(field)
    if type(text) is str and ("-" in text or "_" in text):
        standard = text.translate(_STANDARD)
        if decode_base64(standard) is not None:
            holder[field] = standard
    fold(holder, field, path, folded)
