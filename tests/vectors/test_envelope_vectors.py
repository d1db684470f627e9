"""Every vector of envelopes, keysets and documents has the outcome that `spec/envelope.md` gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from namespace_keys import assert_stated, keyring_of

from genai_cache_magic.crypto.aead import KeySchedule
from genai_cache_magic.crypto.document_mac import protect_document, verify_document
from genai_cache_magic.crypto.envelope import Sealer
from genai_cache_magic.crypto.keyset import open_manifest
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import DecryptionError, EntryUndecodable, KeyUnavailable

DIRECTORY = Path(__file__).parents[2] / "spec" / "vectors"
ENVELOPES = json.loads((DIRECTORY / "envelope.json").read_text("utf-8"))
KEYSETS = json.loads((DIRECTORY / "keyset.json").read_text("utf-8"))
DOCUMENTS = json.loads((DIRECTORY / "keyset_documents.json").read_text("utf-8"))
OUTCOMES = {"opens", "undecodable", "forged"}


def opening(file):
    return [pytest.param(vector, id=vector["name"]) for vector in file["vectors"] if vector["outcome"] == "opens"]


def failing(file):
    return [pytest.param(vector, id=vector["name"]) for vector in file["vectors"] if vector["outcome"] != "opens"]


def sealer_of(vector, salt=""):
    stated = ENVELOPES["keyring"]
    root_keys = {int(epoch): bytes.fromhex(root_key) for epoch, root_key in stated["root_keys"].items()}
    keyring = keyring_of(root_keys, epoch=stated["epoch"], suite=stated["suite"])
    return Sealer(keyring, vector["namespace"], random=lambda _: bytes.fromhex(salt))


@pytest.fixture
def wrapper(tmp_path):
    """The key that the keyset vectors state as the text of a key file."""
    path = tmp_path / "key"
    path.touch(0o600)
    path.write_text(KEYSETS["key_file"] + "\n", "ascii")
    return LocalKeyFile.load(path, cache_directory=tmp_path / "cache")


@pytest.mark.parametrize("file", [ENVELOPES, KEYSETS, DOCUMENTS], ids=["envelope", "keyset", "documents"])
def test_vectors_have_names_of_their_own_and_known_outcomes(file):
    """The vocabulary of outcomes is closed, and no vector hides another."""
    names = [vector["name"] for vector in file["vectors"]]
    assert len(names) == len(set(names))
    assert {vector["outcome"] for vector in file["vectors"]} <= OUTCOMES


def test_the_stated_derivation():
    """The intermediate values, for whoever writes another reader."""
    stated = {name: bytes.fromhex(value) for name, value in ENVELOPES["derivation"].items()}
    domain = b"genai-cache-magic/envelope/v1/aes-256-gcm+hkdf-sha512"
    keys = KeySchedule(stated["root_key"], domain).derive(stated["salt"])
    assert keys.commitment == stated["commitment"]
    assert (keys.first_nonce, keys.second_nonce) == (stated["first_nonce"], stated["second_nonce"])


@pytest.mark.parametrize("vector", opening(ENVELOPES))
def test_envelopes_that_open(vector):
    """Header, metadata and body come out as stated; where a salt is stated, sealing gives the same bytes."""
    envelope = bytes.fromhex(vector["envelope"])
    parts = tuple(bytes.fromhex(vector[part]) for part in ("header", "metadata", "body"))
    sealer = sealer_of(vector, vector.get("salt", ""))
    assert sealer.open(vector["entry_id"], envelope) == parts
    prefix = envelope[: sealer.metadata_size(envelope)]
    assert sealer.open_metadata(vector["entry_id"], prefix) == parts[:2]
    assert "salt" not in vector or sealer.seal(vector["entry_id"], *parts) == envelope


@pytest.mark.parametrize("vector", failing(ENVELOPES))
def test_envelopes_that_do_not_open(vector):
    """Damage and foreign versions are undecodable; whatever authentication refuses is forged."""
    expected = {"undecodable": EntryUndecodable, "forged": DecryptionError}[vector["outcome"]]
    with pytest.raises(expected):
        sealer_of(vector).open(vector["entry_id"], bytes.fromhex(vector["envelope"]))


@pytest.mark.parametrize("vector", opening(KEYSETS))
def test_keysets_that_open(vector, wrapper):
    """Every key comes out as stated."""
    keyring = open_manifest(
        bytes.fromhex(vector["manifest"]), vector["namespace"], wrapper, lowest_version=vector["lowest_version"]
    )
    assert_stated(keyring, vector["keyring"])


@pytest.mark.parametrize("vector", failing(KEYSETS))
def test_keysets_that_do_not_open(vector, wrapper):
    """What can't be read or unwrapped here is unavailable (never to be deleted); attacks are forged."""
    expected = {"undecodable": KeyUnavailable, "forged": DecryptionError}[vector["outcome"]]
    with pytest.raises(expected):
        open_manifest(
            bytes.fromhex(vector["manifest"]), vector["namespace"], wrapper, lowest_version=vector["lowest_version"]
        )


@pytest.mark.parametrize("vector", opening(DOCUMENTS))
def test_documents_that_open(vector):
    """The payload comes out as stated, and protecting it gives the same bytes."""
    mac_key, payload = bytes.fromhex(DOCUMENTS["mac_key"]), bytes.fromhex(vector["payload"])
    document = bytes.fromhex(vector["document"])
    assert verify_document(mac_key, vector["context"], document) == payload
    assert protect_document(mac_key, vector["context"], payload) == document


@pytest.mark.parametrize("vector", failing(DOCUMENTS))
def test_documents_that_do_not_open(vector):
    """A document that is not authentic is forged, however it came to be."""
    with pytest.raises(DecryptionError):
        verify_document(bytes.fromhex(DOCUMENTS["mac_key"]), vector["context"], bytes.fromhex(vector["document"]))
