"""The vectors of `spec/key.md`: keys of every released version stay what they are."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest

from genai_cache_magic.core.canonical import SCHEMA, canonical_bytes, dumps, dumps_exactly, parse_body
from genai_cache_magic.core.key import entry_id, keyed_digest, keyed_tag
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.errors import UncacheableRequest
from genai_cache_magic.providers.base import HttpCall, OriginRule, Origins
from genai_cache_magic.providers.registry import recognise

HERE = Path(__file__).resolve().parents[2] / "spec" / "vectors"
KEYS = json.loads((HERE / "key.json").read_text(encoding="utf-8"))
JSON = json.loads((HERE / "key_json.json").read_text(encoding="utf-8"))
TAGS = json.loads((HERE / "key_tags.json").read_text(encoding="utf-8"))
VECTORS = KEYS["vectors"]
KEYED = [vector for vector in VECTORS if vector["outcome"] == "key"]
BY_NAME = {vector["name"]: vector for vector in VECTORS}
CLAIM = re.compile(r"the same id as `([\w-]+)`", re.IGNORECASE)


def outcome_of(vector: dict) -> dict:
    call = dict(vector["call"])
    call["body"] = None if call["body"] is None else call["body"].encode()
    origins = vector["origins"]
    rules = {prefix: OriginRule(**rule) for prefix, rule in origins.get("rules", {}).items()}
    named = {name: frozenset(origins.get(name, ())) for name in ("extra_headers", "key_include", "key_exclude")}
    known = Origins(rules, origins.get("machine", KEYS["machine"]), **named)
    try:
        found = recognise(HttpCall(**call), known)
    except UncacheableRequest:
        return {"outcome": "bypass"}
    if found is None:
        return {"outcome": "not-a-call"}
    canonical = canonical_bytes(found.request, KeySpace(**vector["space"]))
    return {
        "outcome": "key",
        "canonical": canonical.decode(),
        "sha256": hashlib.sha256(canonical).hexdigest(),
        "entry_id": entry_id(canonical, bytes.fromhex(KEYS["id_key"])),
    }


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_call_has_its_outcome(vector):
    """Every call has the outcome, the canonical bytes and the entry id that the vectors state."""
    expected = {k: v for k, v in vector.items() if k not in {"name", "about", "call", "origins", "space"}}
    assert expected["outcome"] in {"key", "bypass", "not-a-call"}
    assert outcome_of(vector) == expected


@pytest.mark.parametrize("vector", KEYED, ids=lambda vector: vector["name"])
def test_entry_id_follows_from_the_text_of_the_vector(vector):
    """The id is what section 5 says, computed here without the package."""
    digest = hashlib.sha256(vector["canonical"].encode()).digest()
    assert vector["sha256"] == digest.hex()
    assert vector["entry_id"] == hmac.new(bytes.fromhex(KEYS["id_key"]), digest, "sha256").hexdigest()
    assert json.loads(vector["canonical"])["schema"] == KEYS["schema"] == SCHEMA


def test_vectors_are_equal_where_they_claim_it_and_nowhere_else():
    """Two spellings of one request have one id, two requests have two."""
    claims = {vector["name"]: CLAIM.search(vector["about"]) for vector in KEYED}
    same = {name: claim[1] for name, claim in claims.items() if claim}
    assert len(same) == 26
    for name, other in same.items():
        assert BY_NAME[name]["entry_id"] == BY_NAME[other]["entry_id"], name
    assert len({vector["entry_id"] for vector in KEYED}) == len(KEYED) - len(same)


def test_no_vector_holds_a_credential():
    """What is secret in a call is in no canonical text."""
    assert any("secret" in str(vector["call"]["headers"]) for vector in VECTORS)
    assert any("secret" in vector["call"]["query"] for vector in VECTORS)
    assert not any("secret" in vector["canonical"] for vector in KEYED)


@pytest.mark.parametrize("vector", JSON["vectors"], ids=lambda vector: vector["text"][:40])
def test_body_has_its_canonical_spelling(vector):
    """Every text has the canonical spelling that the vectors state, by either encoder, or is refused."""
    if vector["canonical"] is None:
        with pytest.raises(UncacheableRequest):
            parse_body(vector["text"].encode())
        return
    value = parse_body(vector["text"].encode())
    assert dumps(value).decode() == vector["canonical"]
    assert dumps_exactly(value).decode() == vector["canonical"]


@pytest.mark.parametrize("vector", TAGS["tags"], ids=lambda vector: f"{vector['kind']}-{vector['name']!r}")
def test_tag_is_keyed_as_stated(vector):
    """A tag is 16 bytes of the HMAC that section 6 states."""
    key = bytes.fromhex(TAGS["mac_key"])
    message = b"genai-cache/tag/1\0" + vector["kind"].encode() + b"\0" + vector["name"].encode()
    assert keyed_tag(vector["kind"], vector["name"], key).hex() == vector["tag"]
    assert vector["tag"] == hmac.new(key, message, "sha256").hexdigest()[:32]


@pytest.mark.parametrize("vector", TAGS["components"], ids=lambda vector: vector["component"])
def test_component_is_keyed_as_stated(vector):
    """A component's digest is 8 bytes of the HMAC that section 6 states."""
    key = bytes.fromhex(TAGS["mac_key"])
    message = b"genai-cache/component/1\0" + vector["component"].encode()
    assert keyed_digest(vector["component"].encode(), key) == vector["digest"]
    assert vector["digest"] == hmac.new(key, message, "sha256").hexdigest()[:16]
