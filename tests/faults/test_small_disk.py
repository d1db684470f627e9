"""A disk that is full, or mounted for reading only: a new process serves what is there, and what makes room works."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("small_disk.py")
COUNT = 24
IN_A_NAMESPACE = ("unshare", "--user", "--map-root-user", "--mount")
RAW = re.compile(r"SQLITE|\bE[A-Z]{4,}\b|Timeout|Errno|Error\(|Traceback|IOERR")
HIT, REFUSED = [[["hit", True]], []], [["refused", False]]


def _is_possible():
    if shutil.which("unshare") is None:
        return False
    trial = [*IN_A_NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(trial, check=False, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _is_possible(), reason="no file system can be mounted: allow user namespaces")


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """What new processes meet on each kind of disk."""
    found = {}

    def meet(case):
        if case not in found:
            home = tmp_path_factory.mktemp(case)
            (home / "disk").mkdir()
            kept = {name: value for name, value in os.environ.items() if not name.startswith("GENAI_CACHE_")}
            environment = {
                **kept,
                "HOME": str(home),
                "GENAI_CACHE_KEY_FILE": str(home / "key"),
                "GENAI_CACHE_PERSON": "tester",
            }
            command = [*IN_A_NAMESPACE, sys.executable, str(SCRIPT), case, str(home / "disk")]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=environment, cwd=home, timeout=100
            )
            assert done.returncode == 0, done.stderr
            found[case] = json.loads(done.stdout)
        return found[case]

    return meet


@pytest.mark.parametrize("case", ["full", "read-only", "killed"])
def test_what_is_there_is_served(met, case):
    """Values, listings, and model calls in modes use and replay."""
    found = met(case)
    assert found["stored"] == [[["miss", True]], []]
    assert found["read"] == {
        "values": COUNT, "large": True, "entries": COUNT + 2, "names": COUNT + 1, "bytes": True,
    }  # fmt: skip
    assert [found[step] for step in ("ask", "replay")] == [HIT, HIT]
    assert found["stats"][0] == found["entries"][0] == 0
    assert f"{COUNT + 2} answers" in found["stats"][1]


@pytest.mark.parametrize(
    ("case", "advice", "none_of"),
    [("full", "gc", "chmod"), ("read-only", "for writing", "chmod"), ("killed", "for writing", "chmod")],
)
def test_what_is_new_is_asked_for_and_said(met, case, advice, none_of):
    """A call that is not there goes on, uncached, and the advice fits the disk."""
    found = met(case)
    calls, (sentence,) = found["other"]
    assert calls == REFUSED
    for words in (sentence, found["write"]):
        assert "nothing can be stored" in words
        assert advice in words
        assert none_of not in words


@pytest.mark.parametrize("case", ["full", "read-only", "killed", "stuck"])
def test_nothing_raw_is_shown(met, case):
    """No name of an error number, of SQLite or of a class of somebody else's reaches the user."""
    assert RAW.findall(json.dumps(met(case))) == []


def test_what_makes_room_works_without_room(met):
    """On a full disk invalidating, collecting and clearing work, and afterwards there is room."""
    found = met("full")
    assert found["invalidate --tag odd"][0] == 0
    assert "made invalid" in found["invalidate --tag odd"][1]
    assert "given up for room" in found["invalidate --tag odd"][1]
    assert found["gc"][0] == found["clear --yes"][0] == 0
    assert "0 answers" in found["stats again"][1]
    assert found["after"] is None


def test_a_disk_filled_by_the_cache_itself_can_be_cleared(met):
    """Where not even the log finds room in its database, clearing works, and afterwards there is room."""
    found = met("stuck")
    assert [found[line][0] for line in ("stats", "invalidate --tag odd", "gc", "clear --yes")] == [0] * 4
    assert "made invalid" in found["clear --yes"][1]
    assert "0 answers" in found["stats again"][1]
    assert found["after"] is None


def test_a_running_process_makes_room_too(met):
    """With the cache open in several threads, whose log is still to be moved, invalidating and collecting work."""
    found = met("open")
    assert found["get"] is found["intact"] is True
    assert "no space left on device" in found["set"]
    assert [found[step] for step in ("invalidate", "gc", "clear")] == [True] * 3
    assert found["left"] != []
    assert {int(key[1:]) % 2 for key in found["left"]} == {0}
    assert any("given up for room" in sentence for sentence in found["told"])
    assert found["again"] is None
    assert RAW.findall(json.dumps(found)) == []


@pytest.mark.parametrize("case", ["read-only", "killed"])
@pytest.mark.parametrize("command", ["invalidate --tag odd", "gc", "clear --yes"])
def test_what_cannot_be_changed_is_said(met, case, command):
    """On a file system that is mounted for reading only, what changes it fails in words, and all is there still."""
    code, said = met(case)[command]
    assert code == 1
    assert "read-only file system" in said
    assert "Mount it for writing, or set GENAI_CACHE_DIR" in said
    assert f"{COUNT + 2} answers" in met(case)["stats again"][1]
