"""Below `requests`, a call that isn't cached is sent and answered as without us, and a replay is a real response."""

from __future__ import annotations

import gc
import inspect
import io
import json

import httpx
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.api.scopes.cells import uninstall
from genai_cache_magic.events import Outcome
from genai_cache_magic.testing.model_server import Fault

requests = pytest.importorskip("requests", reason="pip install requests")
urllib3 = pytest.importorskip("urllib3", reason="pip install requests")

MODEL_URL = "http://127.0.0.1:9/v1/chat/completions"
BODY = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = {**BODY, "stream": True}
JSON = {"content-type": "application/json"}
CHOICE = {"message": {"content": "x"}, "finish_reason": "stop"}
ANSWER = {"object": "chat.completion", "model": "m", "choices": [CHOICE]}


def generated():
    yield b'{"model": "m", '
    yield b'"messages": [{"role": "user", "content": "hello"}]}'


CALLS = {
    "get": ("GET", "http://127.0.0.1:9/a?b=c", {"params": {"d": "e"}}),
    "post-elsewhere": ("POST", "http://127.0.0.1:9/api", {"json": {"a": 1}}),
    "post-form": ("POST", "http://127.0.0.1:9/api", {"data": {"a": "1"}}),
    "put": ("PUT", MODEL_URL, {"json": BODY}),
    "headers": ("POST", "http://127.0.0.1:9/", {"headers": {"X-Name": b"\xe4"}, "data": b"\x00\xff"}),
    "generator": ("POST", MODEL_URL, {"data": generated, "headers": JSON}),
    "file": ("POST", MODEL_URL, {"data": lambda: io.BytesIO(json.dumps(BODY).encode()), "headers": JSON}),
    "unkeyable": ("POST", MODEL_URL, {"data": b'{"messages": [NaN]}', "headers": JSON}),
    "not-json": ("POST", MODEL_URL, {"data": b"{", "headers": JSON}),
    "options": ("POST", MODEL_URL, {"json": BODY, "timeout": (3.5, 7), "verify": False, "auth": ("u", "p")}),
    "proxy": ("POST", MODEL_URL, {"json": BODY, "proxies": {"http": "http://127.0.0.1:8"}, "cookies": {"a": "b"}}),
}


@pytest.fixture
def sent(monkeypatch):
    """What is handed to urllib3, which answers with a plain text and a cookie."""
    seen = []

    def urlopen(self, **options):
        body = options["body"]
        told = {**options, "headers": sorted(options["headers"].items()), "timeout": repr(options["timeout"])}
        told["body"] = body if body is None or isinstance(body, bytes | str) else b"".join(body)
        seen.append((self.host, self.port, repr(self.proxy), told))
        headers = {"X-Answer": "yes", "content-type": "text/plain"}
        return urllib3.HTTPResponse(io.BytesIO(b"onetwo"), headers=headers, status=200, preload_content=False)

    monkeypatch.setattr("urllib3.connectionpool.HTTPConnectionPool.urlopen", urlopen)
    return seen


def described(name, session):
    """What the caller sees of a call."""
    method, url, options = CALLS[name]
    data = options.get("data")
    options = {**options, "data": data()} if callable(data) else options
    response = session.request(method, url, stream=True, **options)
    pieces = list(response.iter_content(3))
    return {
        "pieces": pieces,
        "status": (response.status_code, response.reason, response.url, response.encoding),
        "headers": dict(response.headers),
        "history": response.history,
        "request": (response.request.method, response.request.url, sorted(response.request.headers.items())),
        "raw": (type(response.raw), sorted(vars(response.raw))),
        "connection": response.connection is session.adapters["http://"],
    }


@pytest.mark.parametrize("name", CALLS)
def test_urllib3_is_asked_the_same(isolated, sent, name):
    """Below and above, everything is as without us: with no scope, and with a scope of any mode."""
    with requests.Session() as session:
        plain = described(name, session)
        with llm_cache():
            pass
        assert described(name, session) == plain
        for mode in ("off", "read", "use", "refresh"):
            with llm_cache(mode=mode) as cell:
                assert described(name, session) == plain
            assert cell.troubles == ()
    assert all(call == sent[0] for call in sent[1:])
    assert len(sent) == 6


def test_bodies_that_are_not_buffered_bypass(isolated, sent):
    """A body that is a generator or a file is sent as it is, and the cell says why it was not cached."""
    with llm_cache() as cell, requests.Session() as session:
        for name in ("generator", "file"):
            described(name, session)
    assert [call.outcome for call in cell.calls] == [Outcome.BYPASS] * 2
    assert all("streamed" in call.reason for call in cell.calls)


def test_signature_is_kept(isolated):
    """The wrapped method keeps name, documentation and signature, and takes its arguments by position too."""
    before = requests.adapters.HTTPAdapter.send
    with llm_cache():
        method = requests.adapters.HTTPAdapter.send
        assert method is not before
        assert (inspect.signature(method), method.__doc__) == (inspect.signature(before), before.__doc__)


def test_adapter_of_ones_own_counts_once(isolated, unique_server):
    """A subclass of the adapter, driven without a session and by position, makes one call of the cell."""

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request, *args, **options):
            return super().send(request, *args, **options)

    request = requests.Request("POST", f"{unique_server.openai_url}/chat/completions", json=BODY).prepare()
    adapter = Adapter()
    with llm_cache() as cell:
        first = adapter.send(request, False, 30.0).json()  # noqa: FBT003 - positions are what is tested
        assert adapter.send(request, False, (1.0, 30.0)).json() == first  # noqa: FBT003
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


def test_layers_count_once(isolated, unique_server):
    """A call by httpx whose transport is made of `requests` is one call of the cell, its outermost client's."""

    class Transport(httpx.BaseTransport):
        def handle_request(self, request):
            sent = requests.post(str(request.url), data=request.read(), headers=dict(request.headers), timeout=30)
            return httpx.Response(sent.status_code, headers=dict(sent.headers), content=sent.content)

    with llm_cache() as cell, httpx.Client(transport=Transport()) as client:
        for _ in range(2):
            client.post(f"{unique_server.openai_url}/chat/completions", json=BODY)
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]
    assert unique_server.count == 1


def test_replay_is_a_real_response(isolated, unique_server):
    """A hit has status, reason, headers, history, hooks and time as the original has, but for the wire's."""
    hooked = []
    url = f"{unique_server.openai_url}/chat/completions"
    with llm_cache(), requests.Session() as session:
        session.hooks["response"].append(lambda response, **_: hooked.append(response.status_code))
        session.cookies["a"] = "b"
        first, second = session.post(url, json=BODY), session.post(url, json=BODY)
    assert hooked == [200, 200]
    for read in ("status_code", "reason", "url", "encoding", "history", "content", "text", "ok", "links"):
        assert getattr(first, read) == getattr(second, read)
    assert type(second.raw) is urllib3.HTTPResponse
    assert (second.raw.version, second.raw.version_string) == (first.raw.version, first.raw.version_string)
    assert second.raw.retries.history == first.raw.retries.history
    assert second.headers.pop("x-genai-cache") == "hit"
    told = {name.lower() for name in second.headers}
    assert {name.lower() for name in first.headers} - told == {"set-cookie"}
    assert second.elapsed.total_seconds() >= 0
    assert second.request.headers["Cookie"].startswith("a=b")


def into(raw):
    """The next piece of a response that is read into a buffer."""
    buffer = bytearray(100)
    return bytes(buffer[: raw.readinto(buffer)])


READINGS = {
    "content": lambda response: response.content,
    "lines": lambda response: b"\n".join(response.iter_lines(chunk_size=7)),
    "raw-read": lambda response: response.raw.read(),
    "raw-pieces": lambda response: b"".join(iter(lambda: response.raw.read(100), b"")),
    "raw-read1": lambda response: b"".join(iter(lambda: response.raw.read1(100), b"")),
    "raw-stream": lambda response: b"".join(response.raw.stream(decode_content=True)),
    "raw-lines": lambda response: b"".join(response.raw),
    "raw-data": lambda response: response.raw.data,
    "readinto": lambda response: b"".join(iter(lambda: into(response.raw), b"")),
}


@pytest.mark.parametrize("how", READINGS)
@pytest.mark.parametrize("body", [BODY, STREAMED])
def test_every_way_to_read_is_recorded_and_replayed(isolated, unique_server, body, how):
    """However a caller reads a response, it is stored, and gives the same when it is replayed."""
    url, read = f"{unique_server.openai_url}/chat/completions", READINGS[how]
    with llm_cache() as cell, requests.Session() as session:
        first, second = [read(session.post(url, json=body, stream=True)) for _ in range(2)]
    assert first == second
    assert first
    assert [call.outcome for call in cell.calls] == [Outcome.MISS, Outcome.HIT]


def test_chunks_are_replayed_one_by_one(isolated, unique_server):
    """A replayed stream comes in the model's own pieces, to a caller who takes what comes."""
    url = f"{unique_server.openai_url}/chat/completions"
    with llm_cache(), requests.Session() as session:
        first, second = [list(session.post(url, json=STREAMED, stream=True).iter_content(None)) for _ in range(2)]
    assert len(second) > 2
    assert b"".join(first) == b"".join(second)


@pytest.mark.parametrize("body", [BODY, STREAMED])
def test_compressed_answer_is_replayed_to_anyone(isolated, unique_server, body):
    """What came compressed is replayed decoded, to a client that could not undo it."""
    url = f"{unique_server.openai_url}/chat/completions"
    with llm_cache() as cell, requests.Session() as session:
        first = session.post(url, json=body, headers={"x-simulate-gzip": "1", "accept-encoding": "gzip"})
        second = session.post(url, json=body, headers={"accept-encoding": "identity"})
    assert first.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in second.headers
    assert first.content == second.content
    assert cell.hits == 1


@pytest.mark.parametrize("fault", [Fault.STREAM_CUT, Fault.BAD_JSON])
def test_broken_answer_is_not_stored(isolated, unique_server, fault):
    """A body that breaks off gives the caller the very same error, and the next call asks again."""

    def outcome():
        unique_server.fail_next(fault)
        try:
            return session.post(url, json=BODY).json()["id"]
        except requests.RequestException as exc:
            return type(exc)

    url = f"{unique_server.openai_url}/chat/completions"
    with requests.Session() as session:
        plain = outcome()
        with llm_cache() as cell:
            assert outcome() is plain
            session.post(url, json=BODY)
    assert [call.stored for call in cell.calls] == [False, True]


def test_forgotten_stream_is_given_up(isolated, unique_server):
    """A stream that its caller forgets, and never closes, is no call that goes on for ever."""
    url = f"{unique_server.openai_url}/chat/completions"
    unique_server.hold(after_events=1)
    with llm_cache() as cell, requests.Session() as session:
        session.post(url, json=STREAMED, stream=True)
        gc.collect()
        unique_server.release()
        assert [call.stored for call in cell.calls] == [False]
        session.post(url, json=STREAMED)
    assert [call.stored for call in cell.calls] == [False, True]


def test_refused_connection_is_as_ever(isolated):
    """Nobody at home: the caller gets the error that it gets without us, and the cell has a failed call."""
    url = "http://127.0.0.1:9/v1/chat/completions"  # the discard port: nobody listens
    with pytest.raises(requests.ConnectionError):
        requests.post(url, json=BODY, timeout=5)
    with llm_cache() as cell, pytest.raises(requests.ConnectionError):
        requests.post(url, json=BODY, timeout=5)
    assert [call.outcome for call in cell.calls] == [Outcome.ERROR]


def test_uninstalled_in_mid_stream(isolated, unique_server):
    """Uninstalling while a stream is read does it no harm."""
    url = f"{unique_server.openai_url}/chat/completions"
    with llm_cache(), requests.Session() as session:
        lines = session.post(url, json=STREAMED, stream=True).iter_lines()
        first = next(lines)
        uninstall()
        assert list(lines)[-2:]
    assert first
