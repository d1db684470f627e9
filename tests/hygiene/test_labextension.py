"""What JupyterLab loads is committed: it is built from the sources that stand beside it, and the wheel brings it."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def tool():
    spec = importlib.util.spec_from_file_location("labextension", ROOT / "tools" / "labextension.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_built_is_not_older_than_its_sources():
    """Whoever changes a source, the view under the cells included, builds anew."""
    made = tool()
    assert made.is_current(), made.HOW


def test_what_is_built_is_whole_and_goes_into_the_wheel():
    """The files that it names are there, under the name by which front ends know it."""
    built = tool().BUILT
    package = json.loads((built / "package.json").read_text())
    assert package["name"] == "genai-cache-magic"
    assert (built / package["jupyterlab"]["_build"]["load"]).is_file()
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    targets = {target: ROOT / source for source, target in wheel["shared-data"].items()}
    assert targets["share/jupyter/labextensions/genai-cache-magic"].samefile(built)


def test_both_halves_have_one_version():
    """A front end and a server of one wheel call themselves alike."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert json.loads((ROOT / "labextension" / "package.json").read_text())["version"] == project["version"]


def test_what_it_needs_is_what_the_lowest_jupyterlab_brings():
    """What it depends on, which `jupyter labextension list` compares, and what it shares begin with JupyterLab 4.0."""
    built = json.loads((tool().BUILT / "package.json").read_text())
    shared = {name: how["requiredVersion"] for name, how in built["jupyterlab"]["sharedPackages"].items()}
    types_alone = {"@jupyterlab/rendermime-interfaces": "^3.8.0"}
    assert built["dependencies"] == {**shared, **types_alone}
    assert shared["@jupyterlab/application"] == "^4.0.0"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "jupyterlab>=4.0" in extras["lab"]
