"""One answer as it passes to its caller: collected, and handed over once it is whole."""

from __future__ import annotations

import functools
import io
import re
import sys
from collections.abc import Callable, Hashable  # noqa: TC003 - of attributes, which a tool may look up
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple, TypeAlias

from genai_cache_magic.calls.aside import MANY
from genai_cache_magic.calls.uploads import UploadDesk
from genai_cache_magic.core.model import Form, Headers, Response
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.intercept import heads
from genai_cache_magic.intercept.base import Guarded
from genai_cache_magic.intercept.inflating import fits
from genai_cache_magic.providers.base import End
from genai_cache_magic.providers.formats import streams
from genai_cache_magic.providers.origins import ignores_no_store
from genai_cache_magic.providers.registry import recognise

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from genai_cache_magic.calls.steps import Lead
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.providers.base import HttpCall

Decode: TypeAlias = "Callable[[Headers, bytes, int], bytes | None]"

# How a stream ends that says itself that nothing follows, behind which some SDKs neither read on nor close: Azure's
# and LiteLLM's. Within an event's data a line break is escaped, so no text of a model's looks like this.
_LAST_EVENT: Final = re.compile(rb"\n(?:data: ?\[DONE\]|event: ?message_stop\r?\ndata:[^\n]*)\r?\n\r?\n\Z")
_LONGEST_LAST_EVENT: Final = 512
"""So much of the end is looked at [bytes]: Anthropic pads its events with blanks."""

UNFRAMED: Final = "nothing tells whether all of it came"
NO_STORE: Final = "no-store"
CHANGED: Final = "changed after it was looked up"
APART: Final = "does not go together with what is known"
REDIRECTED: Final = "a redirect led to another origin or method"

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final = {"https": 443, "http": 80}

_NOT_SAID: Final = frozenset({End.CUT, End.ERROR, End.UNREADABLE})


class LookedUp(NamedTuple):
    """The request that a call was decided of, by which it is known again where it is sent.

    Attributes
    ----------
    spelt
        All that it is made of: a request that is spelt the same is the same one, and need not be recognised again.
    http_call
        Returns it as the providers judge it, whatever has become of the client's own request since.
    """

    spelt: Hashable
    http_call: Callable[[], HttpCall]

    def __repr__(self) -> str:
        return "<what was looked up>"


class Recording:
    """Collects one answer as it passes to its caller, and hands it over once it is whole.

    An answer is handed over when its stream was closed *and* the client returned this very response to
    its caller: what a redirect or an authentication round received is superseded. A recording that is
    forgotten, with a stream that nobody closed, gives its call up.

    It never holds more than the largest answer that would be stored, whole or in parts. One that grows beyond, on the
    wire or unpacked, is passed on and no longer recorded, and whoever waits for it is let go at once.

    Parameters
    ----------
    decode
        Undoes the wire's compression: (headers, bytes as they came, limit [bytes]) -> body, None if that is beyond the
        limit. None where nothing is to undo: the library did, or never does.
    looked_up
        What was looked up; None where that can't be told, or is not what is sent.
    """

    little_bytes: ClassVar[int] = 4096
    """So much is read at most of a stream that its caller leaves once everything was said [bytes]."""

    little_s: ClassVar[float] = 0.05
    """So long that may take [s]."""

    def __init__(
        self, here: Active, lead: Lead, decode: Decode | None = None, looked_up: LookedUp | None = None
    ) -> None:
        self._here = here
        self._lead = lead
        self._decode = decode
        self._is_returned = False
        self._is_settled = False
        self._is_attached = False
        self._is_resting = False
        self._is_held = False
        self._limit_bytes = lead.desk.max_response_bytes
        if lead.batch is not None:
            self._limit_bytes = lead.batch.limit_bytes(self._limit_bytes)
        self._headers: Headers
        self._kept: io.BytesIO | None
        self._looked_up = looked_up
        self._sent: Callable[[], HttpCall] | None = None
        self._mark: Hashable | None = None  # how that was spelt, if it can be
        self._doubt = ""
        self._reset()

    def __del__(self) -> None:
        # What runs here may run in the middle of anything, so the locks that it takes are re-entrant.
        if not self._is_settled and not sys.is_finalizing():
            self._give_up(None)

    def guarded(self) -> Guarded:
        """Return the guard for what an interceptor does to record."""
        return Guarded(self._here)

    def sent(
        self, http_call: Callable[[], HttpCall], spelt: Callable[[Active], Hashable | None] = lambda _: None
    ) -> None:
        """Compare what is sent now with what was looked up, as low as can be: anyone above may have changed it.

        Said of each request on the way to one answer: a redirect's, an authentication round's. The last one counts,
        whose answer is kept, but for a redirect, which stands for whatever led to it. `spelt` returns all that it is
        made of, by which it is known again, as for `open_call`.
        """
        doubt = CHANGED
        with Guarded(self._here):
            mark = None
            with suppress(Exception):  # what can't be spelt is looked into, here as where it was looked up
                mark = spelt(self._here)
            if mark is not None and mark == self._mark:
                return  # seen already, a floor above
            known = self._looked_up
            is_redirected = self._status in _REDIRECTS and self._sent is not None
            if known is not None and mark == known.spelt and not is_redirected:
                doubt, self._sent = "", known.http_call
            else:
                now = http_call()
                before = None if self._sent is None else self._sent()
                if now == before:
                    return
                if is_redirected and before is not None:
                    doubt = self._doubt or ("" if _is_akin(before, now) else REDIRECTED)
                elif self._is_asked(now, mark):
                    doubt = ""
                self._sent = functools.partial(_itself, now)
            self._mark = mark
        self._doubt = doubt

    def _is_asked(self, now: HttpCall, mark: Hashable | None) -> bool:
        lead, origins = self._lead, self._here.cache.origins
        if isinstance(lead.desk, UploadDesk):
            return lead.desk.is_same(now)
        call = None if mark is None else origins.remembered.get(mark)
        if call is None:
            try:
                call = recognise(now, origins)
            except UncacheableRequest:
                return False
        return call is not None and lead.desk.request_id(call, lead.scope) == lead.request_id

    def refuse(self, reason: str) -> None:
        """Note that what comes must not be stored, and why."""
        lead = self._lead
        lead.call = replace(lead.call, refused=(*lead.call.refused, reason))

    def attempt(self, status: int, headers: Headers, *, is_framed: bool = False) -> None:
        """Start over with a new response head; `is_framed` if the protocol itself tells where the body ends."""
        self._reset()
        self._is_attached = True
        self._status, self._headers = status, headers
        self._is_framed = is_framed or heads.is_framed(headers)
        if heads.told_bytes(headers) > self._limit_bytes:
            self._kept = None

    def _reset(self) -> None:
        self._status = 0
        self._headers = ()
        # One buffer: a list of chunks takes many times their size where they are small. None is too much.
        self._kept = io.BytesIO()
        self._error: BaseException | None = None
        self._is_framed = False
        self._is_ended = False
        self._is_left = False
        self._is_closed = False

    def reading(self) -> None:
        """Note that the caller waits for the next chunk."""
        if (flight := self._lead.flight) is not None:
            flight.pulse.beat()

    def feed(self, chunk: bytes) -> None:
        """Keep a chunk that is on its way to the caller."""
        if self._kept is not None:
            if self._kept.tell() + len(chunk) <= self._limit_bytes:
                self._kept.write(chunk)
            else:
                self._kept = None
        if self._is_returned and (self._kept is None or (chunk.endswith(b"\n") and self._has_last_event())):
            self._settle()
        self._rest()

    def _has_last_event(self) -> bool:
        """Tell whether the stream says itself that nothing follows."""
        if self._kept is None:
            return False
        return _LAST_EVENT.search(self._kept.getbuffer()[-_LONGEST_LAST_EVENT:]) is not None

    def ended(self) -> None:
        """Note that the body has come to its end."""
        self._is_ended |= not self._is_left

    def left(self) -> None:
        """Note that the stream is about to be closed: what ends from now on ends by that."""
        self._is_left = True

    def broke(self, error: BaseException) -> None:
        """Note that the stream raised `error` to its caller."""
        if not self._is_resting:
            self._error = error

    def lacks_little(self) -> bool:
        """Tell whether a stream that is being closed has said everything, but for what ends it.

        Its caller left at the last choice's reason, say, and the end came in another segment of the network's: the
        little that remains may be read (`little_bytes`, `little_s`), or this answer would never be a hit.
        """
        if self._is_settled or self._is_ended or not self._is_returned or self._kept is None or self._error is not None:
            return False
        with Guarded(self._here):
            body = self._unpacked(self._kept.getvalue())
            if body is None:
                return False
            wants, read = self._lead.call.wants, self._lead.call.provider.read
            response = recorded(self._status, self._headers, body, wants.form, has_ended=True)
            if response.form is not Form.STREAM or read(response).end in _NOT_SAID:
                return False
            return read(replace(response, has_ended=False)).end is End.CUT
        return False

    @contextmanager
    def little(self) -> Iterator[None]:
        """Let an interceptor read the little that remains: where that fails, it is left."""
        self._is_resting = True
        try:
            with suppress(Exception):
                yield
        finally:
            self._is_resting = False

    def closed(self) -> None:
        """Note that the stream was closed, by whoever."""
        self._is_closed = True
        if self._is_returned and not self._is_held:
            self._settle()

    def hold(self) -> None:
        """Hand nothing over until `let_go`, by whoever waits for the end of this answer and can do so elsewhere."""
        self._is_held = True

    def let_go(self) -> None:
        """Hand over what was held, if it has come to its end."""
        self._is_held = False
        if self._is_closed and self._is_returned:
            self._settle()

    @property
    def is_much(self) -> bool:
        """Whether handing the answer over takes too long for an event loop: many items are told apart and stored."""
        batch = self._lead.batch
        return self._lead.is_async and batch is not None and len(batch.asked or batch.ids) >= MANY

    def returned(self) -> None:
        """Note that the client returned the response to its caller."""
        self._is_returned = True
        if self._is_closed or not self._is_attached or self._kept is None:
            self._settle()
        else:
            self._rest()

    def failed(self, error: BaseException, *, is_origins: bool) -> None:
        """Note that the client raised `error` instead of returning a response."""
        self._give_up(error, is_origins=is_origins)

    def _rest(self) -> None:
        """Note that the caller has what there is, and may come back for more or not."""
        if (flight := self._lead.flight) is not None:
            flight.pulse.rest()

    def _give_up(self, error: BaseException | None, *, is_origins: bool = False) -> None:
        self._is_settled = True
        with Guarded(self._here):
            self._lead.desk.abort(self._lead, error, is_origins=is_origins)

    def _settle(self) -> None:
        if self._is_settled:
            return
        self._is_settled = True
        try:
            with Guarded(self._here):
                if self._is_attached:
                    self._hand_over()
        finally:
            self._kept = None  # the caller may keep the response for long
            with Guarded(self._here):
                # Failed or interrupted: those who wait must not wait for ever.
                self._lead.desk.drop(self._lead)

    def _hand_over(self) -> None:
        lead = self._lead
        desk = lead.desk
        body = self._body()
        if body is None:
            desk.commit_too_large(lead, self._status)
            return
        if self._doubt:
            self.refuse(self._doubt)
        has_ended = self._is_ended and self._is_framed
        response = recorded(self._status, self._headers, body, lead.call.wants.form, has_ended=has_ended)
        if streams.is_fine(response, self._limit_bytes):
            desk.commit_too_large(lead, self._status)
            return
        if not self._is_framed and heads.is_opaque(response):
            self.refuse(UNFRAMED)
        if lead.batch is not None:
            response = lead.batch.answered(response)
            if lead.batch.is_apart:
                self.refuse(APART)
        if heads.forbids_storing(self._headers) and not self._stores_all_the_same():
            self.refuse(NO_STORE)
        if self._is_whole(response):
            desk.commit(lead, response)
        else:
            desk.abort(lead, self._error)

    def _stores_all_the_same(self) -> bool:
        sent = self._sent
        return sent is not None and ignores_no_store(sent(), self._here.cache.origins)

    def _body(self) -> bytes | None:
        """Return what came, unpacked; None if it is too much. It is no longer kept here then."""
        kept, self._kept = self._kept, None
        return None if kept is None else self._unpacked(kept.getvalue())

    def _unpacked(self, came: bytes) -> bytes | None:
        # SECURITY: sizes are told before anything is allocated; a few bytes may unpack to gigabytes.
        if not fits(self._headers, came, self._limit_bytes):
            return None
        return came if self._decode is None else self._decode(self._headers, came, self._limit_bytes)

    def _is_whole(self, response: Response) -> bool:
        """Tell whether this is all there is: SDKs leave a stream after its last event, before its end."""
        if self._is_ended:
            return True
        if response.form is Form.JSON:
            return False
        return self._error is None or self._lead.call.provider.read(response).end is not End.CUT


def recorded(
    status: int, headers: Iterable[tuple[str, str]], body: bytes, asked: Form = Form.JSON, *, has_ended: bool = False
) -> Response:
    """Return the response to keep: decoded, without what belongs to the wire or to the first caller.

    Parameters
    ----------
    asked
        The form that was asked for; what came is of that one or the other by its content type and its first bytes.
    has_ended
        Whether `body` came to an orderly end.
    """
    kept = heads.kept_of(tuple(headers))
    content_type = next(iter(heads.values_of(kept, "content-type")), "")
    return Response(status, kept, body, streams.form_of(content_type, asked, body), has_ended)


def _itself(call: HttpCall) -> HttpCall:
    return call


def _is_akin(before: HttpCall, after: HttpCall) -> bool:
    """Tell whether two requests have one method and one origin."""
    return _address(before) == _address(after)


def _address(call: HttpCall) -> tuple[object, ...]:
    port = call.port or _PORTS.get(call.scheme)
    return call.method, call.scheme, call.host, port, call.headers.get("host", ""), call.route
