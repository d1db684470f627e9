"""The contract of ``Document``, over both local documents, and over processes for the one in a file."""

from __future__ import annotations

import multiprocessing
import os
import stat

import pytest

from genai_cache_magic.errors import StoreUnavailable
from genai_cache_magic.stores.breaker import Breaker
from genai_cache_magic.stores.disk.locks import FileLock
from genai_cache_magic.stores.documents import FileDocument, MemoryDocument
from genai_cache_magic.stores.guarded import GuardedDocument
from genai_cache_magic.testing.contracts.document import DocumentContract, increment


def _increment_often(path, times):
    document = FileDocument(path, lock_timeout_s=60)
    for _ in range(times):
        increment(document)


class TestMemoryDocument(DocumentContract):
    @pytest.fixture
    def document(self):
        return MemoryDocument()


class TestGuardedDocument(DocumentContract):
    @pytest.fixture
    def document(self):
        return GuardedDocument(MemoryDocument(), Breaker("memory"))


class TestFileDocument(DocumentContract):
    @pytest.fixture
    def path(self, tmp_path):
        return tmp_path / "generation"

    @pytest.fixture
    def document(self, path):
        return FileDocument(path)

    @pytest.fixture
    def other(self, path):
        return FileDocument(path)

    def test_a_frozen_clock_makes_no_equal_versions(self, path):
        """Versions differ also when the wall clock stands still or runs backwards."""
        ticks = iter(range(10**18, 0, -(10**12)))
        document = FileDocument(path, clock_ns=lambda: next(ticks))
        tokens, before = [], None
        for after in (b"a", b"b", b"a", b"b", b"a"):
            assert document.replace(after, expected=before)
            tokens.append(document.version())
            before = after
        assert len(set(tokens)) == 5
        times_ns = [token[0] for token in tokens]
        assert times_ns == sorted(set(times_ns))
        assert times_ns[-1] - times_ns[0] < 1_000_000 or times_ns[-1] - times_ns[0] >= 4_000_000_000  # coarse times

    def test_processes_lose_nothing(self, path):
        """16 processes that each add one 50 times leave 800."""
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_increment_often, args=(path, 50)) for _ in range(16)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0] * 16
        assert FileDocument(path).load() == b"800"

    def test_only_its_owner_may_read(self, document, path):
        """The file is made for its owner alone, whatever the umask."""
        before = os.umask(0)
        try:
            document.replace(b"x", expected=None)
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_leftovers_of_a_killed_writer_do_no_harm(self, document, path, tmp_path):
        """A half-written new file, even as a link to somebody's file, is removed and not written through."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        path.with_name("generation.new").symlink_to(victim)
        assert document.replace(b"x", expected=None)
        assert document.load() == b"x"
        assert victim.read_bytes() == b"precious"
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["generation", "generation.lock", "victim"]

    def test_a_stuck_writer_is_unavailable(self, path):
        """A lock that stays taken is trouble that callers survive, not a wait without end."""
        document = FileDocument(path, lock_timeout_s=0.05)
        with FileLock(path.with_name("generation.lock")).hold(timeout_s=1), pytest.raises(StoreUnavailable):
            document.replace(b"x", expected=None)
        assert document.replace(b"x", expected=None)

    @pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="links are followed here, and there are no pipes")
    @pytest.mark.parametrize("kind", ["pipe", "device", "link", "dangling", "loop", "huge"])
    def test_what_is_no_file_in_its_place_is_damage(self, document, path, tmp_path, kind):
        """It keeps nobody waiting, fills no memory and leads nowhere; the next value takes its place."""
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "huge":
            path.write_bytes(b"")
            os.truncate(path, 1 << 40)
        else:
            path.symlink_to({"device": "/dev/zero", "link": victim, "dangling": "nowhere", "loop": path}[kind])
        assert document.version() is not None
        assert document.load() == b""
        assert document.replace(b"x", expected=b"")
        assert document.load() == b"x"
        assert stat.S_ISREG(path.lstat().st_mode)
        assert victim.read_bytes() == b"precious"

    def test_a_directory_in_its_place_is_unavailable(self, document, path):
        """Errors of the file system arrive as the one class that callers expect."""
        path.mkdir()
        with pytest.raises(StoreUnavailable):
            document.load()
        with pytest.raises(StoreUnavailable):
            document.replace(b"x", expected=None)
