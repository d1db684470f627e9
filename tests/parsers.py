"""Every parser of bytes that somebody else may have written, with examples of what it reads and how it may refuse.

Used bounded by ``tests/property/test_parsers.py`` and for long by ``make torture``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mutations import mutated, random_edits
from namespace_keys import keyring_of

from genai_cache_magic.core import frame, validity
from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Entry, EntryId, Form, Header, Metadata, Response, Stamp
from genai_cache_magic.crypto import document_mac, manifest
from genai_cache_magic.crypto.columns import ColumnSeal
from genai_cache_magic.crypto.envelope import Sealer
from genai_cache_magic.crypto.extensions import check_extensions
from genai_cache_magic.crypto.keyset import create_manifest, open_manifest
from genai_cache_magic.crypto.wrappers.azure_vault_client import VaultClient, VaultTarget
from genai_cache_magic.crypto.wrappers.key_file import format_key, parse_key
from genai_cache_magic.crypto.wrappers.known_keys import KnownKey, KnownKeys
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.entries.codec import Codec, Compression, Unsealed
from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    EntryUndecodable,
    KeyUnavailable,
    UncacheableRequest,
)
from genai_cache_magic.intercept.inflating import fits
from genai_cache_magic.jupyter.arguments import parse_cell, parse_invalidate
from genai_cache_magic.providers.base import HttpCall, Origins, Wants
from genai_cache_magic.providers.formats import eventstream, jsonlines, sse
from genai_cache_magic.providers.formats.streams import form_of
from genai_cache_magic.providers.registry import recognise
from genai_cache_magic.runs.lines import decode_file, decode_line
from genai_cache_magic.runs.sealing import open_file, seal_file
from genai_cache_magic.settings.units import parse_duration, parse_size, parse_timeout
from genai_cache_magic.stores.disk import record
from genai_cache_magic.testing.model_server import SimulatedModelServer
from genai_cache_magic.testing.simulated.http_server import ReceivedRequest

if TYPE_CHECKING:
    from collections.abc import Callable

ID = EntryId("0f" * 32)
Refusals = tuple[type[Exception], ...]


class Parser:
    """A function of bytes, what it may raise for bytes that it does not take, and examples that it reads."""

    def __init__(
        self, name: str, parse: Callable[[bytes], object], refusals: Refusals, seeds: tuple[bytes, ...]
    ) -> None:
        self.name = name
        self.parse = parse
        self.refusals = refusals
        self.seeds = seeds

    def __repr__(self) -> str:
        return f"<{self.name}>"


def parsers() -> tuple[Parser, ...]:
    """Return all of them."""
    return (*_of_crypto(), *_of_entries(), *_of_runs(), *_of_answers(), *_of_requests(), *_of_settings())


def _of_crypto() -> list[Parser]:
    sealer = Sealer(keyring_of({1: b"\x01" * 32}), "default")
    envelope = sealer.seal(ID, b"head", b"meta", b"body" * 20)
    wrapper = LocalKeyFile(b"k" * 32)
    keyset = create_manifest("team", wrapper)
    document = document_mac.protect_document(bytes(32), "context", b"payload")
    columns = ColumnSeal(bytes(32))
    table = manifest.encode_table(
        manifest.KeyTable(
            id_key=bytes(32), mac_key=bytes(32), derivation_key=bytes(32), root_keys={1: b"r" * 32, 2: None}
        )
    )
    closed = (DecryptionError, EntryUndecodable)
    unread = (EntryUndecodable,)
    return [
        Parser("envelope", lambda data: sealer.open(ID, data), closed, (envelope,)),
        Parser("envelope's metadata", lambda data: sealer.open_metadata(ID, data), closed, (envelope, envelope[:-60])),
        Parser("envelope's size", sealer.metadata_size, unread, (envelope,)),
        Parser(
            "manifest", lambda data: open_manifest(data, "team", wrapper), (DecryptionError, KeyUnavailable), (keyset,)
        ),
        Parser("manifest's form", manifest.split_manifest, unread, (keyset,)),
        Parser("key table", manifest.decode_table, unread, (table,)),
        Parser("extensions", check_extensions, unread, (b"\0\5\0\1x\0\7\0\0", b"\x80\1\0\0")),
        Parser(
            "document",
            lambda data: document_mac.verify_document(bytes(32), "context", data),
            (DecryptionError,),
            (document,),
        ),
        Parser(
            "column",
            lambda data: columns.open(data, place=b"here"),
            (DecryptionError,),
            (columns.seal(b"text", place=b"here"),),
        ),
        Parser("key file", lambda data: parse_key(data.decode("latin-1")), (), (format_key(b"k" * 32).encode(),)),
        Parser("known keys", _known_keys, (KeyUnavailable,), (_known(),)),
        Parser("vault's answer", _vault_key, (KeyUnavailable,), (_vault_answer(),)),
    ]


_URL = "https://team.vault.azure.net/keys/cache-key"


def _known() -> bytes:
    with tempfile.TemporaryDirectory() as name:
        known = KnownKeys(Path(name) / "known")
        known.keep(KnownKey(_URL, "0" * 32, 2**2047 + 1, 65537, 1.0, None, 2.0))
        (path,) = (Path(name) / "known").iterdir()
        return path.read_bytes()


@functools.cache
def _known_directory() -> tempfile.TemporaryDirectory[str]:
    made = tempfile.TemporaryDirectory()
    KnownKeys(Path(made.name) / "known").keep(KnownKey(_URL, "0" * 32, 2**2047 + 1, 65537, 1.0))
    return made


def _known_keys(data: bytes) -> object:
    directory = Path(_known_directory().name) / "known"
    (path,) = directory.iterdir()
    path.write_bytes(data)
    found = KnownKeys(directory).find(_URL)
    return found and (found.fingerprint, repr(found))


def _vault_answer() -> bytes:
    key = {"kid": f"{_URL}/{'0' * 32}", "kty": "RSA", "key_ops": ["wrapKey"], "n": "gAE" * 100, "e": "AQAB"}
    attributes = {"enabled": True, "created": 1, "updated": 1, "exp": 2_000_000_000, "nbf": 1}
    return json.dumps({"key": key, "attributes": attributes, "tags": {}}).encode()


def _vault_key(data: bytes) -> object:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(answer, dict):
        return None
    return VaultClient(VaultTarget("https://team.vault.azure.net", "default"))._key("cache-key", answer).trouble(1.0)


def _of_entries() -> list[Parser]:
    unread = (EntryUndecodable,)
    response = Response(200, (("content-type", "application/json"), ("x", "y")), b'{"a": 1}' * 40)
    metadata = Metadata(model="m", tags=("t",), preview="hello", components={"body": "0" * 16})
    entry = Entry(Header(Stamp(bytes(16), 1), 5, 60, (bytes(16),)), metadata, response)
    written = [Codec(Unsealed(), Compression(name, 16)).encode(ID, entry) for name in ("none", "gzip", "zstd")]
    codec = Codec(Unsealed(), Compression())
    blocks = [codec._compress(b"word " * 40, 1), Codec(Unsealed(), Compression("gzip", 16))._compress(b"word " * 40, 1)]
    document = validity.Generations(bytes(16), 7, 1, {bytes(16): 3}, {ID: validity.EntryRecord(4, 5)}).encode()
    change = validity.Change(5, frozenset({bytes(16)}), frozenset({ID}), b"r" * 16).encode()
    packed = record.pack(bytes(32), b"blob" * 9, stored_at=1.0, expires_at=2.0)

    def whole(data: bytes) -> object:
        sealed = codec.open(ID, data)
        return sealed.header, sealed.account(), sealed.metadata(), sealed.response()

    return [
        Parser("entry", whole, unread, tuple(written)),
        Parser("frame", lambda data: frame.unpack(ID, data), unread, tuple(written)),
        Parser("header", frame.decode_header, unread, (frame.encode_header(entry.header),)),
        Parser("metadata", frame.decode_metadata, unread, (frame.encode_metadata(metadata),)),
        Parser("account", frame.decode_account, unread, (frame.encode_metadata(metadata),)),
        Parser("response", frame.decode_response, unread, (frame.encode_response(response),)),
        Parser("compressed", lambda data: codec.decompress(data, 1 << 20), unread, tuple(blocks)),
        Parser("generations", validity.decode_generations, unread, (document,)),
        Parser("change", validity.decode_change, unread, (change,)),
        Parser("record on disk", lambda data: record.unpack(bytes(32), data, now=1.5), (), (packed,)),
        Parser("packed body", lambda data: fits((("content-encoding", "gzip"),), data, 1 << 20), (), tuple(blocks)),
    ]


def _of_runs() -> list[Parser]:
    vectors = json.loads((Path(__file__).parents[1] / "spec" / "vectors" / "run_file.json").read_text("utf-8"))
    plain = vectors["sealed"]["plain"].encode()
    lines = tuple(vector["line"].encode() for vector in vectors["lines"])
    mac_key = bytes.fromhex(vectors["sealed"]["mac_key"])
    refused = (ValueError, UncacheableRequest)
    return [
        Parser("run file", decode_file, (ConfigurationError,), (plain,)),
        Parser("line of a run file", decode_line, refused, lines),
        Parser("line of a run file, checked anew", _line_checked_anew, refused, lines),
        Parser(
            "sealed run file",
            lambda data: open_file(data, mac_key),
            (ConfigurationError, DecryptionError),
            (seal_file(plain, mac_key),),
        ),
    ]


def _line_checked_anew(data: bytes) -> object:
    """Read a line whose author knows how it is checked."""
    try:
        line = json.loads(data)
        line.pop("check", None)
        checked = {**line, "check": hashlib.sha256(dumps(line)).hexdigest()}
    except (ValueError, AttributeError, TypeError, RecursionError, UncacheableRequest):
        return None  # what is no line, or nothing that a line could hold
    return decode_line(dumps(checked))


CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "/v1/chat/completions": ("api.openai.com", {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/responses": ("api.openai.com", {"model": "m", "input": "Hi", "instructions": "x"}),
    "/v1/completions": ("api.openai.com", {"model": "m", "prompt": "Hi"}),
    "/v1/embeddings": ("api.openai.com", {"model": "m", "input": ["a", "b"]}),
    "/v1/images/generations": ("api.openai.com", {"model": "m", "prompt": "Hi"}),
    "/v1/messages": (
        "api.anthropic.com",
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]},
    ),
    "/v1beta/models/gemini-2.5-pro:generateContent": (
        "generativelanguage.googleapis.com",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    ),
    "/v1beta/models/gemini-2.5-pro:streamGenerateContent": (
        "generativelanguage.googleapis.com",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    ),
    "/v1beta/models/e:batchEmbedContents": (
        "generativelanguage.googleapis.com",
        {"requests": [{"model": "models/e", "content": {"parts": [{"text": "Hi"}]}}]},
    ),
    "/v2/chat": ("api.cohere.com", {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/chat": ("api.cohere.com", {"model": "m", "message": "Hi"}),
    "/v2/embed": (
        "api.cohere.com",
        {"model": "m", "texts": ["a"], "input_type": "search_query", "embedding_types": ["float"]},
    ),
    "/v2/rerank": ("api.cohere.com", {"model": "m", "query": "q", "documents": ["a", "b"]}),
    "/v1/fim/completions": ("api.mistral.ai", {"model": "m", "prompt": "a", "suffix": "b"}),
    "/api/chat": ("localhost", {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": False}),
    "/api/generate": ("localhost", {"model": "m", "prompt": "Hi"}),
    "/model/anthropic.claude/converse": (
        "bedrock-runtime.us-east-1.amazonaws.com",
        {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    ),
    "/model/anthropic.claude/converse-stream": (
        "bedrock-runtime.us-east-1.amazonaws.com",
        {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
    ),
}
"""A call of each wire API: path, host and body."""

_ORIGINS = Origins({}, "laptop")
_STREAMING = ("/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/messages", "/v2/chat", "/api/chat")


def _http_call(path: str, body: bytes, content_type: str = "application/json") -> HttpCall:
    host = CALLS[path][0] if path in CALLS else "api.openai.com"
    return HttpCall("POST", "https", host, None, path, "", {"content-type": content_type}, body)


def _of_requests() -> list[Parser]:
    refusals = (UncacheableRequest,)
    found = [
        Parser(
            f"request {path}",
            lambda data, path=path: recognise(_http_call(path, data), _ORIGINS),
            refusals,
            (
                json.dumps(body).encode(),
                json.dumps({**body, "stream": True, "user": "x", "tools": [{"name": "a"}]}).encode(),
            ),
        )
        for path, (_, body) in CALLS.items()
    ]
    form = (
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--b\r\n'
        b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
        b"RIFF....\r\n--b--\r\n"
    )
    path = "/v1/audio/transcriptions"
    found.append(
        Parser(
            "request with files",
            lambda data: recognise(_http_call(path, data, "multipart/form-data; boundary=b"), _ORIGINS),
            refusals,
            (form,),
        )
    )
    found.append(
        Parser(
            "head of a request with files",
            lambda data: recognise(_http_call(path, form, data.decode("latin-1")), _ORIGINS),
            refusals,
            (b"multipart/form-data; boundary=b",),
        )
    )
    return found


def _of_answers() -> list[Parser]:
    server = SimulatedModelServer()
    found = [
        Parser(
            "server-sent events", lambda data: [*sse.events(data), *sse.blocks(data)], (), (b"event: a\ndata: {}\n\n",)
        ),
        Parser(
            "JSON lines", lambda data: [*jsonlines.lines(data), *jsonlines.blocks(data)], (), (b'{"a": 1}\n{"b": 2}\n',)
        ),
    ]
    for path, (_, body) in CALLS.items():
        for form in ("whole", "streamed") if path in _STREAMING else ("whole",):
            asked = {**body, "stream": form == "streamed"} if path in _STREAMING else body
            raw = json.dumps(asked).encode()
            reply = server.respond(ReceivedRequest("POST", path, "", {}, raw, asked))
            assert reply.status == 200, path
            content = reply.body if reply.frames is None else b"".join(reply.frames)
            kind = dict(reply.headers)["content-type"]
            call = recognise(_http_call(path, raw), _ORIGINS)
            assert call is not None, path
            if "eventstream" in kind:
                found.append(
                    Parser("event stream", lambda data: [*eventstream.messages(data)], (), (content,)),
                )
            found.append(Parser(f"answer {path} {form}", functools.partial(_read, call.provider, kind), (), (content,)))
    return found


def _read(provider: Any, kind: str, data: bytes) -> object:
    """Read an answer in all ways that a stored one is read."""
    response = Response(200, (("content-type", kind),), data, form_of(kind, body=data))
    read = provider.read(response)
    rendered = [provider.render(response, Wants(form)) for form in Form]
    given = provider.given(response) if hasattr(provider, "given") else ()
    return read, rendered, given


def _of_settings() -> list[Parser]:
    refused = (ConfigurationError,)

    def text(function: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda data: function(data.decode("utf-8", "surrogateescape"))

    return [
        Parser("duration", text(parse_duration), refused, (b"30d", b" 1.5 h ")),
        Parser("time-out", text(parse_timeout), refused, (b"500ms", b"1.5s")),
        Parser("size", text(parse_size), refused, (b"1GiB", b"10 mb")),
        Parser("line of a cell", text(parse_cell), refused, (b'--tag "a b" --ttl 30d --mode replay --run x',)),
        Parser("line of a command", text(parse_invalidate), refused, (b"--tag a --dry-run", b"'gpt-*'")),
    ]


def fuzzed(seconds: float, seed: str, clock: Callable[[], float]) -> tuple[int, list[str]]:
    """Feed every parser with changed examples for so long [s]; return how many, and what went wrong."""
    chance = random.Random(seed)
    every = parsers()
    ends_at, count, wrong = clock() + seconds, 0, []
    while clock() < ends_at:
        for parser in every:
            data = mutated(chance.choice(parser.seeds), random_edits(chance))
            data = data if chance.random() < 0.9 else os.urandom(chance.randrange(200))
            count += 1
            try:
                parser.parse(data)
            except parser.refusals:
                continue
            except Exception as error:  # noqa: BLE001 - what is looked for
                wrong.append(f"{parser.name}: {type(error).__name__}: {error} for {data!r}")
                if len(wrong) >= 20:
                    return count, wrong
    return count, wrong
