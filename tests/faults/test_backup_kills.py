"""Killed at any step of a backup or a restore: what is served is whole, and the next one goes on to the end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import dying
import pytest
from backups import NAMESPACE, Machine, another_machine, backup_file, values  # noqa: F401 - fixtures
from dying import Killed, dies_at

from genai_cache_magic.errors import ConfigurationError, StoreUnavailable
from genai_cache_magic.stores import records
from genai_cache_magic.stores.records import RecordFile

KEYS = tuple("abcdefgh")
POINTS = 20


@pytest.fixture
def here(isolated):
    machine = Machine(isolated / "here")
    machine.store(*KEYS)
    return machine


def unfinished(here, there, file):
    """Check that a backup which was killed restores nothing, and is whole after the next one."""
    with pytest.raises(ConfigurationError, match=r"not whole|there is no backup"):
        there.restores(file)
    assert not (there.directory / "v1").exists()
    whole = list(RecordFile(file).read())
    assert here.backs_up(file).answers == len(KEYS)
    assert list(RecordFile(file).read())[: len(whole)] == whole  # nothing is written twice
    assert there.restores(file).stored == len(KEYS)
    assert there.found(*KEYS) == values(*KEYS)


def goes_on(there, file):
    """Check that a restore which was killed serves nothing that is not whole, and the next one brings the rest."""
    for found, value in zip(there.found(*KEYS), values(*KEYS), strict=True):
        assert found in {None, value}
    there.restores(file)
    assert there.found(*KEYS) == values(*KEYS)


@pytest.mark.parametrize("point", range(POINTS - 1))
def test_a_backup_killed(here, there, file, monkeypatch, point):
    """Each record half written, and each one whole, is where a backup may end."""
    with monkeypatch.context() as patch:
        dies_at(point, patch.setattr)
        with pytest.raises(Killed):
            here.backs_up(file)
    unfinished(here, there, file)


def test_a_backup_killed_behind_its_last_record(here, there, file, monkeypatch):
    """Once the last record is written it is whole."""
    with monkeypatch.context() as patch:
        dies_at(POINTS - 1, patch.setattr)
        with pytest.raises(Killed):
            here.backs_up(file)
    assert there.restores(file).stored == len(KEYS)
    assert here.backs_up(file).added == 0


@pytest.mark.parametrize("point", range(POINTS))
def test_a_restore_killed(here, there, file, monkeypatch, point):
    """Keyset, record of what is invalid and each answer: before and behind each a restore may end."""
    with monkeypatch.context() as patch:
        dies_at(-1, patch.setattr)  # one answer a record
        here.backs_up(file)
    with monkeypatch.context() as patch:
        dies_at(point, patch.setattr)
        with pytest.raises(Killed):
            there.restores(file)
    goes_on(there, file)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
@pytest.mark.parametrize(("what", "point"), [("backup", 4), ("backup", 11), ("restore", 1), ("restore", 3)])
def test_killed_by_the_system(here, there, file, what, point):
    """The same of a process that is killed, in which nothing of ours runs any more."""
    if what == "restore":
        here.backs_up(file)
    machine = here if what == "backup" else there
    command = [sys.executable, dying.__file__, what, str(machine.directory), str(file), str(point)]
    ended = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    if what == "backup":
        unfinished(here, there, file)
    else:
        goes_on(there, file)


@pytest.mark.parametrize("point", [0, 1, 5, POINTS // 2 - 1])
def test_a_disk_that_fills(here, there, file, monkeypatch, point):
    """With half of a record written: it is said, what was whole stays, and with room again the backup is made."""
    stored, left = records._stored, [point]

    def until_full(opened, content):
        left[0] -= 1
        if left[0] >= 0:
            return stored(opened, content)
        opened.write(content[: len(content) // 2])
        opened.flush()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        dies_at(-1, patch.setattr)  # one answer a record
        patch.setattr(records, "_stored", until_full)
        with pytest.raises(StoreUnavailable, match=r"lab\.backup"):
            here.backs_up(file)
    assert len(list(RecordFile(file).read())) == point
    assert list(file.parent.glob(".lab.backup.*")) == []
    unfinished(here, there, file)


def test_a_second_backup_killed(here, there, file, monkeypatch):
    """What was whole before is still to be had, and the next backup brings the rest."""
    here.backs_up(file)
    here.store("i", "j")
    with monkeypatch.context() as patch:
        dies_at(4, patch.setattr)
        with pytest.raises(Killed):
            here.backs_up(file)
    assert there.restores(file, last_whole=True).stored == len(KEYS)
    here.backs_up(file)
    assert there.restores(file).stored == 2
    assert there.found("i", "j") == values("i", "j")
    assert NAMESPACE in str(next((there.directory / "v1").iterdir()))
