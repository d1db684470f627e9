"""The vectors of `spec/run-file.md`: files of every released version are read as they were written."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from genai_cache_magic.core.canonical import dumps
from genai_cache_magic.core.model import Request
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.errors import DecryptionError
from genai_cache_magic.runs.lines import decode_file, decode_line
from genai_cache_magic.runs.sealing import open_file, seal_file

HERE = Path(__file__).resolve().parents[2] / "spec" / "vectors"
FILE = json.loads((HERE / "run_file.json").read_text(encoding="utf-8"))
SEALED = FILE["sealed"]


def as_tuples(request: dict) -> dict:
    pairs = {name: tuple(map(tuple, request[name])) for name in ("headers", "via")}
    return {**request, **pairs, "media": tuple(request["media"]), "ignored": tuple(request["ignored"])}


@pytest.mark.parametrize("vector", FILE["requests"], ids=lambda vector: vector["name"])
def test_a_request_has_its_digest(vector):
    """The portable form, its canonical spelling and its digest are those that the vectors state."""
    form = portable_form(Request(**as_tuples(vector["request"])), vector["salt"])
    assert dumps(form).decode() == vector["canonical"]
    assert portable_digest(form) == vector["digest"]


@pytest.mark.parametrize("vector", FILE["lines"], ids=lambda vector: vector["name"])
def test_a_line_has_its_outcome(vector):
    """A line is the call that the vectors state, or it is refused."""
    raw = vector["line"].encode()
    if vector["outcome"] == "refused":
        with pytest.raises(ValueError, match=r"."):
            decode_line(raw)
        return
    call = decode_line(raw)
    response = call.response
    assert call.is_similar is vector.get("similar", False)
    assert response.body == base64.b64decode(vector["body64"])
    assert [list(header) for header in response.headers] == vector["headers"]


def test_a_sealed_file_is_opened_and_made_again():
    """Byte for byte, with the salt of the vector; and with another key not at all."""
    content, mac_key = base64.b64decode(SEALED["file64"]), bytes.fromhex(SEALED["mac_key"])
    assert open_file(content, mac_key) == SEALED["plain"].encode()
    assert seal_file(SEALED["plain"].encode(), mac_key, random=lambda n: bytes([7]) * n) == content
    assert len(decode_file(SEALED["plain"].encode())) == 1
    with pytest.raises(DecryptionError):
        open_file(content, bytes(32))
