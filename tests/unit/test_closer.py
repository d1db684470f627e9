"""Connections to SQLite are closed with whoever owned them, however that ends."""

from __future__ import annotations

import gc
import sqlite3
from types import SimpleNamespace

import pytest

from genai_cache_magic.entries.state import StateFile
from genai_cache_magic.stores.disk.database import Closer


class Recorded:
    """A connection that notes its end."""

    def __init__(self, log):
        self.log = log

    def close(self):
        self.log.append("closed")

    def __del__(self):
        self.log.append("collected")


def test_a_connection_is_closed_before_it_is_collected_with_its_owner():
    """Also where a cycle holds all of them, as the traceback of a failed opening does."""
    log = []
    owner = SimpleNamespace(connection=Recorded(log))
    owner.closer = Closer(owner.connection)
    owner.itself = owner
    del owner
    gc.collect()
    assert log == ["closed", "collected"]


def test_a_state_that_nobody_closed_is_closed_with_its_owner(tmp_path):
    state = StateFile(tmp_path / "state.db")
    state.set_mark("name", b"value")
    connection = state._connection
    del state
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")
