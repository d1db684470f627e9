"""A repository that somebody else wrote, files in it, and the command that trusts it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from genai_cache_magic.api.scopes.session import reset_session

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(name="project")
def cloned_project(tmp_path, monkeypatch):
    """A repository that somebody else wrote, cloned into the user's home; the working directory lies in it."""
    for name in [name for name in os.environ if name.startswith("GENAI_CACHE_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    clone = home / "work" / "clone"
    (clone / "notebooks").mkdir(parents=True)
    (clone / ".git").mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in ("CONFIG", "CACHE", "STATE"):
        monkeypatch.delenv(f"XDG_{name}_HOME", raising=False)
    monkeypatch.chdir(clone / "notebooks")
    reset_session()
    yield clone
    reset_session()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o644)
    return path
