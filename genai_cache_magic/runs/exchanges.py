"""What other tools have recorded, as calls of a run: those of model calls that a run file may hold.

A recording is untrusted input, and holds credentials: of a request only what tells it from others is taken, of an
answer only what a run file keeps.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from genai_cache_magic.core.policy import Refuse, admissible
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.errors import ConfigurationError, UncacheableRequest
from genai_cache_magic.intercept.clients.wire import http_call
from genai_cache_magic.intercept.inflating import unpacked
from genai_cache_magic.intercept.recording import recorded
from genai_cache_magic.providers.base import Uploads
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.runs.lines import CallName, RecordedCall, decode_line, encode_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from genai_cache_magic.core.model import Headers
    from genai_cache_magic.providers.base import ModelCall, Origins

MAX_ANSWER_BYTES: Final = 32 << 20
_OK: Final = range(200, 300)
_MOST_KINDS: Final = 100
_LONGEST_ADDRESS: Final = 120
_COMPRESSED: Final = "content-encoding"
_PLAIN_STARTS: Final = (b"{", b"[", b"data:", b"event:", b":")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, as somebody recorded them; header names in any case, bodies perhaps compressed."""

    method: str
    url: str = field(repr=False)
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    status: int
    answered: Headers = field(repr=False)
    answer: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Taken:
    """The calls of a recording, and how many of what else was left out, by what it was."""

    calls: tuple[RecordedCall, ...] = field(repr=False)
    left_out: Mapping[str, int] = field(repr=False)


class _LeftOut(Exception):  # noqa: N818 - no error: a recording holds what it holds
    """An exchange is no call of a run; the text says why."""


def taken(exchanges: Iterable[Exchange | str], origins: Origins) -> Taken:
    """Return the model calls among `exchanges`; a text is one that could not be read, and says why.

    Equal requests are further samples of one, in the order in which they were recorded.
    """
    # What was uploaded here stands for nothing there.
    origins = replace(origins, uploads=Uploads())
    samples: Counter[str] = Counter()
    calls = []
    left_out: Counter[str] = Counter()
    for exchange in exchanges:
        try:
            call = _call(exchange, origins)
            calls.append(replace(call, name=CallName(call.name.digest, samples[call.name.digest])))
            samples[call.name.digest] += 1
        except _LeftOut as reason:
            said = str(reason)
            left_out[said if said in left_out or len(left_out) < _MOST_KINDS else "for other reasons"] += 1
    return Taken(tuple(calls), dict(left_out.most_common()))


def _call(exchange: Exchange | str, origins: Origins) -> RecordedCall:
    if isinstance(exchange, str):
        raise _LeftOut(exchange)
    where = f"{_shown(exchange.method)} {_address(exchange.url)}"
    call = _recognised(exchange, origins, where)
    if exchange.status not in _OK:
        raise _LeftOut(f"answered with status {exchange.status}: {where}")
    headers, body = _plain_answer(exchange, where)
    response = recorded(exchange.status, headers, body, call.wants.form, has_ended=True)
    answer = call.provider.read(response)
    decision = admissible(answer.end, (*call.refused, *answer.refused), ())
    if isinstance(decision, Refuse):
        raise _LeftOut(f"its answer is not one to keep ({decision.reason}): {where}")
    try:
        form = portable_form(call.request)
        name = CallName(portable_digest(form), 0)
        model = answer.model or call.request.model
        one = RecordedCall(name, call.provider.surface, model, response, call.wants.asked, form)
        return decode_line(encode_line(one))
    except (UncacheableRequest, ValueError):
        raise _LeftOut(f"it holds what a run file can't: {where}") from None


def _recognised(exchange: Exchange, origins: Origins, where: str) -> ModelCall:
    try:
        asked = http_call(exchange.method.upper(), exchange.url, dict(_joined(exchange.headers)), exchange.body)
        found = recognise(asked, origins)
    except (UncacheableRequest, ConfigurationError):
        raise _LeftOut(f"a model call that has no certain key: {where}") from None
    except ValueError:  # of an address that is none
        found = None
    if found is None:
        raise _LeftOut(f"no model call that is known here: {where}")
    return found


def _plain_answer(exchange: Exchange, where: str) -> tuple[Headers, bytes]:
    body = unpacked(exchange.answered, exchange.answer, MAX_ANSWER_BYTES)
    if body is None and exchange.answer.lstrip().startswith(_PLAIN_STARTS):
        body = exchange.answer  # unpacked by whoever recorded it, who left the header
    if body is None:
        raise _LeftOut(f"its answer can't be unpacked: {where}")
    if len(body) > MAX_ANSWER_BYTES:
        raise _LeftOut(f"its answer is larger than {MAX_ANSWER_BYTES >> 20} MiB: {where}")
    return tuple((name, value) for name, value in exchange.answered if name.lower() != _COMPRESSED), body


def _joined(headers: Headers) -> list[tuple[str, str]]:
    lines: dict[str, list[str]] = {}
    for name, value in headers:
        lines.setdefault(name.lower(), []).append(value)
    return [(name, ", ".join(values)) for name, values in lines.items()]


def _address(url: str) -> str:
    """Return host and path of `url`: what follows may hold a key."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that is none"
    # SECURITY: no user, password, query or fragment.
    return _shown(f"{parts.netloc.rpartition('@')[2]}{parts.path}")


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:_LONGEST_ADDRESS])
