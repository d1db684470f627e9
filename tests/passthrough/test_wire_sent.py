"""What is keyed is what was sent, to whom it was sent: what changes a call on its way, and who shares an address."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http.server
import json
import socketserver
import threading

import httpx
import httpx2
import pytest
from loopback import serving

from genai_cache_magic import llm_cache
from genai_cache_magic.intercept.recording import CHANGED, REDIRECTED

aiohttp = pytest.importorskip("aiohttp", reason="pip install aiohttp")
requests = pytest.importorskip("requests", reason="pip install requests")

CHAT = "/v1/chat/completions"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
BETA = "anthropic-beta"

pytestmark = pytest.mark.usefixtures("isolated")


class Telling(http.server.BaseHTTPRequestHandler):
    """Answers with its server's name, and with how it was addressed."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path.startswith("/redirect/"):
            _, _, status, elsewhere = self.path.split("/", 3)
            self._answer(int(status), b"", ("location", f"http://{elsewhere}"))
            return
        self.server.seen.append((self.headers["host"], body))
        self.server.reached.set()
        if self.server.holding:
            self.server.holding.pop().wait(10)
        self._tell()

    def do_GET(self):
        self._tell()

    def _tell(self):
        message = {"role": "assistant", "content": f"{self.server.name} {self.headers['host']}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._answer(200, json.dumps({"object": "chat.completion", "model": "m", "choices": [choice]}).encode())

    def _answer(self, status, body, *headers):
        self.send_response(status)
        for name, value in (("content-type", "application/json"), ("content-length", str(len(body))), *headers):
            self.send_header(name, value)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who was cancelled does not wait
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""


class OverSocket(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """A server on a socket of the file system."""

    daemon_threads = True


def telling(name, *where):
    return serving(Telling, *where, name=name, seen=[], holding=[], reached=threading.Event())


@pytest.fixture
def server():
    with telling("one") as running:
        yield running


def url_of(server, path=CHAT):
    return f"{server.url}{path}"


def said(answer):
    return answer["choices"][0]["message"]["content"]


def httpx_asking(module, colour, **making):
    """Ask by a new client of httpx or httpx2; `options` say how to make each option."""

    async def ask(url, headers=(), **more):
        options = {name: make() for name, make in making.items()}
        if colour == "sync":
            with module.Client(follow_redirects=True, trust_env=False, **options) as client:
                return said(client.post(url, json=ASKED, headers=headers, **more).json())
        async with module.AsyncClient(follow_redirects=True, trust_env=False, **options) as client:
            return said((await client.post(url, json=ASKED, headers=headers, **more)).json())

    return ask


def requests_asking(adapter=None):
    async def ask(url, headers=()):
        with requests.Session() as session:
            session.trust_env = False
            if adapter is not None:
                session.mount("http://", adapter)
            return said(session.post(url, json=ASKED, headers=dict(headers), timeout=10).json())

    return ask


def aiohttp_asking(**options):
    async def ask(url, headers=()):
        made = {name: value() if name == "connector" else value for name, value in options.items()}
        async with aiohttp.ClientSession(**made) as session, session.post(url, json=ASKED, headers=headers) as got:
            return said(await got.json())

    return ask


ASKING = {
    "httpx": httpx_asking(httpx, "sync"),
    "httpx async": httpx_asking(httpx, "async"),
    "httpx2": httpx_asking(httpx2, "sync"),
    "httpx2 async": httpx_asking(httpx2, "async"),
    "requests": requests_asking(),
    "aiohttp": aiohttp_asking(),
}

# --- what changes a call on its way


def retold(body):
    return body.replace(b"hello", b"other")


def own_transport(module, colour):
    return module.HTTPTransport if colour == "sync" else module.AsyncHTTPTransport


def transport(module, colour, change):
    """The library's own transport within one that changes what it sends."""
    inner = own_transport(module, colour)()

    class Around(module.BaseTransport, module.AsyncBaseTransport):
        def handle_request(self, request):
            return inner.handle_request(change(module, request))

        async def handle_async_request(self, request):
            return await inner.handle_async_request(change(module, request))

        def close(self):
            inner.close()

        async def aclose(self):
            await inner.aclose()

    return Around()


def with_header(_, request):
    request.headers[BETA] = "another"
    return request


def with_body(module, request):
    return module.Request("POST", request.url, headers=request.headers, content=retold(request.content))


def with_host(module, request):
    return module.Request(
        "POST", request.url.copy_with(host="localhost"), headers=request.headers, content=request.content
    )


def with_stream(module, request):
    request.stream = module.ByteStream(retold(request.content))
    return request


def with_copied_stream(module, request):
    stream = module.ByteStream(retold(request.content))
    return module.Request("POST", request.url, headers=request.headers, stream=stream)


def unchanged(_, request):
    return request


def copied(module, request):
    return module.Request(
        request.method, request.url, headers=request.headers, stream=request.stream, extensions=request.extensions
    )


async def middleware(request, handler):
    await request.update_body(retold(request.body._value))
    return await handler(request)


async def header_middleware(request, handler):
    request.headers[BETA] = "another"
    return await handler(request)


def tracing():
    async def start(_session, _context, params):
        params.headers[BETA] = "another"

    config = aiohttp.TraceConfig()
    config.on_request_start.append(start)
    return [config]


class Adding(requests.adapters.HTTPAdapter):
    """Adds a header as it sends."""

    def add_headers(self, request, **_):
        request.headers[BETA] = "another"


CHANGING = {
    **{
        f"{module.__name__} {colour} transport {change.__name__}": httpx_asking(
            module, colour, transport=functools.partial(transport, module, colour, change)
        )
        for module in (httpx, httpx2)
        for colour in ("sync", "async")
        for change in (with_header, with_body, with_host, with_stream, with_copied_stream)
    },
    "requests adapter": requests_asking(Adding()),
    "aiohttp middleware": aiohttp_asking(middlewares=(middleware,)),
    "aiohttp header middleware": aiohttp_asking(middlewares=(header_middleware,)),
    "aiohttp trace": aiohttp_asking(trace_configs=tracing()),
}


@pytest.mark.parametrize("way", CHANGING)
async def test_what_is_changed_on_its_way_is_not_stored(server, way):
    """An answer to what became of a question below the look-up is not stored under the question."""
    with llm_cache() as cell:
        for _ in range(2):
            await CHANGING[way](url_of(server))
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, CHANGED)] * 2
    assert len(server.seen) == 2


@pytest.mark.parametrize("module", [httpx, httpx2])
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("change", [unchanged, copied])
async def test_transport_that_changes_nothing_is_no_matter(server, module, colour, change):
    """A transport around the library's own, as retries and logs are, leaves a call the same call, as does a copy."""
    with llm_cache() as cell:
        making = functools.partial(transport, module, colour, change)
        await httpx_asking(module, colour, transport=making)(url_of(server))
        await ASKING["aiohttp"](url_of(server))
    assert (cell.misses, cell.hits, len(server.seen)) == (1, 1, 1)


async def test_target_on_the_wire_is_in_the_key(server):
    """Where httpx is told another path for the wire than the URL's, the one on the wire is asked for."""
    with llm_cache() as cell:
        for extensions in ({}, {"target": b"/v2/chat/completions"}):
            await ASKING["httpx"](url_of(server), extensions=extensions)
    assert (cell.misses, cell.hits, [call.stored for call in cell.calls]) == (2, 0, [True, True])


async def test_body_that_is_changed_while_its_call_waits(server):
    """What aiohttp makes of a dict after the look-up is what counts: another's change of it meanwhile is noticed."""
    body = json.loads(json.dumps(ASKED))
    server.holding.append(may_go := threading.Event())
    async with aiohttp.ClientSession() as session:
        with llm_cache() as cell:
            leader = asyncio.ensure_future(session.post(url_of(server), json=ASKED))
            assert await asyncio.to_thread(server.reached.wait, 10)
            follower = asyncio.ensure_future(session.post(url_of(server), json=body))
            await asyncio.sleep(0)
            body["messages"][0]["content"] = "something else"
            leader.cancel()
            await (await follower).read()
    may_go.set()
    assert json.loads(server.seen[-1][1]) == body
    assert [(call.stored, call.reason) for call in cell.calls][-1] == (False, CHANGED)


# --- who shares an address


@pytest.mark.parametrize("way", ASKING)
async def test_services_told_apart_by_host(server, way):
    """Two services behind one ingress have two entries, told apart by the `Host` header."""
    with llm_cache() as cell:
        told = [
            await ASKING[way](url_of(server), {"Host": name}) for name in ("a.corp", "b.corp:81", "A.corp:80", "a.corp")
        ]
    assert told == ["one a.corp", "one b.corp:81", "one a.corp", "one a.corp"]
    assert (cell.misses, cell.hits) == (2, 2)


async def test_host_that_says_what_the_url_says_is_no_matter(server):
    """Clients that send the URL's own host, and those that leave it to their library, share an entry."""
    own = server.netloc
    with llm_cache() as cell:
        for way in ASKING.values():
            await way(url_of(server))
            await way(url_of(server), {"Host": own})
    assert (cell.misses, cell.hits) == (1, 2 * len(ASKING) - 1)


SOCKETS = {
    **{
        f"{module.__name__} {colour}": lambda path, module=module, colour=colour: httpx_asking(
            module, colour, transport=lambda: own_transport(module, colour)(uds=path)
        )
        for module in (httpx, httpx2)
        for colour in ("sync", "async")
    },
    "httpx mounted": lambda path: httpx_asking(
        httpx, "sync", mounts=lambda: {"http://": httpx.HTTPTransport(uds=path)}
    ),
    "aiohttp": lambda path: aiohttp_asking(connector=lambda: aiohttp.UnixConnector(path)),
}


@pytest.mark.parametrize("way", SOCKETS)
async def test_services_told_apart_by_socket(tmp_path, way):
    """Two services on two sockets of the file system have two entries under one URL."""
    with (
        telling("a", OverSocket, str(tmp_path / "a")),
        telling("b", OverSocket, str(tmp_path / "b")),
        llm_cache() as cell,
    ):
        told = [await SOCKETS[way](str(tmp_path / name))("http://model/v1/chat/completions") for name in "aba"]
    assert told == ["a model", "b model", "a model"]
    assert (cell.misses, cell.hits) == (2, 1)


@pytest.mark.parametrize("way", [name for name in ASKING if name != "requests"])
async def test_every_line_of_a_header_counts(server, way):
    """Of a header in several lines all count, in their order; one line with commas is something else."""
    header = "x-portkey-provider"
    with llm_cache() as cell:
        for lines in (["a", "b"], ["c", "b"], ["b", "a"], ["b"], ["a, b"], ["a", "b"]):
            await ASKING[way](url_of(server), [(header, line) for line in lines])
    assert (cell.misses, cell.hits) == (5, 1)


# --- redirects


@pytest.mark.parametrize("way", [name for name in ASKING if name != "requests"])
async def test_redirect_to_another_origin_is_not_stored(server, way):
    """What another origin answered, that the one asked sent on to, is not stored as that one's answer."""
    with telling("two") as other, llm_cache() as cell:
        elsewhere = other.netloc
        told = [await ASKING[way](url_of(server, f"/redirect/307/{elsewhere}{CHAT}")) for _ in range(2)]
    assert told == [f"two {elsewhere}"] * 2
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, REDIRECTED)] * 2


@pytest.mark.parametrize("way", [name for name in ASKING if name != "requests"])
async def test_redirect_that_changes_the_method_is_not_stored(server, way):
    """What a page answered that a question was sent to by GET is not stored: the question never got there."""
    with llm_cache() as cell:
        own = server.netloc
        for _ in range(2):
            await ASKING[way](url_of(server, f"/redirect/303/{own}{CHAT}"))
    assert [(call.stored, call.reason) for call in cell.calls] == [(False, REDIRECTED)] * 2
