"""CI's environments are installed by uv as pip would, and by pip where uv can't."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
stands_for_uv = pytest.mark.skipif(os.name == "nt", reason="what stands for uv is a program of the shell")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools" / "install.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def program_of(place, script):
    """Write a program that stands for uv."""
    program = place / "uv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_what_pip_is_told_holds_for_uv(tool, tmp_path):
    """Files give way to variables; a directory that is not there is no error; several indexes count alike."""
    listed = "\n".join(
        (
            ":env:.find-links='/not/there https://wheels.invalid/'",
            ":env:.default-timeout='180'",
            "download.platform='other'",
            "global.cert='/etc/ca.pem'",
            "global.index-url='https://overruled.invalid/simple'",
            "install.extra-index-url='https://one.invalid/simple\\nhttps://two.invalid/simple'",
            "install.index-url='https://pypi.invalid/simple'",
            f"install.constraint='{tmp_path}'",
            "global.no-binary='one,two'",
        )
    )

    told = tool.for_uv(tool.settings(listed))

    assert told.variables == {
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_DEFAULT_INDEX": "https://pypi.invalid/simple",
        "UV_FIND_LINKS": "https://wheels.invalid/",
        "UV_HTTP_TIMEOUT": "180",
        "UV_INDEX": "https://one.invalid/simple https://two.invalid/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    pairs = set(zip(told.options[::2], told.options[1::2], strict=True))
    assert pairs == {("--constraint", str(tmp_path)), ("--no-binary", "one"), ("--no-binary", "two")}


def test_a_variable_that_is_empty_says_nothing(tool):
    """As with pip: the index that a file names is not left for the public one."""
    said = tool.settings("global.index-url='https://pypi.invalid/simple'\n:env:.index-url=''\n:env:.proxy=''")
    assert said == {"index-url": "https://pypi.invalid/simple"}


def test_what_has_no_equal_is_left_to_pip(tool):
    """A setting that uv might not heed is never dropped."""
    assert tool.for_uv({"proxy": "http://proxy.invalid"}) is None
    assert tool.for_uv({"find-links": "https://wheels.invalid/a,b"}) is None
    assert tool.for_uv({"no-compile": "1"}) == tool.Told((), {})


@stands_for_uv
def test_what_pip_is_not_told_is_none_of_uvs(tool, tmp_path, capfd):
    """Neither variables nor files of uv's say what is installed; no argument, which others can read, has a password."""
    program = program_of(tmp_path, 'echo "asked: $*"; env')
    said = {"UV_INDEX_URL": "https://other.invalid", "UV_CACHE_DIR": "kept", "REQUESTS_CA_BUNDLE": "/etc/ca.pem"}
    index = "https://me:s3cret@pypi.invalid/simple"

    code = tool.main(
        ["x"], {"UV": str(program), "PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": index, **said}, tmp_path
    )

    asked, *heard = capfd.readouterr().out.splitlines()
    assert code == 0
    assert "--no-config" in asked
    assert "s3cret" not in asked
    assert {f"UV_DEFAULT_INDEX={index}", "UV_CACHE_DIR=kept", "SSL_CERT_FILE=/etc/ca.pem"} <= set(heard)
    assert not any(line.startswith("UV_INDEX_URL=") for line in heard)


@stands_for_uv
def test_half_a_package_is_not_taken_for_all_of_it(tool, tmp_path):
    """Where an installer is stopped while it writes one, neither pip nor the next run believes that it is there."""
    half, whole = tmp_path / "half-1.dist-info", tmp_path / "whole-1.dist-info"
    whole.mkdir()
    (whole / "INSTALLER").write_text("uv")
    program = program_of(tmp_path, f"mkdir {half}; touch {half}/METADATA; exit 1")

    tool.main(
        ["--no-index", "there-is-no-such-package"], {"UV": str(program), "PIP_CONFIG_FILE": "/dev/null"}, tmp_path
    )

    assert (half.exists(), whole.exists()) == (False, True)


@stands_for_uv
@pytest.mark.parametrize("uv", ["absent", "fails", "works"])
def test_pip_installs_where_uv_does_not(tool, tmp_path, capfd, uv):
    """An absent or failing uv ends in pip with the same arguments, and its exit code; a working one is enough."""
    program = tmp_path / "absent"
    if uv != "absent":
        program = program_of(tmp_path, f'echo "asked: $*"; exit {int(uv == "fails")}')
    wanted = ["--no-index", "--no-deps", "there-is-no-such-package"]

    code = tool.main(wanted, {"UV": str(program), "PIP_CONFIG_FILE": "/dev/null"}, tmp_path)

    told = capfd.readouterr()
    asked = f"asked: pip install --no-config --python {sys.executable} --no-index --no-deps there-is-no-such-package"
    assert (asked in told.out) == (uv != "absent")
    assert (code == 0) == (uv == "works")
    assert ("No matching distribution found for there-is-no-such-package" in told.err) == (uv != "works")
