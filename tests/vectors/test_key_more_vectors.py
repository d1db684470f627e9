"""The vectors of `spec/key_more.md`: keys of the further wire APIs stay what they are in every released version."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest

from genai_cache_magic.core.canonical import SCHEMA, canonical_bytes
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import HttpCall, Origins
from genai_cache_magic.providers.registry import recognise

HERE = Path(__file__).resolve().parents[2] / "spec" / "vectors"
MORE = json.loads((HERE / "key_more.json").read_text(encoding="utf-8"))
VECTORS = MORE["vectors"]
KEYED = [vector for vector in VECTORS if vector["outcome"] == "key"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}


def outcome_of(vector):
    call = HttpCall(**{**vector["call"], "body": vector["call"]["body"].encode()})
    try:
        found = recognise(call, Origins({}, MORE["machine"]))
    except UncacheableRequest:
        return {"outcome": "bypass"}
    if found is None:
        return {"outcome": "not-a-call"}
    canonical = canonical_bytes(found.request, KeySpace())
    return {
        "outcome": "key",
        "canonical": canonical.decode(),
        "sha256": hashlib.sha256(canonical).hexdigest(),
        "entry_id": entry_id(canonical, bytes.fromhex(MORE["id_key"])),
    }


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_call_has_its_outcome(vector):
    """Every call has the outcome, the canonical bytes and the entry id that the vectors state."""
    expected = {k: v for k, v in vector.items() if k not in {"name", "about", "call"}}
    assert expected["outcome"] in {"key", "bypass", "not-a-call"}
    assert outcome_of(vector) == expected


@pytest.mark.parametrize("vector", KEYED, ids=lambda vector: vector["name"])
def test_entry_id_follows_from_the_text_of_the_vector(vector):
    """The id is what section 5 of `spec/key.md` says, computed here without the package."""
    digest = hashlib.sha256(vector["canonical"].encode()).digest()
    assert vector["sha256"] == digest.hex()
    assert vector["entry_id"] == hmac.new(bytes.fromhex(MORE["id_key"]), digest, "sha256").hexdigest()
    assert json.loads(vector["canonical"])["schema"] == MORE["schema"] == SCHEMA


def test_vectors_are_equal_where_they_claim_it_and_nowhere_else():
    """Two spellings of one request have one id, two requests have two."""
    claims = {v["name"]: re.search(r"the same id as `([\w-]+)`", v["about"], re.IGNORECASE) for v in KEYED}
    same = {name: claim[1] for name, claim in claims.items() if claim}
    assert len(same) >= 10
    for name, other in same.items():
        assert BY_NAME[name]["entry_id"] == BY_NAME[other]["entry_id"], name
    assert len({vector["entry_id"] for vector in KEYED}) == len(KEYED) - len(same)


def test_no_vector_holds_a_credential():
    """What is secret in a call is in no canonical text."""
    assert any("secret" in str(vector["call"]) for vector in VECTORS)
    assert not any("secret" in vector["canonical"] for vector in KEYED)
