"""What every ``Document`` promises, as tests to inherit: subclass, override the fixture ``document``."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from genai_cache_magic.stores.base import Document

_THREADS = 4
_INCREMENTS = 10


def increment(document: Document) -> None:
    """Add one to the decimal number that `document` holds, by compare-and-swap, until nobody interferes."""
    is_done = False
    while not is_done:
        before = document.load()
        is_done = document.replace(str(int(before or b"0") + 1).encode(), expected=before)


class DocumentContract:
    """Inherit and override ``document``; override ``other`` where two objects can share one document."""

    @pytest.fixture
    def document(self) -> Document:
        """Return a document that was never written; must be overridden."""
        pytest.fail(f"{type(self).__name__} must override the fixture `document`")

    @pytest.fixture
    def other(self, document: Document) -> Document:
        """Return another view of the same document, as another process has it."""
        return document

    def test_absent(self, document: Document) -> None:
        """A document that was never written has no version and no value."""
        assert document.version() is None
        assert document.load() is None

    def test_first_write_wants_absence(self, document: Document, other: Document) -> None:
        """Of two that create the document, the second is told no and changes nothing."""
        assert document.replace(b"first", expected=None) is True
        assert other.replace(b"second", expected=None) is False
        assert other.load() == b"first"

    def test_replace_wants_the_expected(self, document: Document, other: Document) -> None:
        """A write that expects another value than is there changes nothing, the version included."""
        assert document.replace(b"a", expected=b"never there") is False
        assert document.load() is None
        assert document.replace(b"a", expected=None) is True
        version = document.version()
        assert other.replace(b"c", expected=b"b") is False
        assert document.version() == version
        assert other.replace(b"b", expected=b"a") is True
        assert document.load() == b"b"

    def test_empty_is_not_absent(self, document: Document) -> None:
        """An empty value is a value."""
        assert document.replace(b"", expected=None) is True
        assert document.load() == b""
        assert document.version() is not None
        assert document.replace(b"x", expected=None) is False

    def test_every_change_is_a_new_version(self, document: Document, other: Document) -> None:
        """Tokens of quick successive changes all differ, also when values and sizes come back."""
        tokens = []
        before = None
        for number in range(60):
            after = b"ab"[number % 2 : number % 2 + 1]
            assert document.replace(after, expected=before) is True
            tokens.append(other.version())
            before = after
        assert len(set(tokens)) == len(tokens)
        assert other.version() == tokens[-1]

    @pytest.mark.parametrize("blob", ["text", None, bytearray(b"x")])
    def test_refuses_what_is_not_bytes(self, document: Document, blob: object) -> None:
        """Only bytes are written."""
        with pytest.raises(TypeError):
            document.replace(blob, expected=None)  # type: ignore[arg-type]  # the point of the test
        assert document.load() is None

    def test_threads_lose_nothing(self, document: Document, other: Document) -> None:
        """Increments by compare-and-swap from several threads are all counted."""

        def work(view: Document) -> None:
            for _ in range(_INCREMENTS):
                increment(view)

        threads = [threading.Thread(target=work, args=((document, other)[n % 2],)) for n in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert document.load() == str(_THREADS * _INCREMENTS).encode()
