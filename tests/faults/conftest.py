"""A disk tier with two entries, for whoever wants to harm it."""

from __future__ import annotations

import pytest

from genai_cache_magic.stores.disk.store import DiskConfig, DiskStore
from genai_cache_magic.testing.contracts.store import key_of


@pytest.fixture
def home(tmp_path):
    return tmp_path / "l1"


@pytest.fixture
def store(home):
    store = DiskStore(home, DiskConfig(busy_timeout_s=0.05, open_timeout_s=0.2))
    store.put(key_of("a"), b"mine", ttl_s=3600)
    store.put(key_of("other"), b"other", ttl_s=3600)
    yield store
    store.close()
