"""The local key file among other processes, other users, full disks and accidents."""

from __future__ import annotations

import contextlib
import copy
import os
import pickle
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import ConfigurationError, KeyUnavailable
from genai_cache_magic.host import try_lock

# Waits for a line on standard input, so that all processes start at the same moment.
RACER = """
import sys
from pathlib import Path
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
print("ready", flush=True)
sys.stdin.readline()
print(LocalKeyFile.load_or_create(Path(sys.argv[1]), cache_directory=Path(sys.argv[2])).export_text())
"""

ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
from genai_cache_magic.errors import KeyUnavailable
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    LocalKeyFile.load_or_create(Path(sys.argv[1]), cache_directory=Path(sys.argv[2]))
except KeyUnavailable as exc:
    print(exc)
"""

KILLED = """
import os, signal, sys
from pathlib import Path
from genai_cache_magic.crypto.wrappers.local import LocalKeyFile
os.link = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
LocalKeyFile.load_or_create(Path(sys.argv[1]), cache_directory=Path(sys.argv[2]))
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "config" / "nested" / "key"


@pytest.fixture
def cache_directory(tmp_path):
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


@pytest.fixture
def load_or_create(cache_directory):
    return lambda path: LocalKeyFile.load_or_create(path, cache_directory=cache_directory)


@pytest.fixture
def load(cache_directory):
    return lambda path: LocalKeyFile.load(path, cache_directory=cache_directory)


@pytest.fixture
def import_text(cache_directory):
    return lambda path, text: LocalKeyFile.import_text(path, text, cache_directory=cache_directory)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextlib.contextmanager
def open_locked(path: Path):
    """Hold the lock on a file, as the process that writes it does."""
    with path.open("rb") as file:
        assert try_lock(file.fileno())
        yield


def refused_and_untouched(action, path: Path, *, content: bytes) -> str:
    """Assert that `action` fails closed and leaves `path` as it was; return the message."""
    with pytest.raises(KeyUnavailable) as caught:
        action(path)
    assert path.read_bytes() == content
    return str(caught.value)


def test_sixteen_processes_get_one_key(path, cache_directory):
    """Of 16 processes that make the key at once the first wins, and all have its key."""
    command = [sys.executable, "-c", RACER, str(path), str(cache_directory)]
    racers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(16)]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    keys = {racer.communicate(timeout=60)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 16
    assert keys == {path.read_text()}
    assert list(path.parent.iterdir()) == [path]


def test_the_file_is_its_owners_alone(path, load_or_create):
    """Key file 0600, every directory made for it 0700, whatever the umask."""
    before = os.umask(0)
    try:
        load_or_create(path)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    assert mode_of(path.parent) == mode_of(path.parent.parent) == 0o700


def test_a_strict_umask_does_not_lock_the_owner_out(path, load_or_create):
    """With a umask that takes away everything the key can still be read back."""
    path.parent.mkdir(parents=True)
    before = os.umask(0o777)
    try:
        load_or_create(path)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600


def test_the_same_file_gives_the_same_key(path, load_or_create, load):
    """Later processes get the key that the first one made; two files have two keys."""
    made = load_or_create(path)
    assert load_or_create(path).export_text() == load(path).export_text() == made.export_text()
    assert len(made.fingerprint) == 16
    assert load_or_create(path.with_name("other")).fingerprint != made.fingerprint


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601])
def test_a_file_that_others_can_use_is_refused(path, load_or_create, mode):
    """Any permission of group or others is refused, with the command that fixes it."""
    load_or_create(path)
    path.chmod(mode)
    assert f"chmod 600 {path}" in refused_and_untouched(load_or_create, path, content=path.read_bytes())
    path.chmod(0o600)
    assert load_or_create(path).kind == "local"


def foreign_file(directory: Path) -> Path:
    """A private file of another user: made by root, or lacking that right one of the system's."""
    if os.geteuid() != 0:
        return Path("/etc/passwd")
    file = directory / "foreign"
    file.touch(0o600)
    os.chown(file, 65534, 65534)
    return file


def test_a_symbolic_link_to_a_file_of_mine_is_followed(path, tmp_path, load_or_create, load):
    """The key may live behind a link, as long as what it points to is private and mine."""
    target = tmp_path / "elsewhere"
    made = load_or_create(target)
    path.parent.mkdir(parents=True)
    path.symlink_to(target)
    assert load(path).fingerprint == made.fingerprint
    target.chmod(0o644)
    with pytest.raises(KeyUnavailable, match="chmod"):
        load(path)


def test_a_file_of_another_user_is_refused(path, tmp_path, load, load_or_create):
    """A key that somebody else wrote is not used, directly or behind a link."""
    path.parent.mkdir(parents=True)
    path.symlink_to(foreign_file(tmp_path))
    for action in (load, load_or_create):
        with pytest.raises(KeyUnavailable, match="belongs to user id"):
            action(path)


def test_a_dangling_link_is_refused(path, load_or_create):
    """Nothing is created through a link that points nowhere, and nothing hangs."""
    path.parent.mkdir(parents=True)
    path.symlink_to(path.with_name("nowhere"))
    with pytest.raises(KeyUnavailable):
        load_or_create(path)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("loops", ["self", "fifo", "directory", "file-above"])
def test_what_is_no_file_is_refused(path, load_or_create, loops):
    """A link to itself, a pipe, a directory, a file where a directory should be: refused at once, with words."""
    path.parent.parent.mkdir(parents=True)
    if loops == "file-above":
        path.parent.touch()
    else:
        path.parent.mkdir()
        {"self": lambda: path.symlink_to(path), "fifo": lambda: os.mkfifo(path, 0o600), "directory": path.mkdir}[
            loops
        ]()
    with pytest.raises(KeyUnavailable, match="GENAI_CACHE_KEY_FILE"):
        load_or_create(path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: b"",
        lambda line: b"\n",
        lambda line: line[:40],
        lambda line: line[:-2],
        lambda line: line + b"\n",
        lambda line: line + line,
        lambda line: b" " + line,
        lambda line: line.replace(b"v1", b"v2"),
        lambda line: line[:25] + bytes([line[25] ^ 1]) + line[26:],
        lambda line: b"\xff\x00" * 400,
    ],
)
def test_a_damaged_file_is_never_replaced(path, load, load_or_create, damage):
    """An empty, cut or altered key file fails closed with the fix, and stays as it is for its owner to rescue."""
    load_or_create(path)
    content = damage(path.read_bytes())
    path.write_bytes(content)
    for action in (load, load_or_create):
        message = refused_and_untouched(action, path, content=content)
        assert str(path) in message
        assert "keys import" in message


def test_no_half_key_is_left_by_a_full_disk(path, cache_directory, load_or_create):
    """If the key can't be written nothing is left behind, and the next attempt succeeds."""
    command = [sys.executable, "-c", ON_A_FULL_DISK, str(path), str(cache_directory)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert f"can't make key file {path}" in said
    assert list(path.parent.iterdir()) == []
    assert load_or_create(path).export_text() in path.read_text()


def test_a_draft_left_by_a_kill_is_removed(path, load_or_create):
    """What a killed process left of a key goes with the next use of the directory; a draft being written stays."""
    made = load_or_create(path)
    left = [path.with_name(f".{path.name}.{pid}.{'0' * 16}.new") for pid in (1, 4321)]
    neighbours = [path.with_name(name) for name in (f".{path.name}.new", ".other.1.0000000000000000.new", "key.old")]
    for file in (*left, *neighbours):
        file.write_bytes(path.read_bytes())
    with open_locked(left[1]):
        assert load_or_create(path).fingerprint == made.fingerprint
        assert sorted(path.parent.iterdir()) == sorted([path, left[1], *neighbours])
    load_or_create(path)
    assert sorted(path.parent.iterdir()) == sorted([path, *neighbours])


def test_a_kill_in_the_middle_leaves_nothing_for_long(path, cache_directory, load_or_create):
    """A process killed after it wrote its draft costs nobody anything: the next one makes the key and tidies up."""
    command = [sys.executable, "-c", KILLED, str(path), str(cache_directory)]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert [file.suffix for file in path.parent.iterdir()] == [".new"]
    load_or_create(path)
    assert list(path.parent.iterdir()) == [path]


def test_a_draft_that_vanishes_is_written_again(path, load_or_create, monkeypatch):
    """A process whose draft another one took for a leftover makes its key all the same."""
    link, taken = os.link, []

    def link_after_removal(draft, target):
        if not taken:
            taken.append(draft)
            Path(draft).unlink()
        link(draft, target)

    monkeypatch.setattr(os, "link", link_after_removal)
    assert load_or_create(path).export_text() in path.read_text()
    assert len(taken) == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_key_is_not_made_by_load(path, load):
    """`load` says that there is no key and makes none."""
    with pytest.raises(KeyUnavailable, match="keys import"):
        load(path)
    assert not path.exists()


def test_a_key_travels_as_text(path, load_or_create, import_text):
    """What one machine exports another imports, white space around it forgiven; doing it twice is harmless."""
    made = load_or_create(path)
    there = path.with_name("there")
    for _ in range(2):
        assert import_text(there, f"  {made.export_text()}\n").fingerprint == made.fingerprint
    assert there.read_bytes() == path.read_bytes()
    assert mode_of(there) == 0o600


def test_an_import_never_overwrites(path, load_or_create, import_text):
    """A different key that is there already stays, and the message says what to do."""
    load_or_create(path)
    other = load_or_create(path.with_name("other"))
    content = path.read_bytes()
    with pytest.raises(ConfigurationError, match="keys import --replace"):
        import_text(path, other.export_text())
    assert path.read_bytes() == content


def test_a_key_that_is_replaced_is_kept(path, load, load_or_create, cache_directory):
    """It lies beside the new one, opens what it sealed, and is never overwritten either."""
    mine = load_or_create(path)
    content = path.read_bytes()
    theirs = load_or_create(path.with_name("theirs"))
    for key in (theirs, theirs, mine, theirs):
        put = LocalKeyFile.import_text(path, key.export_text(), cache_directory=cache_directory, replaces=True)
        assert (put.fingerprint, mode_of(path)) == (key.fingerprint, 0o600)
    kept = path.with_name(f"{path.name}.{mine.fingerprint}")
    assert (kept.read_bytes(), mode_of(kept)) == (content, 0o600)
    kept.unlink()
    kept.write_bytes(path.with_name("theirs").read_bytes())
    kept.chmod(0o600)
    path.with_name("other").write_bytes(content)
    path.unlink()
    path.with_name("other").chmod(0o600)
    path.symlink_to(path.with_name("other"))
    with pytest.raises(KeyUnavailable, match="another key"):
        LocalKeyFile.import_text(path, theirs.export_text(), cache_directory=cache_directory, replaces=True)
    assert load(path).fingerprint == mine.fingerprint


@pytest.mark.parametrize("text", ["", "hello", "genai-cache-key-v1:", "genai-cache-key-v1:AAAA:00000000", "ключ:é"])
def test_a_typing_error_is_not_imported(path, import_text, text):
    """Text that is not a key is refused without repeating it, and nothing is made."""
    with pytest.raises(ConfigurationError) as caught:
        import_text(path, text)
    assert not text or text not in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("inside", ["key", "deep/down/key", "../cache/key", "../link/key"])
def test_the_key_never_lies_in_the_cache(cache_directory, load, load_or_create, import_text, inside):
    """A key inside the cache directory, however the path is spelled, is refused before anything is made."""
    (cache_directory.parent / "link").symlink_to(cache_directory)
    path = cache_directory / inside
    text = LocalKeyFile(b"k" * 32).export_text()
    for action in (load, load_or_create, lambda path: import_text(path, text)):
        with pytest.raises(ConfigurationError, match="GENAI_CACHE_KEY_FILE"):
            action(path)
    assert list(cache_directory.iterdir()) == []


def test_the_key_may_lie_beside_a_cache_that_is_not_there_yet(tmp_path):
    """The cache directory need not exist, and a name that merely starts alike is not inside it."""
    made = LocalKeyFile.load_or_create(tmp_path / "cache-key" / "key", cache_directory=tmp_path / "cache")
    assert made.kind == "local"
    for prefix, cache_prefix in ((".", "."), ("cache-key/..", "."), (".", "cache-key/..")):
        with pytest.raises(ConfigurationError):
            LocalKeyFile.load_or_create(
                tmp_path / prefix / "cache" / "key", cache_directory=tmp_path / cache_prefix / "cache"
            )
        assert not (tmp_path / "cache").exists()


def test_the_key_is_never_shown(path, load_or_create):
    """Neither repr, messages, pickling nor copying lets the key out."""
    made = load_or_create(path)
    secret = path.read_text().split(":")[1]
    assert secret not in repr(made)
    path.chmod(0o644)
    assert secret not in refused_and_untouched(load_or_create, path, content=path.read_bytes())
    path.chmod(0o600)
    path.write_text(path.read_text()[:-3])
    assert secret not in refused_and_untouched(load_or_create, path, content=path.read_bytes())
    for leak in (lambda: pickle.dumps(made), lambda: copy.copy(made), lambda: copy.deepcopy(made)):
        with pytest.raises(TypeError):
            leak()
