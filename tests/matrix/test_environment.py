"""The environments are what their lists say, so that the matrix names the releases that it was made with."""

from __future__ import annotations

import os

import pytest
from matrix.forms import WAYS
from matrix.generations import GENERATIONS, LISTS, here, installed, pins


def test_every_list_is_a_generation():
    """Each list pins exact releases, and there is none that no environment is built of."""
    assert {path.stem for path in LISTS.glob("*.txt")} == set(GENERATIONS)
    for generation in GENERATIONS:
        lines = (LISTS / f"{generation}.txt").read_text(encoding="utf-8").splitlines()
        asked_for = [line for line in lines if line and not line.startswith("#")]
        assert len(pins(generation)) == len(asked_for)


def test_every_sdk_is_of_a_generation():
    """No row of the matrix is without an environment that has its SDK."""
    assert {way.package for way in WAYS} <= {name for generation in GENERATIONS for name in pins(generation)}


@pytest.mark.parametrize("package", pins(here()))
def test_what_is_installed_is_what_the_list_pins(package):
    """In CI the releases are the pinned ones; elsewhere whatever is installed will do."""
    release = pins(here())[package]
    if os.environ.get("CI") != "true" and installed(package) != release:
        pytest.skip(f"needs: pip install '{package}=={release}'")
    assert installed(package) == release
