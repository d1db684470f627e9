"""A recorded call as one line of a run file, and back (`spec/run-file.md` §2). A line is right, or it is refused.

A line is canonical JSON, so that equal calls are equal lines; it names its request by a digest, and holds a digest of
itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from genai_cache_magic.core.canonical import dumps, parse_body
from genai_cache_magic.core.model import Form, Response
from genai_cache_magic.core.portable import portable_digest
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genai_cache_magic.core.model import Headers, JsonObject, JsonValue

FORMAT: Final = "genai-cache run"
VERSION: Final = 1
HEAD: Final = dumps({"format": FORMAT, "version": VERSION})
"""The first line of every file."""

MAX_LINE_BYTES: Final = 96 * 1024**2
_DIGITS: Final = 64
_MAX_SAMPLE: Final = 1_000_000
_STATUSES: Final = range(100, 600)
_CONFLICT: Final = (b"<<<<<<<", b"|||||||", b"=======", b">>>>>>>")
"""What git begins a line with where it could not merge."""

KEPT_HEADERS: Final = frozenset(
    {
        "content-type",
        "x-amzn-bedrock-input-token-count",
        "x-amzn-bedrock-output-token-count",
        "x-amzn-bedrock-performanceconfig-latency",
        "x-amzn-bedrock-service-tier",
        "x-gemini-service-tier",
        "x-litellm-response-cost",
    }
)
"""What an answer's headers say of its content and its price; the others are clocks, ids of requests and quotas."""


class CallName(NamedTuple):
    """What a call is found by: the digest of its request, and which of its samples it is."""

    digest: str
    sample: int


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of a run.

    Attributes
    ----------
    request
        `portable.portable_form`; None where only its digest is known.
    asked
        In which form the answer was asked for.
    is_similar
        Whether it is the answer to another question, much alike.
    """

    name: CallName
    surface: str
    model: str
    response: Response
    asked: str = ""
    request: JsonObject | None = field(default=None, repr=False)
    is_similar: bool = False


def encode_line(call: RecordedCall) -> bytes:
    """Return the line of `call`, without its end; raises ``UncacheableRequest`` for what JSON can't say."""
    response = call.response
    answer: JsonObject = {
        "form": response.form.value,
        "headers": [[name, value] for name, value in kept_headers(response.headers)],
        "status": response.status,
        **_body(response.body),
    }
    line: JsonObject = {
        "answer": answer,
        "asked": call.asked,
        "digest": call.name.digest,
        "model": call.model,
        "sample": call.name.sample,
        "surface": call.surface,
    }
    if call.request is not None:
        line["request"] = call.request
    if call.is_similar:
        line["similar"] = True
    return dumps({**line, "check": _check(line)})


def decode_line(raw: bytes) -> RecordedCall:
    """Read a line.

    Raises
    ------
    ValueError
        It is not one of this version, was changed, or names a request that it doesn't hold; the message says which.
    """
    if len(raw) > MAX_LINE_BYTES:
        raise ValueError("it is longer than any answer")
    try:
        line = parse_body(raw)
    except UncacheableRequest:
        line = {}
    said = line.pop("check", None)
    if not line or said != _check(line):
        raise ValueError("it was changed, or is cut short")
    answer, request = line.get("answer"), line.get("request")
    name = CallName(_text(line, "digest"), _number(line, "sample", range(_MAX_SAMPLE)))
    if type(answer) is not dict or (request is not None and type(request) is not dict):
        raise ValueError("it holds no answer")
    if len(name.digest) != _DIGITS or not set(name.digest) <= set("0123456789abcdef"):
        raise ValueError("it names no request")
    if request is not None and portable_digest(request) != name.digest:
        raise ValueError("its digest is not that of its request")
    is_similar = line.get("similar", False)
    if type(is_similar) is not bool:
        raise ValueError("similar is neither true nor false")
    return RecordedCall(
        name,
        _text(line, "surface"),
        _text(line, "model"),
        _response(answer),
        _text(line, "asked"),
        request,
        is_similar,
    )


def decode_file(text: bytes) -> dict[CallName, bytes]:
    """Return the lines of a file by the calls that they record, every one of them checked.

    Raises
    ------
    ConfigurationError
        It is no run file of this version, or any of its lines is not right: the message names the line.
    """
    head, *rest = text.split(b"\n")
    if head.removesuffix(b"\r") != HEAD:  # git may have turned the ends of its lines into those of Windows
        raise ConfigurationError(_wrong_head(head))
    found: dict[CallName, bytes] = {}
    for number, line in enumerate(rest, start=2):
        raw = line.removesuffix(b"\r")
        if not raw.strip():
            continue
        try:
            name = decode_line(raw).name
        except (ValueError, UncacheableRequest) as exc:
            raise ConfigurationError(f"line {number} can't be used, so none is: {_why(raw, exc)}") from None
        if found.setdefault(name, raw) != raw:
            raise ConfigurationError(
                f"line {number} can't be used, so none is: another line records the same call: remove one of the two"
            )
    return found


def encode_file(lines: Iterable[tuple[CallName, bytes]]) -> bytes:
    """Return a file of `lines`, sorted: whatever the order in which calls ended, it is the same."""
    return b"\n".join([HEAD, *(line for _, line in sorted(lines)), b""])


def kept_headers(headers: Headers) -> Headers:
    """Return the headers that a file keeps, names in lower case, sorted."""
    return tuple(sorted((name.lower(), value) for name, value in headers if name.lower() in KEPT_HEADERS))


def _body(body: bytes) -> JsonObject:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body64": base64.b64encode(body).decode()}


def _response(answer: JsonObject) -> Response:
    headers = answer.get("headers")
    if type(headers) is not list:
        raise ValueError("its answer has no headers")
    try:
        body = base64.b64decode(_text(answer, "body64"), validate=True) if "body64" in answer else None
        form = Form(_text(answer, "form"))
    except (binascii.Error, ValueError) as exc:
        raise ValueError("its answer is of no known form") from exc
    return Response(
        _number(answer, "status", _STATUSES),
        kept_headers(tuple(map(_header, headers))),
        _text(answer, "body").encode() if body is None else body,
        form,
    )


def _header(value: JsonValue) -> tuple[str, str]:
    if type(value) is list and len(value) == 2:  # noqa: PLR2004 - a name and a value
        name, text = value
        if type(name) is str and type(text) is str and text.isprintable():
            return name, text
    raise ValueError("a header of its answer is none")


def _text(of: JsonObject, name: str) -> str:
    value = of.get(name)
    if type(value) is not str:
        raise ValueError(f"{name} is no text")
    return value


def _number(of: JsonObject, name: str, allowed: range) -> int:
    value = of.get(name)
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{name} is no number that it could be")
    return value


def _check(line: JsonObject) -> str:
    return hashlib.sha256(dumps(line)).hexdigest()


def _why(raw: bytes, error: Exception) -> str:
    if raw.startswith(_CONFLICT):
        return "a merge has left it there: remove its marks, and keep each line between them once"
    return f"{error}: take the file again from who recorded it, or remove it and record anew"


def _wrong_head(head: bytes) -> str:
    if not head:
        return "it is empty, so it is no run file: take it again from who recorded it, or remove it and record anew"
    if head.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "an editor has put a mark of its encoding before it: save it as UTF-8 without one"
    try:
        said = parse_body(head)
    except UncacheableRequest:
        said = {}
    if said.get("format") == FORMAT:
        return f"it is of version {said.get('version')}, this release reads {VERSION}: update genai-cache-magic"
    return "it is no run file: its first line should be " + HEAD.decode()
