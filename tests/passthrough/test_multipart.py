"""Forms with files: what reaches the server, and what becomes of the files, is as without us."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import io
import tempfile

import httpx
import httpx2
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.intercept.clients import httpx_bodies

SOUND = bytes(range(256)) * 600 + b"\r\n--b"  # longer than a chunk of httpx, and like a delimiter at its end
BOUNDARY = "multipart/form-data; boundary=b0"
DATA = {"model": "gpt-4o-transcribe", "timestamp_granularities[]": ["word", "segment"]}

both = pytest.mark.parametrize("module", [httpx, httpx2])
colours = pytest.mark.parametrize("colour", ["sync", "async"])


# --- files of all kinds; each maker is called once per run


def opened(tmp_path, mode="rb", **options):
    path = tmp_path / "speech.wav"
    path.write_bytes(SOUND)
    file = path.open(mode, **options)
    file.seek(7)
    return file


def named_temporary(_):
    file = tempfile.NamedTemporaryFile(suffix=".wav")  # noqa: SIM115 - closed by the test
    file.write(SOUND)
    file.flush()
    return file


def spooled(_):
    file = tempfile.SpooledTemporaryFile(max_size=1 << 20)  # noqa: SIM115 - closed by the test
    file.write(SOUND)
    return file


def in_memory(_):
    file = io.BytesIO(SOUND)
    file.name = "speech.wav"
    file.seek(5)
    return file


ORDINARY = {
    "open": opened,
    "open to write": lambda tmp_path: opened(tmp_path, "r+b"),
    "unbuffered": lambda tmp_path: opened(tmp_path, "rb", buffering=0),
    "in memory": in_memory,
    "named temporary": named_temporary,
    "spooled": spooled,
}


class Watched(io.BytesIO):
    """A file that somebody watches, like a progress bar, and which costs something to read, like a remote one."""

    def __init__(self):
        super().__init__(SOUND)
        self.reads = 0

    def read(self, *args):
        self.reads += 1
        return super().read(*args)


class Wrapped:
    """The same, made of another file."""

    def __init__(self):
        self.file, self.reads = io.BytesIO(SOUND), 0

    def read(self, *args):
        self.reads += 1
        return self.file.read(*args)

    def seek(self, *args):
        return self.file.seek(*args)

    def tell(self):
        return self.file.tell()

    def seekable(self):
        return True


def patched():
    file = io.BytesIO(SOUND)
    file.reads = 0
    original = file.read

    def read(*args):
        file.reads += 1
        return original(*args)

    file.read = read
    return file


class Remote(io.RawIOBase):
    """What a buffered reader of a remote file stands on."""

    def __init__(self):
        self.file, self.reads = io.BytesIO(SOUND), 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def readinto(self, buffer):
        self.reads += 1
        return self.file.readinto(buffer)

    def seek(self, *args):
        return self.file.seek(*args)

    def tell(self):
        return self.file.tell()


class Buffered(io.BufferedReader):
    @property
    def reads(self):
        return self.raw.reads


class Tube(io.BytesIO):
    """A file that can't go back."""

    reads = 0

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation


UNORDINARY = {
    "subclass": Watched,
    "wrapper": Wrapped,
    "patched": patched,
    "remote": lambda: Buffered(Remote()),
    "tube": lambda: Tube(SOUND),
}


# --- the same with and without us


class Recorder:
    """A transport that notes what it is given."""

    def __init__(self, module):
        self.seen = []
        self.transport = module.MockTransport(self.handle)
        self.module = module

    def handle(self, request):
        self.seen.append((request.headers.raw, request.content))
        return self.module.Response(200, json={"text": "hello"})


async def post(
    module, colour, transport, files, *, times=1, url="https://api.openai.com/v1/audio/transcriptions", **more
):
    """Send a form with a fixed boundary `times` times by one client, and return what came of each."""
    outcomes = []
    headers = {"content-type": BOUNDARY}
    kind = module.Client if colour == "sync" else module.AsyncClient
    client = kind(transport=transport, **more)
    for _ in range(times):
        try:
            answer = client.post(url, data=DATA, files=files, headers=headers)
            outcomes.append((answer if colour == "sync" else await answer).text)
        except (ValueError, module.TransportError) as exc:
            outcomes.append((type(exc), str(exc)))
    await asyncio.to_thread(client.close) if colour == "sync" else await client.aclose()
    return outcomes


async def sent(client, request):
    answer = client.send(request)
    return await answer if inspect.isawaitable(answer) else answer


async def run(module, colour, file, **options):
    """Return what was sent, what came of it, and where the file stands."""
    recorder = Recorder(module)
    outcomes = await post(module, colour, recorder.transport, {"file": ("speech.wav", file)}, **options)
    return recorder.seen, outcomes, None if file.closed else file.tell()


@both
@colours
@pytest.mark.parametrize("kind", ORDINARY)
async def test_form_is_sent_as_without_us(isolated, module, colour, kind):
    """Headers, bytes, answer and the position of the file are the same; so is the position after a hit."""
    results = []
    for scoped in (False, True):
        with ORDINARY[kind](isolated) as file:
            if not scoped:
                results.append(await run(module, colour, file))
                continue
            with llm_cache() as cell:
                results.append(await run(module, colour, file))
                file.seek(3)
                seen, outcomes, place = await run(module, colour, file)
    assert results[0] == results[1]
    sent = results[0][0]
    assert len(sent) == 1
    assert SOUND in sent[0][1]
    assert (seen, outcomes, place) == ([], ['{"text":"hello"}'], results[0][2])
    assert (cell.misses, cell.hits, cell.troubles) == (1, 1, ())


@both
@colours
@pytest.mark.parametrize("kind", UNORDINARY)
async def test_file_that_may_not_bear_it_is_read_once(isolated, module, colour, kind):
    """A file with methods of its own, or without a way back, is read as often as without us, and the cell says why."""
    results = []
    for scoped in (False, True):
        file = UNORDINARY[kind]()
        files = {"file": ("speech.wav", file)}
        recorder = Recorder(module)
        if scoped:
            with llm_cache() as cell:
                outcomes = await post(module, colour, recorder.transport, files)
        else:
            outcomes = await post(module, colour, recorder.transport, files)
        results.append((recorder.seen, outcomes, file.reads, file.tell()))
    assert results[0] == results[1]
    assert SOUND in results[0][0][0][1]
    assert [(call.outcome.value, "read twice" in call.reason) for call in cell.calls] == [("bypass", True)]
    assert cell.troubles == ()


@both
async def test_chunks_of_a_form_are_those_of_the_library(isolated, module):
    """The form is streamed from its files as ever: it is not sent from memory."""
    chunks = []

    class Transport(module.BaseTransport):
        def handle_request(self, request):
            chunks.append((type(request.stream), [len(chunk) for chunk in request.stream]))
            return module.Response(200, json={"text": "hello"})

    with opened(isolated) as file, llm_cache() as cell:
        await post(module, "sync", Transport(), {"file": file})
    with opened(isolated) as file:
        await post(module, "sync", Transport(), {"file": file})
    assert chunks[0] == chunks[1]
    assert len(chunks[0][1]) > 10
    assert cell.misses == 1


def refusing(module):
    """A transport that makes no connection."""

    class Refusing(module.BaseTransport, module.AsyncBaseTransport):
        def handle_request(self, _):
            raise module.ConnectError("no")

        async def handle_async_request(self, _):
            raise module.ConnectError("no")

    return Refusing()


@both
@colours
async def test_file_stays_where_it_was_if_nothing_was_sent(isolated, module, colour):
    """Where no connection is made, nobody has read the file."""
    with llm_cache() as cell, opened(isolated) as file:
        outcomes = await post(module, colour, refusing(module), {"file": file})
        place = file.tell()
    assert (outcomes, place) == ([(module.ConnectError, "no")], 7)
    assert [call.outcome.value for call in cell.calls] == ["error"]


@both
@colours
async def test_closed_file_fails_as_without_us(isolated, module, colour):
    """What is wrong with a file is said by the client, not by us."""
    results = []
    for scoped in (False, True):
        transport = Recorder(module).transport
        file = opened(isolated)
        request = module.Request("POST", "https://api.openai.com/v1/audio/transcriptions", files={"file": file})
        file.close()
        client = (module.Client if colour == "sync" else module.AsyncClient)(transport=transport)
        with contextlib.ExitStack() as stack:
            cell = stack.enter_context(llm_cache()) if scoped else None
            with pytest.raises(ValueError, match="closed") as caught:
                await sent(client, request)
        results.append(str(caught.value))
        await asyncio.to_thread(client.close) if colour == "sync" else await client.aclose()
    assert results[0] == results[1]
    assert [(call.outcome.value, "can't be read" in call.reason) for call in cell.calls] == [("bypass", True)]


@both
async def test_too_long_a_form_bypasses_the_cache(isolated, module, monkeypatch):
    """A form beyond the limit is sent unchanged, uncached and with the reason; the file is where sending left it."""
    monkeypatch.setattr(httpx_bodies, "MAX_FORM_BYTES", 100_000)
    with llm_cache() as cell, opened(isolated) as file:
        seen, outcomes, place = await run(module, "sync", file, times=2)
    assert [SOUND in body for _, body in seen] == [True, True]
    assert (outcomes, place) == (['{"text":"hello"}'] * 2, len(SOUND))
    assert [(call.outcome.value, "longer than 64 MiB" in call.reason) for call in cell.calls] == [("bypass", True)] * 2


@both
async def test_replay_never_sends_a_form(isolated, module):
    """In mode replay a form that can't be keyed is not sent."""
    recorder = Recorder(module)
    with llm_cache(mode="replay"), pytest.raises(ReplayMiss):
        await post(module, "sync", recorder.transport, {"file": Watched()})
    assert recorder.seen == []


@both
async def test_hook_that_changes_the_file_is_noticed(isolated, module):
    """An answer to another file than the one that was looked up is not stored."""

    def change(request):
        file.seek(0)
        file.write(b"other")

    recorder = Recorder(module)
    with llm_cache() as cell:
        file = io.BytesIO(SOUND)
        await post(module, "sync", recorder.transport, {"file": file}, event_hooks={"request": [change]})
    assert [(call.outcome.value, call.reason) for call in cell.calls] == [("refused", "changed after it was looked up")]


async def test_uploads_are_left_alone(isolated, unique_server):
    """An upload makes something that the server keeps: it is no model call, and its file is not looked at."""
    file = Watched()
    with llm_cache() as cell, httpx2.Client() as client:
        client.post(f"{unique_server.openai_url}/files", files={"file": file}, headers={"user-agent": "OpenAI/Python"})
    reads = file.reads
    with httpx2.Client() as client:
        client.post(f"{unique_server.openai_url}/files", files={"file": file})
    assert cell.calls == ()
    assert file.reads == 2 * reads


# --- other clients


def test_requests(isolated, unique_server):
    """Of `requests` the second run is a hit, whatever its boundary; another file is a miss."""
    requests = pytest.importorskip("requests")
    url = f"{unique_server.openai_url}/audio/transcriptions"

    def ask(sound):
        file = io.BytesIO(sound)
        return requests.post(url, data={"model": "whisper-1"}, files={"file": ("a.wav", file)}, timeout=10).json()

    with llm_cache() as cell:
        first, second, third = ask(SOUND), ask(SOUND), ask(SOUND[1:])
    assert first == second != third
    assert (cell.misses, cell.hits, unique_server.count) == (2, 1, 2)
    sent = unique_server.requests[0].json["file"]
    assert (sent["size_bytes"], sent["sha256"]) == (len(SOUND), hashlib.sha256(SOUND).hexdigest())


async def test_aiohttp_says_that_it_does_not_cache_forms(isolated, unique_server):
    """A form of aiohttp is made as it is sent, so it goes past the cache, visibly and whole."""
    aiohttp = pytest.importorskip("aiohttp")
    form = aiohttp.FormData({"model": "whisper-1"})
    form.add_field("file", io.BytesIO(SOUND), filename="a.wav", content_type="audio/wav")
    with llm_cache() as cell:
        async with aiohttp.ClientSession() as session:
            url = f"{unique_server.openai_url}/audio/transcriptions"
            async with session.post(url, data=form) as response:
                assert "simulated" in (await response.json())["text"]
    assert [(call.outcome.value, "streamed" in call.reason) for call in cell.calls] == [("bypass", True)]
    assert unique_server.requests[0].json["file"]["sha256"] == hashlib.sha256(SOUND).hexdigest()


def test_httpx_and_requests_share_an_entry(isolated, unique_server):
    """The same fields and the same file are one request, whoever sends it."""
    requests = pytest.importorskip("requests")
    url = f"{unique_server.openai_url}/audio/transcriptions"
    files = {"file": ("a.wav", SOUND, "audio/wav")}
    with llm_cache() as cell, httpx.Client() as client:
        first = client.post(url, data=DATA, files=files).json()
        second = requests.post(url, data=DATA, files=files, timeout=10).json()
    assert first == second
    assert (cell.misses, cell.hits) == (1, 1)
