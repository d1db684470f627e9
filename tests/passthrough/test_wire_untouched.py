"""Redirects, cookies, proxies and compression of the wire, for each client: a miss is as without us, a hit is spared.

Every call is made three times: outside a scope, where it shows what the client does by itself, and twice within one.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import http.server
import json
import zlib
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import zstandard
from loopback import serving

from genai_cache_magic import llm_cache

ASKED = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "hello"}]}
STREAMED = {**ASKED, "stream": True}
CHAT = "/v1/chat/completions"
MODEL = "anthropic.claude-sonnet-5-v1:0"


class Told(NamedTuple):
    """What a caller sees of an answer."""

    status: int
    text: str
    history: list
    cookies: set
    headers: dict


class Httpx:
    """A client of httpx or httpx2, of either colour."""

    def __init__(self, name, colour, **options):
        module = pytest.importorskip(name, reason=f"pip install {name}")
        self._is_async = colour == "async"
        kind = module.AsyncClient if self._is_async else module.Client
        self._client = kind(follow_redirects=True, trust_env=False, **self._options(module, **options))

    def _options(self, module, proxy=None, mounted=None):
        if mounted is None:
            return {"proxy": proxy}
        transport = module.AsyncHTTPTransport if self._is_async else module.HTTPTransport
        return {"mounts": {"http://": transport(proxy=mounted)}}

    async def ask(self, url, body, **headers):
        asked = self._client.post(url, json=body, headers=headers)
        got = await asked if self._is_async else asked
        return Told(got.status_code, got.text, past(got.history), set(self._client.cookies), dict(got.headers))

    async def aclose(self):
        if self._is_async:
            await self._client.aclose()
        else:
            self._client.close()


class Requests:
    """A session of requests."""

    def __init__(self, proxy=None, mounted=None):
        self._session = pytest.importorskip("requests", reason="pip install requests").Session()
        self._session.trust_env = False
        self._session.proxies = {"http": proxy or mounted} if proxy or mounted else {}

    async def ask(self, url, body, **headers):
        got = self._session.post(url, json=body, headers=headers, timeout=10)
        got.encoding = "utf-8"
        return Told(got.status_code, got.text, past(got.history), set(self._session.cookies.keys()), lower(got.headers))

    async def aclose(self):
        self._session.close()


class Aiohttp:
    """A session of aiohttp."""

    def __init__(self, proxy=None, mounted=None):
        self._module = pytest.importorskip("aiohttp", reason="pip install aiohttp")
        self._session = None
        self._proxy = proxy or mounted

    async def ask(self, url, body, **headers):
        if self._session is None:
            self._session = self._module.ClientSession(cookie_jar=self._module.CookieJar(unsafe=True))
        async with self._session.post(url, json=body, headers=headers, proxy=self._proxy) as got:
            text = await got.text()
            cookies = {cookie.key for cookie in self._session.cookie_jar}
            history = [earlier.status for earlier in got.history]
            return Told(got.status, text, history, cookies, lower(got.headers))

    async def aclose(self):
        await self._session.close()


def past(history):
    return [earlier.status_code for earlier in history]


def lower(headers):
    return {name.lower(): value for name, value in headers.items()}


CLIENTS = {
    "httpx": lambda **options: Httpx("httpx", "sync", **options),
    "httpx async": lambda **options: Httpx("httpx", "async", **options),
    "httpx2": lambda **options: Httpx("httpx2", "sync", **options),
    "httpx2 async": lambda **options: Httpx("httpx2", "async", **options),
    "requests": Requests,
    "aiohttp": Aiohttp,
}


@pytest.fixture(params=CLIENTS)
def making(request):
    """Make a client of each kind."""
    return CLIENTS[request.param]


async def thrice(making, url, body=ASKED, **headers):
    """What three new clients see: one outside a scope, and two within one; and the cell."""
    seen = []
    with llm_cache():
        pass  # so that the patches are in place for all three
    for scope in (contextlib.nullcontext(), llm_cache(), llm_cache()):
        with scope as cell:
            async with contextlib.aclosing(making()) as client:
                seen.append(await client.ask(url, body, **headers))
    return seen, cell


# --- redirects and cookies


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "streamed"])
async def test_redirect(making, server, body):
    """A redirected call ends where it ends without us, by as many steps; a hit has the same answer."""
    (plain, miss, hit), cell = await thrice(making, f"{server.url}/redirect{CHAT}", body)
    assert (miss.status, miss.text, miss.history, miss.cookies) == (plain.status, plain.text, [307], plain.cookies)
    assert (hit.status, hit.text) == (200, plain.text)
    assert server.count == 2
    # To requests a redirect is an answer like any other, and so it is a call of its own.
    assert (cell.calls[-1].outcome, cell.hits, cell.misses) == ("hit", 1, 0)


@pytest.mark.usefixtures("isolated")
async def test_cookies(making, server):
    """A miss leaves the cookies that it leaves without us; a hit leaves none: they were somebody else's."""
    (plain, miss, hit), cell = await thrice(making, f"{server.url}{CHAT}")
    assert plain.cookies == miss.cookies == {"session"}
    assert hit.cookies == set()
    assert hit.text == plain.text
    assert cell.hits == 1


@pytest.mark.usefixtures("isolated")
async def test_cookies_of_ones_own_are_sent_and_not_in_the_key(making, server):
    """A cookie says who asks: it goes to the model's server, and the next one's question is the same."""
    for cookie in ("who=me", "who=you"):
        with llm_cache() as cell:
            async with contextlib.aclosing(making()) as client:
                await client.ask(f"{server.url}{CHAT}", ASKED, cookie=cookie)
    assert (cell.hits, server.count) == (1, 1)
    assert server.requests[0].headers["cookie"] == "who=me"


# --- proxies


class _Forwarding(http.server.BaseHTTPRequestHandler):
    """Sends on what it is asked, and notes it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.seen.append((self.path, self.headers.get("proxy-authorization")))
        parts = urlsplit(self.path)
        onward = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
        kept = {n: v for n, v in self.headers.items() if not n.lower().startswith("proxy-")}
        onward.request("POST", parts.path, body, kept)
        answer = onward.getresponse()
        whole = answer.read()
        onward.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                self.send_header(name, value)
        self.send_header("content-length", str(len(whole)))
        self.end_headers()
        self.wfile.write(whole)

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("how", ["proxy", "mounted"])
@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "streamed"])
async def test_proxy(making, server, how, body):
    """A miss goes through the proxy with its credentials, as without us; a hit asks nobody."""
    url = f"{server.url}{CHAT}"
    with serving(_Forwarding, seen=[]) as proxy:
        (plain, miss, hit), cell = await thrice(lambda: making(**{how: f"http://me:secret@{proxy.netloc}"}), url, body)
    assert proxy.seen == [(url, "Basic bWU6c2VjcmV0")] * 2
    assert plain.text == miss.text == hit.text
    assert (cell.hits, server.count) == (1, 2)


@pytest.mark.usefixtures("isolated")
async def test_proxy_of_a_plain_call_is_in_the_key(making, server):
    """A proxy that reads a question may pass it to whoever it likes: who has none is not answered by what it gave."""
    url = f"{server.url}{CHAT}"
    with serving(_Forwarding, seen=[]) as proxy, llm_cache() as cell:
        for options in ({"proxy": proxy.url}, {}):
            async with contextlib.aclosing(making(**options)) as client:
                await client.ask(url, ASKED)
    assert (cell.misses, cell.hits, server.count) == (2, 0, 2)


@pytest.mark.usefixtures("isolated")
def test_proxy_of_botocore(unique_server):
    """Amazon's client goes through its proxy on a miss, and nowhere on a hit."""
    boto3 = pytest.importorskip("boto3", reason="pip install boto3")
    config = pytest.importorskip("botocore.config", reason="pip install boto3").Config
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "us-east-1"}
    said = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    with serving(_Forwarding, seen=[]) as proxy:
        client = boto3.session.Session(**keys).client(
            "bedrock-runtime", endpoint_url=unique_server.url, config=config(proxies={"http": proxy.url})
        )
        with llm_cache() as cell:
            outputs = [client.converse(**said)["output"] for _ in range(2)]
        client.close()
    assert outputs[0] == outputs[1]
    assert len(proxy.seen) == unique_server.count == cell.misses == cell.hits == 1


@pytest.mark.usefixtures("isolated")
async def test_proxy_of_aiobotocore(unique_server):
    """The same of its asynchronous counterpart."""
    session = pytest.importorskip("aiobotocore.session", reason="pip install aiobotocore").AioSession()
    config = pytest.importorskip("aiobotocore.config", reason="pip install aiobotocore").AioConfig
    keys = {"aws_access_key_id": "k", "aws_secret_access_key": "k", "region_name": "us-east-1"}
    said = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": "hello"}]}]}
    with serving(_Forwarding, seen=[]) as proxy:
        proxied = config(proxies={"http": proxy.url})
        opening = session.create_client("bedrock-runtime", endpoint_url=unique_server.url, config=proxied, **keys)
        async with opening as client:
            with llm_cache() as cell:
                outputs = [(await client.converse(**said))["output"] for _ in range(2)]
    assert outputs[0] == outputs[1]
    assert len(proxy.seen) == unique_server.count == cell.misses == cell.hits == 1


# --- compression of the wire


def _brotli(data):
    return pytest.importorskip("brotli", reason="pip install brotli").compress(data)


PACKING = {"gzip": gzip.compress, "deflate": zlib.compress, "br": _brotli, "zstd": zstandard.compress}
ANSWER = {
    "object": "chat.completion",
    "model": "gpt-4.1-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "naïve 東京 " * 50}, "finish_reason": "stop"}],
}
EVENTS = b"".join(
    b"data: %b\n\n" % (event if isinstance(event, bytes) else json.dumps(event, ensure_ascii=False).encode())
    for event in (
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "naïve 東京"}}]},
        {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        b"[DONE]",
    )
)


class _Packing(http.server.BaseHTTPRequestHandler):
    """Answers in the compression that is asked for."""

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        encoding = self.headers["accept-encoding"]
        body, kind = (EVENTS, "text/event-stream") if asked.get("stream") else (self.server.whole, "application/json")
        packed = PACKING[encoding](body)
        self.server.seen.append(encoding)
        self.send_response_only(200)  # without the date, which may differ
        for name, value in (
            ("content-type", f"{kind}; charset=utf-8"),
            ("content-encoding", encoding),
            ("content-length", str(len(packed))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(packed)

    def log_message(self, *_):
        """Say nothing."""


@pytest.mark.usefixtures("isolated")
@pytest.mark.parametrize("body", [ASKED, STREAMED], ids=["whole", "streamed"])
@pytest.mark.parametrize("encoding", PACKING)
async def test_compression(making, encoding, body):
    """A miss is unpacked as without us; a hit is the same text, told as not compressed."""
    whole = json.dumps(ANSWER, ensure_ascii=False).encode()
    PACKING[encoding](b"")  # or skip, where the package is missing
    with serving(_Packing, seen=[], whole=whole) as running:
        url = f"{running.url}{CHAT}"
        try:
            (plain, miss, hit), cell = await thrice(making, url, body, **{"accept-encoding": encoding})
        except Exception as exc:
            if len(running.seen) == 1:
                pytest.skip(f"this client can't undo {encoding} here, with or without us: {type(exc).__name__}")
            raise
    text = EVENTS.decode() if body is STREAMED else whole.decode()
    assert plain == miss
    assert miss.headers["content-encoding"] == encoding
    if plain.text != text:
        pytest.skip(f"this client leaves {encoding} to its caller")
    assert hit.text == text
    assert "content-encoding" not in hit.headers
    assert (cell.hits, running.seen) == (1, [encoding] * 2)
