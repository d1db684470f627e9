"""Over HTTP/2, with TLS: a miss, a hit, a stream, and what is no model call, each as over HTTP/1.1."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from genai_cache_magic import llm_cache
from genai_cache_magic.testing.model_server import Fault, SimulatedModelServer
from genai_cache_magic.testing.simulated.http_server import ReceivedRequest

pytest.importorskip("h2", reason="pip install h2")
hypercorn_asyncio = pytest.importorskip("hypercorn.asyncio", reason="pip install hypercorn")
hypercorn_config = pytest.importorskip("hypercorn.config", reason="pip install hypercorn")

MODULES = [pytest.importorskip(name, reason=f"pip install {name}") for name in ("httpx", "httpx2")]
COLOURS = ["sync", "async"]
ASKED = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = {**ASKED, "stream": True}
CHAT = "/v1/chat/completions"
_DAY = dt.timedelta(days=1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of loopback's own, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "loopback")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - _DAY, now + _DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "certificate.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    hidden = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(hidden)
    return folder / "certificate.pem", folder / "key.pem"


class Front:
    """An HTTP/2 server before the simulated models, as an ASGI application in a thread of its own."""

    def __init__(self, models, certificate):
        self.versions = []
        self._models = models
        config = hypercorn_config.Config()
        config.alpn_protocols = ["h2"]
        config.certfile, config.keyfile = map(str, certificate)
        config.errorlog = None
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = "https://{}:{}".format(*listening.getsockname())
        config.bind = [
            f"fd://{listening.detach()}"
        ]  # bound already, so nobody has to wait for it; the server closes it
        self._config = config
        self._stop = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        serving = hypercorn_asyncio.serve(self._answer, self._config, shutdown_trigger=self._stop.wait)
        self._loop.run_until_complete(serving)
        self._loop.close()

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _answer(self, scope, receive, send):
        if scope["type"] != "http":
            return
        self.versions.append(scope["http_version"])
        body = b""
        while (part := await receive())["type"] == "http.request":
            body += part["body"]
            if not part["more_body"]:
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        query = scope["query_string"].decode()
        asked = ReceivedRequest(scope["method"], scope["path"], query, headers, body, parsed)
        reply = await asyncio.to_thread(self._models.respond, asked)
        told = [(name.encode(), value.encode()) for name, value in reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": told})
        frames = [reply.body] if reply.frames is None else reply.frames
        for frame in await asyncio.to_thread(list, frames):
            await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def front(certificate):
    with SimulatedModelServer("unique") as models, Front(models, certificate) as serving:
        serving.models = models
        yield serving


@pytest.fixture
def verify(certificate):
    context = ssl.create_default_context(cafile=certificate[0])
    context.verify_flags &= (
        ~ssl.VERIFY_X509_STRICT
    )  # the certificate is its own issuer, made with as little as it needs
    return context


@pytest.fixture(params=COLOURS)
def colour(request):
    return request.param


@pytest.fixture(params=MODULES, ids=lambda module: module.__name__)
def module(request):
    return request.param


class Client:
    """A client of either colour."""

    def __init__(self, module, colour, front, verify):
        options = {"http2": True, "verify": verify, "base_url": front.url}
        self._client = (module.Client if colour == "sync" else module.AsyncClient)(**options)
        self._is_async = colour == "async"

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        if self._is_async:
            await self._client.aclose()
        else:
            self._client.close()

    async def ask(self, method, path, **options):
        asked = self._client.request(method, path, **options)
        return await asked if self._is_async else asked

    async def lines(self, path, body):
        opened = self._client.stream("POST", path, json=body)
        if self._is_async:
            async with opened as response:
                return response, [line async for line in response.aiter_lines()]
        with opened as response:
            return response, list(response.iter_lines())


@pytest.mark.usefixtures("isolated")
async def test_miss_and_hit(front, verify, module, colour):
    """The second answer is the first one, without a request, and the first came over HTTP/2."""
    async with Client(module, colour, front, verify) as client:
        with llm_cache() as cell:
            first, second = [await client.ask("POST", CHAT, json=ASKED) for _ in range(2)]
    assert first.http_version == "HTTP/2"
    assert first.json() == second.json()
    assert second.headers["x-genai-cache"] == "hit"
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())
    assert front.versions == ["2"]


@pytest.mark.usefixtures("isolated")
async def test_stream(front, verify, module, colour):
    """A stream that came over HTTP/2 is replayed event by event."""
    async with Client(module, colour, front, verify) as client:
        with llm_cache() as cell:
            (opened, first), (replayed, second) = [await client.lines(CHAT, STREAMED) for _ in range(2)]
    assert (opened.http_version, replayed.headers["x-genai-cache"]) == ("HTTP/2", "hit")
    assert first == second
    assert len(first) > 4
    assert (cell.misses, cell.hits, front.models.count) == (1, 1, 1)


@pytest.mark.usefixtures("isolated")
async def test_one_entry_with_http1(front, verify, module):
    """In which version of HTTP a call is made is no part of it."""
    rules = json.dumps({front.url: {"alias": "models"}, front.models.url: {"alias": "models"}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENAI_CACHE_ORIGINS", rules)
        async with Client(module, "async", front, verify) as client:
            with module.Client(base_url=front.models.url) as older, llm_cache() as cell:
                first = await client.ask("POST", CHAT, json=ASKED)
                second = older.post(CHAT, json=ASKED)
    assert first.json() == second.json()
    assert (cell.misses, cell.hits, front.models.count) == (1, 1, 1)


@pytest.mark.usefixtures("isolated")
async def test_what_is_no_model_call_is_as_ever(front, verify, module, colour):
    """Another call is answered as without a scope, and is none of the cell's."""
    async with Client(module, colour, front, verify) as client:
        plain = await client.ask("GET", "/v1/models")
        with llm_cache() as cell:
            within = await client.ask("GET", "/v1/models")
            elsewhere = await client.ask("POST", "/v1/nothing", json=ASKED)
    assert within.json() == plain.json()
    assert (within.http_version, elsewhere.status_code) == ("HTTP/2", 404)
    assert set(within.headers) == set(plain.headers)
    assert cell.calls == ()


@pytest.mark.usefixtures("isolated")
async def test_error_is_not_stored(front, verify, module, colour):
    """An error reaches the caller, and the next call asks again."""
    front.models.fail_next(Fault.SERVER_ERROR)
    async with Client(module, colour, front, verify) as client:
        with llm_cache() as cell:
            statuses = [(await client.ask("POST", CHAT, json=ASKED)).status_code for _ in range(2)]
    assert statuses == [500, 200]
    assert [call.stored for call in cell.calls] == [False, True]


@pytest.mark.usefixtures("isolated")
async def test_many_at_once_share_a_connection_and_a_call(front, verify, module):
    """Requests that run side by side over one connection, some of them alike, ask as often as they differ."""
    bodies = [{**ASKED, "seed": seed % 4} for seed in range(12)]
    async with Client(module, "async", front, verify) as client:
        with llm_cache() as cell:
            answers = await asyncio.gather(*(client.ask("POST", CHAT, json=body) for body in bodies))
    assert len({answer.json()["id"] for answer in answers}) == 4
    assert (cell.misses, cell.hits, front.models.count) == (4, 8, 4)
