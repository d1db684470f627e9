"""The file system under the cache: local ones are used, shared ones refused, unknown ones tried."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai_cache_magic.errors import ConfigurationError
from genai_cache_magic.stores.disk import file_systems
from genai_cache_magic.stores.disk.directory import MARKER_NAME, ensure_private_directory
from genai_cache_magic.stores.disk.file_systems import file_system_of, keeps_a_database
from genai_cache_magic.stores.disk.store import DiskStore


@pytest.fixture
def mounted(tmp_path, monkeypatch):
    """Make the table of mounts say that the test's directory lies on a file system of a given type."""

    def mount(kind, options="rw"):
        table = f"22 1 8:1 / {tmp_path} rw - {kind} x {options}\n" if kind else ""
        monkeypatch.setattr("genai_cache_magic.stores.disk.directory.mount_table", lambda: table)

    return mount


@pytest.fixture
def trials(monkeypatch):
    """The directories that are tried, as they are."""
    tried = []

    def note(directory):
        tried.append(directory)
        return keeps_a_database(directory)

    monkeypatch.setattr("genai_cache_magic.stores.disk.directory.keeps_a_database", note)
    return tried


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/ada/cache", "nfs4"),
        ("/home/ada/local disk/cache", "ext4"),
        ("/home/adam", "ext4"),
        ("/mnt/c/cache", "9p"),
        ("/over", "fuse.sshfs"),
    ],
)
def test_file_system_is_the_innermost_mount(path, expected):
    """The longest mount point that holds the path decides, the later of two equal ones, escapes resolved."""
    mounts = (
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "30 22 0:40 / /home/ada rw - nfs4 server:/export rw\n"
        "31 30 8:2 / /home/ada/local\\040disk rw shared:2 master:1 - ext4 /dev/sdb rw\n"
        "32 22 0:50 / /mnt/c rw - 9p C:\\134 rw,aname=drvfs;path=C:\\\n"
        "33 22 8:3 / /over rw - ext4 /dev/sdc rw\n"
        "34 22 8:3 / /over rw - fuse.sshfs host: rw\n"
        "broken line\n"
    )
    assert file_system_of(Path(path), mounts)[0] == expected
    assert file_system_of(Path(path), "") == ("", "")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("nfs", "rw"), ("nfs4", "rw"), ("cifs", "rw"), ("smb3", "rw"), ("9p", "rw,aname=drvfs"), ("ceph", "rw"),
        ("lustre", "rw"), ("davfs", "rw"), ("fuse", "rw"), ("fuse.sshfs", "rw"), ("fuse.davfs2", "rw"),
        ("fuse.drive", "rw"), ("fuse.juicefs", "rw"), ("fuse.JuiceFS:redis", "rw"), ("fuse.of-tomorrow", "rw"),
    ],
)  # fmt: skip
def test_what_machines_share_is_refused(tmp_path, mounted, trials, kind, options):
    """Where other machines may write, and where anybody may give the name, the fix is named and nothing is made."""
    mounted(kind, options)
    with pytest.raises(ConfigurationError, match=rf"{kind}.*GENAI_CACHE_DIR"):
        ensure_private_directory(tmp_path / "l1")
    assert not (tmp_path / "l1").exists()
    assert trials == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "fuseblk", "vfat"])
def test_what_is_known_is_not_tried(tmp_path, mounted, trials, kind):
    """Known local file systems cost no trial."""
    mounted(kind)
    assert ensure_private_directory(tmp_path / "l1").is_dir()
    assert trials == []
    assert (tmp_path / "l1" / MARKER_NAME).read_bytes() == b""


@pytest.mark.parametrize("kind", ["", "someday", "vboxsf", "virtiofs", "9p", "fuse.gocryptfs"])
def test_what_is_unknown_is_tried_once(tmp_path, mounted, trials, kind):
    """An unknown file system, or none that is named, is tried with a second process, once for a cache."""
    mounted(kind)
    for _ in range(2):
        cache = ensure_private_directory(tmp_path / "cache")
        DiskStore(cache / "v1" / "default" / "l1").close()
    assert trials == [cache]
    assert sorted(path.name for path in cache.iterdir()) == [MARKER_NAME, "v1"]


def test_another_device_is_tried_anew(tmp_path, mounted, trials):
    """What was tried elsewhere proves nothing here: a marker that was copied along is not believed."""
    mounted("someday")
    cache = ensure_private_directory(tmp_path / "cache")
    (cache / MARKER_NAME).write_text("tried someday 1\n")
    ensure_private_directory(cache)
    assert trials == [cache, cache]


def _locks_nothing(_descriptor):
    return True


@pytest.mark.parametrize(
    ("name", "lie"),
    [
        ("try_lock", _locks_nothing),
        ("_ask_another", lambda _trial: "False True 0"),
        ("_ask_another", lambda _trial: "False False 1"),
        ("_ask_another", lambda _trial: "False False 0"),
    ],
    ids=["locks that hold nobody", "a database that is not locked", "rows before their commit", "rows never seen"],
)
def test_what_fails_is_refused(tmp_path, mounted, monkeypatch, name, lie):
    """Locks that don't hold, or a log that another process does not see: refused with the fix, each time."""
    monkeypatch.setattr(file_systems, name, lie)
    mounted("someday")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"someday.*GENAI_CACHE_DIR"):
            ensure_private_directory(tmp_path / "l1")


def test_a_trial_leaves_nothing(tmp_path):
    """A trial passes on the disk of this machine, and tidies up."""
    assert keeps_a_database(tmp_path)
    assert list(tmp_path.iterdir()) == []
