"""Servers that tests start."""

from __future__ import annotations

import tempfile

import pytest

from genai_cache_magic.testing.servers import RedisServer, ServerMissingError


def test_a_server_that_is_not_installed_leaves_nothing(tmp_path, monkeypatch):
    """What skips for want of a server leaves no directory behind for the collector to complain of."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ServerMissingError):
        RedisServer()
    assert list(tmp_path.iterdir()) == []
