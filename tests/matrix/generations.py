"""The generations of SDKs: one pinned environment each, and which of them this one is."""

from __future__ import annotations

import os
import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

LISTS = Path(__file__).resolve().parents[1] / "environments"
GENERATIONS = ("current", "httpx")
_PIN = re.compile(r"^([A-Za-z0-9_.-]+)(?:\[[^\]]*\])?==(\S+)$", re.MULTILINE)


@cache
def pins(generation: str) -> dict[str, str]:
    """Return package -> release, as the environment of a generation has them."""
    return dict(_PIN.findall((LISTS / f"{generation}.txt").read_text(encoding="utf-8")))


def installed(package: str) -> str | None:
    """Return the release of `package` in this environment, None if it is not there."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def here() -> str:
    """Return the generation of this environment: that of its openai."""
    major = (installed("openai") or pins("current")["openai"]).partition(".")[0]
    return next((g for g in GENERATIONS if pins(g)["openai"].startswith(f"{major}.")), "current")


def need(package: str) -> None:
    """Go on if `package` is installed; else skip the test, or fail where CI was promised it.

    Raises
    ------
    pytest.skip.Exception
        With the command that installs it.
    """
    if installed(package) is not None:
        return
    release = pins(here()).get(package)
    if release is None:
        pytest.skip(f"{package} is not of this generation of SDKs: make test")
    why = f"needs: pip install '{package}=={release}'"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI was promised {package}; {why}")
    pytest.skip(why)
