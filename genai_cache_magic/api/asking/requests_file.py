"""Requests that are to be in the cache, as people have them: objects in a list, lines of JSON, OpenAI's batch files.

An object is a line of a batch file, ``{"url": "/v1/chat/completions", "body": {...}}``, or a body alone, whose wire API
its fields tell. Addresses are paths: a host that stands in a file would be sent the user's key.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.runs.again import again

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from genai_cache_magic.runs.lines import RecordedCall

_MOST_BYTES: Final = 1024**3
_CHAT, _RESPONSES, _MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
_EMBEDDINGS: Final = "/v1/embeddings"
_PATHS: Final = (
    _CHAT,
    _RESPONSES,
    _MESSAGES,
    "/v1/completions",
    _EMBEDDINGS,
)
"""Wire APIs that are asked here, by the path of their requests."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request whose answer is wanted.

    Attributes
    ----------
    path
        Of `_PATHS`.
    line
        Where it stands, from 1.
    digest
        Its name in the run file that it is taken from; empty for others.
    """

    path: str
    body: Mapping[str, Any] = field(repr=False)
    line: int
    digest: str = ""


def read_requests(given: Iterable[Mapping[str, Any]] | str | Path, *, endpoint: str = "") -> tuple[Wanted, ...]:
    """Return the requests of a list, or of a file of JSON lines.

    Parameters
    ----------
    endpoint
        The path of bodies that stand alone; empty: their fields tell it.

    Raises
    ------
    ConfigurationError
        There is no such file, or one of its lines is no request; the message names the line.
    """
    if endpoint and endpoint not in _PATHS:
        raise ConfigurationError(f"endpoint {endpoint!r} is not asked here: write one of {', '.join(_PATHS)}")
    rows = enumerate(given, 1) if not isinstance(given, str | Path) else _lines(Path(given))
    return tuple(_wanted(row, line, endpoint) for line, row in rows)


def recorded_requests(calls: Iterable[RecordedCall]) -> tuple[tuple[Wanted, ...], Counter[str]]:
    """Return the requests of recorded calls, and how many others can't be asked again, by the reason.

    Of a request with several samples it is one.
    """
    wanted: dict[str, Wanted] = {}
    left_out: Counter[str] = Counter()
    for number, call in enumerate(calls, 1):
        one = again(call)
        if isinstance(one, str):
            left_out[one] += 1
        else:
            wanted.setdefault(one.digest, Wanted(one.path, one.body, number, one.digest))
    return tuple(wanted.values()), left_out


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} is larger than 1 GiB: cut it into parts")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigurationError(f"{path} can't be read as a file of JSON lines ({type(exc).__name__})") from exc
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as exc:
                raise ConfigurationError(f"line {number} of {path} is no JSON: one request a line") from exc


def _wanted(row: object, line: int, endpoint: str) -> Wanted:
    if not isinstance(row, dict):
        raise ConfigurationError(f"request {line} is no JSON object: write a body, or a line of a batch file")
    try:
        json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"request {line} holds what JSON can't say ({type(exc).__name__})") from exc
    if "body" not in row:
        path = endpoint or _told_by(row)
        if not path:
            raise ConfigurationError(
                f"request {line} doesn't tell its wire API: name it by endpoint, {_CHAT} or another"
            )
        return Wanted(path, _plain(path, row), line)
    path, body = str(row.get("url")), row["body"]
    if path not in _PATHS or row.get("method", "POST") != "POST" or not isinstance(body, dict):
        raise ConfigurationError(
            f"request {line} is not one that is asked here: write as its url one of {', '.join(_PATHS)} (a path, no "
            "host), the method POST, and a body"
        )
    return Wanted(path, _plain(path, body), line)


def _told_by(body: Mapping[str, Any]) -> str:
    """Return the path for which `body` is meant; empty where several would do."""
    if str(body.get("model", "")).startswith("claude") and "messages" in body:
        return _MESSAGES
    if "messages" in body:
        return _CHAT
    return ""


def _plain(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """Return `body` as it is asked here: an entry serves streams, too, so nothing is streamed to make it.

    Vectors are asked for in the form in which OpenAI's SDK asks for them where its caller names none.
    """
    form = {"encoding_format": "base64"} if path == _EMBEDDINGS else {}
    return form | {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
