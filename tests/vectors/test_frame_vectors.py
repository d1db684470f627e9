"""Every vector of spec/vectors/frame.json has the outcome that it states."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from genai_cache_magic.core.frame import (
    Blocks,
    decode_header,
    decode_metadata,
    decode_response,
    encode_header,
    encode_response,
    pack,
    unpack,
)
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import decode_generations
from genai_cache_magic.errors import EntryUndecodable

VECTORS = json.loads((Path(__file__).parents[2] / "spec" / "vectors" / "frame.json").read_text(encoding="utf-8"))


def read(vector):
    blocks = unpack(EntryId(vector["entry_id"]), bytes.fromhex(vector["frame"]))
    return blocks, decode_header(blocks.header), decode_metadata(blocks.metadata), decode_response(blocks.body)


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda v: v["name"])
def test_frames(vector):
    """A frame of this version reads as stated, and is written to the same bytes."""
    assert vector["outcome"] in VECTORS["outcomes"]
    if vector["outcome"] == "undecodable":
        with pytest.raises(EntryUndecodable):
            read(vector)
        return
    blocks, header, metadata, response = read(vector)
    assert (header.birth.root.hex(), header.birth.ver) == (vector["root"], vector["ver"])
    assert (header.created_ms, header.ttl_s) == (vector["created_ms"], vector["ttl_s"])
    assert [tag.hex() for tag in header.tags] == vector["tags"]
    assert (response.status, response.form, response.body.hex()) == (vector["status"], vector["form"], vector["body"])
    assert metadata.model == vector["model"]
    assert (None if metadata.cost_usd is None else str(metadata.cost_usd)) == vector["cost_usd"]
    again = Blocks(encode_header(header), blocks.metadata, encode_response(response))
    assert pack(EntryId(vector["entry_id"]), again).hex() == vector["frame"]


@pytest.mark.parametrize("vector", VECTORS["generation_documents"], ids=lambda v: v["name"])
def test_generation_documents(vector):
    """A generation document reads as stated, and is written to the same bytes."""
    blob = bytes.fromhex(vector["document"])
    if vector["outcome"] == "undecodable":
        with pytest.raises(EntryUndecodable):
            decode_generations(blob)
        return
    document = decode_generations(blob)
    assert (document.root.hex(), document.ver, document.floor) == (vector["root"], vector["ver"], vector["floor"])
    assert {tag.hex(): ver for tag, ver in document.tags.items()} == vector["tags"]
    assert {i: [r.ver, r.at_ms] for i, r in document.entries.items()} == vector["entries"]
    assert document.encode() == blob
