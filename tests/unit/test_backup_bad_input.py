"""Backups that are damaged, cut short, forged or another's: nothing of them is stored."""

from __future__ import annotations

import pytest
from backups import NAMESPACE, Machine, another_machine, backup_file, machine_here, values  # noqa: F401 - fixtures

from genai_cache_magic.errors import (
    ConfigurationError,
    DecryptionError,
    GenaiCacheError,
    StoreUnavailable,
)
from genai_cache_magic.stores.base import LARGEST_VALUE
from genai_cache_magic.stores.records import LARGEST_RECORD, RecordFile


class TestBadInput:
    """Named, refused, nothing lost."""

    def refused(self, machine, file, *, says, error=ConfigurationError, **how):
        with pytest.raises(error, match=says):
            machine.restores(file, **how)
        assert not (machine.directory / "v1").exists()

    def test_another_namespace(self, here, there, file):
        """It is named, for a restore and for a backup into it."""
        here.store("x", namespace="other")
        here.backs_up(file, namespace="other")
        content = file.read_bytes()
        self.refused(there, file, says="namespace 'other'")
        with pytest.raises(ConfigurationError, match="namespace 'other'"):
            here.backs_up(file)
        assert file.read_bytes() == content

    @pytest.mark.parametrize("offset", [4, 0])
    def test_another_version_or_no_backup(self, here, there, file, offset):
        """A newer format asks for an update, a file of the user's own is never written over."""
        here.backs_up(file)
        content = bytearray(file.read_bytes())
        content[offset] += 1
        file.write_bytes(content)
        self.refused(there, file, says="newer version" if offset else "is not a backup")
        with pytest.raises(ConfigurationError):
            here.backs_up(file)
        assert file.read_bytes() == content

    def test_nothing_there(self, there, file, isolated):
        """A place without a backup is named, a directory refused, a namespace that is not there not made."""
        self.refused(there, file, says="there is no backup")
        self.refused(there, isolated, says="is no file")
        with pytest.raises(ConfigurationError, match="there is no namespace 'lab'"):
            there.backs_up(file)
        assert not file.exists()
        assert not there.directory.exists()

    def test_every_truncation(self, here, there, file):
        """Cut off anywhere it is refused, and another backup into it makes it whole again."""
        here.backs_up(file)
        content = file.read_bytes()
        for end in range(8, len(content) - 1, max(1, len(content) // 20)):
            file.write_bytes(content[:end])
            with pytest.raises(ConfigurationError, match=r"not whole|there is no backup"):
                there.restores(file)
        here.backs_up(file)
        assert there.restores(file).stored == 3

    def test_every_flipped_bit(self, here, there, file):
        """A changed byte anywhere is refused, and left as it is by another backup."""
        here.backs_up(file)
        content = file.read_bytes()
        for at in range(0, len(content), max(1, len(content) // 25)):
            changed = bytearray(content)
            changed[at] ^= 1
            file.write_bytes(changed)
            with pytest.raises(GenaiCacheError):
                there.restores(file)
            with pytest.raises(GenaiCacheError):
                here.backs_up(file)
            assert file.read_bytes() == changed
        assert not (there.directory / "v1").exists()

    def test_reordered_doubled_and_left_out(self, here, there, file):
        """Records stand in one order, each once."""
        for key in "def":
            here.backs_up(file)
            here.store(key)
        records = list(RecordFile(file).read())
        for changed in (
            [*records[:2], *records[3:]],
            [records[0], records[0], *records[1:]],
            records[::-1],
            records[1:],
        ):
            file.unlink()
            rewritten = RecordFile(file)
            for record in changed:
                rewritten.append(record)
            self.refused(there, file, says="can't be used|newer version", error=(DecryptionError, ConfigurationError))

    def test_of_other_keys(self, here, file, isolated):
        """A backup is not gone on with by whoever has other keys."""
        here.backs_up(file)
        other = Machine(isolated / "other", key_file=str(isolated / "keys" / "other.key"))
        other.store("x")
        with pytest.raises(DecryptionError, match="other keys"):
            other.backs_up(file)

    def test_one_that_was_whole_before(self, here, there, file):
        """What a killed second backup leaves is refused, unless what was whole before is asked for."""
        here.backs_up(file)
        whole = file.stat().st_size
        here.store("d")
        here.backs_up(file)
        file.write_bytes(file.read_bytes()[: whole + 20])
        with pytest.raises(ConfigurationError, match="--last-whole"):
            there.restores(file)
        assert there.restores(file, last_whole=True).stored == 3
        assert there.found("a", "d") == [*values("a"), None]

    def test_one_of_which_nothing_was_ever_whole(self, here, there, file):
        """Nobody is sent round in circles: what --last-whole asks for is not there."""
        here.backs_up(file)
        file.write_bytes(file.read_bytes()[:-20])
        for last_whole in (False, True):
            with pytest.raises(ConfigurationError, match="nothing in it to restore") as refused:
                there.restores(file, last_whole=last_whole)
            assert "--last-whole" not in str(refused.value)

    def test_while_another_is_at_it(self, here, file):
        """Two backups into one file don't mix."""
        with RecordFile(file).writing(), pytest.raises(StoreUnavailable, match="another process"):
            here.backs_up(file)

    def test_what_fits_into_no_record(self, here, there, file):
        """The largest value that anyone can put beside the answers leaves the backup of them whole."""
        with here.cache() as cache:
            cache.parts.entries.store.put("e" * 64, bytes(LARGEST_VALUE), ttl_s=60)
        assert here.backs_up(file).answers == 3
        with pytest.raises(ValueError, match="record"):
            RecordFile(file).append(bytes(LARGEST_RECORD + 1))
        assert there.restores(file).stored == 3

    def test_what_was_changed_does_not_stand_for_what_was_stored(self, here, there, file):
        """An answer that was changed behind its beginning, as it was backed up, keeps the good one out of none."""
        with here.cache() as cache:
            store = cache.parts.entries.store
            key = next(store.scan())
            good = store.get(key)
            store.put(key, good[:-1] + bytes([good[-1] ^ 1]), ttl_s=60)
        assert here.backs_up(file).added == 3
        with here.cache() as cache:
            cache.parts.entries.store.put(key, good, ttl_s=60)
        assert here.backs_up(file).added == 1
        done = there.restores(file)
        assert (done.stored, done.unopened) == (3, 1)

    def test_what_another_machine_adds_is_not_cut_away(self, file):
        """Two that share a directory and no lock: the second is told, and what the first has added stays."""
        first, second = RecordFile(file), RecordFile(file)
        for records in (first, second):
            assert list(records.read()) == []
        first.append(b"one")
        with pytest.raises(StoreUnavailable, match="somebody else"):
            second.append(b"two")
        assert list(second.read()) == [b"one"]
        first.append(b"three")
        with pytest.raises(StoreUnavailable, match="somebody else"):
            second.append(b"four")
        assert list(RecordFile(file).read()) == [b"one", b"three"]

    def test_where_nothing_can_be_written(self, here, isolated):
        """A place that is not there is named."""
        with pytest.raises(StoreUnavailable, match="nowhere"):
            here.backs_up(isolated / "nowhere" / "lab.backup")
