"""A model provider on loopback that needs no key and costs nothing: for demonstrations and tests.

It speaks OpenAI's chat completions, responses, embeddings, legacy completions, sounds and images, Azure's paths of
them, Anthropic's messages, Gemini, Cohere, Mistral's fill-in-the-middle, Ollama and Amazon Bedrock, whole and streamed,
to the unchanged SDKs, and the batch APIs of OpenAI and Anthropic (`batches`). Every answer says that it is simulated,
in its text (``[simulated] ...``) and by the header ``x-simulated: 1``.
``python -m genai_cache_magic.testing.model_server`` runs it by hand.

Request headers that change one answer
--------------------------------------
``x-simulate-fault``
    Name of a `Fault`, such as ``truncated``.
``x-simulate-latency-s``
    Seconds to wait before the answer, instead of the server's own latency.
``x-simulate-gzip``
    ``1`` compresses the answer, if the client accepts gzip.

Limits: ``max_tokens`` and stop sequences are accepted and not obeyed (ask for `Fault.TRUNCATED`), nothing but batches
is remembered between calls, and images and sounds are only counted.
"""

from __future__ import annotations

import argparse
import ipaddress
import itertools
import json
import math
import secrets
import sys
import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.testing.simulated.batches import Batches
from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError, seed_of
from genai_cache_magic.testing.simulated.http_server import LOOPBACK, LoopbackServer, ReceivedRequest
from genai_cache_magic.testing.simulated.replying import Reply, json_reply, reply_to
from genai_cache_magic.testing.simulated.routing import answer_aside, question_of, wire_api_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType


__all__ = ["Answers", "Fault", "ReceivedRequest", "SimulatedModelServer"]

Answers = Literal["deterministic", "unique"]
_FAULT_HEADER = "x-simulate-fault"
_LATENCY_HEADER = "x-simulate-latency-s"
_GZIP_HEADER = "x-simulate-gzip"
_JOIN_S = 5.0
_LONGEST_LATENCY_S = 3600.0


class SimulatedModelServer:
    """An HTTP server that answers model calls, and remembers what it was asked.

    Parameters
    ----------
    answers : {"deterministic", "unique"}
        Equal requests get equal answers (but for the ids of tool calls, which are random as with every real
        provider), or every answer differs.
    latency_s : float
        Time before every answer [s].
    port : int
        0 for any free one.
    host : str
        Only loopback is accepted.
    gzip : bool
        Compress every answer for clients that accept it.

    Raises
    ------
    ConfigurationError
        A setting can't be used. `start` raises it for a port that is taken.
    """

    def __init__(
        self,
        answers: Answers = "deterministic",
        *,
        latency_s: float = 0.0,
        port: int = 0,
        host: str = LOOPBACK,
        gzip: bool = False,
    ) -> None:
        if answers not in get_args(Answers):
            raise ConfigurationError(f"answers={answers!r}: use one of {', '.join(get_args(Answers))}")
        if not _is_latency(latency_s):
            raise ConfigurationError(f"latency_s={latency_s!r}: use seconds from 0 to {_LONGEST_LATENCY_S:.0f}")
        _require_loopback(host)
        self._is_unique = answers == "unique"
        self._latency_s = latency_s
        self._port = port
        self._is_gzip = gzip
        self._server: LoopbackServer | None = None
        self._url: str | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._arrived = threading.Condition(self._lock)
        self._gate = threading.Condition(self._lock)
        # Guarded by _lock:
        self._requests: list[ReceivedRequest] = []
        self._faults: deque[Fault] = deque()
        self._held_after_events: int | None = None
        self._serials = itertools.count(1)
        self.batches = Batches(self._ask_in_batch, lambda: self.url)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url or 'not started'}, {self.count} model calls)"

    # Running

    def start(self) -> Self:
        """Bind the port and serve from threads of its own; does nothing while it runs."""
        if self._server is None:
            self._stopping.clear()
            try:
                server = LoopbackServer(self._port, self)
            except (OSError, OverflowError) as exc:
                raise ConfigurationError(f"port={self._port}: can't be bound; choose another, or 0 for any") from exc
            self._server = server
            self._url = f"http://{LOOPBACK}:{server.port}"
            server.start()
        return self

    def stop(self) -> None:
        """Close all connections, those with held calls and open streams too, and join the threads."""
        server, self._server = self._server, None
        if server is None:
            return
        self._stopping.set()
        with self._lock:
            self._gate.notify_all()
        server.stop(_JOIN_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL for all SDKs but OpenAI's; stays what it was after `stop`."""
        if self._url is None:
            raise ConfigurationError("the simulated model server has no URL yet: call start(), or use it in 'with'")
        return self._url

    @property
    def openai_url(self) -> str:
        """Base URL for OpenAI's SDK."""
        return f"{self.url}/v1"

    # What it was asked

    @property
    def requests(self) -> tuple[ReceivedRequest, ...]:
        """The model calls received, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    @property
    def count(self) -> int:
        """Number of model calls received."""
        with self._lock:
            return len(self._requests)

    def reset(self) -> None:
        """Forget the calls and the queued faults, and release what is held."""
        with self._lock:
            self._requests.clear()
            self._faults.clear()
        self.release()

    def wait_for(self, n: int, timeout_s: float = 10.0) -> bool:
        """Wait until `n` model calls have arrived; False if they haven't after `timeout_s` [s]."""
        with self._lock:
            return self._arrived.wait_for(lambda: len(self._requests) >= n, timeout_s)

    # What goes wrong

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Queue `fault` for the next `times` model calls, after those already queued."""
        with self._lock:
            self._faults.extend([fault] * times)

    def hold(self, *, after_events: int = 0) -> None:
        """Let calls arrive and be counted, and keep their answers back until `release`.

        With `after_events`, streams send that many events before they wait, and other answers go out.
        """
        with self._lock:
            self._held_after_events = after_events

    def release(self) -> None:
        """Let held answers, and all that follow, go out."""
        with self._lock:
            self._held_after_events = None
            self._gate.notify_all()

    # Answering

    def respond(self, request: ReceivedRequest) -> Reply:
        """Answer one HTTP request; called by the server's threads.

        Raises
        ------
        ConnectionAbortedError
            The server stops while the answer is kept back.
        """
        if (about_batches := self.batches.answer(request)) is not None:
            return self._finished(request, about_batches)
        found = wire_api_of(request.method, request.target)
        if found is None:
            return self._finished(request, answer_aside(request.method, request.target, request.json, self.url))
        api, deployment = found
        serial, fault = self._arrive(request)
        try:
            latency_s = _asked_latency(request.headers, self._latency_s)
            call = self._call(request, deployment, serial, _asked_fault(request.headers) or fault)
            reply = reply_to(api, call)
        except InvalidCallError as error:
            return self._finished(request, json_reply(400, api.error_body(400, str(error))))
        self._keep_back(latency_s)
        return self._finished(request, reply)

    def _ask_in_batch(self, path: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        """Answer one call of a batch, which is counted there alone, with the next fault of the queue."""
        with self._lock:
            fault = self._faults.popleft() if self._faults else None
            serial = next(self._serials)
        found = wire_api_of("POST", path)
        assert found is not None
        api = found[0]
        try:
            reply = reply_to(
                api, self._call(ReceivedRequest("POST", path, "", headers, b"", body), None, serial, fault)
            )
        except InvalidCallError as error:
            return 400, api.error_body(400, str(error))
        return reply.status, json.loads(reply.body)

    def _arrive(self, request: ReceivedRequest) -> tuple[int, Fault | None]:
        """Record a model call; its number and the fault that the queue has for it, decided in one step."""
        with self._lock:
            self._requests.append(request)
            has_own_fault = _FAULT_HEADER in request.headers
            fault = self._faults.popleft() if self._faults and not has_own_fault else None
            serial = next(self._serials)
            self._arrived.notify_all()
        return serial, fault

    def _call(self, request: ReceivedRequest, deployment: str | None, serial: int, fault: Fault | None) -> Call:
        body = request.json
        if not isinstance(body, dict):
            raise InvalidCallError("the body must be a JSON object")
        # Who asks an agent names no model.
        model = body.get("model", deployment) or body.get("agent_id") or body.get("agent")
        if not isinstance(model, str) or not model:
            raise InvalidCallError("'model' must be a text")
        seed = seed_of(question_of(request.target), request.headers, body)
        if not self._is_unique:
            return Call(body, model, seed, fault=fault)
        return Call(body, model, seed + serial.to_bytes(8, "big"), serial, fault)

    def _keep_back(self, latency_s: float) -> None:
        if latency_s and self._stopping.wait(latency_s):
            raise ConnectionAbortedError("the server stops")
        self._pass_gate(0)

    def _pass_gate(self, events_sent: int) -> None:
        """Wait while no more than `events_sent` events may be sent."""
        with self._lock:
            self._gate.wait_for(lambda: self._stopping.is_set() or not self._is_held(events_sent))
        if self._stopping.is_set():
            raise ConnectionAbortedError("the server stops")

    def _is_held(self, events_sent: int) -> bool:
        return self._held_after_events is not None and events_sent >= self._held_after_events

    def _gated(self, frames: Iterable[bytes]) -> Iterator[bytes]:
        for sent, frame in enumerate(frames):
            self._pass_gate(sent)
            yield frame

    def _finished(self, request: ReceivedRequest, reply: Reply) -> Reply:
        """`reply` with what every answer of a real provider carries, and compressed where it shall be."""
        request_id = f"req_sim{secrets.token_hex(12)}"
        headers = (
            ("server", "simulated-model-server"),
            ("x-simulated", "1"),
            ("x-request-id", request_id),
            ("request-id", request_id),
            ("openai-processing-ms", "1"),
            ("set-cookie", f"session={secrets.token_hex(16)}; Path=/; HttpOnly"),
        )
        wants_gzip = self._is_gzip or request.headers.get(_GZIP_HEADER) == "1"
        return replace(
            reply,
            headers=(*reply.headers, *headers),
            frames=None if reply.frames is None else self._gated(reply.frames),
            is_gzip=wants_gzip and "gzip" in request.headers.get("accept-encoding", ""),
        )


def _asked_fault(headers: dict[str, str]) -> Fault | None:
    name = headers.get(_FAULT_HEADER)
    if name is None:
        return None
    try:
        return Fault(name.strip().lower().replace("-", "_"))
    except ValueError:
        known = ", ".join(fault.value for fault in Fault)
        raise InvalidCallError(f"{_FAULT_HEADER}: use one of {known}") from None


def _asked_latency(headers: dict[str, str], usual_s: float) -> float:
    text = headers.get(_LATENCY_HEADER)
    if text is None:
        return usual_s
    try:
        latency_s = float(text)
    except ValueError:
        latency_s = math.nan
    if not _is_latency(latency_s):
        raise InvalidCallError(f"{_LATENCY_HEADER}: use seconds from 0 to {_LONGEST_LATENCY_S:.0f}")
    return latency_s


def _is_latency(value: float) -> bool:
    return 0.0 <= value <= _LONGEST_LATENCY_S


def _require_loopback(host: str) -> None:
    # SECURITY: a server that answers anybody, without credentials, stays on this machine.
    try:
        is_loopback = host == "localhost" or ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigurationError(f"host={host!r}: the simulated model server binds {LOOPBACK} only; leave it out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a server until it is interrupted."""
    parser = argparse.ArgumentParser(prog="model_server", description="A simulated model provider on loopback.")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--answers", choices=get_args(Answers), default="deterministic")
    parser.add_argument("--latency-s", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--gzip", action="store_true", help="compress answers for clients that accept it")
    options = parser.parse_args(arguments)
    try:
        server = SimulatedModelServer(
            options.answers, latency_s=options.latency_s, port=options.port, gzip=options.gzip
        ).start()
    except ConfigurationError as error:
        parser.error(str(error))
    sys.stdout.write(
        f"Simulated model server: every answer is made up, no model is called.\n"
        f"  {server.openai_url}  OpenAI (base_url)\n"
        f"  {server.url}  Anthropic, Azure OpenAI, Gemini, Cohere, Mistral, Ollama, Bedrock (their base URL)\n"
        f"Stop it with Ctrl-C.\n"
    )
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
