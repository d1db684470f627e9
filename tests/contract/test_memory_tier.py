"""The tier in memory that ships for tests keeps the contract of what it stands for."""

from __future__ import annotations

import pytest

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.testing.contracts.document import DocumentContract
from genai_cache_magic.testing.contracts.store import StoreContract, key_of
from genai_cache_magic.testing.contracts.tier import SharedTierContract
from genai_cache_magic.testing.tier import MemoryServer, MemoryTier


@pytest.fixture
def memory_server():
    return MemoryServer()


class TestMemoryTier(SharedTierContract):
    @pytest.fixture
    def tier(self, memory_server):
        return MemoryTier(memory_server)

    @pytest.fixture
    def other(self, memory_server):
        return MemoryTier(memory_server)

    def test_one_machine_is_cut_off(self, tier, other):
        """A machine whose way is cut raises, while the others go on."""
        tier.is_away = True
        for call in (lambda: tier.look_up("g", []), lambda: tier.store.get(key_of("a")), tier.document("g").load):
            with pytest.raises(StoreUnavailable):
                call()
        assert other.look_up("g", []).token is None


class TestItsStore(StoreContract):
    @pytest.fixture
    def store(self, clock):
        return MemoryTier(MemoryServer(clock=clock)).store

    def test_close_twice(self, store):
        """Closing one machine's way leaves the server's values."""
        store.put(key_of("a"), b"a", ttl_s=60)
        store.close()
        store.close()
        assert store.get(key_of("a")) == b"a"


class TestItsDocument(DocumentContract):
    @pytest.fixture
    def document(self, memory_server):
        return MemoryTier(memory_server).document("generations")

    @pytest.fixture
    def other(self, memory_server, document):
        return MemoryTier(memory_server).document("generations")
