"""OpenAI's sounds, speech and images through its SDK, of whichever generation: the second run is all hits."""

from __future__ import annotations

import asyncio
import hashlib
import io

import httpx
import httpx2
import openai
import pytest

from genai_cache_magic import llm_cache
from genai_cache_magic.errors import ReplayMiss
from genai_cache_magic.testing.model_server import Fault

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI's own, of some of its methods

SOUND = bytes(range(256)) * 600
AUDIO, IMAGES = {"model": "gpt-4o-transcribe"}, {"model": "gpt-image-1", "prompt": "a red hat"}
WHISPER = {"model": "whisper-1"}
SPEECH = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Hello"}


def through(method, **options):
    """The raw bytes of an answer, through the helper that streams them."""
    with method.with_streaming_response.create(**options) as response:
        return b"".join(response.iter_bytes(700))


WAYS = {
    "transcription": lambda c, f: c.audio.transcriptions.create(file=f, **AUDIO),
    "transcription stream": lambda c, f: list(c.audio.transcriptions.create(file=f, **AUDIO, stream=True)),
    "transcription verbose": lambda c, f: c.audio.transcriptions.create(
        file=f, **WHISPER, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    ),
    "transcription srt": lambda c, f: c.audio.transcriptions.create(file=f, **WHISPER, response_format="srt"),
    "transcription text": lambda c, f: c.audio.transcriptions.create(file=f, **WHISPER, response_format="text"),
    "transcription speakers": lambda c, f: c.audio.transcriptions.create(
        file=f, model="gpt-4o-transcribe-diarize", response_format="diarized_json", chunking_strategy="auto"
    ),
    "transcription raw": lambda c, f: c.audio.transcriptions.with_raw_response.create(file=f, **AUDIO).parse(),
    "transcription streaming response": lambda c, f: through(c.audio.transcriptions, file=f, **AUDIO),
    "translation": lambda c, f: c.audio.translations.create(file=f, **WHISPER),
    "edit": lambda c, f: c.images.edit(image=f, **IMAGES),
    "edit several": lambda c, f: c.images.edit(image=[f, ("b.png", b"b", "image/png")], mask=f, n=2, **IMAGES),
    "edit stream": lambda c, f: list(c.images.edit(image=f, **IMAGES, stream=True, partial_images=1)),
    "variation": lambda c, f: c.images.create_variation(image=f, model="dall-e-2", response_format="b64_json"),
}
PLAIN = {
    "generation": lambda c: c.images.generate(**IMAGES, n=2),
    "generation stream": lambda c: list(c.images.generate(**IMAGES, stream=True, partial_images=1)),
    "speech": lambda c: c.audio.speech.create(**SPEECH).content,
    "speech wav": lambda c: c.audio.speech.create(**SPEECH, response_format="wav").content,
    "speech streaming response": lambda c: through(c.audio.speech, **SPEECH),
    "speech events": lambda c: through(c.audio.speech, **SPEECH, stream_format="sse"),
}


def path_of(tmp_path):
    path = tmp_path / "speech.wav"
    path.write_bytes(SOUND)
    return path


def opened(tmp_path):
    file = path_of(tmp_path).open("rb")
    file.seek(7)
    return file


def in_memory(_):
    file = io.BytesIO(SOUND)
    file.name = "speech.wav"
    return file


GIVEN = {
    "path": path_of,
    "bytes": lambda _: SOUND,
    "tuple": lambda _: ("speech.wav", SOUND, "audio/wav"),
    "open file": opened,
    "in memory": in_memory,
}


def comparable(answer):
    if isinstance(answer, list):
        return [comparable(item) for item in answer]
    return answer.model_dump(warnings=False) if hasattr(answer, "model_dump") else answer


def check_second_is_a_hit(ask, server):
    with llm_cache() as cell:
        first, second = comparable(ask()), comparable(ask())
    assert first == second
    assert first
    assert (server.count, cell.misses, cell.hits, cell.troubles) == (1, 1, 1, ())
    assert cell.calls[0].stored


@pytest.mark.parametrize("way", WAYS)
def test_each_method_with_a_file(isolated, unique_server, way):
    """Each way to send OpenAI a file gives the same answer, field by field, without a second call."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        check_second_is_a_hit(lambda: WAYS[way](client, path_of(isolated)), unique_server)


@pytest.mark.parametrize("way", PLAIN)
def test_each_method_that_makes_media(isolated, unique_server, way):
    """Images and sounds made by OpenAI are the same the second time, byte for byte, without a second call."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        check_second_is_a_hit(lambda: PLAIN[way](client), unique_server)


@pytest.mark.parametrize("way", sorted((WAYS | PLAIN).keys() - {"variation"}))
def test_azure(isolated, unique_server, way):
    """The same through Azure's deployments."""
    with openai.AzureOpenAI(azure_endpoint=unique_server.url, api_version="2025-04-01-preview", api_key="k") as client:
        file = path_of(isolated)
        check_second_is_a_hit(lambda: WAYS[way](client, file) if way in WAYS else PLAIN[way](client), unique_server)
    assert "/openai/deployments/" in unique_server.requests[0].path


@pytest.mark.parametrize("given", GIVEN)
def test_each_kind_of_file(isolated, unique_server, given):
    """A path, bytes, a tuple and an open file, which stands after the call where it stands without us, are cached."""
    file = GIVEN[given](isolated)
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        places = []

        def ask():
            if hasattr(file, "seek"):
                file.seek(7)
            answer = client.audio.transcriptions.create(file=file, **AUDIO)
            places.append(file.tell() if hasattr(file, "tell") else 0)
            return answer

        ask()
        unique_server.reset()
        check_second_is_a_hit(ask, unique_server)
    assert len(set(places)) == 1
    assert unique_server.requests[0].json["file"]["sha256"] == hashlib.sha256(SOUND).hexdigest()
    if hasattr(file, "close"):
        file.close()


async def test_async_and_sync_share_the_entry(isolated, unique_server):
    """The asynchronous client gets what the synchronous one stored, and five calls at once are one."""
    sync = openai.OpenAI(base_url=unique_server.openai_url, api_key="k")
    client = openai.AsyncOpenAI(base_url=unique_server.openai_url, api_key="k")
    path = path_of(isolated)
    with llm_cache() as cell:
        first = sync.audio.transcriptions.create(file=path, **AUDIO)
        second = await client.audio.transcriptions.create(file=path, **AUDIO)
        streams = [
            [
                event.model_dump()
                async for event in await client.audio.transcriptions.create(**AUDIO, file=f, stream=True)
            ]
            for f in (path, ("other-name.wav", SOUND))
        ]
        with path.open("rb") as file:
            edits = await asyncio.gather(*(client.images.edit(image=file, **IMAGES) for _ in range(5)))
    assert first == second
    assert streams[0] == streams[1]
    assert all(edit == edits[0] for edit in edits)
    assert (cell.misses, cell.hits, unique_server.count) == (3, 6, 3)
    sync.close()
    await client.close()


def test_other_requests_are_misses(isolated, unique_server):
    """Other bytes, another extension, another field, one more file and another endpoint are other requests."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache() as cell:
        for file in (("a.wav", SOUND), ("a.wav", SOUND + b"x"), ("a.mp3", SOUND), ("a", SOUND)):
            client.audio.transcriptions.create(file=file, **AUDIO)
        for more in ({"language": "de"}, {"prompt": "x"}, {"temperature": 0}, {"model": "gpt-4o-mini-transcribe"}):
            client.audio.transcriptions.create(**{**AUDIO, "file": ("a.wav", SOUND), **more})
        client.audio.translations.create(file=("a.wav", SOUND), model="gpt-4o-transcribe")
        for image in (("a.png", b"a"), [("a.png", b"a")], [("a.png", b"a"), ("a.png", b"b")]):
            client.images.edit(image=image, **IMAGES)
    assert (cell.hits, cell.misses, unique_server.count) == (0, 12, 12)


def test_differing_file_is_named(isolated, unique_server):
    """What a miss in mode replay differs in is told by the name of the field."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client:
        with llm_cache():
            client.audio.transcriptions.create(file=("a.wav", SOUND), **AUDIO)
        with llm_cache(mode="replay"), pytest.raises(ReplayMiss, match=r"differs in body\.file"):
            client.audio.transcriptions.create(file=("a.wav", SOUND[1:]), **AUDIO)


@pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.ERROR_BODY, Fault.STREAM_CUT, Fault.ERROR_EVENT])
@pytest.mark.parametrize("way", ["transcription", "transcription stream", "edit", "edit stream", "generation"])
def test_failed_answers_are_not_stored(isolated, unique_server, way, fault):
    """An empty, failed or cut answer is not kept, and the next call asks again."""
    file = path_of(isolated)
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k", max_retries=0) as client, llm_cache() as cell:
        unique_server.fail_next(fault)
        for _ in range(2):
            try:
                WAYS[way](client, file) if way in WAYS else PLAIN[way](client)
            except (openai.OpenAIError, httpx.HTTPError, httpx2.HTTPError):
                continue
    assert [call.stored for call in cell.calls] == [False, True]
    assert unique_server.count == 2


def test_addresses_of_images_are_not_stored(isolated, unique_server):
    """An address that leads nowhere in an hour is not kept for a month, and the reason says so."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache() as cell:
        for _ in range(2):
            client.images.generate(model="dall-e-3", prompt="a red hat", response_format="url")
    assert [(call.outcome.value, call.reason) for call in cell.calls] == [("refused", "expiring-link")] * 2


def test_speech_that_was_left_half_way_is_not_stored(isolated, unique_server):
    """Sound has no last event, so a reader who leaves early leaves nothing behind."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache() as cell:
        with client.audio.speech.with_streaming_response.create(**SPEECH) as response:
            next(response.iter_bytes(100))
        assert through(client.audio.speech, **SPEECH) == through(client.audio.speech, **SPEECH)
    assert [(call.outcome.value, call.stored) for call in cell.calls] == [
        ("error", False),
        ("miss", True),
        ("hit", True),
    ]


def test_headers_of_a_sound_are_replayed(isolated, unique_server):
    """A replayed sound says of what type and how long it is."""
    with openai.OpenAI(base_url=unique_server.openai_url, api_key="k") as client, llm_cache():
        first, second = (client.audio.speech.with_raw_response.create(**SPEECH) for _ in range(2))
    assert second.headers["content-type"] == first.headers["content-type"] == "audio/mpeg"
    assert second.headers["content-length"] == first.headers["content-length"] == str(len(second.content))
    assert "x-genai-cache" in second.headers
