"""What every ``SharedTier`` promises beside the contracts of its store and documents: inherit and override ``tier``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from genai_cache_magic.stores.base import SupportsFill, SupportsGetMany
from genai_cache_magic.testing.contracts.store import key_of

if TYPE_CHECKING:
    from genai_cache_magic.stores.base import SharedTier

_A_DAY_S = 86_400


class SharedTierContract:
    """Inherit and override ``tier``, and ``other`` with another machine's view of the same."""

    @pytest.fixture
    def tier(self) -> SharedTier:
        """Return an empty tier; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `tier`")

    @pytest.fixture
    def other(self, tier: SharedTier) -> SharedTier:
        """Return another view of the same tier."""
        return tier

    def test_its_store_has_the_powers(self, tier: SharedTier) -> None:
        """Its store fills on a condition and answers many look-ups at once."""
        assert isinstance(tier.store, SupportsFill)
        assert isinstance(tier.store, SupportsGetMany)

    def test_empty(self, tier: SharedTier) -> None:
        """An empty tier has no document, nothing under a key, and a plausible time."""
        found = tier.look_up("generations", [key_of("a")])
        assert found.token is None
        assert found.blobs == {}
        assert abs(found.now_s - time.time()) < _A_DAY_S
        assert tier.look_up("generations", []).blobs == {}

    def test_one_round_trip_brings_both(self, tier: SharedTier, other: SharedTier) -> None:
        """A look-up brings the document's version, as the document itself tells it, and the values that are there."""
        document = other.document("generations")
        assert document.replace(b"one", expected=None)
        for number in range(40):
            other.store.put(key_of(str(number)), b"%d" % number, ttl_s=60)
        found = tier.look_up("generations", [key_of(str(number)) for number in range(50)])
        assert found.token == document.version()
        assert found.blobs == {key_of(str(number)): b"%d" % number for number in range(40)}
        assert document.replace(b"two", expected=b"one")
        assert tier.look_up("generations", []).token != found.token

    def test_documents_are_apart(self, tier: SharedTier) -> None:
        """A document is found under its own name only."""
        assert tier.document("generations").replace(b"g", expected=None)
        assert tier.document("keyset").load() is None
        assert tier.look_up("keyset", []).token is None
