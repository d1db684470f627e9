"""A real Chromium, started once for a file of tests, and what judges a page in it.

Where Chromium, Playwright or axe-core is absent, tests skip with the command that installs it; where it was promised
(``CI=true``) they fail.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from services import started

from genai_cache_magic.testing.servers import ServerMissingError

if TYPE_CHECKING:
    from collections.abc import Iterator

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""It asks nobody on the network for anything."""
TIMEOUT_MS = 60_000
"""How long something may take to appear on a loaded machine."""


def find_chromium() -> str:
    """Return where Chromium is.

    Raises
    ------
    ServerMissingError
        It is not installed.
    """
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        found = shutil.which(name)
        if found:
            return found
    raise ServerMissingError("no Chromium: sudo apt-get install chromium, or your system's way to install Chrome")


def find_axe() -> str:
    """Return the text of axe-core, which judges how accessible a page is; raises as `find_chromium`."""
    places = [Path(sys.prefix, "services"), *([Path(os.environ["SERVICES"])] if os.environ.get("SERVICES") else [])]
    for place in places:
        found = place / "node_modules" / "axe-core" / "axe.min.js"
        if found.exists():
            return found.read_text(encoding="utf-8")
    raise ServerMissingError("axe-core is not installed: make services")


def _driver() -> Any:
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError as exc:
        raise ServerMissingError("Playwright is not installed: pip install -r tests/environments/current.txt") from exc
    return sync_playwright()


@pytest.fixture(scope="module")  # while its driver is there, no other event loop runs in this thread
def chromium() -> Iterator[Any]:
    """A browser; a test makes its own context or page in it."""
    path = started(find_chromium)
    with started(_driver) as driver:
        browser = driver.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core."""
    return started(find_axe)


def serious(page: Any, axe: str, places: tuple[str, ...] = ("html",)) -> list[str]:
    """Return what axe-core finds serious or critical in parts of `page`, a line each."""
    page.evaluate(axe)
    found = page.evaluate("places => axe.run({include: places}, {resultTypes: ['violations']})", list(places))
    grave = [one for one in found["violations"] if one["impact"] in {"serious", "critical"}]
    return [f"{one['id']}: {node['target']} {node['failureSummary']}" for one in grave for node in one["nodes"]]
