"""Forms with files (``multipart/form-data``, RFC 7578) as JSON: fields by name, each file by the digest of its bytes.

`spec/key_multipart.md` is normative. The boundary, random for each request, is not part of the result. The reader is
our own and strict: the standard library's goes line by line, copies and forgives, and a key must not rest on
something that a model's server could read in another way.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from genai_cache_magic.core.model import Form
from genai_cache_magic.errors import UncacheableRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from genai_cache_magic.core.model import JsonObject, JsonValue
    from genai_cache_magic.providers.base import HttpCall

MAX_FORM_BYTES: Final = 64 * 1024**2
"""A form that is longer [bytes] is not read: its call goes on uncached. OpenAI takes files of 25 MB."""

TOO_LONG: Final = f"the request's form is longer than {MAX_FORM_BYTES >> 20} MiB, so the call was sent uncached"

_MAX_PARTS: Final = 1000
_MAX_HEAD_BYTES: Final = 8192

_TYPE: Final = "multipart/form-data"
_BOUNDARY_CHARS: Final = r"[0-9A-Za-z'()+_,./:=?-]"  # RFC 2046 §5.1.1, where a space may stand between them
_CONTENT_TYPE: Final = re.compile(
    rf'{_TYPE}\s*;\s*boundary=(?:"((?:{_BOUNDARY_CHARS}| ){{0,69}}{_BOUNDARY_CHARS})"|({_BOUNDARY_CHARS}{{1,70}}))\s*',
    re.IGNORECASE,
)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DISPOSITION: Final = re.compile(r"form-data(?=\s*;)", re.IGNORECASE)
_PARAMETER: Final = re.compile(r'\s*;\s*([A-Za-z*]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";\\]+))')
_PARAMETERS: Final = frozenset({"name", "filename", "filename*"})

_PLAIN: Final = frozenset({"", "text/plain", "text/plain;charset=utf-8", "text/plain;charset=us-ascii"})
"""Types of a part that say no more than that it is a text, without spaces and quotes."""


class _Part(NamedTuple):
    """One part as it was sent: parameters of its disposition, headers but that one, and its content."""

    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    content: memoryview

    def __repr__(self) -> str:
        return f"<_Part of {len(self.content)} bytes>"


def is_form(headers: Mapping[str, str]) -> bool:
    """Tell whether these headers, names in lower case, announce a form with files."""
    return headers.get("content-type", "")[: len(_TYPE)].lower() == _TYPE


def parse(content_type: str, body: bytes) -> JsonObject:
    """Return the form in `body` as JSON: the value of each field by its name, a list where the name comes repeatedly.

    A text is a text. A file is an object: ``content``, its type and the digest of its bytes as in `media.fold`, and
    ``filename`` without what stands before the extension, since temporary files have another name in every run.

    Raises
    ------
    UncacheableRequest
        `body` is not certain to be read by everyone as it is here. The call goes on uncached.
    """
    if len(body) > MAX_FORM_BYTES:
        raise UncacheableRequest(TOO_LONG)
    found = _CONTENT_TYPE.fullmatch(content_type.strip())
    if found is None:
        _refuse("has no boundary that can be told")
    fields: dict[str, list[JsonValue]] = {}
    for part in _parts(body, (found[1] or found[2]).encode()):
        name = part.parameters["name"]
        if "[][" in name:
            _refuse("has fields that are grouped by their order")
        fields.setdefault(name, []).append(_value(part))
    return {name: values[0] if len(values) == 1 else values for name, values in fields.items()}


def files(call: HttpCall, fields: JsonObject) -> list[str]:
    """Return the JSON pointer of every digest that `parse` put into `fields`, sorted; none for a call that is no form.

    A text that looks like a digest can't pose as one, since no text of a form is within an object.
    """
    return sorted(_pointers(fields)) if is_form(call.headers) else []


def pop_form(fields: JsonObject) -> Form:
    """Take ``stream`` out of the fields of a form and return what it asks for.

    It is a text here. One that is neither ``true`` nor ``false`` means what its server likes, so it stays in the key.
    """
    if fields.get("stream") not in ("true", "false"):
        return Form.JSON
    return Form.STREAM if fields.pop("stream") == "true" else Form.JSON


def _pointers(fields: JsonObject) -> Iterator[str]:
    for name, value in fields.items():
        path = "/" + name.replace("~", "~0").replace("/", "~1")
        if type(value) is dict:
            yield f"{path}/content"
        elif type(value) is list:
            yield from (f"{path}/{i}/content" for i, item in enumerate(value) if type(item) is dict)


def _parts(body: bytes, boundary: bytes) -> Iterator[_Part]:
    """Yield the parts of `body`; nothing may stand before the first, behind the last, or beside a delimiter."""
    delimiter = b"\r\n--" + boundary
    if not body.startswith(delimiter[2:]):
        _refuse("does not begin with its boundary")
    view = memoryview(body)
    at = len(delimiter) - 2
    for _ in range(_MAX_PARTS):
        if body[at : at + 2] == b"--":
            if body[at + 2 : at + 5] not in {b"", b"\r\n"}:
                _refuse("goes on behind its end")
            return
        start = body.find(b"\r\n\r\n", at, at + _MAX_HEAD_BYTES)
        if start < 0 or body[at : at + 2] != b"\r\n":
            _refuse("has a part without a head")
        end = body.find(delimiter, start + 4)
        if end < 0:
            _refuse("has no end")
        yield _part(body[at + 2 : start], view[start + 4 : end])
        at = end + len(delimiter)
    _refuse(f"has more than {_MAX_PARTS} parts")


def _part(head: bytes, content: memoryview) -> _Part:
    headers: dict[str, str] = {}
    try:
        lines = head.decode().split("\r\n")
    except UnicodeDecodeError:
        lines = [""]
    for line in lines:
        # Not by one expression: three repeats that may share their blanks are tried in every way that there is.
        name, colon, value = line.partition(":")
        name = name.lower()
        if not colon or name in headers or not _HEADER_NAME.fullmatch(name) or "\r" in value or "\n" in value:
            _refuse("has a part with a malformed head")
        headers[name] = value.strip(" \t")
    parameters = _disposition(headers.pop("content-disposition", ""))
    headers.pop("content-length", None)  # says nothing that the delimiters don't
    return _Part(parameters, headers, content)


def _disposition(text: str) -> dict[str, str]:
    """Return the parameters of a ``content-disposition``, their values as they were written between the quotes."""
    parameters: dict[str, str] = {}
    begin = _DISPOSITION.match(text)
    at = begin.end() if begin else 0
    while found := _PARAMETER.match(text, at):
        name = found[1].lower()
        if name in parameters:
            _refuse("has a part with a malformed head")
        parameters[name] = found[2] if found[3] is None else found[3]
        at = found.end()
    if begin is None or at != len(text) or "name" not in parameters or not _PARAMETERS.issuperset(parameters):
        _refuse("has a part with a malformed head")
    return parameters


def _value(part: _Part) -> JsonValue:
    """Return a part as it stands in a key: a text, or an object for whatever is more than a text."""
    headers = dict(part.headers)
    content_type = headers.pop("content-type", "")
    is_named = len(part.parameters) > 1
    if not (is_named or headers) and "".join(content_type.lower().replace('"', "").split()) in _PLAIN:
        try:
            return str(part.content, "utf-8")
        except UnicodeDecodeError:
            pass
    value: JsonObject = {"content": f"{content_type};sha256={hashlib.sha256(part.content).hexdigest()}"}
    value |= {name: _shape(text) for name, text in part.parameters.items() if name != "name"}
    if headers:
        value["headers"] = dict(headers)
    return value


def _shape(filename: str) -> str:
    """Return what of `filename` may tell a server how to read the file: its extension, behind a ``*``."""
    last = re.split(r"[/\\]", filename)[-1]
    stem, dot, extension = last.rpartition(".")
    return f"*.{extension}" if dot and stem else "*" if filename else ""


def _refuse(what: str) -> NoReturn:
    raise UncacheableRequest(f"the request's form {what}, so the call was sent uncached")
