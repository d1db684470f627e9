"""OpenAI's sounds and images: transcripts and translations of files, speech, and images made, edited and varied."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING, Any

from genai_cache_magic.testing.simulated.call import Call, Fault, InvalidCallError
from genai_cache_magic.testing.simulated.text import MARK, count_tokens, prose, tokens_of
from genai_cache_magic.testing.simulated.wire import WireApi, dump, event, openai_error, openai_error_event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_BYTES_PER_S = 16_000
_SAMPLE_COUNT = 800
_PIXELS = 8
_MOST_IMAGES = 10
_SECONDS_MODELS = frozenset({"whisper-1", "gpt-transcribe"})  # these are billed by the second
_UNSTREAMED = "whisper-1"  # it ignores `stream`
_SPEECH_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
_PLAIN_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"


# --- transcripts and translations


def transcript(call: Call) -> dict[str, Any]:
    """The transcript as JSON, plain, verbose or with speakers."""
    text, duration_s = _heard(call), _duration_s(call)
    usage = _transcript_usage(call, text)
    match call.body.get("response_format", "json"):
        case "verbose_json":
            segment = {"id": 0, "seek": 0, "start": 0.0, "end": duration_s, "text": text, "tokens": [1, 2]}
            segment |= {"temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.0}
            told = {"task": "transcribe", "language": "english", "duration": duration_s, "text": text}
            return {**told, "segments": [segment], **_words(call, text, duration_s), "usage": usage}
        case "diarized_json":
            spoken = {"task": "transcribe", "duration": duration_s, "text": text}
            return {**spoken, "segments": [_spoken(text, duration_s)], "usage": usage}
    return {"text": text, "usage": usage}


def transcript_events(call: Call) -> list[bytes]:
    """The transcript piece by piece, and whole at its end."""
    text = _heard(call)
    events: list[dict[str, Any]] = [{"type": "transcript.text.delta", "delta": piece} for piece in tokens_of(text)]
    if call.body.get("response_format") == "diarized_json":
        events.append(_spoken(text, _duration_s(call)))
    events.append({"type": "transcript.text.done", "text": text, "usage": _transcript_usage(call, text)})
    return [event(data) for data in events]


def encode_transcript(call: Call) -> tuple[str, bytes]:
    """Content type and bytes of the transcript in the format that is asked for."""
    asked = call.body.get("response_format", "json")
    if asked not in _TEXT_FORMATS:
        return _JSON, dump(transcript(call))
    text = _heard(call)
    if asked == "srt" and text:
        text = f"1\n00:00:00,000 --> 00:00:09,000\n{text}\n"
    elif asked == "vtt" and text:
        text = f"WEBVTT\n\n00:00:00.000 --> 00:00:09.000\n{text}\n"
    return _PLAIN_TEXT, f"{text}\n".encode()


def _heard(call: Call) -> str:
    _file(call.body, "file")
    return "" if call.fault is Fault.EMPTY else prose(call, str(call.body.get("prompt", "a recording")))


def _file(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The first file among the fields `names`; real servers refuse an empty one too."""
    given = [value for name in names for value in _listed(body.get(name))]
    if not given or not all(isinstance(file, dict) and file.get("size_bytes") for file in given):
        raise InvalidCallError(f"'{names[0]}' must be a file that is not empty")
    first: dict[str, Any] = given[0]
    return first


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _duration_s(call: Call) -> float:
    size_bytes: int = _file(call.body, "file")["size_bytes"]
    return round(size_bytes / _BYTES_PER_S, 3)


def _words(call: Call, text: str, duration_s: float) -> dict[str, Any]:
    if "word" not in _listed(call.body.get("timestamp_granularities[]")):
        return {}
    words = text.split()
    step_s = duration_s / max(1, len(words))
    return {"words": [{"word": w, "start": i * step_s, "end": (i + 1) * step_s} for i, w in enumerate(words)]}


def _spoken(text: str, duration_s: float) -> dict[str, Any]:
    kind = "transcript.text.segment"
    return {"type": kind, "id": "seg_0", "speaker": "A", "start": 0.0, "end": duration_s, "text": text}


def _transcript_usage(call: Call, text: str) -> dict[str, Any]:
    seconds = _duration_s(call)
    if call.model in _SECONDS_MODELS:
        return {"type": "duration", "seconds": max(1, round(seconds))}
    heard, said = max(1, round(10 * seconds)), max(1, count_tokens(text))
    return {
        "type": "tokens",
        "input_tokens": heard,
        "input_token_details": {"text_tokens": 0, "audio_tokens": heard},
        "output_tokens": said,
        "total_tokens": heard + said,
    }


def _is_transcript_streamed(call: Call) -> bool:
    return call.body.get("stream") == "true" and call.model != _UNSTREAMED


# --- speech


def encode_speech(call: Call) -> tuple[str, bytes]:
    """Content type and bytes of a short noise; the file is only marked as one of the format that is asked for."""
    asked = call.body.get("response_format", "mp3")
    kind = _SPEECH_TYPES.get(asked)
    if kind is None:
        raise InvalidCallError(f"'response_format' must be one of {', '.join(_SPEECH_TYPES)}")
    sound = _noise(call)
    return kind, sound if asked != "wav" else _riff(sound)


def speech_events(call: Call) -> list[bytes]:
    """The same noise in pieces."""
    sound = _noise(call)
    pieces = [sound[i : i + 400] for i in range(0, len(sound), 400)]
    deltas = [{"type": "speech.audio.delta", "audio": base64.b64encode(piece).decode()} for piece in pieces]
    asked, said = max(1, count_tokens(str(call.body["input"]))), 50
    usage = {"input_tokens": asked, "output_tokens": said, "total_tokens": asked + said}
    return [*map(event, deltas), event({"type": "speech.audio.done", "usage": usage})]


def _noise(call: Call) -> bytes:
    if not isinstance(call.body.get("input"), str) or not call.body["input"]:
        raise InvalidCallError("'input' must be a text that is not empty")
    return b"" if call.fault is Fault.EMPTY else call.digest("noise") * (2 * _SAMPLE_COUNT // 32)


def _riff(sound: bytes) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16_000, 2, 16)
    data = struct.pack("<4sI", b"data", len(sound)) + sound
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


def _is_speech_streamed(call: Call) -> bool:
    return call.body.get("stream_format") == "sse"


# --- images


def images(call: Call) -> dict[str, Any]:
    """As many images as are asked for: themselves, or addresses of them that lead nowhere."""
    count = 0 if call.fault is Fault.EMPTY else _count(call.body)
    as_url = call.body.get("response_format") == "url"
    data = [_image(call, i, as_url=as_url) for i in range(count)]
    return {"created": call.created_s, "data": data, "output_format": "png", "usage": _image_usage(call, count)}


def edited(call: Call) -> dict[str, Any]:
    """The same, of a request with an image."""
    if not _listed(call.body.get("images")):
        _file(call.body, "image", "image[]")
    return images(call)


def varied(call: Call) -> dict[str, Any]:
    """The same, of a request with an image and no prompt."""
    _file(call.body, "image")
    return images(call)


def generation_events(call: Call) -> list[bytes]:
    """A sketch of each image, and the image."""
    return list(_image_events(call, "image_generation"))


def edit_events(call: Call) -> list[bytes]:
    """The same, of a request with an image."""
    return list(_image_events(call, "image_edit"))


def _image_events(call: Call, kind: str) -> Iterator[bytes]:
    told = {"created_at": call.created_s, "size": "1024x1024", "quality": "low", "background": "opaque"}
    told["output_format"] = "png"
    for i in range(_count(call.body)):
        sketch: dict[str, Any] = {
            "type": f"{kind}.partial_image",
            "partial_image_index": 0,
            **_image(call, i + 100),
            **told,
        }
        yield event(sketch, sketch["type"])
        image = {} if call.fault is Fault.EMPTY else _image(call, i)
        whole: dict[str, Any] = {
            "type": f"{kind}.completed",
            "b64_json": "",
            **image,
            **told,
            "usage": _image_usage(call, 1),
        }
        yield event(whole, whole["type"])


def _count(body: Mapping[str, Any]) -> int:
    text = str(body.get("n", 1))
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_IMAGES:
        raise InvalidCallError(f"'n' must be a whole number from 1 to {_MOST_IMAGES}")
    return int(text)


def _image(call: Call, index: int, *, as_url: bool = False) -> dict[str, Any]:
    if as_url:
        return {"url": f"https://images.example.com/{call.digest(f'image {index}').hex()}.png?expires=3600"}
    return {"b64_json": base64.b64encode(_png(call.digest(f"image {index}"))).decode()}


def _png(digest: bytes) -> bytes:
    """A valid image of 8 x 8 grey pixels, whose comment says that it is simulated."""
    rows = b"".join(b"\0" + digest[i : i + _PIXELS] for i in range(0, len(digest) - _PIXELS, 3)[:_PIXELS])
    head = struct.pack(">IIBBBBB", _PIXELS, _PIXELS, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"tEXt", b"Comment\0" + MARK.encode()), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _image_usage(call: Call, count: int) -> dict[str, Any]:
    asked, made = max(1, count_tokens(str(call.body.get("prompt", "")))), 272 * count
    details = {"text_tokens": asked, "image_tokens": 0}
    return {
        "input_tokens": asked,
        "input_tokens_details": details,
        "output_tokens": made,
        "total_tokens": asked + made,
    }


def _is_image_streamed(call: Call) -> bool:
    return call.body.get("stream") in {True, "true"}


_EMPTY = frozenset({Fault.EMPTY})
_TRANSCRIPTS = WireApi(
    transcript,
    transcript_events,
    openai_error_event,
    openai_error,
    _EMPTY,
    is_streamed=_is_transcript_streamed,
    encode=encode_transcript,
)
OPERATIONS = {
    "audio/transcriptions": _TRANSCRIPTS,
    "audio/translations": _TRANSCRIPTS,
    "audio/speech": WireApi(
        lambda _: {},
        speech_events,
        openai_error_event,
        openai_error,
        _EMPTY,
        is_streamed=_is_speech_streamed,
        encode=encode_speech,
    ),
    "images/generations": WireApi(
        images, generation_events, openai_error_event, openai_error, _EMPTY, is_streamed=_is_image_streamed
    ),
    "images/edits": WireApi(
        edited, edit_events, openai_error_event, openai_error, _EMPTY, is_streamed=_is_image_streamed
    ),
    "images/variations": WireApi(varied, None, openai_error_event, openai_error, _EMPTY),
}
