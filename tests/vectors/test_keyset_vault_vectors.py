"""Every vector of a keyset that a vault's keys guard has the outcome that `spec/envelope.md` §5 gives it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_der_private_key
from memory_vault import MemoryVault, machine
from namespace_keys import assert_stated

from genai_cache_magic.crypto.keyset import open_manifest
from genai_cache_magic.crypto.wrappers.azure_key_vault import SIGNING, WRAPPING
from genai_cache_magic.crypto.wrappers.azure_vault_client import VaultKey
from genai_cache_magic.errors import DecryptionError, KeyUnavailable

FILE = json.loads((Path(__file__).parents[2] / "spec/vectors/keyset_vault.json").read_text("utf-8"))
OUTCOMES = {"undecodable": KeyUnavailable, "forged": DecryptionError}
OPENING = [vector for vector in FILE["vectors"] if vector["outcome"] == "opens"]
FAILING = [vector for vector in FILE["vectors"] if vector["outcome"] != "opens"]


@pytest.fixture
def wrapper(tmp_path):
    """A machine that has met no key of the vault yet, whose keys the file states: versions oldest first."""
    vault = MemoryVault(FILE["vault"])
    for key in FILE["keys"]:
        private = load_der_private_key(base64.b64decode(key["private_key"]), None)
        numbers = private.public_key().public_numbers()
        operations = SIGNING if key["name"].endswith("sign") else WRAPPING
        made = VaultKey(key["name"], key["version"], "RSA", numbers.n, numbers.e, tuple(operations))
        vault.versions.setdefault(key["name"], []).append(made)
        vault._private[key["version"]] = private
    return machine(vault, tmp_path)


def opened(vector, wrapper):
    manifest = bytes.fromhex(vector["manifest"])
    return open_manifest(manifest, vector["namespace"], wrapper, lowest_version=vector["lowest_version"])


def test_vectors_have_names_of_their_own_and_known_outcomes():
    """The vocabulary of outcomes is closed, and there are enough of each."""
    names = [vector["name"] for vector in FILE["vectors"]]
    assert len(names) == len(set(names)) >= 20
    assert {vector["outcome"] for vector in FILE["vectors"]} == {"opens", *OUTCOMES}


@pytest.mark.parametrize("vector", OPENING, ids=lambda vector: vector["name"])
def test_keysets_that_open(vector, wrapper):
    """Every key comes out as stated."""
    assert_stated(opened(vector, wrapper), vector["keyring"])


@pytest.mark.parametrize("vector", FAILING, ids=lambda vector: vector["name"])
def test_keysets_that_do_not_open(vector, wrapper):
    """What can't be read or unwrapped here is unavailable (never to be deleted); attacks are forged."""
    with pytest.raises(OUTCOMES[vector["outcome"]]):
        opened(vector, wrapper)
