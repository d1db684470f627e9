"""`make team` shows what it says: two kernels share through both tiers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from genai_cache_magic.cli.demos import team_demo

pytestmark = pytest.mark.service

ROOT = Path(__file__).parent.parent.parent


def test_two_kernels_share_and_invalidate(isolated, redis_server, azurite):
    """What one fetched the other gets, what one invalidates the other misses, through Redis and through Blob."""
    ran = subprocess.run(
        [sys.executable, ROOT / "tools" / "team.py"], capture_output=True, text=True, timeout=170, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Everything was as promised." in ran.stdout


def test_two_kernels_share_through_a_vault(isolated, redis_server, monkeypatch):
    """`genai-cache demo --team`: an administrator and a member, a rotation and a revocation."""
    monkeypatch.setattr(team_demo, "TIERS", ("Redis",))
    console = Console(file=io.StringIO(), width=120)
    assert team_demo.demonstrate_team(console, sealed=True) == 0, console.file.getvalue()
    assert "Everything was as promised." in console.file.getvalue()


def test_the_notebook_runs_alone(isolated, monkeypatch):
    """Where no vault and no model is configured, it starts simulated ones."""
    for name in [name for name in os.environ if name.startswith(("GENAI_CACHE_", "OPENAI_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GENAI_CACHE_DIR", str(isolated / "cache"))
    notebook = nbformat.read(ROOT / "notebooks" / team_demo.SEALED, as_version=4)
    done = NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    text = nbformat.writes(done)
    assert "made the keyset" in text
    assert "0 hits, 3 misses" in text
    assert "seals with epoch" in text


def test_a_team_that_does_not_answer_is_said(isolated, redis_server, monkeypatch):
    """A machine too busy for it ends with a sentence and exit code 1, and with no traceback."""
    monkeypatch.setattr(team_demo, "TIERS", ("Redis",))
    monkeypatch.setattr(team_demo, "_steps", lambda ada, *_, **__: [_late(ada)])
    console = Console(file=io.StringIO(), width=120)
    assert team_demo.demonstrate_team(console, sealed=False) == 1
    said = console.file.getvalue()
    assert "ada and ben, each with a kernel and a cache of their own, share through Redis" in said
    assert "Not as promised: ada's kernel does not answer within 0 s" in said


def _late(ada):
    ada.patience_s = 0
    return team_demo._Step(ada, "waits", lambda: ada.run("import time; time.sleep(60)"), None, 0)
