"""`make ops` shows what it says, ends what it started, and says what is not as promised."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from genai_cache_magic.cli.demos import ops_demo, ops_stage
from genai_cache_magic.cli.demos.team_demo import Machine
from genai_cache_magic.testing.servers import ServerMissingError

ROOT = Path(__file__).parent.parent.parent
DASHBOARD = ROOT / "docs" / "grafana" / "genai-cache.json"

PATIENT = """
from genai_cache_magic.monitoring import alerts
from genai_cache_magic.stores.edge import cdn

alerts.HOLD_S = 1  # it would last for half a minute
cdn.PATIENCE_S = cdn.LEFT_S = 30  # a loaded machine is slow, and no edge is dead here
"""


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=200)


@pytest.mark.service
def test_all_of_it_is_as_promised(isolated, console, monkeypatch):
    """Each part that can be had is shown, the report is where it is said to be, and no process is left."""
    monkeypatch.setattr(ops_stage, "SETUP", PATIENT + ops_stage.SETUP)
    page = isolated / "out" / "report.html"
    before = set(psutil.Process().children(recursive=True))
    code = ops_demo.demonstrate_ops(console, dashboard=DASHBOARD, output=page, within_s=110)
    said = console.file.getvalue()
    assert code == 0, said
    assert "Everything was as promised" in said
    assert os.environ.get("CI") != "true" or "Left out" not in said, said
    assert str(page) in said
    assert "ops-demo" in page.read_text(encoding="utf-8")
    assert set(psutil.Process().children(recursive=True)) <= before


def test_too_little_time_is_a_reason(isolated, console):
    """Out of time it ends with exit code 1, says so, and leaves nothing behind."""
    before = set(psutil.Process().children(recursive=True))
    code = ops_demo.demonstrate_ops(console, dashboard=DASHBOARD, output=isolated / "report.html", within_s=0)
    assert code == 1
    said = console.file.getvalue()
    assert "Not as promised: it takes more than 0 s" in said
    assert 'make ops ARGS="--within 60"' in said  # the way out
    assert set(psutil.Process().children(recursive=True)) <= before


def test_what_can_not_be_had_is_left_out(console, isolated):
    """With the command that installs it, be it a server or a package."""

    def missing():
        raise ServerMissingError("nginx is not installed: make services")

    with contextlib.ExitStack() as ended:
        stage = ops_stage.Stage(console, None, ended, isolated, None, None, None, {})
        assert stage.had("an edge", missing, extra="azure") is None
        assert stage.had("a Redis", missing, "no_such_package.of_ours", extra="redis") is None
    first, second = console.file.getvalue().splitlines()
    assert first == "Left out: an edge. nginx is not installed: make services"
    assert second.endswith("-m pip install 'genai-cache-magic[redis]'")
    assert stage.left_out == 2


def test_a_kernel_that_does_not_answer_is_named(isolated):
    """A busy machine's reader is told which kernel was waited for, and for how long."""
    kernel = Machine("ada", isolated, {})
    try:
        kernel.patience_s = 0
        with pytest.raises(TimeoutError, match="ada's kernel does not answer within 0 s"):
            kernel.run("import time; time.sleep(60)")
    finally:
        kernel.close()
