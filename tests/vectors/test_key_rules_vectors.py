"""The vectors of `spec/key.md` §2.8: what rules find, and the keys under them, stay what they are."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest

from genai_cache_magic.core.canonical import SCHEMA, canonical_bytes
from genai_cache_magic.core.ignoring import checked_rules, ignoring, rules_of
from genai_cache_magic.core.key import entry_id
from genai_cache_magic.core.model import KeySpace
from genai_cache_magic.core.portable import portable_digest, portable_form
from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.providers.base import HttpCall, Origins
from genai_cache_magic.providers.registry import recognise

FILE = json.loads(
    (Path(__file__).resolve().parents[2] / "spec" / "vectors" / "key_rules.json").read_text(encoding="utf-8")
)
REQUESTS = FILE["requests"]


@pytest.mark.parametrize("vector", FILE["spelled"], ids=lambda vector: " ".join(vector["rules"]))
def test_rules_have_one_spelling(vector):
    """Sorted, each once, shipped ones with their version: whatever the order in which they were given."""
    assert list(rules_of(checked_rules(vector["given"])).keys) == vector["rules"]
    assert list(rules_of(checked_rules(vector["given"][::-1])).keys) == vector["rules"]


@pytest.mark.parametrize("rule", FILE["refused"], ids=lambda rule: rule[:30])
def test_a_wrong_rule_is_refused(rule):
    """By a sentence that names it."""
    with pytest.raises(ConfigurationError, match=r"^ignore: ") as caught:
        checked_rules([rule])
    assert repr(rule) in str(caught.value)


@pytest.mark.parametrize("vector", FILE["texts"], ids=lambda vector: f"{vector['rules'][0]}: {vector['text'][:30]}")
def test_a_text_has_its_marks(vector):
    """What the rules find is a mark, and nothing else changes."""
    assert rules_of(checked_rules(vector["rules"])).masked({"a": vector["text"]}) == {"a": vector["masked"]}


@pytest.mark.parametrize("vector", FILE["bodies"], ids=lambda vector: vector["name"])
def test_a_body_has_its_marks(vector):
    """At the paths that are named, and in texts that are no handles."""
    assert rules_of(checked_rules(vector["rules"])).masked(vector["body"]) == vector["masked"]


@pytest.mark.parametrize("vector", REQUESTS, ids=lambda vector: vector["name"])
def test_a_call_has_its_key(vector):
    """The canonical bytes, the entry id and the digest of a run file are those that the vectors state."""
    call = {**vector["call"], "body": vector["call"]["body"].encode()}
    found = recognise(HttpCall(**call), Origins({}, FILE["machine"]))
    request = ignoring(found.request, checked_rules(vector["rules"]), [one.path for one in found.follows])
    canonical = canonical_bytes(request, KeySpace())
    assert canonical.decode() == vector["canonical"]
    assert entry_id(canonical, bytes.fromhex(FILE["id_key"])) == vector["entry_id"]
    assert portable_digest(portable_form(request)) == vector["portable"]
    digest = hashlib.sha256(vector["canonical"].encode()).digest()
    assert hmac.new(bytes.fromhex(FILE["id_key"]), digest, "sha256").hexdigest() == vector["entry_id"]
    assert ("rules" in json.loads(vector["canonical"])) == bool(vector["rules"])
    assert FILE["schema"] == SCHEMA


def test_keys_are_equal_where_it_is_claimed_and_nowhere_else():
    """Noise joins, and other rules, marks that were said and absent fields do not."""
    same = {v["name"]: re.search(r"same id as `([\w-]+)`", v["about"]) for v in REQUESTS}
    by_name = {v["name"]: v["entry_id"] for v in REQUESTS}
    claimed = {name: claim[1] for name, claim in same.items() if claim}
    assert len(claimed) == 2
    assert all(by_name[name] == by_name[other] for name, other in claimed.items())
    assert len(set(by_name.values())) == len(by_name) - len(claimed)
