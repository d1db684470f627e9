"""A backup holds what a namespace holds, another machine gets it back, and what was invalidated stays so."""

from __future__ import annotations

import os
import stat

import pytest
from backups import NAMESPACE, Machine, another_machine, backup_file, machine_here, values  # noqa: F401 - fixtures

from genai_cache_magic.cli.main import main
from genai_cache_magic.core.model import EntryId
from genai_cache_magic.core.validity import ENTRY_RECORD_LIFE_MS, Generations
from genai_cache_magic.entries.entries import Entries
from genai_cache_magic.entries.judging import Judge
from genai_cache_magic.errors import (
    ConfigurationError,
    KeyUnavailable,
)
from genai_cache_magic.ops.restore import joined_records
from genai_cache_magic.stores.records import RecordFile

ID, OTHER = EntryId("a" * 64), EntryId("b" * 64)


def test_another_machine_gets_what_was_stored(here, there, file):
    """With the key that guards them, a machine that has nothing serves every answer of the backup."""
    done = here.backs_up(file)
    assert (done.added, done.answers) == (3, 3)
    assert there.restores(file).stored == 3
    assert there.found("a", "b", "c") == values("a", "b", "c")


def test_a_second_backup_adds_what_is_new(here, there, file):
    """What is in the backup already is not written again; with nothing new not a byte is written."""
    here.backs_up(file)
    before = file.read_bytes()
    assert here.backs_up(file).added == 0
    assert file.read_bytes() == before
    here.store("d")
    assert here.backs_up(file).added == 1
    assert file.read_bytes().startswith(before)
    assert there.restores(file).stored == 4


def test_no_answer_can_be_read_in_it(here, file):
    """A backup shows neither values, keys nor ids, and is for its owner alone."""
    here.backs_up(file)
    content = file.read_bytes()
    assert b"the value of" not in content
    with here.cache() as cache:
        assert all(bytes.fromhex(key) not in content for key in cache.parts.entries.store.scan())
    if os.name == "posix":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_is_opened_for_it(here, file, monkeypatch):
    """A backup takes sealed envelopes as they lie, and asks for no entry's key."""

    def opened(*_):
        pytest.fail("an entry was opened")

    monkeypatch.setattr("genai_cache_magic.crypto.envelope.Sealer.open", opened)
    monkeypatch.setattr("genai_cache_magic.crypto.envelope.Sealer.open_metadata", opened)
    assert here.backs_up(file).added == 3


def test_progress_is_told(here, there, file):
    """Whoever asks is told of every step, up to the last."""
    from genai_cache_magic.ops.backup import back_up

    steps = []
    back_up(here.settings, NAMESPACE, RecordFile(file), progress=lambda done, total: steps.append((done, total)))
    assert (steps[0], steps[-1]) == ((0, 3), (3, 3))
    steps.clear()
    there.restores(file, progress=lambda done, total: steps.append((done, total)))
    assert steps[-1] == (3, 3)


class TestInvalidations:
    """What was made invalid stays so, whichever of the two has heard of it."""

    def test_before_the_backup(self, here, there, file):
        """The backup's record of what is invalid comes along."""
        with here.cache() as cache:
            cache.invalidate_tag("t")
        here.backs_up(file)
        there.restores(file)
        assert there.found("a", "b", "c") == [None, None, *values("c")]

    @pytest.mark.parametrize("how", ["tag", "one", "clear"])
    def test_since_the_backup(self, here, file, how):
        """A restore into the namespace that has gone on brings nothing back that was invalidated there."""
        here.backs_up(file)
        with here.cache() as cache:
            if how == "tag":
                cache.invalidate_tag("t")
            elif how == "one":
                cache.delete("a")
            else:
                cache.clear()
        here.restores(file)
        served = {"tag": ["c"], "one": ["b", "c"], "clear": []}[how]
        assert here.found("a", "b", "c") == [
            value if key in served else None for key, value in zip("abc", values(*"abc"), strict=True)
        ]

    def test_longer_ago_than_its_record_lives(self, here, file, monkeypatch):
        """The record of a single entry goes after a day; the answer stays away all the same."""
        here.backs_up(file)
        with here.cache() as cache:
            cache.delete("a")
        now_ms = Entries.now_ms
        monkeypatch.setattr(Entries, "now_ms", lambda self: now_ms(self) + ENTRY_RECORD_LIFE_MS + 1)
        with here.cache() as cache:
            cache.delete("b")
            assert len(cache.parts.entries.generations.published().entries) == 2  # that of `b`, and that one went
        here.restores(file)
        assert here.found("a", "b") == [None, None]

    def test_an_older_namespace_hears_of_them(self, here, there, file):
        """What was invalidated between two backups is invalid where the first one was restored."""
        here.backs_up(file)
        there.restores(file)
        with here.cache() as cache:
            cache.invalidate_tag("t")
        here.store("d")
        here.backs_up(file)
        assert there.restores(file).stored == 1
        assert there.found("a", "b", "c", "d") == [None, None, *values("c", "d")]

    def test_two_that_went_on_apart(self, here, there, file):
        """Each keeps what it has invalidated itself, and hears of the other's."""
        here.backs_up(file)
        there.restores(file)
        with here.cache() as cache:
            cache.delete("a")
        with there.cache() as cache:
            cache.delete("b")
        here.store("d")
        here.backs_up(file)
        there.restores(file)
        assert there.found("a", "b", "c", "d") == [None, None, *values("c", "d")]

    @pytest.mark.parametrize("last", ["here", "there"])
    def test_two_that_went_on_apart_for_longer_than_a_record_lives(self, here, there, file, monkeypatch, last):
        """That one of them went on for days makes nothing of the other's forgotten."""
        here.backs_up(file)
        there.restores(file)
        now_ms, later_ms = Entries.now_ms, 0
        monkeypatch.setattr(Entries, "now_ms", lambda self: now_ms(self) + later_ms)
        went_on = [(here, "a"), (there, "b")]
        for machine, key in went_on if last == "there" else went_on[::-1]:
            with machine.cache() as cache:
                cache.delete(key)
            later_ms = 2 * ENTRY_RECORD_LIFE_MS
        later_ms = 0
        here.backs_up(file)
        there.restores(file)
        assert there.found("a", "b", "c") == [None, None, *values("c")]

    def test_a_record_of_its_own_is_not_overruled(self, here, there, file):
        """Answers that lie under another record are not made misses: the restore is refused, and says where to."""
        with here.cache() as cache:
            cache.invalidate_tag("of others")
        here.backs_up(file)
        there.restores(file)
        (there.directory / "v1" / NAMESPACE / "generations").unlink()
        (there.directory / "v1" / NAMESPACE / "state.db").unlink()
        there.store("own")
        before = there.found("own")
        with pytest.raises(ConfigurationError, match="can't be told together"):
            there.restores(file)
        assert there.found("own") == before == values("own")

    def test_a_record_that_nothing_depends_on_gives_way(self, here, there, file):
        """Who was killed between keyset and record, and looked for something since, restores again."""
        here.backs_up(file)
        there.restores(file)
        for name in ("generations", "state.db"):
            (there.directory / "v1" / NAMESPACE / name).unlink()
        with there.cache() as cache:
            cache.parts.entries.forget_all()
        assert there.found("a") == [None]  # which begins a record
        assert there.restores(file).stored == 3
        assert there.found("a") == values("a")

    def test_nothing_that_is_valid_is_replaced(self, here, there, file):
        """What is there, and may be served, stays."""
        here.backs_up(file)
        there.restores(file)
        assert there.restores(file).kept == 3


def test_what_has_expired_is_left_out(here, there, file, monkeypatch):
    """An answer whose time is over is not put back, and takes nothing away."""
    here.store("short", ttl="1s")
    here.backs_up(file)
    now_ms = Judge.now_ms
    monkeypatch.setattr(Judge, "now_ms", lambda self: now_ms(self) + 2_000)
    done = there.restores(file)
    assert (done.stored, done.expired) == (3, 1)
    assert there.found("short") == [None]


class TestKeys:
    """The keyset comes along, and never an older one."""

    def keys(self, machine, *words, monkeypatch):
        monkeypatch.setenv("GENAI_CACHE_DIR", str(machine.directory))
        with pytest.raises(SystemExit) as ended:
            main(["keys", *words, "--namespace", NAMESPACE])
        assert not ended.value.code

    def test_epochs_come_along(self, here, there, file, monkeypatch):
        """What was sealed before and after a rotation opens elsewhere."""
        here.backs_up(file)
        self.keys(here, "rotate", monkeypatch=monkeypatch)
        here.store("d")
        here.backs_up(file)
        there.restores(file)
        assert there.found("a", "d") == values("a", "d")

    def test_a_revoked_epoch_does_not_come_back(self, here, file, monkeypatch):
        """What a revoked key sealed is counted as lost, and the newer keyset stays."""
        here.backs_up(file)
        self.keys(here, "revoke", "1", "--yes", monkeypatch=monkeypatch)
        assert here.restores(file).unopened == 3
        assert here.found("a") == [None]

    def test_other_keys_are_refused(self, here, there, file):
        """Where the namespace was begun with other keys neither is lost."""
        here.backs_up(file)
        there.store("own")
        before = (there.directory / "v1" / NAMESPACE / "keyset").read_bytes()
        with pytest.raises(ConfigurationError, match="other keys"):
            there.restores(file)
        assert (there.directory / "v1" / NAMESPACE / "keyset").read_bytes() == before
        assert there.found("own") == values("own")

    def test_another_guard_is_named(self, here, file, isolated):
        """Without the key that guards the keyset nothing is restored, and the message names the way to it."""
        here.backs_up(file)
        other = Machine(isolated / "other", key_file=str(isolated / "keys" / "other.key"))
        other.store("x", namespace="else")
        with pytest.raises(KeyUnavailable, match="keys import"):
            other.restores(file)
        keyless = Machine(isolated / "keyless", key_file=str(isolated / "none" / "no.key"))
        with pytest.raises(KeyUnavailable):
            keyless.restores(file)
        assert not (isolated / "none").exists()


class TestPlain:
    """Where encryption is off a backup is plain text, and says so."""

    @pytest.fixture
    def plain(self, isolated):
        machine = Machine(isolated / "plain", encryption="off")
        machine.store("a")
        return machine

    def test_it_comes_back(self, plain, isolated, file):
        """Damage is found, nothing is secret."""
        plain.backs_up(file)
        other = Machine(isolated / "other", encryption="off")
        assert other.restores(file).stored == 1
        assert other.found("a") == values("a")

    def test_it_stays_out_of_a_sealed_cache(self, plain, here, there, file):
        """Neither goes where the other is."""
        plain.backs_up(file)
        with pytest.raises(ConfigurationError, match="plain text"):
            there.restores(file)
        file.unlink()
        here.backs_up(file)
        with pytest.raises(ConfigurationError, match="sealed"):
            plain.restores(file)


class TestCommands:
    """What a terminal shows."""

    @pytest.fixture
    def run(self, here, capsys, monkeypatch):
        monkeypatch.setenv("GENAI_CACHE_DIR", str(here.directory))

        def run(*arguments):
            with pytest.raises(SystemExit) as ended:
                main(arguments)
            captured = capsys.readouterr()
            return ended.value.code, captured.out, captured.err

        return run

    def test_there_and_back(self, run, there, file, monkeypatch):
        """Each says in a line what it did; the other counts are said where there is something to count."""
        code, out, _ = run("backup", NAMESPACE, str(file))
        assert (code, out.startswith("3 answers added")) == (0, True)
        monkeypatch.setenv("GENAI_CACHE_DIR", str(there.directory))
        code, out, _ = run("restore", str(file), "--namespace", NAMESPACE)
        assert (code, out.startswith("3 answers put back")) == (0, True)
        code, out, _ = run("restore", str(file), "--namespace", NAMESPACE)
        assert "3 were there" in out
        assert there.found("a") == values("a")
        with there.cache() as cache:
            cache.delete("a")
        out = run("restore", str(file), "--namespace", NAMESPACE)[1]
        assert "2 were there" in out
        assert "1 was made invalid, before the backup or since" in out

    def test_plain_text_is_asked_for(self, run, file, monkeypatch):
        """Without encryption the word is needed, with it refused."""
        code, _, err = run("backup", NAMESPACE, str(file), "--plaintext")
        assert (code, "leave --plaintext out" in err) == (2, True)
        monkeypatch.setenv("GENAI_CACHE_ENCRYPTION", "off")
        code, _, err = run("backup", NAMESPACE, str(file))
        assert (code, "add --plaintext" in err) == (2, True)
        assert not file.exists()

    def test_addresses_of_something_else(self, run):
        """A Redis is no place for a backup."""
        code, _, err = run("backup", NAMESPACE, "redis://127.0.0.1:1")
        assert (code, "a file, or into a container" in err) == (2, True)

    def test_another_namespace_is_named(self, run, file):
        """A restore goes into the namespace that was named, or is configured, alone."""
        run("backup", NAMESPACE, str(file))
        code, _, err = run("restore", str(file))
        assert (code, "namespace 'lab'" in err) == (2, True)


def test_joined_records_forget_nothing():
    """What only one of two says is said anew, above what both have seen; with nothing in common there is no record."""
    first = Generations(b"r" * 16, ver=3)
    one = first.invalidating_tags([b"t" * 16])
    other = first.invalidating_entries([ID], now_ms=5)
    joined = joined_records(one, other)
    assert joined.keeps(one)
    assert joined.keeps(other)
    assert (joined.tags[b"t" * 16], joined.entries[ID].ver) == (joined.ver, joined.ver)
    assert joined_records(first, one) == one
    later = other.invalidating_entries([OTHER], now_ms=5 + ENTRY_RECORD_LIFE_MS, outlived=[ID])
    assert joined_records(one, later) is None
