"""`requests`, and what stands on it, such as Azure's synchronous clients: every adapter that sends over HTTP.

`HTTPAdapter.send` is below sessions, so hooks, cookies and authentication work as ever on a hit: what they
get is a real response, built by the adapter itself. A redirect is a call of its own here.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from genai_cache_magic.calls.steps import Follow, Step
from genai_cache_magic.core.model import Response
from genai_cache_magic.intercept.active import active
from genai_cache_magic.intercept.base import open_call, wait
from genai_cache_magic.intercept.clients.wire import by_name, by_proxy, http_call
from genai_cache_magic.intercept.points import Point
from genai_cache_magic.intercept.portions import CODINGS, Portion, without_lengths
from genai_cache_magic.intercept.turns import Turn, current_turn, turn_for
from genai_cache_magic.providers.unrecognised import ASK_NOTHING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from genai_cache_magic.core.model import Headers
    from genai_cache_magic.intercept.active import Active
    from genai_cache_magic.intercept.points import Group
    from genai_cache_magic.intercept.recording import Recording
    from genai_cache_magic.providers.base import HttpCall

MODULES: Final = ("requests",)

_TIMEOUT_AT: Final = 1
_PROXIES_AT: Final = 4
"""Where ``send(request, stream, timeout, verify, cert, proxies)`` has them, after the request."""


def patches(module: ModuleType) -> list[Group]:
    """Return what to patch in `requests`.

    Raises
    ------
    AttributeError
        This release of it, or of urllib3 below it, is built differently.
    """
    return [(Point(module.adapters.HTTPAdapter, "send", functools.partial(_send, kit=_Kit(module))),)]


def _send(original: Callable[..., Any], kit: _Kit) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, *args: Any, **options: Any) -> Any:
        here = active.get()
        route = () if here is None else kit.route(self, request, args, options)
        step = None if here is None else kit.begin(here, request, route)
        if here is None or step is None:
            return original(self, request, *args, **options)
        while isinstance(step, Follow):
            step = wait(here, step, _read_timeout(args, options))
        turn = turn_for(
            here,
            request,
            step,
            is_origins=kit.is_origins,
            play=functools.partial(kit.play, self, request),
            decode=kit.decode,
        )
        if isinstance(turn.outcome, BaseException):
            raise turn.outcome
        if turn.outcome is not None:
            return turn.outcome
        if turn.lead is not None:
            return _send_part(functools.partial(original, self), kit, here, turn, (self, route, args, options))
        with turn:
            response = original(self, request, *args, **options)
            kit.record(turn.recording, request, route, response)
        return response

    return send


def _send_part(
    send: Callable[..., Any],
    kit: _Kit,
    here: Active,
    turn: Turn,
    how: tuple[Any, Headers, tuple[Any, ...], dict[str, Any]],
) -> Any:
    """Send the part of a call whose answer is not known, and return that of the whole call."""
    adapter, route, args, options = how
    request, portion = turn.request, Portion(here, turn)
    part = portion.request(functools.partial(kit.with_body, request))
    if part is not None:
        with turn:
            received = send(part, *args, **options)
            kit.record(turn.recording, part, route, received)
            received.content  # noqa: B018 - reads it
        exchanged = functools.partial(kit.exchanged, adapter, request, received)
        answer = portion.answer(received, received.status_code, exchanged)
        if answer is not None:
            return answer
    portion.ask_whole()
    with Turn(request):
        return send(request, *args, **options)


def _read_timeout(args: tuple[Any, ...], options: dict[str, Any]) -> float | None:
    """Return how long the caller waits for an answer [s], None if it did not say so as a number."""
    timeout = args[_TIMEOUT_AT] if len(args) > _TIMEOUT_AT else options.get("timeout")
    if isinstance(timeout, tuple):
        timeout = timeout[-1]
    # urllib3's Timeout says it in an attribute, which may hold a mark for "default".
    read = getattr(timeout, "read_timeout", timeout)
    return read if isinstance(read, int | float) else None


class _Kit:
    """What is made once: the library's errors, and what its answers are taped and played with."""

    def __init__(self, module: ModuleType) -> None:
        # Here, since it imports urllib3.
        from genai_cache_magic.intercept.clients import urllib3_messages

        self._messages = urllib3_messages
        self.decode = urllib3_messages.decode
        self._errors = module.exceptions
        self._select_proxy = module.utils.select_proxy

    def route(self, adapter: Any, request: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Headers:
        """Return how `request` goes to its service by `adapter`, beside its URL."""
        if request.method != "POST":
            return ()
        with suppress(Exception):  # what no adapter of the library's would hold; whoever made it will say so
            proxies = args[_PROXIES_AT] if len(args) > _PROXIES_AT else options.get("proxies")
            pools = getattr(getattr(adapter, "poolmanager", None), "connection_pool_kw", {})
            return (
                *by_proxy(self._select_proxy(request.url, proxies) if proxies else None),
                *by_name(pools.get("server_hostname")),
            )
        return ()

    def begin(self, here: Active, request: Any, route: Headers) -> Step | None:
        """Decide what becomes of `request`; None if it is to be left alone altogether."""
        # What is sent in the course of another call, by whatever client, is that call's.
        if request.method in ASK_NOTHING or current_turn() is not None:
            return None
        return open_call(here, functools.partial(self._http_call, request, route), is_async=False, divides=True)

    def with_body(self, request: Any, body: bytes) -> Any:
        """Return `request` with another body."""
        part = request.copy()
        part.body = body
        part.headers.pop("Transfer-Encoding", None)
        part.headers["Content-Length"] = str(len(body))
        return part

    def exchanged(self, adapter: Any, request: Any, received: Any, answer: Response) -> Any:
        """Return what was `received`, read, as the response to `request` that has the body of `answer`."""
        headers = tuple(without_lengths(received.raw.headers.items(), CODINGS))
        stored = Response(received.status_code, (*headers, ("content-length", "")), answer.body)
        raw = self._messages.replayed(stored, request.path_url, adapter.max_retries)
        raw._original_response = received.raw._original_response  # noqa: SLF001 - where cookies are looked for
        return adapter.build_response(request, raw)

    def _http_call(self, request: Any, route: Headers) -> HttpCall:
        return http_call(request.method, request.url, request.headers, request.body, route)

    def play(self, adapter: Any, request: Any, stored: Response | BaseException) -> Any:
        """Return a response, or an error, of the library's like `stored`."""
        if not isinstance(stored, Response):
            return self._error(stored, request)
        return adapter.build_response(request, self._messages.replayed(stored, request.path_url, adapter.max_retries))

    def _error(self, error: BaseException, request: Any) -> BaseException:
        """Return a new error like `error`, which may be another library's and has a traceback."""
        errors = self._errors
        kind = type(error) if isinstance(error, errors.ConnectionError) else errors.ConnectionError
        new: BaseException = kind(*error.args, request=request)
        return new

    def record(self, recording: Recording | None, request: Any, route: Headers, response: Any) -> None:
        """Let `recording` have what the caller reads of `response`."""
        if recording is None:
            return
        # An adapter may add headers as it sends.
        recording.sent(functools.partial(self._http_call, request, route))
        with recording.guarded():
            self._messages.tee(response.raw, recording)

    def is_origins(self, error: BaseException) -> bool:
        """Return whether anyone who asks the origin now would get `error`: not so for a time-out."""
        errors = self._errors
        own = (errors.Timeout, errors.ProxyError, errors.SSLError)
        return isinstance(error, errors.ConnectionError) and not isinstance(error, own)
