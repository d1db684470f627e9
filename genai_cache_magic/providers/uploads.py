"""Uploads, and what their answers tell: by which id a model is shown what was uploaded (`spec/key.md` §2.4).

OpenAI's and Anthropic's ``POST .../files`` (forms), the last piece of Gemini's resumable upload, and Gemini's cached
contents. None of them is a model call: they are sent, and their answers are not stored.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.core.canonical import dumps, parse_body
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers import references
from genai_cache_magic.providers.formats import multipart
from genai_cache_magic.providers.origins import serves_models
from genai_cache_magic.providers.reading import as_object, as_text, is_success, load_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from genai_cache_magic.core.model import JsonObject, Response
    from genai_cache_magic.providers.base import HttpCall, Origins

FILES: Final = "/files"
CACHES: Final = "/cachedContents"

_PIECES: Final = "/upload/"
_COMMAND: Final = "x-goog-upload-command"
_OFFSET: Final = "x-goog-upload-offset"
_TELLING: Final = ("x-stainless-lang", "anthropic-version", "x-goog-api-client")

_PASSING: Final = frozenset({"ttl", "expireTime", "expire_time", "displayName", "display_name"})
"""Fields of a cached content that don't say what is in it."""


class Upload(NamedTuple):
    """A call that uploads: `digest` of what it sends, empty where only the answer tells."""

    call: HttpCall
    digest: str


def recognise(call: HttpCall, origins: Origins) -> Upload | None:
    """Return the upload that `call` is; None if it is none, or none whose content can be read without a trace."""
    path = call.path.rstrip("/")
    if call.method != "POST" or not path.endswith((FILES, CACHES)):
        return None
    if not (serves_models(call, origins) or any(name in call.headers for name in _TELLING)):
        return None
    try:
        if path.endswith(CACHES):
            return Upload(call, _digest_of_cache(call, origins))
        if _PIECES in path:
            return _last_piece(call)
        return Upload(call, _digest_of_form(call)) if multipart.is_form(call.headers) else None
    except UncacheableRequest:
        return None


def learned(upload: Upload, response: Response) -> Iterator[tuple[str, str]]:
    """Yield each name under which `response` says that models can be shown what was uploaded, and its digest."""
    told = load_object(response.body) if is_success(response) else None
    if told is None:
        return
    if _PIECES in upload.call.path:
        file = as_object(told.get("file"))
        digest = as_text(file.get("sha256Hash")) or upload.digest
        if digest:
            marked = _marked({"google": digest, "type": file.get("mimeType")})
            yield from ((name, marked) for name in map(as_text, (file.get("uri"), file.get("name"))) if name)
    elif name := as_text(told.get("name" if upload.call.path.rstrip("/").endswith(CACHES) else "id")):
        yield name, upload.digest


def _digest_of_form(call: HttpCall) -> str:
    fields = multipart.parse(call.headers["content-type"], _body(call))
    return _marked({name: value for name, value in fields.items() if not name.startswith("expires_after")})


def _digest_of_cache(call: HttpCall, origins: Origins) -> str:
    raw = _body(call)
    body = parse_body(raw)
    references.resolve(body, raw, lambda name: origins.uploads.digest_of(call, name))
    return _marked({name: value for name, value in body.items() if name not in _PASSING})


def _last_piece(call: HttpCall) -> Upload | None:
    if "finalize" not in call.headers.get(_COMMAND, ""):
        return None
    is_whole = call.headers.get(_OFFSET, "0").strip() == "0" and call.body is not None
    return Upload(call, hashlib.sha256(call.body or b"").hexdigest() if is_whole else "")


def _marked(content: JsonObject) -> str:
    return f"upload;sha256={hashlib.sha256(dumps(content)).hexdigest()}"


def _body(call: HttpCall) -> bytes:
    read: Callable[[], bytes] | None = call.read_body
    if call.body is not None:
        return call.body
    if read is None:
        raise UncacheableRequest("the upload is streamed, so what it holds can't be told")
    return read()
