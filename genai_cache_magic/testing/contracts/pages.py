"""What every ``Pages`` promises, as tests to inherit: override ``pages``, and ``other`` with another's view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from genai_cache_magic.stores.base import LARGEST_PAGE
from genai_cache_magic.testing.contracts.store import key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from genai_cache_magic.stores.base import Pages

GROUP, ELSEWHERE = key_of("group"), key_of("elsewhere")
A, B = key_of("a"), key_of("b")


class PagesContract:
    """Inherit and override ``pages``, ``other``, and ``forge`` where there is a back door."""

    @pytest.fixture
    def pages(self) -> Pages:
        """Return pages that hold nothing; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `pages`")

    @pytest.fixture
    def other(self, pages: Pages) -> Pages:
        """Return another view of the same."""
        return pages

    @pytest.fixture
    def forge(self) -> Callable[[str], None] | None:
        """Return what puts something that can't be ours where a group is, or None where nobody could."""
        return None

    def test_nothing_is_there(self, pages: Pages) -> None:
        """A group of no pages is empty, and what is not there is removed already."""
        assert pages.revisions([GROUP, ELSEWHERE]) == {GROUP: {}, ELSEWHERE: {}}
        assert pages.revisions([]) == {}
        assert pages.read(GROUP, [A]) == {}
        pages.remove(GROUP, [A])
        assert pages.read(GROUP, []) == {}

    def test_pages_are_set_as_a_whole(self, pages: Pages, other: Pages) -> None:
        """The last one stands; others of the group, and the same name in another group, are left alone."""
        pages.put(GROUP, {A: b"one", B: b"\0\xff"}, ttl_s=60)
        other.put(ELSEWHERE, {A: b"elsewhere"}, ttl_s=math.inf)
        other.put(GROUP, {A: b""}, ttl_s=math.inf)
        found = pages.read(GROUP, [A, B, key_of("absent")])
        assert {name: page.blob for name, page in found.items()} == {A: b"", B: b"\0\xff"}
        assert other.read(ELSEWHERE, [A])[A].blob == b"elsewhere"

    def test_a_revision_tells_one_from_another(self, pages: Pages, other: Pages) -> None:
        """What setting, listing and reading say of a page is the same, and another when it is changed."""
        first = pages.put(GROUP, {A: b"one", B: b"two"}, ttl_s=60)
        assert other.revisions([GROUP])[GROUP] == first
        assert {name: page.revision for name, page in other.read(GROUP, [A, B]).items()} == first
        second = other.put(GROUP, {A: b"eno"}, ttl_s=60)
        assert pages.revisions([GROUP])[GROUP] == {**first, **second} != first

    def test_setting_again_comes_to_the_same(self, pages: Pages) -> None:
        """As one does whose outcome nobody knows."""
        for _ in range(3):
            pages.put(GROUP, {A: b"one"}, ttl_s=60)
        assert len(pages.revisions([GROUP])[GROUP]) == 1
        assert pages.read(GROUP, [A])[A].blob == b"one"

    def test_pages_are_removed(self, pages: Pages, other: Pages) -> None:
        """And nothing beside them."""
        pages.put(GROUP, {A: b"one", B: b"two"}, ttl_s=60)
        other.remove(GROUP, [A, key_of("absent")])
        assert list(pages.revisions([GROUP])[GROUP]) == [B]

    def test_large_pages_and_many(self, pages: Pages, other: Pages) -> None:
        """Up to the largest there may be, also together with others; a larger one is a mistake."""
        many = {key_of(str(n)): bytes([n]) * (LARGEST_PAGE if n % 8 == 0 else n) for n in range(40)}
        pages.put(GROUP, many, ttl_s=60)
        assert {name: page.blob for name, page in other.read(GROUP, list(many)).items()} == many
        with pytest.raises(ValueError, match="bytes"):
            pages.put(GROUP, {A: bytes(LARGEST_PAGE + 1)}, ttl_s=60)
        assert other.revisions([GROUP])[GROUP].keys() == many.keys()

    def test_nothing_expires_early(self, pages: Pages) -> None:
        """Pruning leaves what may still live."""
        pages.put(GROUP, {A: b"one"}, ttl_s=60)
        pages.put(ELSEWHERE, {A: b"one"}, ttl_s=math.inf)
        pages.prune()
        assert pages.read(GROUP, [A])
        assert pages.read(ELSEWHERE, [A])

    def test_what_can_not_be_ours(self, pages: Pages, forge: Callable[[str], None] | None) -> None:
        """Counts as absent, and gives way."""
        if forge is None:
            return
        forge(GROUP)
        assert pages.revisions([GROUP]) == {GROUP: {}}
        assert pages.read(GROUP, [A]) == {}
        pages.remove(GROUP, [A])
        pages.put(GROUP, {A: b"one"}, ttl_s=60)
        assert pages.read(GROUP, [A])[A].blob == b"one"

    @pytest.mark.parametrize("wrong", ["", "x", "0" * 63, "../" + "0" * 61])
    def test_another_name_is_a_mistake(self, pages: Pages, wrong: str) -> None:
        """Groups and names are 64 hex digits; anything else is refused before anything is asked."""
        for group, name in ((wrong, A), (GROUP, wrong)):
            with pytest.raises(ValueError, match="64"):
                pages.put(group, {name: b"x"}, ttl_s=60)
            with pytest.raises(ValueError, match="64"):
                pages.read(group, [name])
            with pytest.raises(ValueError, match="64"):
                pages.remove(group, [name])
        with pytest.raises(ValueError, match="64"):
            pages.revisions([wrong])
