"""Forms with files, and OpenAI's sounds and images: what is in their keys, and how their answers ended."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import httpx2
import pytest
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from genai_cache_magic.core.canonical import SCHEMA, canonical_bytes
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import Form, KeySpace, Response
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import End, HttpCall, Origins, Wants
from genai_cache_magic.providers.formats import multipart
from genai_cache_magic.providers.openai.audio import OpenAITranscripts
from genai_cache_magic.providers.openai.images import OpenAIImages
from genai_cache_magic.providers.openai.speech import OpenAISpeech
from genai_cache_magic.providers.registry import recognise

SPEC = Path(__file__).resolve().parents[2] / "spec" / "vectors" / "key_multipart.json"
DOCUMENT = json.loads(SPEC.read_text(encoding="utf-8"))
VECTORS = DOCUMENT["vectors"]
KEYED = [vector for vector in VECTORS if vector["outcome"] == "key"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}
FORM = "multipart/form-data; boundary=b0"


# --- the vectors


def outcome_of(vector):
    call = dict(vector["call"])
    body = call.pop("body_latin1").encode("latin-1")
    try:
        found = recognise(HttpCall(**call, body=body), Origins({}, DOCUMENT["machine"]))
    except UncacheableRequest:
        return {"outcome": "bypass"}
    if found is None:
        return {"outcome": "not-a-call"}
    canonical = canonical_bytes(found.request, KeySpace())
    return {
        "outcome": "key",
        "canonical": canonical.decode(),
        "sha256": hashlib.sha256(canonical).hexdigest(),
        "entry_id": entry_id(canonical, bytes.fromhex(DOCUMENT["id_key"])),
    }


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_call_has_its_outcome(vector):
    """Every call has the outcome, the canonical bytes and the entry id that the vectors state."""
    assert outcome_of(vector) == {k: v for k, v in vector.items() if k not in {"name", "about", "call"}}


@pytest.mark.parametrize("vector", KEYED, ids=lambda vector: vector["name"])
def test_entry_id_follows_from_the_text_of_the_vector(vector):
    """The id is what section 5 of `spec/key.md` says, computed here without the package."""
    digest = hashlib.sha256(vector["canonical"].encode()).digest()
    assert vector["sha256"] == digest.hex()
    assert vector["entry_id"] == hmac.new(bytes.fromhex(DOCUMENT["id_key"]), digest, "sha256").hexdigest()
    assert json.loads(vector["canonical"])["schema"] == DOCUMENT["schema"] == SCHEMA


def test_vectors_are_equal_where_they_claim_it_and_nowhere_else():
    """Two spellings of one form have one id, two forms have two."""
    claims = {v["name"]: re.search(r"the same id as `([\w-]+)`", v["about"], re.IGNORECASE) for v in KEYED}
    same = {name: claim[1] for name, claim in claims.items() if claim}
    assert len(same) == 5
    for name, other in same.items():
        assert BY_NAME[name]["entry_id"] == BY_NAME[other]["entry_id"], name
    assert len({vector["entry_id"] for vector in KEYED}) == len(KEYED) - len(same)


def test_no_vector_holds_a_credential():
    """What is secret in a call is in no canonical text."""
    assert all("secret" in vector["call"]["headers"]["authorization"] for vector in VECTORS)
    assert not any("secret" in vector["canonical"] for vector in KEYED)


# --- reading forms

NAMES = st.sampled_from(["model", "prompt", "file", "image[]", "naïve", 'with "quotes"', "a\\b", "a/b~c", "ü\r\nx"])
TEXTS = st.tuples(NAMES, st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
FILES = st.tuples(
    NAMES,
    st.tuples(
        st.sampled_from(["a.wav", "b.wav", "a.mp3", "ünder.wav", "noext", 'q".wav']),
        st.one_of(st.binary(max_size=300), st.sampled_from([b"", b"\r\n", b"--", b"\r\n--", b"\r\n\r\n", b"\r\n--b"])),
        st.sampled_from(["audio/wav", "audio/mpeg", "text/plain"]),
    ),
)


def by_httpx(texts, files):
    data = {}
    for name, text in texts:
        data.setdefault(name, []).append(text)
    files = [(name, file) for name, file in files]
    request = httpx2.Request("POST", "http://a.example.com/", data=data, files=files or {"x": ("y", b"")})
    return request.headers["content-type"], request.read()


def by_urllib3(texts, files):
    body, content_type = urllib3.encode_multipart_formdata([*texts, *files])
    return content_type, body


def canonical(texts, files):
    """What `spec/key_multipart.md` says of these fields, said once more; names are compared by their parts' order."""
    found = {}
    for name, text in texts:
        found.setdefault(name, []).append(text)
    for name, (filename, content, kind) in files:
        shape = f"*.{filename.rpartition('.')[2]}" if "." in filename else "*"
        digest = f"{kind};sha256={hashlib.sha256(content).hexdigest()}"
        found.setdefault(name, []).append({"content": digest, "filename": shape})
    return found


@given(st.lists(TEXTS, max_size=5), st.lists(FILES, min_size=1, max_size=4))
def test_what_clients_render_is_read_back(texts, files):
    """Whatever fields and files httpx and urllib3 put into a form come out of it, whatever its boundary is."""
    expected = canonical(texts, files)
    for render in (by_httpx, by_urllib3):
        read = multipart.parse(*render(texts, files))
        values = {name: value if isinstance(value, list) else [value] for name, value in read.items()}
        assert sorted(map(repr, values.values())) == sorted(map(repr, expected.values()))
        assert {name for name in expected if name.isascii() and name.isalpha()} <= values.keys()
    assert multipart.parse(*by_httpx(texts, files)) == multipart.parse(*by_httpx(texts, files))


def read_or_reason(body):
    try:
        return multipart.parse(FORM, body)
    except UncacheableRequest as exc:
        return str(exc)


@given(st.binary(max_size=400))
def test_anything_else_is_refused_and_nothing_worse_happens(noise):
    """Bytes that are no form are refused, with a reason that does not show them."""
    found = read_or_reason(b"--b0" + noise)
    assert found == {} or re.fullmatch(r"the request's form [a-z ]+, so the call was sent uncached", found)


ONE = b'--b0\r\ncontent-disposition: form-data; name="f"; filename=".w"\r\ncontent-type: a/b\r\n\r\nxyz\r\n'
TWO = b"--b0\r\ncontent-disposition: form-data; name=m\r\n\r\nv\r\n--b0--\r\n"


@given(st.sampled_from([b'"f"', b"a/b", b"xyz", b"=m", b"v\r"]), st.integers(0, 2), st.integers(0, 255))
def test_a_changed_byte_changes_the_form_or_is_refused(spot, offset, byte):
    """A form with another name, type, file or text is never read as the same."""
    body = ONE + TWO
    at = body.rindex(spot) + min(offset, len(spot.strip()) - 1)
    changed = body[:at] + bytes([byte]) + body[at + 1 :]
    assert (read_or_reason(changed) == read_or_reason(body)) == (changed == body)


def test_too_long_a_form_is_refused(monkeypatch):
    """A form beyond the limit is not read, and the reason says so."""
    content_type, body = by_httpx([], [("file", ("a.wav", bytes(1000), "audio/wav"))])
    monkeypatch.setattr(multipart, "MAX_FORM_BYTES", len(body) - 1)
    with pytest.raises(UncacheableRequest, match="longer than"):
        multipart.parse(content_type, body)
    monkeypatch.setattr(multipart, "MAX_FORM_BYTES", len(body))
    assert "file" in multipart.parse(content_type, body)


def test_too_many_parts_are_refused():
    """A form of a thousand parts is read, one of more is not."""
    part = b'--b0\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
    with pytest.raises(UncacheableRequest, match="more than 1000 parts"):
        multipart.parse(FORM, part * 1001 + b"--b0--\r\n")
    assert multipart.parse(FORM, part * 999 + b"--b0--\r\n") == {"a": ["x"] * 999}


# --- which calls


def call(path="/v1/audio/transcriptions", host="api.openai.com", **options):
    content_type, body = by_httpx([("model", "m"), ("prompt", "p")], [("file", ("a.wav", b"RIFF", "audio/wav"))])
    headers = {"content-type": content_type, **options.pop("headers", {})}
    return HttpCall("POST", "https", host, None, path, "", headers, options.pop("body", body), **options)


def never():
    raise AssertionError("the body was read")


def test_body_is_read_only_for_what_looks_like_a_model_call():
    """A form to somebody's own service, or an upload to OpenAI, is not read."""
    for other in (
        call(host="example.com", body=None, read_body=never),
        call("/v1/files", body=None, read_body=never),
        call("/v1/audio/speech", body=None, read_body=never),
        call(body=None, read_body=never, headers={"content-type": "application/octet-stream"}),
    ):
        assert recognise(other, Origins({}, "m")) is None


def test_body_that_can_be_read_is_keyed_as_a_buffered_one():
    """How a form gets into memory is no part of its key."""
    buffered = call()
    read = call(body=None, read_body=lambda: buffered.body, headers=dict(buffered.headers))
    assert recognise(read, Origins({}, "m")) == recognise(buffered, Origins({}, "m"))
    with pytest.raises(UncacheableRequest, match="streamed"):
        recognise(call(body=None), Origins({}, "m"))


def test_sdk_names_itself_to_an_unknown_gateway():
    """A transcription through somebody's gateway counts if the headers are those of a model SDK."""
    found = recognise(call(host="gw.example.com", headers={"user-agent": "OpenAI/Python 2.54"}), Origins({}, "m"))
    assert (found.provider.surface, found.request.model, found.preview) == ("openai.audio.transcriptions", "m", "p")


# --- how answers ended


def json_answer(value, status=200):
    return Response(status, (("content-type", "application/json"),), json.dumps(value).encode())


def plain(body, kind="text/plain; charset=utf-8", status=200):
    return Response(status, (("content-type", kind),), body)


def events(*values):
    body = b"".join(b"data: %b\n\n" % (v if isinstance(v, bytes) else json.dumps(v).encode()) for v in values)
    return Response(200, (("content-type", "text/event-stream"),), body, Form.STREAM)


TOKENS = {"type": "tokens", "input_tokens": 14, "output_tokens": 5, "total_tokens": 19}
DONE = {"type": "transcript.text.done", "text": "hello", "usage": TOKENS}
DELTA = {"type": "transcript.text.delta", "delta": "hello"}


@pytest.mark.parametrize(
    ("response", "end"),
    [
        (json_answer({"text": "hello"}), End.COMPLETE),
        (json_answer({"text": " "}), End.EMPTY),
        (json_answer({"segments": []}), End.UNREADABLE),
        (json_answer({"error": {"message": "x"}}), End.ERROR),
        (json_answer({"text": "hello"}, status=500), End.ERROR),
        (plain(b"1\n00:00 --> 00:01\nhello\n"), End.COMPLETE),
        (plain(b"\n"), End.EMPTY),
        (plain(b"hello", status=503), End.ERROR),
        (plain(b"<html>log in</html>", "text/html"), End.UNREADABLE),
        (plain(b'{"text": "hel', "application/json"), End.UNREADABLE),
        (events(DELTA, DONE), End.COMPLETE),
        (events(DELTA, DONE, b"[DONE]"), End.COMPLETE),
        (events(DELTA), End.CUT),
        (events(DELTA, b"[DONE]"), End.CUT),
        (events(DELTA, {"error": {"message": "x"}}), End.ERROR),
        (events(DELTA, {"type": "error", "message": "x"}), End.ERROR),
        (events(b"{", DONE), End.UNREADABLE),
        (events({**DONE, "text": ""}), End.EMPTY),
    ],
)
def test_transcript_is_read(response, end):
    """A transcript is complete if its text is there, and streamed if its last event was seen."""
    assert OpenAITranscripts("openai.audio.transcriptions").read(response).end is end


def test_tokens_of_a_transcript():
    """Tokens are counted, those that were heard apart, or else seconds; without a split the price is unclear."""
    read = OpenAITranscripts("openai.audio.transcriptions").read
    heard = {**TOKENS, "input_token_details": {"text_tokens": 4, "audio_tokens": 10}}
    text = {**TOKENS, "input_token_details": {"text_tokens": 14, "audio_tokens": 0}}
    seconds = {"type": "duration", "seconds": 9}
    for usage, tokens, units, is_clear in (
        (heard, (14, 5), {"input_audio_tokens": 10}, True),
        (TOKENS, (14, 5), {}, False),
        (text, (14, 5), {}, True),
        (seconds, (None, None), {"audio_seconds": 9}, True),
    ):
        answer = read(json_answer({"text": "hello", "usage": usage}))
        assert (answer.usage.input_tokens, answer.usage.output_tokens) == tokens
        assert (answer.bill.units, not answer.bill.unclear) == (units, is_clear)


SOUND = {"type": "speech.audio.delta", "audio": "AAAA"}
SPOKEN = {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 9, "total_tokens": 12}}


@pytest.mark.parametrize(
    ("response", "end"),
    [
        (plain(b"ID3", "audio/mpeg"), End.COMPLETE),
        (plain(b"\0\0", "application/octet-stream"), End.COMPLETE),
        (plain(b"", "audio/mpeg"), End.EMPTY),
        (plain(b"ID3", "audio/mpeg", status=500), End.ERROR),
        (plain(b"hello"), End.UNREADABLE),
        (json_answer({"error": {"message": "x"}}), End.ERROR),
        (json_answer({"audio": "AAAA"}), End.UNREADABLE),
        (events(SOUND, SPOKEN), End.COMPLETE),
        (events(SOUND), End.CUT),
        (events(SPOKEN), End.EMPTY),
        (events(SOUND, {"error": {"message": "x"}}), End.ERROR),
    ],
)
def test_speech_is_read(response, end):
    """Speech is complete if it is sound, and streamed if its last event was seen."""
    assert OpenAISpeech().read(response).end is end


def test_tokens_of_speech():
    """The last event of streamed speech tells the tokens."""
    usage = OpenAISpeech().read(events(SOUND, SPOKEN)).usage
    assert (usage.input_tokens, usage.output_tokens) == (3, 9)


IMAGE = {"b64_json": "iVBORw=="}
MADE = {"type": "image_generation.completed", **IMAGE}


@pytest.mark.parametrize(
    ("response", "end"),
    [
        (json_answer({"data": [IMAGE, IMAGE]}), End.COMPLETE),
        (json_answer({"data": [{"url": "data:image/png;base64,iVBORw=="}]}), End.COMPLETE),
        (json_answer({"data": [IMAGE, {"url": "https://images.example.com/1.png"}]}), End.EXPIRING),
        (json_answer({"data": [IMAGE, {"revised_prompt": "x"}]}), End.EMPTY),
        (json_answer({"data": []}), End.EMPTY),
        (json_answer({"data": None}), End.UNREADABLE),
        (json_answer({"data": ["x"]}), End.UNREADABLE),
        (json_answer({"error": {"message": "x"}}), End.ERROR),
        (events({"type": "image_generation.partial_image", **IMAGE}, MADE), End.COMPLETE),
        (events({"type": "image_generation.partial_image", **IMAGE}), End.CUT),
        (events({**MADE, "b64_json": ""}), End.EMPTY),
        (events(MADE, {"error": {"message": "x"}}), End.ERROR),
        (events(b"{"), End.UNREADABLE),
    ],
)
def test_images_are_read(response, end):
    """Images are complete if they are all there themselves: an address of one is of no use tomorrow."""
    assert OpenAIImages("openai.images.generations").read(response).end is end


def test_stream_of_several_images_is_whole_with_the_last():
    """A stream that was cut after the first of two images is not taken for whole."""
    both = OpenAIImages("openai.images.generations", asked=2)
    assert both.read(events(MADE)).end is End.CUT
    assert both.read(events(MADE, MADE)).end is End.COMPLETE


@pytest.mark.parametrize("n", [2, "2"])
def test_number_of_images_is_read_from_either_kind_of_body(n):
    """How many images are asked for is a number in JSON and a text in a form."""
    body = json.dumps({"prompt": "x", "model": "m", "n": n}).encode()
    asked = HttpCall(
        "POST",
        "https",
        "api.openai.com",
        None,
        "/v1/images/generations",
        "",
        {"content-type": "application/json"},
        body,
    )
    assert recognise(asked, Origins({}, "m")).provider.asked == 2


def test_answer_in_another_form_than_asked_is_served():
    """A server that ignores `stream`, as Whisper does, answers JSON; so does the cache, as the form is in the key."""
    answer = json_answer({"text": "hello"})
    assert OpenAITranscripts("openai.audio.transcriptions").render(answer, Wants(Form.STREAM)) is answer


@pytest.mark.parametrize(
    "head",
    [
        "a:" + " " * 8000 + "\n",
        "a:" + " \t" * 4000 + "x\r",
        "a" * 8000,
        ":" * 8000,
        "content-disposition: form-data" + "; " * 3900,
        'content-disposition: form-data; name="' + "\\" * 8000,
    ],
    ids=["blanks", "tabs", "no colon", "colons", "semicolons", "backslashes"],
)
def test_head_that_can_be_read_in_many_ways_is_refused_at_once(head):
    """A malformed head costs its length once: nothing is tried in every way that there is, or this would never end."""
    body = f"--b0\r\n{head}\r\n\r\nx\r\n--b0--\r\n".encode()
    with pytest.raises(UncacheableRequest):
        multipart.parse(FORM, body)
