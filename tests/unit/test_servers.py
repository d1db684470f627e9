"""Servers that tests start."""

from __future__ import annotations

import sys
import tempfile

import pytest

from genai_cache_magic.testing import servers
from genai_cache_magic.testing.servers import Process, RedisServer, ServerMissingError, free_port


def test_a_server_that_is_not_installed_leaves_nothing(tmp_path, monkeypatch):
    """What skips for want of a server leaves no directory behind for the collector to complain of."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ServerMissingError):
        RedisServer()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "says"),
    [("import time; time.sleep(60)", "does not listen within 0 s: mute"), ("print('no'); exit(1)", "ended.*: no")],
    ids=["too slow", "ended"],
)
def test_a_server_that_does_not_start_is_named_and_ended(tmp_path, monkeypatch, source, says):
    """By its program, with what it said last; no process of it is left for the collector to complain of."""
    monkeypatch.setattr(servers, "_START_TIMEOUT_S", 0 if "sleep" in source else 30)
    with pytest.raises(RuntimeError, match=f"^python.* {says}$"):
        Process([sys.executable, "-c", source], port=free_port(), directory=tmp_path)
